"""Every source of frames has one limit of their size, whoever decodes them, and the process that decodes has one of memory."""

import functools
import http.server
import re
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import children
import cv2
import numpy as np
import pytest
from live_help import CameraServer, save_video

from detection.errors import BadImageError
from detection.images import cameras, decode
from detection.live import reader, reader_messages
from detection.live.frame_limit import TooLarge, check_frame

REFUSED = r"^its frames have 64 x 48 pixels, more than 0.001 megapixels: ask it for smaller ones$"


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)


@contextmanager
def web(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def hls(folder):
    save_transport(folder / "part.ts")
    (folder / "live.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,\npart.ts\n#EXT-X-ENDLIST\n"
    )
    with web(folder) as address:
        yield f"{address}/live.m3u8"


@contextmanager
def film(folder):
    save_video(folder / "film.avi")
    with web(folder) as address:
        yield f"{address}/film.avi"


@contextmanager
def stream(folder):
    """What comes over a connection without an end, as from an RTSP server: FFmpeg opens both in one way."""
    data = save_transport(folder / "part.ts").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            try:
                with listener.accept()[0] as connection:
                    for _ in range(50):
                        connection.sendall(data)
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def motion_jpeg(folder):
    camera = CameraServer()
    yield camera.url
    camera.down()


def save_transport(path):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 48))
    for level in range(30):
        writer.write(np.full((48, 64, 3), 8 * level, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("source", [hls, film, stream, motion_jpeg])
def test_frames_beyond_the_limit_are_refused_before_one_is_passed_on(source, tmp_path, small_limit):
    sent = []
    with source(tmp_path) as address, pytest.raises(TooLarge, match=REFUSED):
        reader._pump(address, None, lambda *message: sent.append(message[0]))
    assert sent == []


@pytest.mark.parametrize("source", [hls, stream])
def test_frames_within_the_limit_are_passed_on(source, tmp_path):
    with source(tmp_path) as address:
        process = reader_messages.start_reader(address)
        kinds = [reader_messages.read_message(process.stdout).kind for _ in range(3)]
        process.kill()
        process.communicate()
    assert kinds == [reader_messages.HELLO, reader_messages.FRAME, reader_messages.FRAME]


def test_a_source_that_grows_later_ends_there(monkeypatch):
    """Of what opens small: the size is looked at with each frame, before its pixels are copied."""
    sizes, taken = [64, 64, 20_000], []

    class Growing:
        def grab(self):
            return True

        def get(self, key):
            return sizes[min(len(taken), 2)] if key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT) else 0

        def retrieve(self):
            taken.append(sizes[len(taken)])
            return True, np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(reader, "_open", lambda address, size, hardware: Growing())
    sent = []
    with pytest.raises(TooLarge, match="20000 x 20000"):
        reader._pump("rtsp://camera/live", None, lambda *message: sent.append(message[0]))
    assert taken == [64, 64] and sent[0] == reader_messages.HELLO


def test_a_camera_of_which_one_image_is_taken_has_the_same_limit(monkeypatch, small_limit):
    class Camera:
        def get(self, key):
            return 64

        def read(self):
            raise AssertionError("before its frames are read")

    monkeypatch.setattr(cameras, "open_camera", lambda camera: Camera())
    monkeypatch.setattr(decode.check_pixels, "__defaults__", (1000,))
    with pytest.raises(BadImageError, match="^camera 0: has 64 x 64 pixels"):
        cameras.photograph("0")


def test_an_ordinary_frame_is_none_too_many():
    check_frame(7680, 4320)
    check_frame(10_000, 10_000)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_the_process_that_reads_a_stream_may_not_take_all_memory():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which answers nothing, so that the process waits
        process = reader_messages.start_reader(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(20)
        connection, _ = listener.accept()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        process.kill()
        process.wait()
        connection.close()
    found = re.search(r"Max data size +(\d+)", limits)
    assert found and 4 << 30 <= int(found[1]) < 8 << 30


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_beyond_its_memory_a_process_gets_none():
    code = (
        "from detection.live.frame_limit import limit_memory; limit_memory(1 << 26)\n"
        "try: bytearray(1 << 27)\nexcept MemoryError: print('none')"
    )
    assert children.run([sys.executable, "-c", code]).stdout == "none\n"
