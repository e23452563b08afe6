"""Images that other programs post, and what is in them: `POST /detect`, and the same as DeepStack has it.

Frigate, Blue Iris, Home Assistant and others speak to DeepStack and CodeProject.AI:
https://docs.deepstack.cc/object-detection/ is where the form and the answer are described.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detection.boxes.detections import Detections
from detection.live.forms import boundary_of, fields_of
from detection.live.openapi import DEEPSTACK
from detection.live.page_state import PageState
from detection.live.upload_api import LARGEST_IMAGE, TOO_LARGE, Refused

FORM_ROOM = 64 << 10  # bytes of a form beside its image


def detect_routes(state: PageState) -> list[Route]:
    """`POST /detect` and DeepStack's address."""
    return [
        Route("/detect", _answered(state, _detect, {}), methods=["POST"]),
        Route(DEEPSTACK, _answered(state, _deepstack, {"success": False}), methods=["POST"]),
    ]


def refused(refusal: Refused, more: dict[str, Any]) -> Response:
    """The answer to what is refused. more: beside its `error`."""
    headers = {"connection": "close"} if refusal.status == 408 else None  # nobody waits for the rest of it
    return JSONResponse({**more, "error": str(refusal)}, refusal.status, headers)


def _answered(
    state: PageState, answer: Callable[[PageState, Request], Awaitable[Response]], beside: dict[str, Any]
) -> Callable[[Request], Awaitable[Response]]:
    """A route that counts its answers. beside: what stands with an error."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await answer(state, request)
        except Refused as refusal:
            response = refused(refusal, beside)
        except ClientDisconnect:
            return Response(status_code=499)
        state.uploads.answers[response.status_code] += 1
        return response

    return endpoint


async def _detect(state: PageState, request: Request) -> Response:
    """An image's bytes in, its detections out. ?score=0.5 sets the threshold."""
    score = _score(state, request.query_params.get("score"), "score")
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise Refused(415, f"send the image's bytes alone, as in curl --data-binary @dog.jpg; {DEEPSTACK} takes a form")
    async with state.uploads.bodies.read(request) as data:
        begin = time.perf_counter()
        found = await state.uploads.detect(data)
    took = round(1000 * (time.perf_counter() - begin), 1)
    return JSONResponse({**found.above(score).to_dict(), "milliseconds": took})


async def _deepstack(state: PageState, request: Request) -> Response:
    """A form with `image`, and `min_confidence` if wanted, in; `predictions` out. Other fields are left alone."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        raise Refused(415, "send a form with an image, as in curl -F image=@dog.jpg")
    async with state.uploads.bodies.read(request, LARGEST_IMAGE + FORM_ROOM) as data:
        try:
            fields = fields_of(data, boundary)
        except ValueError as error:
            raise Refused(400, f"{error}: send it as in curl -F image=@dog.jpg") from None
        if not fields.get("image"):
            raise Refused(400, "the form has no image: send it as in curl -F image=@dog.jpg")
        if len(fields["image"]) > LARGEST_IMAGE:
            raise Refused(413, TOO_LARGE)
        wanted = fields.get("min_confidence")
        score = _score(state, None if wanted is None else wanted[:40].decode("utf-8", "replace"), "min_confidence")
        begin = time.perf_counter()
        found = await state.uploads.detect(fields["image"])
    took = round(1000 * (time.perf_counter() - begin))
    return JSONResponse({"success": True, "predictions": _predictions(found.above(score)), "duration": took})


def _predictions(found: Detections) -> list[dict[str, Any]]:
    """Boxes in whole pixels within the image, as DeepStack gives them."""
    height, width = found.image_size
    predictions = []
    for one in found.to_dict()["detections"]:
        x_min, y_min, x_max, y_max = (
            min(max(round(value), 0), most) for value, most in zip(one["box"], (width, height, width, height))
        )
        box = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
        predictions.append({"label": one["name"], "confidence": one["score"], **box})
    return predictions


def _score(state: PageState, text: str | None, name: str) -> float:
    try:
        score = state.score if text is None else float(text)
        if not 0 <= score <= 1:
            raise ValueError
    except ValueError:
        raise Refused(400, f"{name}={text!r} is not a number from 0 to 1") from None
    return score
