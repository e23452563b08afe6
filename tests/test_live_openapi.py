"""The page's server keeps its word: whatever it is asked, it answers as /openapi.json says, with the security headers."""

import http.client
import json
import re
import struct
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from live_help import FakeDetector, save_video
from test_live_limits import metric
from test_live_page import IMAGE, Page

from detection.live import openapi

OPERATIONS = [(path, method) for path, methods in openapi.schema("0")["paths"].items() for method in methods]
STATIC = ("app.js", "style.css", "index.html", "icon.svg", "login.html", "nothing.js")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    film = save_video(tmp_path_factory.mktemp("film") / "film.avi", frames=30, fps=30)
    page = Page([f"front={film}"], FakeDetector(), loop=True)
    page.described = page.json("/openapi.json")[1]
    yield page
    assert metric(page, "page_faults_total") == 0
    page.close()


def test_all_that_is_served_is_described_and_nothing_else(page):
    from detection.live import routes

    served, build = [], routes.Starlette
    try:
        routes.Starlette = lambda routes, **more: served.extend(routes) or build(routes=routes, **more)
        routes.build(PageStateOf(page))
    finally:
        routes.Starlette = build
    there = {
        (re.sub(r":int", "", route.path), method.lower())
        for route in served
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    assert there == set(OPERATIONS)


class PageStateOf:
    """As much of a page's state as `routes.build` looks at."""

    def __init__(self, page):
        from types import SimpleNamespace

        self.channels, self.book, self.uploads = [], None, SimpleNamespace(bodies=None)


# ---------------------------------------------------------------- what may be sent

words = some.text(some.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | words,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
fractions = some.floats(0, 1, width=16)
points = some.lists(some.lists(fractions | some.floats(), min_size=1, max_size=3), max_size=5)
gate = some.fixed_dictionaries(
    {
        "kind": some.sampled_from(["line", "zone", "door"]),
        "source": some.sampled_from(["front", "nobody"]),
        "points": points,
    },
    optional={"name": words, "version": some.integers(-1, 5) | anything},
)
images = some.builds(
    lambda start, cut, noise: (IMAGE[: len(IMAGE) - cut] + noise) if start is None else start + noise,
    some.none()
    | some.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"MM\0+", b"RIFF....WEBP"]
    ),
    some.integers(0, 2000),
    some.binary(max_size=60),
)
TIFF = struct.pack("<2sHIH", b"II", 43, 8, 0)  # a header of BigTIFF, and nothing behind it
headers = some.dictionaries(
    some.sampled_from(
        [
            "Origin",
            "Host",
            "Cookie",
            "Authorization",
            "Content-Type",
            "Accept",
            "X-Forwarded-For",
            "Range",
            "Sec-Fetch-Site",
        ]
    ),
    some.sampled_from(
        ["http://[", "localhost", "null", "mobilessd_1=x; a", "Bearer", "application/json", "text/html", "cross-site"]
    )
    | some.text(some.characters(min_codepoint=33, max_codepoint=255), max_size=30),
    max_size=2,
)


FORM = "multipart/form-data; boundary=seam"


def form(fields):
    """Fields as curl -F sends them."""
    parts = [
        b'--seam\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields.items()
    ]
    return b"".join(parts) + b"--seam--\r\n"


@some.composite
def requests(draw):
    path, method = draw(some.sampled_from(OPERATIONS))
    place = {
        "key": draw(some.just("front") | words.map(lambda word: word or "x")),
        "name": draw(some.sampled_from(STATIC) | words.map(lambda word: word or "x")),
        "number": str(draw(some.integers(-3, 3) | some.integers())),
    }
    target = re.sub(r"\{(\w+)\}", lambda match: urllib.parse.quote(place[match[1]], safe=""), path)
    query = draw(
        some.dictionaries(
            some.sampled_from(["score", "boxes", "version", "token"]), words | some.integers(-1, 3).map(str), max_size=2
        )
    )
    sent, body = draw(headers), None
    if method in ("post", "put"):
        if path == openapi.DEEPSTACK:
            name = draw(some.sampled_from(["image", "min_confidence", "other"]) | words)
            fields = {"image": draw(images), name: draw(some.binary(max_size=20))}
            body = form(fields)[: draw(some.just(None) | some.integers(0, 300))]
            sent.setdefault("Content-Type", FORM)
        elif path == "/detect":
            body = draw(images | some.just(TIFF) | some.binary(max_size=50))
        else:
            body = (
                json.dumps(draw(gate | anything)).encode()
                if draw(some.integers(0, 9))
                else draw(some.binary(max_size=50))
            )
            sent.setdefault("Content-Type", "application/json")
    if not draw(some.integers(0, 19)):
        method = draw(some.sampled_from(["get", "post", "put", "delete", "patch", "head"]))
    return path, method, target + (f"?{urllib.parse.urlencode(query)}" if query else ""), sent, body


def ask(page, method, target, sent, body):
    """(status, headers, the first bytes of the body)"""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.putrequest(method.upper(), target, skip_host="Host" in sent)
        for name, value in sent.items():
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        endless = answer.headers.get_content_maintype() == "multipart"
        return answer.status, answer.headers, answer.read(10) if endless else answer.read()
    finally:
        connection.close()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(wish=requests())
def test_whatever_is_asked_the_answer_is_one_of_those_described(page, wish):
    path, method, target, sent, body = wish
    status, answer, data = ask(page, method, target, sent, body)
    if status == 400 and b"Invalid HTTP request" in data:  # of h11, before anything of ours is reached
        return
    assert answer["X-Frame-Options"] == "DENY" and "default-src" in answer["Content-Security-Policy"], wish
    assert status != 500, (wish, data)
    operation = page.described["paths"][path].get(method)
    if operation is None or method == "head":
        assert status in (200, 400, 401, 403, 404, 405, 421, 429, 503), (wish, status)
        return
    if status == 404 and data[:1] == b"{":  # a name with a slash is another address
        return
    assert str(status) in operation["responses"], (wish, status, data)
    kinds = operation["responses"][str(status)].get("content", {})
    kind = answer.get_content_type()
    fits = [one for one in kinds if one in ("*/*", kind) or one.endswith("/*") and kind.startswith(one[:-1])]
    plain = status == 503 and path == "/healthz"
    assert fits or plain or not data, (wish, status, kind)
    if kind == "application/json" and data and fits:
        conforms(page, json.loads(data), kinds[fits[0]]["schema"])


def conforms(page, value, schema):
    """Raises where a value is not as its schema says; without jsonschema only whether it is there."""
    try:
        import jsonschema
    except ImportError:
        return
    jsonschema.validate(value, {**schema, "components": page.described["components"]})


def test_the_usual_answers_are_as_described(page):
    shape = {"kind": "zone", "source": "front", "points": [[0, 0], [0.5, 0], [0.5, 1]]}
    told = {"Content-Type": "application/json"}
    for path, method, target, sent, body, status in (
        ("/detect", "post", "/detect", {}, IMAGE, 200),
        ("/detect", "post", "/detect", {}, b"", 400),
        ("/detect", "post", "/detect", {}, b"\xff\xd8\xff", 422),
        (openapi.DEEPSTACK, "post", openapi.DEEPSTACK, {"Content-Type": FORM}, form({"image": IMAGE}), 200),
        (openapi.DEEPSTACK, "post", openapi.DEEPSTACK, {"Content-Type": FORM}, form({}), 400),
        (openapi.DEEPSTACK, "post", openapi.DEEPSTACK, {}, IMAGE, 415),
        ("/api/info", "get", "/api/info", {}, None, 200),
        ("/api/status", "get", "/api/status", {}, None, 200),
        ("/api/history/{key}", "get", "/api/history/front", {}, None, 200),
        ("/api/boxes/{key}", "get", "/api/boxes/front", {}, None, 200),
        ("/api/watch", "post", "/api/watch", told, json.dumps(shape).encode(), 201),
        ("/api/watch", "get", "/api/watch", {}, None, 200),
        ("/api/motion/{key}", "put", "/api/motion/front", told, b'{"on": true}', 200),
        ("/api/motion/{key}", "put", "/api/motion/front", told, b'{"on": 7}', 400),
        ("/api/motion/{key}", "put", "/api/motion/front", {}, b'{"on": true}', 415),
        ("/api/motion/{key}", "put", "/api/motion/back", told, b'{"on": true}', 404),
        ("/api/watch/{number}", "put", "/api/watch/1", told, b'{"version": 1, "name": "desk"}', 200),
        ("/api/watch/{number}", "delete", "/api/watch/1?version=1", {}, None, 409),
        ("/api/watch/{number}", "delete", "/api/watch/1?version=2", {}, None, 200),
    ):
        got, _, data = ask(page, method, target, sent, body)
        described = page.described["paths"][path][method]["responses"]
        assert got == status and str(status) in described, (target, data)
        conforms(page, json.loads(data), described[str(status)]["content"]["application/json"]["schema"])
