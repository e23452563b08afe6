"""What the page's server answers over plain HTTP: words, numbers and images. The WebSockets are in sockets.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from detection import __version__
from detection.boxes.drawing import class_color, encoded
from detection.live.broadcaster import View, wait
from detection.live.detect_api import detect_routes, refused
from detection.live.faults import UNFORESEEN
from detection.live.gate_api import gate_routes
from detection.live.metrics import metrics_text
from detection.live.motion_api import motion_routes
from detection.live.openapi import schema
from detection.live.overlay import draw_tracked
from detection.live.page_state import PageState
from detection.live.sockets import Sockets
from detection.live.upload_api import Refused

PAGE = Path(__file__).with_name("page")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MOST_STREAMS = 16  # of motion JPEG at once: each frame is encoded for each of them
STUCK = 30.0  # seconds in one frame after which the network counts as stuck


def build(state: PageState) -> tuple[Starlette, bytes]:
    """The application, and the page for those who come without the token."""
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in KINDS}
    routes = Routes(state)
    sockets = Sockets(state, routes.status_of)

    async def page(_: Request) -> Response:
        return HTMLResponse(files["index.html"])

    async def described(_: Request) -> Response:
        return JSONResponse(schema(__version__))

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise HTTPException(404, f"there is no {request.url.path} here")
        kind = KINDS[Path(name).suffix]
        return Response(files[name], media_type=f"{kind}; charset=utf-8")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/info", routes.info),
            Route("/api/status", routes.status),
            Route("/api/history/{key}", routes.history),
            Route("/api/boxes/{key}", routes.boxes),
            Route("/frame/{key}.jpg", routes.frame),
            Route("/stream/{key}.mjpg", routes.stream),
            *detect_routes(state),
            *gate_routes(state.book, state.uploads.bodies),
            *motion_routes(routes.by_key, state.uploads.bodies),
            Route("/healthz", routes.health),
            Route("/openapi.json", described),
            Route("/metrics", routes.metrics),
            WebSocketRoute("/ws/view/{key}", sockets.view),
            WebSocketRoute("/ws/camera", sockets.camera),
        ],
        exception_handlers={HTTPException: _problem, Refused: _refused, Exception: _unforeseen},
    )
    app.router.redirect_slashes = False  # a slash too much is another address, and 404 is what is promised for that
    return app, files["login.html"]


class Routes:
    """The answers, with what they are made of."""

    def __init__(self, state: PageState) -> None:
        self.state = state
        self.streams = 0
        self.by_key = {channel.capture.source.key: channel for channel in state.channels}

    # ------------------------------------------------------------ words and numbers

    async def info(self, _: Request) -> Response:
        """What does not change: sources, classes and their colours, where the slider stands."""
        state, names = self.state, self.state.detector.class_names
        card = getattr(state.detector, "card", None)
        ids = getattr(card, "category_ids", None) or range(len(names))
        return JSONResponse(
            {
                "sources": [{"key": key, "name": channel.name} for key, channel in self.by_key.items()],
                "classes": [
                    {"name": name, "id": int(ids[i]), "color": "#{:02x}{:02x}{:02x}".format(*class_color(i))}
                    for i, name in enumerate(names)
                ],
                "score": state.score,
                "lowest": state.lowest,
                "detector": _short(state.detector),
                "licence": getattr(card, "licence", None),
                "attribution": getattr(card, "attribution", None),
            }
        )

    def status_of(self, key: str) -> dict[str, Any]:
        """What changes about a source, except its frames."""
        channel = self.by_key[key]
        capture = channel.capture
        return {
            "state": "stale" if capture.stale and capture.state == "live" else capture.state,
            "message": capture.message,
            "stale": capture.stale,
            "age": None if capture.age is None else round(capture.age, 2),
            "live": capture.live,
            "motion": capture.motion,
            "reconnects": capture.reconnects,
            "viewers": self.state.views[key].viewers,
            "events": list(channel.watch.recent) if channel.watch else [],
            **channel.stats.to_dict(),
        }

    async def status(self, _: Request) -> Response:
        return JSONResponse({key: self.status_of(key) for key in self.by_key})

    async def history(self, request: Request) -> Response:
        """now: by the clock of the samples; the browser has a clock of its own."""
        return JSONResponse({"samples": self._view(request).history(), "now": round(time.time(), 2)})

    async def boxes(self, request: Request) -> Response:
        """The newest frame's detections above the threshold."""
        newest = self._newest(request)
        found = newest.detections.above(self.state.score).to_dict()
        return JSONResponse({"frame": newest.frame.index, "time": round(newest.frame.time, 3), **found})

    async def health(self, _: Request) -> Response:
        """200 while the network lives and a source delivers (or there are none), else 503; one word, no secrets."""
        state = self.state
        if state.engine is not None and state.engine.stuck > STUCK:
            return PlainTextResponse("stuck\n", 503)
        if state.channels and all(c.capture.stale or c.capture.state == "failed" for c in state.channels):
            return PlainTextResponse("no image\n", 503)
        return PlainTextResponse("ok\n")

    async def metrics(self, _: Request) -> Response:
        state = self.state
        viewers = {key: view.viewers for key, view in state.views.items()}
        counts, lost = state.counts(), state.lost()
        text = metrics_text(state.channels, state.uploads.answers, viewers, state.started, counts, lost)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    # ------------------------------------------------------------ images

    async def frame(self, request: Request) -> Response:
        """The newest frame as JPEG; with ?boxes=1 they are drawn on it."""
        data = await asyncio.to_thread(self._jpeg, self._newest(request), _wants_boxes(request, False))
        return Response(data, media_type="image/jpeg")

    async def stream(self, request: Request) -> Response:
        """Motion JPEG for other programs, with boxes unless ?boxes=0. Each frame is the newest when it is sent."""
        view, boxes = self._view(request), _wants_boxes(request, True)
        if self.streams >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} streams are being sent already: try again later")

        async def parts() -> AsyncIterator[bytes]:
            event = view.watch()
            self.streams += 1
            try:
                while not self.state.closing:
                    event.clear()
                    if view.newest is not None:
                        data = await asyncio.to_thread(self._jpeg, view.newest, boxes)
                        yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        yield data + b"\r\n"
                    await wait(event, 1.0)
            finally:
                self.streams -= 1
                view.leave(event)

        return StreamingResponse(parts(), media_type="multipart/x-mixed-replace; boundary=frame")

    def _jpeg(self, result: Any, boxes: bool) -> bytes:
        image = result.frame.image
        if boxes:
            image = draw_tracked(image, result.detections.above(self.state.score))
        return encoded(image, ".jpg", 90)

    def _view(self, request: Request) -> View:
        key = request.path_params["key"]
        if key not in self.state.views:
            raise HTTPException(404, f"there is no source {key!r}")
        return self.state.views[key]

    def _newest(self, request: Request) -> Any:
        newest = self._view(request).newest
        if newest is None:
            raise HTTPException(503, "no frame has come yet")
        return newest


def _short(detector: Any) -> str:
    """`ssdlite_mobilenet_v2 · openvino float32`: without folders, which are no visitor's business."""
    runtime = getattr(detector, "runtime", None)
    name = Path(str(getattr(detector, "source", detector))).name
    return f"{name} · {runtime.name} {runtime.precision}" if runtime else name


def _wants_boxes(request: Request, default: bool) -> bool:
    return request.query_params.get("boxes", str(int(default))) not in ("0", "false", "no")


def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refused)
    return refused(refusal, {})


def _unforeseen(_: Request, __: Exception) -> Response:
    """Faults counts it and says it."""
    return Response(UNFORESEEN, 500, media_type="application/json")


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = error.detail
    if error.status_code == 404 and words == "Not Found":
        words = f"there is no {request.url.path} here"
    if error.status_code == 405:
        words = (
            f"{request.url.path} does not know {request.method}: use {(error.headers or {}).get('Allow', 'another')}"
        )
    return JSONResponse({"error": words}, error.status_code, error.headers)
