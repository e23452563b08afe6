"""Where live frames go: recordings that play, and windows only where they can be."""

import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import children
import cv2
import numpy as np
import pytest

from detection.errors import MobileSSDError
from detection.images.video import Video
from detection.live.sinks import Recording
from detection.live.window import window_problem
from detection.outputs.leftovers import salvage
from detection.outputs.video import Recorder, RecordingStopped

# ---------------------------------------------------------------- recorder


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "sub/OUT.MP4"])
def test_a_recording_plays_with_every_frame(tmp_path, name):
    with Recorder(tmp_path / name, 12) as recorder:
        for i in range(9):
            recorder.write(np.full((48, 64, 3), (20 * i, 0, 0), np.uint8))
        assert not (tmp_path / name).exists(), "it appears when it is whole"
    with Video(tmp_path / name) as video:
        frames = list(video)
    assert video.fps == 12 and len(frames) == recorder.frames == 9
    assert frames[8].image[24, 32, 0] > 130 and frames[8].image[24, 32, 2] < 40


def test_a_live_recording_plays_as_fast_as_things_happened(tmp_path):
    with Recorder(tmp_path / "out.avi", 10) as recorder:
        for seconds in (0.0, 0.5, 0.52, 0.54, 1.0):  # slow, then too fast
            recorder.write(np.zeros((48, 64, 3), np.uint8), seconds)
    assert recorder.frames == 11
    with Recorder(tmp_path / "out.avi", 10) as recorder:
        for seconds in (0.0, 3600.0, 3600.1):  # away for an hour
            recorder.write(np.zeros((48, 64, 3), np.uint8), seconds)
    assert recorder.frames < 60


def test_what_happens_late_is_late_in_the_recording(tmp_path):
    with Recorder(tmp_path / "out.avi", 10, longest_gap=math.inf) as recorder:
        for seconds in (0.0, 0.1, 0.2, 7.0, 7.1):
            recorder.write(np.full((48, 64, 3), 250 * (seconds > 5), np.uint8), seconds)
    bright = [frame.time for frame in Video(tmp_path / "out.avi") if frame.image.mean() > 100]
    assert bright == pytest.approx([7.0, 7.1], abs=0.01)


def test_small_unevenness_neither_doubles_nor_drops_a_frame(tmp_path):
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, 40)
    with Recorder(tmp_path / "out.avi", 10) as recorder:
        for number, late in enumerate(jitter):
            recorder.write(np.full((48, 64, 3), 6 * number, np.uint8), max(0.0, number / 10 + late))
    assert recorder.frames == 40


@pytest.mark.parametrize("quick", [True, False])
def test_a_video_plays_in_a_browser_or_says_that_it_does_not(tmp_path, monkeypatch, quick):
    """Without the program ffmpeg: by what OpenCV has."""
    monkeypatch.setattr("detection.outputs.encoders.ffmpeg_writes_h264", lambda: False)
    with Recorder(tmp_path / "out.mp4", 10, quick=quick) as recorder:
        recorder.write(np.zeros((48, 64, 3), np.uint8))
    codec = int(cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").lower()
    assert (codec in (b"h264", b"avc1", b"vp09", b"vp90")) == (recorder.hint == "")


def test_a_recording_survives_an_exception_and_no_frame_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), Recorder(tmp_path / "out.mp4", 10) as recorder:
        recorder.write(np.zeros((48, 64, 3), np.uint8))
        raise KeyError
    assert len(list(Video(tmp_path / "out.mp4"))) == 1
    with Recorder(tmp_path / "none.mp4", 10):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_frames_of_other_sizes_are_stretched_and_odd_ones_work(tmp_path):
    with Recorder(tmp_path / "out.mp4", 10) as recorder:
        for size in ((49, 65), (20, 30), (1, 1)):
            recorder.write(np.zeros((*size, 3), np.uint8))
    assert {frame.image.shape for frame in Video(tmp_path / "out.mp4")} == {(48, 64, 3)}


def test_what_cannot_be_recorded_is_one_clear_line(tmp_path):
    (tmp_path / "dir.mp4").mkdir()
    for name in ("out.gif", "out", "dir.mp4"):
        with pytest.raises(MobileSSDError, match=name):
            Recorder(tmp_path / name, 10)


def test_a_full_disk_ends_the_recording_and_keeps_it(tmp_path, monkeypatch):
    free = [10**12]
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr("detection.outputs.video.shutil.disk_usage", lambda _: usage(10**12, 0, free[0]))
    monkeypatch.setattr("detection.outputs.video.CHECK_EVERY", 0.0)
    said = []
    recording = Recording(tmp_path / "out.mp4", lambda: 10, lambda: True, None, said.append)
    for i in range(9):
        free[0] = 10**12 if i < 5 else 10**6
        recording.write(np.zeros((48, 64, 3), np.uint8), i / 10)
    assert not recording.running and len(list(Video(tmp_path / "out.mp4"))) == 5
    assert said == [
        f"{tmp_path / 'out.mp4'}: recording stopped, only 1 MB are free on its disk; the 5 frames until then are kept"
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a small disk of its own")
def test_a_really_full_disk(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", small], capture_output=True).returncode:
        pytest.skip("may not mount a disk here")
    try:
        rng, recorder = np.random.default_rng(0), Recorder(small / "out.mp4", 10, reserve=1 << 20)
        with pytest.raises(RecordingStopped, match="are free"):
            for _ in range(400):
                recorder.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
                recorder._checked = 0.0
        assert 5 < len(list(Video(small / "out.mp4"))) == recorder.frames
        full = Recorder(small / "more.mp4", 10, reserve=0)  # as if others filled it in the same second
        for _ in range(200):
            full.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
        with pytest.raises(MobileSSDError, match="more.mp4"):
            full.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_long_recording_is_cut_into_files(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("detection.live.sinks.time.strftime", lambda _: f"part{len(said)}")
    recording = Recording(tmp_path / "out.avi", lambda: 10, lambda: True, 1e-9, said.append)
    for i in range(3):
        recording.write(np.zeros((48, 64, 3), np.uint8), i / 10)
    recording.close()
    assert [len(list(Video(tmp_path / f"out-part{i}.avi"))) for i in range(3)] == [1, 1, 1] and len(said) == 3


def test_what_begins_while_leftovers_are_looked_at_is_none_of_them(tmp_path, monkeypatch):
    """Its file is there before its lock is; so only what lay there at the start is looked at."""
    begun, done = threading.Event(), threading.Event()

    def slowly(*arguments):
        begun.wait(10)
        lines = salvage(*arguments)
        done.set()
        return lines

    monkeypatch.setattr("detection.live.sinks.salvage", slowly)
    left, new = tmp_path / ".out.64x48@10.000.00000000.part.avi", tmp_path / ".out.64x48@10.000.00000001.part.avi"
    left.touch()
    Recording(tmp_path / "out.avi", lambda: 10, lambda: True, None, lambda line: None)
    new.touch()
    begun.set()
    assert done.wait(10) and new.exists() and not left.exists()


# ---------------------------------------------------------------- window


def test_no_window_where_opencv_has_none(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:                           NONE\n  GTK+: NO\n")
    assert "opencv-python-headless" in window_problem()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no DISPLAY")
def test_no_window_without_a_display(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no display" in window_problem()
    monkeypatch.setenv("DISPLAY", ":973")  # nobody there: a toolkit would end this whole process
    assert "does not let a window open" in window_problem()


@pytest.fixture
def display():
    """A display of its own, without a screen."""
    if not shutil.which("Xvfb"):
        pytest.skip("needs Xvfb")
    server = subprocess.Popen(["Xvfb", "-displayfd", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield ":" + server.stdout.readline().strip()
    server.terminate()
    server.wait()


def test_a_window_opens_where_there_is_a_display(display, monkeypatch):
    if "headless" in (window_problem() or ""):
        pytest.skip("needs opencv-python with windows")
    monkeypatch.setenv("DISPLAY", display)
    assert window_problem() is None
    code = (  # in a process of its own: a toolkit lives until its process ends
        "import numpy as np; from detection.live.window import Window; window = Window('test');"
        "print([window.show(np.full((48, 64, 3), i, np.uint8)) for i in range(5)]); window.close()"
    )
    root = Path(__file__).resolve().parents[1]
    out = children.run([sys.executable, "-c", code], cwd=root, timeout=60)
    assert out.returncode == 0 and out.stdout == "[True, True, True, True, True]\n" and out.stderr == ""
