"""The page's server: what it answers, whom it lets in, and that browsers never slow the cameras."""

import http.client
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from live_help import CameraServer, FakeDetector, save_video, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from detection.errors import MobileSSDError
from detection.live import app
from detection.live.auth import is_loopback
from detection.live.options import LiveOptions, PageOptions
from detection.live.stop import Stop

IMAGE = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))[1].tobytes()


class Page:
    """`mobilessd live --page` in this process."""

    def __init__(self, sources=(), detector=None, host="127.0.0.1", token=None, **options):
        self.said, self.stop = [], Stop()
        page = PageOptions(host, 0, token)
        options = LiveOptions(sources=list(map(str, sources)), show="page", page=page, **options)
        detector = detector or FakeDetector()
        arguments = options, lambda: detector, self.stop, self.said.append
        self.thread = threading.Thread(target=app.run, args=arguments, daemon=True)
        self.thread.start()
        wait_until(lambda: self.said and "watch it at" in self.said[-1], 20, "the page")
        self.url = self.said[-1].removeprefix("watch it at ")
        parts = urllib.parse.urlsplit(self.url)
        self.port, self.token = parts.port, parts.query.removeprefix("token=")

    def ask(self, path, data=None, method=None, **headers):
        """(status, headers, body) of a request."""
        url = f"http://127.0.0.1:{self.port}{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def json(self, path, data=None, **options):
        status, _, body = self.ask(path, data, **options)
        return status, json.loads(body)

    def socket(self, path, **options):
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, max_size=None, **options)

    def close(self):
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return save_video(tmp_path_factory.mktemp("film") / "film.avi", frames=30, fps=30)


@pytest.fixture(scope="module")
def page(film):
    page = Page([f"front={film}"], loop=True)
    yield page
    page.close()


@pytest.fixture
def guarded(film):
    page = Page([f"front={film}"], loop=True, host="0.0.0.0")
    yield page
    page.close()


# ---------------------------------------------------------------- POST /detect


def test_a_image_is_answered_with_its_boxes(page):
    status, answer = page.json("/detect", IMAGE)
    assert status == 200 and answer["image_size"] == [60, 80] and answer["milliseconds"] >= 0
    assert answer["detections"] == [{"name": "dog", "class_id": 0, "score": 0.9, "box": [20, 15, 60, 45]}]
    assert page.json("/detect?score=0.95", IMAGE)[1]["detections"] == []


def png_header(width, height):
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IEND\xaeB`\x82"


@pytest.mark.parametrize(
    "data, path, status, words",
    [
        (b"this is no image", "/detect", 415, "no image"),
        (b"", "/detect", 400, "empty"),
        (IMAGE[: len(IMAGE) // 2], "/detect", 422, "cut short"),
        (png_header(30_000, 30_000), "/detect", 413, "30000 x 30000"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "/detect", 422, "broken"),  # a BigTIFF whose directory lies nowhere
        (IMAGE, "/detect?score=often", 400, "score"),
        (IMAGE, "/detect?score=nan", 400, "score"),
    ],
)
def test_what_is_no_image_is_one_clear_line(page, data, path, status, words):
    code, answer = page.json(path, data, method="POST")
    assert code == status and words in answer["error"] and "\n" not in answer["error"]


@pytest.mark.parametrize("length", [True, False])
def test_a_body_of_200_mb_is_refused_while_it_comes(page, length):
    block, count = bytes(1 << 20), 200
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.putrequest("POST", "/detect")
    if length:
        connection.putheader("Content-Length", str(count << 20))
    else:
        connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(count):
        connection.send(block if length else b"%x\r\n%s\r\n" % (len(block), block))
    if not length:
        connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    assert answer.status == 413 and "32 MB" in json.loads(answer.read())["error"]


def test_who_asks_before_sending_is_refused_before_sending(page):
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as client:
        client.sendall(
            b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_wrong_methods_paths_and_forms_are_one_clear_line(page):
    for path, method, status in (("/detect", "GET", 405), ("/healthz", "DELETE", 405), ("/nothing", "GET", 404)):
        code, answer = page.json(path, method=method)
        assert code == status and path in answer["error"]
    code, answer = page.json("/detect", b"--x", Content_Type="multipart/form-data; boundary=x")
    assert code == 415 and "--data-binary" in answer["error"]
    for path in ("/frame/nobody.jpg", "/stream/nobody.mjpg", "/api/history/nobody", "/static/../server.py"):
        assert page.ask(path)[0] == 404


def test_a_thousand_mixed_requests_from_eight_clients_lose_none(page):
    wishes = [
        ("/detect", IMAGE, 200),
        ("/detect", b"text", 415),
        ("/detect", IMAGE[:500], 422),
        ("/api/status", None, 200),
        ("/frame/front.jpg", None, 200),
    ]

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
        right = 0
        for i in range(125):
            path, data, expected = wishes[(number + i) % len(wishes)]
            connection.request("POST" if data else "GET", path, data)
            answer = connection.getresponse()
            answer.read()
            right += answer.status == expected
        connection.close()
        return right

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(client, range(8))) == 1000


# ---------------------------------------------------------------- numbers and images


def test_health_metrics_and_status(page):
    wait_until(lambda: page.json("/api/status")[1]["front"]["results"] > 5, 10)
    assert page.ask("/healthz")[2] == b"ok\n"
    status = page.json("/api/status")[1]["front"]
    assert status["state"] == "live" and not status["stale"] and len(status["network"]) == 2
    page.ask("/detect", IMAGE)
    code, headers, body = page.ask("/metrics")
    lines = body.decode().splitlines()
    assert code == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert any(line.startswith('mobilessd_detections_total{source="front",class="dog"} ') for line in lines)
    assert any(line.startswith('mobilessd_detect_requests_total{status="200"} ') for line in lines)
    for line in lines:
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0


def test_the_page_knows_classes_colours_and_history(page):
    _, info = page.json("/api/info")
    assert info["sources"] == [{"key": "front", "name": "front"}]
    assert [one["name"] for one in info["classes"]] == ["dog", "cat"] and info["classes"][0]["color"].startswith("#")
    wait_until(lambda: page.json("/api/history/front")[1]["samples"], 5)
    when, flat = page.json("/api/history/front")[1]["samples"][0]
    assert abs(time.time() - when) < 120 and flat == [0, 0.9]
    assert page.json("/api/boxes/front")[1]["detections"][0]["name"] == "dog"


def test_a_clock_that_is_set_back_does_not_stop_the_history(page, monkeypatch):
    wait_until(lambda: page.json("/api/history/front")[1]["samples"], 5)
    before, now = len(page.json("/api/history/front")[1]["samples"]), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    wait_until(lambda: len(page.json("/api/history/front")[1]["samples"]) > before, 5)
    answer = page.json("/api/history/front")[1]
    whens = [when for when, _ in answer["samples"]]
    assert whens == sorted(whens) and 0 <= answer["now"] - whens[-1] < 2, "all by the clock of now"


def test_frames_with_and_without_boxes(page):
    plain, drawn = (page.ask(f"/frame/front.jpg?boxes={i}")[2] for i in (0, 1))
    plain, drawn = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (plain, drawn))
    assert plain.shape == drawn.shape == (48, 64, 3) and np.ptp(plain) < 20 < np.ptp(drawn)


def test_motion_jpeg_plays_in_other_programs(page):
    video = cv2.VideoCapture(f"http://127.0.0.1:{page.port}/stream/front.mjpg", cv2.CAP_FFMPEG)
    assert all(video.read()[1].shape == (48, 64, 3) for _ in range(5))
    video.release()


# ---------------------------------------------------------------- watching


def unpack(data):
    length = struct.unpack("<I", data[:4])[0]
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def test_a_viewer_gets_status_frames_and_boxes(page):
    with page.socket("/ws/view/front") as viewer:
        kinds, numbers = set(), []
        while len(numbers) < 5:
            data = viewer.recv(timeout=10)
            kinds.add(type(data))
            if isinstance(data, bytes):
                packet, jpeg = unpack(data)
                numbers.append(packet["n"])
                viewer.send("next")
        assert kinds == {str, bytes} and numbers == sorted(set(numbers))
        assert packet["size"] == [48, 64] and packet["d"] == [[0, 0.9, 16.0, 12.0, 48.0, 36.0, -1]]
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
    with pytest.raises((ConnectionClosed, InvalidStatus)), page.socket("/ws/view/nobody") as viewer:
        viewer.recv(timeout=10)


def test_a_viewer_that_does_not_keep_up_gets_the_newest_and_slows_nobody(page):
    slow = [page.socket("/ws/view/front") for _ in range(5)]  # they never say "next"
    time.sleep(0.3)
    results = page.json("/api/status")[1]["front"]["results"]
    begin = time.monotonic()
    time.sleep(1.5)
    rate = (page.json("/api/status")[1]["front"]["results"] - results) / (time.monotonic() - begin)
    assert rate > 20, "of 30 frames a second"
    newest = page.json("/api/boxes/front")[1]["frame"]
    packets = []
    while len(packets) < 3:
        if isinstance(data := slow[0].recv(timeout=5), bytes):
            packets.append(unpack(data)[0]["n"])
            slow[0].send("next")
    assert packets[2] >= newest - 5, "two were on their way, the third is of now"
    for viewer in slow:
        viewer.close()


def test_a_visitors_camera_gets_its_boxes_in_order(page):
    with page.socket("/ws/camera") as visitor:
        for data in (IMAGE, b"no image", IMAGE):
            visitor.send(data)
        answers = [json.loads(visitor.recv(timeout=10)) for _ in range(3)]
    assert answers[0]["size"] == [60, 80] and answers[0]["d"] == [[0, 0.9, 20.0, 15.0, 60.0, 45.0, -1]]
    assert "no image" in answers[1]["error"] and "d" in answers[2]


# ---------------------------------------------------------------- whom it lets in


def test_pages_of_another_origin_are_kept_out(page):
    own, other = f"http://127.0.0.1:{page.port}", "http://evil.example"
    assert page.ask("/api/status", Origin=own)[0] == 200
    for headers in (
        {"Origin": other},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{page.port + 1}"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    ):
        status, answer, _ = page.ask("/frame/front.jpg", **headers)
        assert status == 403 and "Access-Control-Allow-Origin" not in answer
        assert page.ask("/detect", IMAGE, **headers)[0] == 403
    for path in ("/ws/view/front", "/ws/camera"):
        with pytest.raises((ConnectionClosed, InvalidStatus)), page.socket(path, origin=other) as viewer:
            viewer.recv(timeout=5)
    assert page.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")[0] == 200


def test_a_name_made_to_point_here_is_refused(page):
    assert page.ask("/api/status", Host=f"evil.example:{page.port}")[0] == 421
    assert page.ask("/api/status", Host=f"localhost:{page.port}")[0] == 200


def test_no_other_page_may_frame_or_embed_it(page):
    _, headers, _ = page.ask("/")
    assert headers["X-Frame-Options"] == "DENY" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'self'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"


def test_on_other_addresses_everybody_needs_the_token(guarded):
    assert len(guarded.token) >= 20
    for path in ("/", "/api/status", "/frame/front.jpg", "/static/app.js", "/metrics", "/?token=wrong"):
        assert guarded.ask(path)[0] == 401
    assert guarded.ask("/detect", IMAGE)[0] == 401 and guarded.ask("/healthz")[2] == b"ok\n"
    assert guarded.ask("/", Accept="text/html")[2].startswith(b"<!doctype html>"), "a page that asks for it"
    assert guarded.ask("/api/status", Authorization=f"Bearer {guarded.token}")[0] == 200
    assert guarded.ask("/detect", IMAGE, Authorization=f"Bearer {guarded.token}")[0] == 200
    status, headers, _ = guarded.ask(f"/?token={guarded.token}")
    cookie = headers["Set-Cookie"]
    assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert guarded.ask("/api/status", Cookie=cookie.partition(";")[0])[0] == 200
    for path in ("/ws/view/front", "/ws/camera"):
        with pytest.raises((ConnectionClosed, InvalidStatus)), guarded.socket(path) as viewer:
            viewer.recv(timeout=5)
    with guarded.socket("/ws/view/front", additional_headers={"Cookie": cookie.partition(";")[0]}) as viewer:
        assert viewer.recv(timeout=5)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback(host):
    assert is_loopback(host) and not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1") and not is_loopback("")


def test_mistakes_are_one_clear_line(page):
    def serve(**options):
        app.run(LiveOptions(show="page", page=PageOptions(**options)), FakeDetector, Stop(), print)

    with pytest.raises(MobileSSDError, match="--port"):
        serve(port=page.port)
    with pytest.raises(MobileSSDError, match="token"):
        serve(port=0, token="short")
    with pytest.raises(MobileSSDError, match="cannot listen on 203.0.113.9"):
        serve(host="203.0.113.9", port=0)


# ---------------------------------------------------------------- cameras that fail, and none at all


def test_without_a_source_visitors_may_still_come():
    page = Page()
    assert page.ask("/healthz")[0] == 200 and page.json("/api/info")[1]["sources"] == []
    assert page.json("/detect", IMAGE)[0] == 200
    page.close()


def test_a_lost_camera_is_told_at_once(monkeypatch):
    monkeypatch.setattr("detection.live.capture.STALE_AFTER", 0.4)
    camera = CameraServer()
    page = Page([f"front={camera.url}"])
    with page.socket("/ws/view/front") as viewer:
        wait_until(lambda: page.json("/api/status")[1]["front"]["results"] > 3, 20)
        camera.mode = "hang"
        words = {}
        until = time.monotonic() + 5
        while not words.get("stale") and time.monotonic() < until:
            data = viewer.recv(timeout=5)
            if isinstance(data, str):
                words = json.loads(data)
            else:
                viewer.send("next")
        assert words["stale"] and words["state"] == "stale" and words["age"] > 0.4
    assert page.ask("/healthz")[0] == 503
    camera.mode = "run"
    wait_until(lambda: page.ask("/healthz")[0] == 200, 10, "health after the return")
    page.close()
    camera.down()
