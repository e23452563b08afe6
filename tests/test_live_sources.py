"""Live sources: the newest frame of a camera, every frame of a file, and cameras that fail in every way they know."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from live_help import CameraServer, save_video, wait_until

from detection.errors import MobileSSDError
from detection.images.cameras import camera_of
from detection.live import streams
from detection.live.capture import LOST, FileCapture
from detection.live.mailbox import Mailbox
from detection.live.source_names import name_sources
from detection.live.streams import StreamCapture, open_capture, wait_for_sources


def named(address):
    return name_sources([str(address)])[0]


# ---------------------------------------------------------------- mailbox


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
    assert box.take() == "last" and box.take() is None and box.over


# ---------------------------------------------------------------- names


def test_names_of_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert camera_of("0") == 0 and camera_of("/dev/video2") == 2 and camera_of("v4l2:///dev/video2") == 2
    assert camera_of("film.mp4") is None and camera_of("rtsp://0") is None and camera_of("") is None
    Path("7").write_text("a file of this name")
    assert camera_of("7") is None


@pytest.mark.skipif(os.name == "nt", reason="other systems have no device files")
def test_a_camera_may_be_named_by_its_device_or_a_link_to_it(tmp_path):
    by_id = "/dev/v4l/by-id/usb-absent-index0"
    assert camera_of(by_id) == by_id, "it may be plugged in later"
    for name, target in (("mycam", "/dev/video2"), ("null", "/dev/null"), ("file", tmp_path / "a.mp4"), ("gone", "x")):
        (tmp_path / name).symlink_to(target)
    assert camera_of(str(tmp_path / "mycam")) == 2
    assert camera_of(str(tmp_path / "null")) == "/dev/null"
    assert camera_of(str(tmp_path / "file")) is None and camera_of(str(tmp_path / "gone")) is None
    assert named(tmp_path / "null").live


@pytest.mark.parametrize("source", ["/dev/null", "/dev/v4l/by-id/usb-absent-index0", "97", "v4l2:///dev/video97"])
def test_an_absent_camera_is_told_with_those_that_are_here(source):
    with open_capture(named(source)) as capture, pytest.raises(MobileSSDError) as caught:
        wait_for_sources([capture])
    assert "camera cannot be opened" in str(caught.value) and "camera here" in str(caught.value).replace(
        "cameras", "camera"
    )


def test_a_pipeline_is_no_file():
    pipeline = "v4l2src device=/dev/video0 ! videoconvert ! appsink"
    assert named(pipeline).live and named(pipeline).name == "pipeline"
    # Refused at once, or once GStreamer has tried it.
    with pytest.raises(MobileSSDError, match="pipeline"), open_capture(named(pipeline)) as capture:
        wait_for_sources([capture])


def test_sources_have_short_names_that_differ():
    found = name_sources(["0", "a/film.mp4", "b/film.mp4", "door=rtsp://u:secret@10.0.0.7:554/x?key=abc", "shots/"])
    assert [one.name for one in found] == ["camera 0", "film.mp4", "film.mp4 (2)", "door", "shots"]
    assert [one.key for one in found] == ["camera-0", "film.mp4", "film.mp4-2", "door", "shots"]
    assert found[3].address == "rtsp://u:secret@10.0.0.7:554/x?key=abc" and found[3].live and not found[1].live
    with pytest.raises(MobileSSDError, match="door"):
        name_sources(["door=0", "door=1"])


def test_no_name_tells_a_password():
    assert named("rtsp://u:secret@10.0.0.7:554/x?key=abc").name == "10.0.0.7:554/x"
    assert named("http://u:secret@cam/x?token=abc").name == "cam/x"
    nvr = named("rtsp://10.0.0.7/user=admin_password=secret_channel=1_stream=0.sdp")
    assert "secret" not in nvr.name + nvr.key and "channel=1" in nvr.name
    assert "secret" not in named("rtsp://u:secret@[broken:port/x").name


def test_a_name_with_an_equals_sign_can_be_a_file(tmp_path):
    save_video(tmp_path / "a=b.avi")
    assert named(tmp_path / "a=b.avi").address.endswith("a=b.avi")


# ---------------------------------------------------------------- files and folders


def test_a_file_gives_every_frame_however_slowly_they_are_taken(tmp_path):
    with open_capture(named(save_video(tmp_path / "film.avi"))) as capture:
        frames = []
        for frame in capture:
            time.sleep(0.01)
            frames.append(frame)
        assert not capture.live and capture.fps == 20 and capture.state == "ended" and not capture.stale
    assert [frame.index for frame in frames] == list(range(12))
    assert frames[11].time == pytest.approx(11 / 20, abs=0.02)


def test_a_file_that_loops_goes_on_with_its_time(tmp_path):
    with FileCapture(named(save_video(tmp_path / "film.avi", frames=4)), loop=True) as capture:
        frames = [frame for frame, _ in zip(capture, range(10))]
    assert [frame.index for frame in frames] == list(range(10))
    assert np.diff([frame.time for frame in frames]) == pytest.approx(np.full(9, 1 / 20), abs=0.01)


def test_a_folder_gives_its_images_and_leaves_broken_ones_out(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((10 + i, 20, 3), 50, np.uint8))
    (tmp_path / "1.png").write_bytes(b"broken")
    with open_capture(named(tmp_path)) as capture:
        assert [(frame.image.shape[0], frame.time) for frame in capture] == [(10, 0.0), (12, 1.0)]


def test_a_video_cut_short_ends_with_an_error_after_its_last_frame(tmp_path):
    path = save_video(tmp_path / "film.avi", frames=30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    said, frames = [], []
    with open_capture(named(path), tell=said.append) as capture, pytest.raises(MobileSSDError, match="of 30 frames"):
        for frame in capture:
            frames.append(frame)
    assert 5 < len(frames) < 30 and said == []
    with open_capture(named(tmp_path), tell=said.append) as capture:  # found in a folder: a warning
        assert len(list(capture)) == len(frames)
    assert said == [f"warning: {path}: {len(frames)} of 30 frames can be read, it is cut short"]


def test_what_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(MobileSSDError, match="nowhere.mp4"):
        open_capture(named("nowhere.mp4"))
    (tmp_path / "broken.avi").write_bytes(b"RIFF" * 100)
    with open_capture(named(tmp_path / "broken.avi")) as capture, pytest.raises(MobileSSDError, match="broken.avi"):
        wait_for_sources([capture])


# ---------------------------------------------------------------- cameras and streams


@pytest.fixture
def camera():
    server = CameraServer(fps=50)
    yield server
    server.down()


@pytest.fixture
def said():
    return []


@pytest.fixture
def watched(camera, said):
    """A stream that is given up after 1 s of silence, and a list of the moments at which its frames were taken."""
    with StreamCapture(named(camera.url), deadline=1.0, tell=said.append) as capture:
        taken = []
        thread = threading.Thread(target=lambda: taken.extend(time.monotonic() for _ in capture), daemon=True)
        thread.start()
        wait_until(lambda: len(taken) > 3, 20, "the first frames")
        yield capture, taken
    thread.join(5)


def test_a_live_source_is_never_behind_however_slowly_it_is_taken(camera):
    with open_capture(named(camera.url)) as capture:
        assert capture.settled(20) and capture.live
        ages, indices = [], []
        for frame in capture:
            ages.append(time.monotonic() - frame.arrived)
            indices.append(frame.index)
            time.sleep(0.15)
            if len(ages) == 6:
                break
    assert np.median(ages) < 0.1, "taken fresh, not from a queue"
    assert indices[-1] - indices[0] > 15, "gaps show what was dropped"
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("capture", "pump"))]


def test_cameras_that_cannot_be_opened_are_one_clear_line():
    addresses = ["http://u:secret@127.0.0.1:9/none", "97"]
    captures = [open_capture(named(address)) for address in addresses]
    try:
        with pytest.raises(MobileSSDError) as caught:
            wait_for_sources(captures)
    finally:
        for capture in captures:
            capture.close()
    text = str(caught.value)
    assert "127.0.0.1:9/none" in text and "camera 97" in text and "\n" not in text and "secret" not in text


def test_a_long_opening_is_said(camera, monkeypatch):
    camera.mode = "hang"
    monkeypatch.setattr(streams, "WAIT_TOLD", 0.2)
    said = []
    threading.Timer(1.0, lambda: setattr(camera, "mode", "run")).start()
    with open_capture(named(f"door={camera.url}")) as capture:
        wait_for_sources([capture], tell=said.append)
    assert len(said) == 1 and said[0].startswith("door: opening, 0 s (given up after 20 s")


@pytest.mark.parametrize("mode", ["hang", "garbage", "half", "drip"])
def test_a_camera_that_comes_back_is_watched_again(camera, watched, said, mode):
    capture, taken = watched
    camera.mode = mode
    if mode != "half":  # of half an image the decoder makes what it can
        wait_until(lambda: capture.state == LOST and capture.stale, 5, "noticing")
        assert capture.reconnects and capture.message
    time.sleep(1)
    count = len(taken)
    camera.mode = "run"
    assert wait_until(lambda: len(taken) > count + 3, 10, "frames after the return") < 10
    assert capture.state == "live" and not capture.stale
    if mode != "half":
        assert "trying again" in said[0] and said[-1].endswith("is back")


def test_a_refused_connection_is_tried_again(camera, watched):
    capture, taken = watched
    camera.down()
    wait_until(lambda: capture.state == LOST, 5, "noticing")
    time.sleep(2)
    count = len(taken)
    camera.up()
    assert wait_until(lambda: len(taken) > count, 10, "frames after the return") < 10


def test_a_reader_that_is_killed_is_replaced(watched, camera):
    capture, taken = watched
    before = camera.connections
    os.kill(capture._process.pid, signal.SIGSTOP)  # as if it hung within a driver, where nothing else ends it
    count = len(taken)
    wait_until(lambda: camera.connections > before and len(taken) > count + 20, 15, "another reader")


def test_readers_end_with_their_program(camera):
    code = (
        "import sys, time; from detection.live.streams import StreamCapture; from detection.live.source_names import *\n"
        f"capture = StreamCapture(name_sources(['{camera.url}'])[0]); next(iter(capture)); print('on', flush=True)\n"
        "time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[1]
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root, text=True)
    assert program.stdout.readline() == "on\n"
    children = subprocess.run(["pgrep", "-P", str(program.pid)], capture_output=True, text=True).stdout.split()
    assert children
    program.kill()
    program.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5, "the reader's end")


@pytest.fixture
def far(tmp_path):
    """A folder that a web server gives away, and its address. Names that begin with `snap` are given as a camera gives
    its newest image: whatever follows them."""
    import http.server

    class Handler(http.server.SimpleHTTPRequestHandler):
        asked = 0

        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.startswith("/snap"):
                return super().do_GET()
            Handler.asked += 1
            data = cv2.imencode(".jpg", np.full((48, 64, 3), 20 * Handler.asked % 250, np.uint8))[1].tobytes()
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_far_file_is_a_file(far):
    """A URL with an end loses no frame."""
    folder, url = far
    save_video(folder / "film.avi", frames=30)
    with open_capture(named(f"{url}/film.avi")) as capture:
        frames = []
        for frame in capture:
            frames.append(frame)
            time.sleep(0.005)
    assert [frame.index for frame in frames] == list(range(30)) and not capture.live and capture.state == "ended"
    assert [frame.time for frame in frames] == pytest.approx([i / 20 for i in range(30)], abs=0.02)


def test_a_far_file_that_breaks_off_is_said(far):
    folder, url = far
    path = save_video(folder / "film.avi", frames=90)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = []
    with open_capture(named(f"{url}/film.avi")) as capture, pytest.raises(MobileSSDError, match="of 90 frames"):
        for frame in capture:
            frames.append(frame)
    assert 10 < len(frames) < 80


@pytest.mark.parametrize("path", ["snapshot.jpg", "snap", "snap.cgi?x.jpg", "snap?user=bob&pwd=hunter2"])
def test_a_snapshot_is_asked_for_again_and_again(far, path, said):
    _, url = far
    with open_capture(named(f"{url}/{path}"), tell=said.append) as capture:
        levels = [round(frame.image.mean()) for frame, _ in zip(capture, range(4))]
    assert capture.live and capture.reconnects == 0 and said == [], "one camera, and not four that broke off"
    assert len(set(levels)) == 4, "each is a new image"


def test_a_first_opening_may_take_longer_than_later_ones():
    assert streams.OPEN_TIMEOUT > streams.REOPEN_TIMEOUT
    assert streams.REOPEN_TIMEOUT + streams.LONGEST_PAUSE < 10


# ---------------------------------------------------------------- words about what has not come


def test_a_camera_that_never_comes_is_said_again_after_pauses_that_grow():
    from detection.live.app import Waiting

    said = []
    waiting, capture = (
        Waiting(said.append),
        SimpleNamespace(name="door", state=LOST, message="does not answer", arrived=0),
    )
    when = []
    for second in range(3600):
        before = len(said)
        waiting.tell([SimpleNamespace(capture=capture)], second)
        when += [second] if len(said) > before else []
    assert when == [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]
    assert set(said) == {"door: does not answer; waiting for it"}
    capture.arrived = 1.0
    waiting.tell([SimpleNamespace(capture=capture)], 9999)
    assert len(said) == len(when), "it has come"


# ---------------------------------------------------------------- motion JPEG is measured before it is decoded


def tall_jpeg(jpeg, side=16_000):
    """The same file, whose header says that it has `side` x `side` pixels."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + side.to_bytes(2, "big") * 2 + jpeg[at + 4 :]


@pytest.mark.parametrize("first", [0, 3])
def test_frames_of_256_megapixels_are_refused_before_decoding_and_named(first):
    camera = CameraServer()
    camera._jpegs = [*camera._jpegs[:first], *[tall_jpeg(camera._jpegs[0])] * 50]
    with open_capture(named(f"front={camera.url}")) as capture:
        wait_until(lambda: capture.state == LOST, 20, "the refusal")
        assert capture.message == (
            "its frames have 16000 x 16000 pixels, more than 100 megapixels: ask it for smaller ones"
        )
        with pytest.raises(MobileSSDError, match="^front: its frames have 16000 x 16000 pixels"):
            wait_for_sources([capture])
    camera.down()


JPEG = b"\xff\xd8 a line\r\n and another \xff\xd9"


@pytest.mark.parametrize(
    "kind, stream",
    [
        ("boundary=frame", b"--frame\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(JPEG), JPEG)),
        ("boundary=--frame", b"--frame\r\ncontent-length:%d\r\n\r\n%s\r\n" % (len(JPEG), JPEG)),
        ('boundary="frame"', b"--frame\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n" % JPEG),
        ("boundary=frame", b"--frame\n\n%s\n" % JPEG),
        ("boundary=frame", b"--frame\r\nContent-Length: %d\r\n\r\n%s and what it did not say\r\n" % (len(JPEG), JPEG)),
    ],
)
def test_parts_are_found_with_and_without_their_length(kind, stream):
    from detection.live.motion_jpeg import _parts

    answer = io.BytesIO(b"preamble\r\n\r\n" + stream * 3 + b"--frame--\r\n")
    answer.headers = Message()
    answer.headers["Content-Type"] = f"multipart/x-mixed-replace; {kind}"
    assert list(_parts(answer)) == [JPEG] * 3
