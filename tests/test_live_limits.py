"""Those who never finish a request, guess tokens, or meet a fault of the program: the page's server and the cameras go on."""

import asyncio
import errno
import gc
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack

import pytest
from live_help import CameraServer, FakeDetector, save_video, wait_until
from test_live_page import IMAGE, Page
from websockets.exceptions import ConnectionClosed

from detection.errors import MobileSSDError
from detection.live import app, auth, connections, faults, server, upload_api
from detection.live.connections import Connections, Limits, Listener, network_of
from detection.live.options import LiveOptions, PageOptions
from detection.live.stop import Stop
from detection.live.upload_api import Bodies, Refused

HALF = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX-Never: "


@pytest.fixture
def page(tmp_path):
    page = Page([f"front={save_video(tmp_path / 'film.avi', frames=30, fps=30)}"], loop=True)
    yield page
    page.close()


@pytest.fixture
def guarded(tmp_path):
    page = Page([f"front={save_video(tmp_path / 'film.avi')}"], loop=True, host="0.0.0.0")
    yield page
    page.close()


def metric(page, name):
    lines = page.ask("/metrics")[2].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"mobilessd_{name} "))


def half_open(page, stack, count, start=HALF):
    """`count` connections that have sent `start` and wait."""
    found = []
    for _ in range(count):
        one = stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=10))
        one.sendall(start)
        found.append(one)
    return found


def ended(connection, seconds):
    """Whether the server has closed it within so many seconds."""
    connection.settimeout(seconds)
    try:
        while connection.recv(1000):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


# ---------------------------------------------------------------- headers that never end


def test_beside_300_half_open_connections_everybody_else_is_answered_at_once():
    camera = CameraServer()
    page = Page([f"front={camera.url}"])
    wait_until(lambda: page.json("/api/status")[1]["front"]["results"] > 3, 20)
    with ExitStack() as stack:
        waiting = half_open(page, stack, 300)
        began = time.monotonic()
        assert all(page.ask("/api/status")[0] == 200 for _ in range(20))
        assert time.monotonic() - began < 2
        assert ended(waiting[0], 5), "the oldest gave way"
        assert not ended(waiting[-1], 0.1)
        assert 100 < metric(page, "page_connections") <= 160, "and those that have just ended"
        assert metric(page, "page_connections_refused_total") >= 170
        results = page.json("/api/status")[1]["front"]["results"]
        time.sleep(0.5)
        assert page.json("/api/status")[1]["front"]["results"] > results, "the camera goes on"
    page.close()
    camera.down()
    assert not any("page:" in line for line in page.said)


def test_a_header_that_is_not_whole_in_time_is_not_waited_for(monkeypatch, page):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.3)
    with ExitStack() as stack:
        (first,) = half_open(page, stack, 1)
        (second,) = half_open(page, stack, 1, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(1000).startswith(b"HTTP/1.1 200")
        second.sendall(HALF)
        assert ended(first, 4) and ended(second, 4), "the second request's header as well as the first one's"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_those_who_never_finish_their_tls_handshake_are_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    subprocess.run(make.split(), check=True, capture_output=True)
    said, stop = [], Stop()
    options = LiveOptions(show="page", page=PageOptions("127.0.0.1", 0, None, cert, key))
    thread = threading.Thread(target=app.run, args=(options, FakeDetector, stop, said.append), daemon=True)
    thread.start()
    wait_until(lambda: said and "watch it at" in said[-1], 20, "the page")
    url, trusting = said[-1].split()[-1], ssl._create_unverified_context()
    with ExitStack() as stack:
        port = int(url.rstrip("/").rpartition(":")[2])
        mute = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(200)]
        assert urllib.request.urlopen(url + "healthz", context=trusting, timeout=10).read() == b"ok\n"
        assert ended(mute[0], 10) and ended(mute[-1], 10)
    stop.set()
    thread.join(20)
    assert said[-1].startswith("watch it at"), "and nothing is said of them"


class FakeSocket:
    def __init__(self):
        self.closed = False

    def fileno(self):
        return -1 if self.closed else 3

    def shutdown(self, how):
        self.closed = True


def test_no_address_takes_all_connections():
    book = Connections(Limits(most=8, of_one=4, waiting=6, waiting_of_one=3))
    sockets = {}

    def come(host, port):
        one = FakeSocket()
        let_in = book.admit(one, (host, port))
        sockets[host, port] = one
        return let_in

    assert all(come("10.0.0.1", port) for port in range(5)), "the oldest without a request give way"
    assert [sockets["10.0.0.1", port].closed for port in range(5)] == [True, True, False, False, False]
    for port in (2, 3, 4):
        book.began(("10.0.0.1", port))
    assert come("10.0.0.1", 5) and not sockets["10.0.0.1", 2].closed
    book.began(("10.0.0.1", 5))
    assert not come("10.0.0.1", 6), "four are being served"
    assert all(come("10.0.0.2", port) for port in range(3)) and len(book) == 7
    sockets["10.0.0.1", 2].closed = True
    assert come("10.0.0.1", 7), "one of its own has ended"
    assert network_of("2001:db8::1:2") == network_of("2001:db8::3:4") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == "10.0.0.1"


def test_descriptors_are_kept_back_for_cameras_and_recordings(monkeypatch):
    monkeypatch.setattr(connections, "_free_descriptors", lambda: 200)
    assert Limits.of_this_process() == Limits(72, 36, 36, 18)
    monkeypatch.setattr(connections, "_free_descriptors", lambda: 100_000)
    assert Limits.of_this_process() == Limits()


def test_without_a_descriptor_left_it_does_not_spin_and_says_so_once(monkeypatch):
    said, accept = [], socket.socket.accept
    exhausted = [True]

    def accepting(self):
        if exhausted[0] and self._spare is not None and not self._spare.closed:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accepting)
    with Listener(socket.AF_INET, socket.SOCK_STREAM) as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listener.setblocking(False)
        listener.connections, complaints = Connections(Limits()), faults.Complaints(said.append)
        listener.complain = lambda line: complaints("accept", line)
        come = [stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5)) for _ in range(3)]
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                listener.accept()
        assert all(ended(one, 5) for one in come), "turned away, so that nothing waits that cannot be served"
        exhausted[0] = False
        stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
        stack.enter_context(listener.accept()[0])
    assert said == ["no connection can be accepted: Too many open files"]


# ---------------------------------------------------------------- bodies


def test_a_body_that_comes_too_slowly_is_cut_off(monkeypatch, page):
    monkeypatch.setattr(upload_api, "QUIET_SECONDS", 0.3)
    with ExitStack() as stack:
        start = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        silent, dripping = half_open(page, stack, 2, start)
        began = time.monotonic()
        while time.monotonic() - began < 5:
            try:
                dripping.sendall(b"x")
            except OSError:
                break
            dripping.setblocking(False)
            try:
                answer = dripping.recv(1000)
                break
            except BlockingIOError:
                dripping.setblocking(True)
                time.sleep(0.05)
        assert answer.startswith(b"HTTP/1.1 408") and b"too slowly" in answer + silent.recv(1000)
        assert page.json("/detect", IMAGE)[0] == 200
        assert ended(silent, 5)


def test_the_end_does_not_wait_for_slow_bodies_and_says_nothing_of_them(tmp_path, capfd):
    page = Page([f"front={save_video(tmp_path / 'film.avi')}"], loop=True)
    with ExitStack() as stack:
        half_open(page, stack, 5, b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        wait_until(lambda: metric(page, "page_connections") >= 5, 5)
        page.close()
        gc.collect()
    assert not [line for line in page.said if "page:" in line] and "Exception" not in capfd.readouterr().err


class Sending:
    """A starlette request whose body comes in the chunks that are put into `chunks`; None ends it."""

    def __init__(self):
        self.headers, self.chunks = {}, asyncio.Queue()

    async def stream(self):
        while (chunk := await self.chunks.get()) is not None:
            yield chunk


def test_bodies_are_limited_in_sum_and_the_slowest_gives_way():
    async def scene():
        bodies, stalled, other = Bodies(most=100), Sending(), Sending()
        ends = asyncio.Event()

        async def hold(request):
            async with bodies.read(request) as data:
                await ends.wait()
                return bytes(data)

        tasks = [asyncio.create_task(hold(request)) for request in (stalled, other)]
        stalled.chunks.put_nowait(b"s" * 60)
        await asyncio.sleep(0.05)
        assert bodies.held == 60
        other.chunks.put_nowait(b"o" * 50)  # as fast as the stalled one was at first, and younger
        await asyncio.sleep(0.05)
        assert bodies.held <= 100
        for request in (stalled, other):
            request.chunks.put_nowait(b".")
            request.chunks.put_nowait(None)
        await asyncio.sleep(0.05)
        late = Sending()
        late.chunks.put_nowait(b"l" * 90)
        with pytest.raises(Refused) as refused:  # what is whole waits for its detection, and is not thrown away
            await hold(late)
        ends.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return bodies, refused.value.status, results

    bodies, status, results = asyncio.run(scene())
    assert status == 503 and bodies.held == 0
    kinds = sorted(type(result).__name__ for result in results)
    assert kinds == ["Refused", "bytes"], "one of the two gave way, and the other is whole"


# ---------------------------------------------------------------- what nobody foresaw


class Faulty(FakeDetector):
    def __call__(self, image):
        if image.shape[1] == 80:
            raise KeyError("an unforeseen\nthing")
        return super().__call__(image)


def test_a_fault_of_the_program_is_500_with_the_security_headers_one_line_and_a_count(tmp_path):
    page = Page([f"front={save_video(tmp_path / 'film.avi')}"], Faulty(), loop=True)
    for _ in range(5):
        status, headers, body = page.ask("/detect", IMAGE)
        assert status == 500 and "fault" in json.loads(body)["error"]
        assert headers["X-Frame-Options"] == "DENY" and "default-src" in headers["Content-Security-Policy"]
    with page.socket("/ws/camera") as visitor:
        visitor.send(IMAGE)
        with pytest.raises(ConnectionClosed):
            visitor.recv(timeout=10)
    wait_until(lambda: metric(page, "page_faults_total") == 6, 5)
    assert page.ask("/healthz")[0] == 200
    page.close()
    (line,) = [line for line in page.said if "fault" in line]
    assert "POST /detect" in line and "KeyError" in line and "test_live_limits.py:" in line and "\n" not in line


def test_faults_of_the_guard_itself_are_answered_as_well(monkeypatch, page):
    monkeypatch.setattr(auth, "_name_of", lambda host: 1 / 0)
    status, headers, _ = page.ask("/")
    assert status == 500 and headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "http://a]b", "\xff", ""])
def test_an_origin_that_is_none_is_another_origin(page, origin):
    status, headers, body = page.ask("/api/status", Origin=origin)
    assert status == 403 and "another origin" in json.loads(body)["error"] and headers["X-Frame-Options"] == "DENY"


def test_complaints_of_one_kind_come_once_a_minute(monkeypatch):
    said, complain = [], None
    complain = faults.Complaints(said.append)
    for _ in range(1000):
        complain("a", "a went \x1b[31mwrong")
    complain("b", "b did")
    assert said == ["a went ?[31mwrong", "b did"]
    monkeypatch.setattr(faults, "SAY_EVERY", 0.0)
    complain("a", "again")
    assert said[2:] == ["again (and 999 more like it)"]


# ---------------------------------------------------------------- tokens


def test_short_tokens_are_refused():
    for token in ("short", "x" * 15):
        with pytest.raises(MobileSSDError, match="16 or more"):
            server._token_for(PageOptions(token=token))
    assert server._token_for(PageOptions(token="x" * 16)) == "x" * 16


def test_guesses_are_slowed_and_only_for_the_address_that_guesses(monkeypatch, guarded):
    def show(token, address):
        return guarded.ask("/api/status", Authorization=f"Bearer {token}", X_Forwarded_For=address)[0]

    assert [show(f"wrong-{n}", "10.0.0.1") for n in range(12)] == [401] * 10 + [429] * 2
    assert show(guarded.token, "10.0.0.1") == 429, "else guessing would go on"
    assert show(guarded.token, "10.0.0.2") == 200
    assert {show("of yesterday", "10.0.0.3") for _ in range(30)} == {401}, "one that comes again is one guess"
    assert show(guarded.token, "10.0.0.3") == 200
    assert {guarded.ask("/api/status", X_Forwarded_For="10.0.0.4")[0] for _ in range(30)} == {401}, "none is no guess"
    monkeypatch.setattr(auth, "GUESSING_SECONDS", 0.0)
    assert show(guarded.token, "10.0.0.1") == 200


def test_those_without_the_token_may_not_keep_a_connection(guarded):
    for path in ("/healthz", "/api/status"):
        connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.headers["Connection"] == "close" and answer.read()
        connection.close()


def test_guesses_are_forgotten_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(auth, "MOST_GUESSERS", 10)
    guesses = auth.Guesses()
    for n in range(100):
        guesses.add(f"10.0.0.{n}", [f"token {n}"])
    assert len(guesses._of) == 10 and guesses.wrong == 100 and not guesses.too_many("10.0.0.99")
