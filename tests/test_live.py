"""Live: the newest frame of a camera, every frame of a file, and the command that shows, records or prints them."""

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection.cli.main import main
from detection.core.detections import Detections
from detection.core.errors import MobileSSDError
from detection.core.media import Video
from detection.live.capture import Capture, Captured, Mailbox, camera_number
from detection.live.overlay import draw_result, put_status
from detection.live.pipeline import Meter, Result, detect_frames, paced

ROOT = Path(__file__).resolve().parents[1]


class FakeDetector:
    """Finds one dog in the middle of every picture, after `seconds`."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __call__(self, image):
        time.sleep(self.seconds)
        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), ("dog",), (height, width))

    def __str__(self):
        return "fake weights"


def save_video(path, frames=12, fps=20.0, size=(48, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size[::-1])
    for i in range(frames):
        writer.write(np.full((*size, 3), 20 * i % 250, np.uint8))
    writer.release()
    return path


def captured(index=0, seconds=0.0, size=(48, 64)):
    return Captured(np.zeros((*size, 3), np.uint8), index, seconds, time.monotonic())


# ---------------------------------------------------------------- mailbox and capture


def test_a_mailbox_keeps_the_newest_and_counts_the_others():
    box = Mailbox()
    for i in range(5):
        assert box.put(i)
    assert box.take() == 4 and box.dropped == 4
    with pytest.raises(TimeoutError):
        box.take(timeout=0.01)


def test_a_mailbox_that_waits_loses_nothing():
    box, got = Mailbox(), []
    thread = threading.Thread(target=lambda: [box.put(i, wait=True) for i in range(50)] and box.close())
    thread.start()
    while (item := box.take(timeout=5)) is not None:
        got.append(item)
    thread.join()
    assert got == list(range(50)) and box.dropped == 0


def test_a_closed_mailbox_gives_what_is_left_and_refuses_more():
    box = Mailbox()
    box.put("last")
    box.close()
    assert not box.put("late") and not box.put("late", wait=True)
    assert box.take() == "last" and box.take() is None


def test_a_file_shows_every_frame_however_slow_the_network(tmp_path):
    with Capture(str(save_video(tmp_path / "film.avi"))) as capture:
        assert not capture.live and capture.fps == 20
        results = list(detect_frames(capture, FakeDetector(0.01)))
    assert [result.frame.index for result in results] == list(range(12))
    assert capture.dropped == 0 and all(len(result.detections) == 1 for result in results)
    assert all(result.seconds >= 0.01 for result in results)


@pytest.fixture
def camera():
    """The URL of an endless MJPEG stream of 50 frames a second on this machine; each frame tells its number."""
    running = threading.Event()
    running.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = 0
            try:
                while running.is_set():
                    number += 1
                    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number % 250, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    time.sleep(0.02)
            except OSError:  # the reader has gone
                pass

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    running.clear()
    server.shutdown()
    server.server_close()


def test_a_live_source_is_never_behind_however_slow_the_network(camera):
    with Capture(camera) as capture:
        assert capture.live
        ages = []
        for result in detect_frames(capture, FakeDetector(0.15)):
            ages.append(time.monotonic() - result.frame.arrived - result.seconds)
            if len(ages) == 6:
                break
    assert capture.dropped > 6
    assert np.median(ages) < 0.15, "the frame was taken fresh, not from a queue"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/none", "nowhere.mp4", "97"])
def test_a_source_that_is_not_there_is_one_clear_line(source):
    with pytest.raises(MobileSSDError) as caught:
        Capture(source)
    assert source in str(caught.value) and "\n" not in str(caught.value)


def test_a_source_that_falls_silent_is_told_and_does_not_hang(camera, monkeypatch):
    monkeypatch.setattr("detection.live.capture.FRAME_TIMEOUT", 0.2)
    with Capture(camera) as capture:
        monkeypatch.setattr(capture._box, "put", lambda *_, **__: not capture._box._closed)  # no frame comes through
        with pytest.raises(MobileSSDError, match="no frame for 0.2 s"):
            for _ in capture:
                pass


def test_names_of_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert camera_number("0") == 0 and camera_number("/dev/video2") == 2
    assert camera_number("film.mp4") is None and camera_number("rtsp://0") is None and camera_number("") is None
    Path("7").write_text("a file of this name")
    assert camera_number("7") is None


# ---------------------------------------------------------------- pace and numbers


def test_a_file_plays_at_its_own_speed():
    results = [Result(captured(i, i / 10), None, 0.0) for i in range(5)]
    slept = []
    assert [result.frame.index for result in paced(results, slept.append)] == list(range(5))
    assert sum(slept) == pytest.approx(0.1 + 0.2 + 0.3 + 0.4, abs=0.05), "each waits for its own time (nobody slept)"
    begin = time.monotonic()
    list(paced(results))
    assert 0.38 < time.monotonic() - begin < 0.8


def test_the_meter_tells_speed_and_delay():
    meter = Meter()
    assert meter.fps == meter.delay == meter.delay_p95 == 0
    for i in range(6):
        frame = captured(i)
        time.sleep(0.02)
        meter.add(frame)
    assert 20 < meter.fps <= 50 and 0.02 <= meter.delay < 0.06 and meter.delay_p95 >= meter.delay


def test_numbers_are_written_on_a_copy():
    frame = captured(size=(240, 320))
    drawn = draw_result(Result(frame, FakeDetector()(frame.image), 0.0), Meter(), live=True, dropped=3)
    assert not frame.image.any() and drawn[:20, :100].any() and drawn.shape == (240, 320, 3)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (20, 30)])
def test_numbers_leave_out_pictures_too_small_for_them(size):
    put_status(np.zeros((*size, 3), np.uint8), "24.0 fps  31 ms")


# ---------------------------------------------------------------- the command


@pytest.fixture
def live(monkeypatch, capsys, tmp_path):
    """Runs `mobilessd live ARGS` with the fake detector and without a display; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("detection.cli.live.open_detector", lambda args: FakeDetector())
    monkeypatch.setattr("detection.live.window.window_problem", lambda: "there is no display")
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(["live", *map(str, args)])
        return code, *capsys.readouterr()

    return run


def test_without_a_window_it_says_so_and_records(live):
    save_video(Path("film.avi"))
    code, out, err = live("film.avi", "--record", "out.mp4")
    assert code == 0 and err == ""
    assert out.splitlines()[0] == "no window: there is no display; recording to out.mp4"
    assert "12 frames in" in out and "recorded 12 frames to out.mp4" in out
    frames = list(Video("out.mp4"))
    assert len(frames) == 12 and np.ptp(frames[0].image) > 100, "boxes are drawn"


def test_without_a_window_and_recording_it_prints(live):
    save_video(Path("film.avi"))
    code, out, _ = live("film.avi")
    assert code == 0 and "printing what is seen" in out and re.search(r"0\.0 s .* fps .* ms  dog 0\.90", out)


def test_a_stream_ends_after_the_frames_asked_for(live, camera):
    code, out, _ = live(camera, "--no-window", "--frames", 5, "--record", "out.avi")
    assert code == 0 and "no window" not in out and "5 frames in" in out and list(Video("out.avi"))


def test_mistakes_are_one_line(live):
    save_video(Path("film.avi"))
    for args in (["nowhere.mp4"], ["film.avi", "--record", "film.avi"], ["film.avi", "--record", "x.txt"], ["."]):
        code, _, err = live(*args)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert len(list(Video("film.avi"))) == 12


class FakeWindow:
    shown: list = []

    def __init__(self, title):
        FakeWindow.shown = []

    def show(self, image):
        FakeWindow.shown.append(image)
        return len(FakeWindow.shown) < 4  # then q

    def close(self):
        pass


def test_q_ends_it(live, monkeypatch):
    monkeypatch.setattr("detection.live.window.window_problem", lambda: None)
    monkeypatch.setattr("detection.live.window.Window", FakeWindow)
    save_video(Path("film.avi"), fps=50)
    code, out, _ = live("film.avi")
    assert code == 0 and len(FakeWindow.shown) == 4 and "4 frames in" in out


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_playable_recording(camera, shared, tmp_path, which):
    weights = shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"
    command = [sys.executable, ROOT / "tools" / "live_demo.py", camera, "--no-window", "--weights", weights]
    command += ["--record", tmp_path / "out.mp4", "--threads", 1]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()  # the detector is ready
    assert " fps " in process.stdout.readline()
    time.sleep(0.7)
    process.send_signal(which)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err and "recorded" in out, err
    assert list(Video(tmp_path / "out.mp4"))
