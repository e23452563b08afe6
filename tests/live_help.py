"""What several tests of live need: a detector without a network, small videos, a camera that misbehaves."""

import contextlib
import socket
import threading
import time
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from detection.boxes.detections import Detections

needs_tracking = pytest.mark.skipif(find_spec("scipy") is None, reason="needs scipy")


class FakeDetector:
    """Finds one dog in the middle of every image, after `seconds`."""

    class_names = ("dog", "cat")
    card = SimpleNamespace(category_ids=(18, 17), licence="CC0", attribution="nobody")

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __call__(self, image):
        time.sleep(self.seconds)
        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), self.class_names, (height, width), (18, 17))

    def __str__(self):
        return "fake weights"


def save_video(path, frames=12, fps=20.0, size=(48, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size[::-1])
    for i in range(frames):
        writer.write(np.full((*size, 3), 20 * i % 250, np.uint8))
    writer.release()
    return path


class Reds:
    """Finds red things by their colour, so that a generated clip can be watched without a network."""

    class_names = ("dog", "cat")

    def __call__(self, image):
        red = ((image[..., 0] > 150) & (image[..., 1] < 90)).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(red)
        boxes = [[x, y, x + w, y + h] for x, y, w, h, area in stats[1:] if area > 60]
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        classes = np.zeros(len(boxes), np.int64)
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32), classes, self.class_names, image.shape[:2])

    def __str__(self):
        return "reds"


class CameraServer:
    """An MJPEG camera on this machine, `fps` frames a second. mode: "run", "hang" (connected, but silent), "half" (cut
    JPEGs), "garbage" (no JPEG at all), "html" (another service's page), "drip" (a byte now and then). `down()` refuses
    connections, `up()` takes them again, at the same address.
    """

    def __init__(self, fps=25, size=(48, 64)):
        self.fps, self.mode = fps, "run"
        image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        self._jpegs = [cv2.imencode(".jpg", np.roll(image, i, 1))[1].tobytes() for i in range(8)]
        self._stop = threading.Event()
        self._listener = None
        self.port = 0
        self.connections = 0
        self.up()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def up(self):
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener, self._stop), daemon=True).start()

    def down(self):
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener, stop):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection, stop), daemon=True).start()

    def _serve(self, connection, stop):
        self.connections += 1
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            kind = "text/html" if self.mode == "html" else "multipart/x-mixed-replace; boundary=frame"
            connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
            number, due = 0, time.monotonic()
            while not stop.is_set():
                number, due = number + 1, due + 1 / self.fps
                jpeg = self._jpegs[number % len(self._jpegs)]
                if self.mode == "html":
                    connection.sendall(b"<html><body>log in</body></html>\n" * 20)
                elif self.mode == "drip":
                    connection.sendall(b"-")
                elif self.mode == "garbage":
                    self._part(connection, bytes(2000))
                elif self.mode == "half":
                    self._part(connection, jpeg[: len(jpeg) // 2])
                elif self.mode == "run":
                    self._part(connection, jpeg)
                time.sleep(max(due - time.monotonic(), 0))

    def _part(self, connection, data):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data + b"\r\n")


def wait_until(condition, seconds, what="it"):
    """Returns the seconds that it took; fails after `seconds`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begin
