"""A web server on this machine that misbehaves in every way that tests of downloads ask for, and what they share."""

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from detection.weights.download import transfer
from detection.weights.download.fetch import folder_of
from detection.weights.download.published import PublishedFile

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """files: path -> bytes. statuses: path -> states to answer with first. cuts: how many bytes of the next answers to
    send before hanging up. ranges: whether Range is understood. delay: seconds before each answer. seen: requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.statuses, self.cuts, self.seen = {}, {}, [], []
        self.ranges, self.delay = True, 0.0

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.path.lstrip("/")
        server.seen.append((path, self.headers.get("Range")))
        time.sleep(server.delay)
        if server.statuses.get(path):
            return self.answer(server.statuses[path].pop(0), b"sorry")
        if path not in server.files:
            return self.answer(404, b"nothing here")
        body, wanted = server.files[path], self.headers.get("Range")
        if not (wanted and server.ranges):
            return self.answer(200, body)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return self.answer(416, b"")
        self.answer(206, body[start:], f"bytes {start}-{len(body) - 1}/{len(body)}")

    def answer(self, status, body, content_range=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts and status in (200, 206) else len(body)
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@contextmanager
def running():
    """A server at work."""
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def isolate(home, monkeypatch):
    """An empty cache, none of this machine's own settings, and no long pauses."""
    monkeypatch.setenv("MOBILESSD_HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("MOBILESSD_OFFLINE", raising=False)
    monkeypatch.delenv("MOBILESSD_MIRROR", raising=False)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)


def record(*urls, content=CONTENT, sharded=False, **more):
    name = "model.json" if sharded else urls[0].replace("#", "/").rsplit("/", 1)[-1]
    digest = hashlib.sha256(content).hexdigest()
    return PublishedFile("thing.test", name, urls, digest, len(content), sharded, **more)


def whole(path, content=CONTENT):
    return path.read_bytes() == content


def leftovers(wanted):
    return [p.name for p in folder_of(wanted).parent.iterdir() if p.name.endswith(".part")]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text
