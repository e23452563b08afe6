"""`PUT /api/motion/KEY`: whether the network looks at a source only where something moves, switched while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detection.live.channels import Channel
from detection.live.gate_api import guarded, read_json
from detection.live.upload_api import Bodies


@dataclass(frozen=True)
class MotionSwitch:
    """What it gets."""

    on: bool


def motion_routes(channels: Mapping[str, Channel], bodies: Bodies) -> list[Route]:
    """channels: by the key of the source. bodies: those of all requests."""

    async def switch(request: Request) -> Response:
        channel = channels.get(key := request.path_params["key"])
        if channel is None:
            raise HTTPException(404, f"there is no source {key!r}")
        channel.capture.motion = (await read_json(request, bodies, MotionSwitch)).on
        return JSONResponse({"motion": channel.capture.motion})

    return [Route("/api/motion/{key}", guarded(switch), methods=["PUT"])]
