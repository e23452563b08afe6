"""Cameras for measurements: motion JPEG or H.264 over HTTP, each client at the pace of a camera, from a process of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

FLV = ".flv"  # how the path of an H.264 camera ends
_TAG = 11  # bytes before the content of a tag of FLV: kind, length of the content, milliseconds (the highest byte last)
_VIDEO = 9
# What live sees of a camera's own encoder: no frame waits for a later one, and a whole frame comes every two seconds.
_ENCODER = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-crf", "23", "-pix_fmt", "yuv420p")


def serve(frame_of: Callable[[str, int], bytes], port: Any, fps: float, head: bytes = b"") -> None:
    """Serves until the process ends; its port is then in `port.value`. To be run in a process of its own.

    frame_of: (path, number from 0) -> the JPEG that is sent next, or where the path ends with .flv a tag of `h264_tags`, for
    which `head` is sent first. It is called when its time has come.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            flv = self.path.endswith(FLV)
            self.send_response(200)
            self.send_header("Content-Type", "video/x-flv" if flv else "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            begin, number = time.monotonic(), 0
            try:
                self.wfile.write(head if flv else b"")
                while True:
                    data = frame_of(self.path, number)
                    if flv:
                        self.wfile.write(_stamped(data, round(1000 * number / fps)))
                    else:
                        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        self.wfile.write(part + data + b"\r\n")
                    number += 1
                    time.sleep(max(begin + number / fps - time.monotonic(), 0))
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port.value = server.server_port
    server.serve_forever()


def h264_tags(images: Sequence[np.ndarray], fps: float) -> tuple[bytes, list[bytes]]:
    """(what an FLV stream begins with, a tag for each image) of uint8 RGB images [H, W, 3] of one size, the first one whole.
    Clips of one size have the same beginning. Needs the program ffmpeg with libx264."""
    height, width = images[0].shape[:2]
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-")
    command = ["ffmpeg", "-v", "error", *raw, *_ENCODER, "-g", f"{2 * fps:g}", "-f", "flv", "-"]
    data = subprocess.run(
        command, input=b"".join(map(np.ndarray.tobytes, images)), check=True, capture_output=True
    ).stdout
    head, tags, at = data[:13], [], 13
    while at < len(data):
        length = _TAG + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        tag, at = data[at : at + length], at + length
        if tag[0] == _VIDEO and tag[_TAG + 1] == 1:  # a frame
            tags.append(tag)
        elif tag[0] == _VIDEO and tag[_TAG + 1] == 0:  # how it is encoded
            head += _stamped(tag, 0)
    assert len(tags) == len(images), f"{len(images)} images, {len(tags)} frames"
    return head, tags


def _stamped(tag: bytes, milliseconds: int) -> bytes:
    stamp = milliseconds.to_bytes(4, "big")
    return tag[:4] + stamp[1:] + stamp[:1] + tag[8:]
