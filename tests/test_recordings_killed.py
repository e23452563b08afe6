"""A recording that is killed is found at the next start: what was recorded plays, but for its last second."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from detection.outputs import encoders
from detection.outputs.leftovers import salvage
from detection.outputs.video import Recorder

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
import numpy as np
from pathlib import Path
from detection.outputs import encoders
from detection.outputs.video import Recorder
if sys.argv[2] == "opencv":
    encoders.ffmpeg_writes_h264 = lambda: False
random, start = np.random.default_rng(0), time.monotonic()
with Recorder(Path(sys.argv[1]), 25) as recorder:
    for number in range(10_000):
        recorder.write(random.integers(0, 256, (240, 320, 3), dtype=np.uint8))
        print(number + 1, flush=True)
        time.sleep(max(0.0, start + number / 25 - time.monotonic()))
"""


def frames_of(path):
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        count += 1
    return count


def killed(path, encoder, seconds, whole_group=False):
    """Frames that a recording had when it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), encoder], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout
    child.stdout.readline()
    time.sleep(seconds)
    if whole_group:  # as when the machine goes: ffmpeg cannot finish what it has
        for process in subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split():
            os.kill(int(process), signal.SIGKILL)
    child.kill()
    written = 1 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdout.close()
    time.sleep(1.0)  # for ffmpeg, which is not killed, to finish
    return written


ENCODERS = [
    ("out.mp4", "opencv"),
    ("out.avi", "opencv"),
    pytest.param(
        "out.mp4", "ffmpeg", marks=pytest.mark.skipif(not encoders.ffmpeg_writes_h264(), reason="needs ffmpeg")
    ),
]


@pytest.mark.parametrize(("name", "encoder"), ENCODERS)
def test_a_killed_recording_plays_after_the_next_start(tmp_path, name, encoder):
    written = killed(tmp_path / name, encoder, 3)
    (line,) = salvage(tmp_path, "out", Path(name).suffix)
    recovered = tmp_path / name.replace("out", "out-recovered")
    assert line == f"{recovered}: recovered from a recording that was killed"
    assert frames_of(recovered) >= written - 25
    assert [path.name for path in tmp_path.iterdir()] == [recovered.name]


@pytest.mark.skipif(not encoders.ffmpeg_writes_h264(), reason="needs ffmpeg")
def test_parts_play_though_ffmpeg_is_killed_too(tmp_path):
    written = killed(tmp_path / "out.mp4", "ffmpeg", 5, whole_group=True)
    salvage(tmp_path, "out", ".mp4")
    assert frames_of(tmp_path / "out-recovered.mp4") >= written - 60  # what the encoder still had in hand


def test_what_does_not_play_goes_and_what_is_being_written_stays(tmp_path):
    import numpy as np

    torn = tmp_path / ".out.mp4.320x240@25.000.0123abcd.part.mp4"
    torn.write_bytes(b"\0" * 100)
    with Recorder(tmp_path / "out.mp4", 25) as recorder:
        recorder.write(np.zeros((240, 320, 3), np.uint8))
        assert salvage(tmp_path, "out", ".mp4") == [f"{torn}: a killed recording of which nothing plays: removed"]
    assert frames_of(tmp_path / "out.mp4") == 1 and [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_nothing_that_was_recovered_is_written_over(tmp_path):
    for number in range(2):
        writer = cv2.VideoWriter(str(tmp_path / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
        writer.write(__import__("numpy").zeros((32, 32, 3), "uint8"))
        writer.release()
        (tmp_path / "x.avi").rename(tmp_path / f".out-1.avi.32x32@5.000.0123456{number}.part.avi")
    salvage(tmp_path, "out", ".avi")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-1-recovered-2.avi", "out-1-recovered.avi"]
