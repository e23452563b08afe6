"""`/api/watch`: lines and zones, drawn, moved, named and removed by the page or any other program. JSON in, JSON out.

Points are fractions of the image. Whoever changes or removes one says the version that was seen: 409 answers who comes
too late. Who may ask at all is auth.py's business.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detection.config import build
from detection.errors import MissingPackageError, MobileSSDError
from detection.live.gate_book import ChangedMeanwhile, GateBook, Numbered
from detection.live.gate_file import NotWritten
from detection.live.gate_spec import MOST_POINTS, GateSpec, Point
from detection.live.tracking import need_trackers
from detection.live.upload_api import Bodies, Refused

LARGEST = 64 << 10  # bytes of a request
TOO_LARGE = f"the request is larger than {LARGEST >> 10} KB: a zone has at most {MOST_POINTS} points"
STATUS = ((ChangedMeanwhile, 409), (NotWritten, 507), (MissingPackageError, 501), (MobileSSDError, 400))

T = TypeVar("T")


@dataclass(frozen=True)
class NewGate:
    """What `POST /api/watch` gets. source: the name of one. name: empty for the next free one."""

    kind: str
    source: str
    points: tuple[Point, ...]
    name: str = ""


@dataclass(frozen=True)
class ChangedGate:
    """What `PUT /api/watch/NUMBER` gets: the version that was seen, and what is to be another."""

    version: int
    name: str | None = None
    points: tuple[Point, ...] | None = None


def gate_routes(book: GateBook, bodies: Bodies) -> list[Route]:
    """The routes that look at a book and change it. bodies: those of all requests."""

    async def listed(_: Request) -> Response:
        return JSONResponse(
            {
                "gates": [_plain(one) for one in book.all()],
                "options": book.options(),
                "file": book.file.path.name if book.file else None,
                "problem": _problem(),
            }
        )

    async def add(request: Request) -> Response:
        wish = await read_json(request, bodies, NewGate)
        spec = GateSpec(wish.kind, wish.name, _fractions(wish.points), wish.source)
        return await _done(lambda: book.add(spec), 201)

    async def change(request: Request) -> Response:
        wish = await read_json(request, bodies, ChangedGate)
        points = None if wish.points is None else _fractions(wish.points)
        number = request.path_params["number"]
        return await _done(lambda: book.change(number, wish.version, wish.name, points))

    async def remove(request: Request) -> Response:
        version = request.query_params.get("version", "")
        if not version.isdecimal():
            raise MobileSSDError("say which version is to be removed: ?version=1")
        return await _done(lambda: book.remove(request.path_params["number"], int(version)))

    async def restore(request: Request) -> Response:
        return await _done(lambda: book.restore(request.path_params["number"]))

    return [
        Route("/api/watch", guarded(listed), methods=["GET"]),
        Route("/api/watch", guarded(add), methods=["POST"]),
        Route("/api/watch/{number:int}", guarded(change), methods=["PUT"]),
        Route("/api/watch/{number:int}", guarded(remove), methods=["DELETE"]),
        Route("/api/watch/{number:int}/restore", guarded(restore), methods=["POST"]),
    ]


def guarded(route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """What the book or a request's reader refuses, as one line with its status."""

    async def answer(request: Request) -> Response:
        try:
            return await route(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except MobileSSDError as error:
            return JSONResponse({"error": str(error)}, next(code for kind, code in STATUS if isinstance(error, kind)))

    return answer


async def _done(change: Callable[[], Numbered], status: int = 200) -> Response:
    return JSONResponse(_plain(await asyncio.to_thread(change)), status)  # it writes a file, and may import a tracker


async def read_json(request: Request, bodies: Bodies, kind: type[T]) -> T:
    """What a request asks for, checked. Raises Refused or MobileSSDError, one line."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "send JSON, with Content-Type: application/json")
    async with bodies.read(request, LARGEST, TOO_LARGE) as data:
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError):
            raise MobileSSDError("the request is no JSON") from None
    return build(kind, plain)


def _fractions(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if not all(0 <= value <= 1 for point in points for value in point):  # no number is neither
        raise MobileSSDError("points are fractions of the image, from 0 to 1")
    return tuple((round(x, 4), round(y, 4)) for x, y in points)  # a fifth of a pixel of a wide image


def _problem() -> str | None:
    try:
        need_trackers()
    except MissingPackageError as error:
        return str(error)
    return None


def _plain(one: Numbered) -> dict[str, Any]:
    spec = one.spec
    points = [list(point) for point in spec.points]
    return {
        "id": one.number,
        "version": one.version,
        "kind": spec.kind,
        "name": spec.name,
        "source": spec.source,
        "points": points,
    }
