"""The page's WebSockets: those who watch the server's cameras, and those who send their own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from detection.live.broadcaster import rows, wait
from detection.live.page_state import PageState
from detection.live.upload_api import Refused

STATUS_EVERY = 0.5  # seconds
IN_FLIGHT = 2  # packets on their way to a viewer, so that a long way costs no speed
MOST_VISITORS = 8  # cameras of visitors at once


class Sockets:
    """status_of: what is told about a source, by its key."""

    def __init__(self, state: PageState, status_of: Callable[[str], dict[str, Any]]) -> None:
        self.state = state
        self._status_of = status_of
        self.visitors = 0

    async def view(self, socket: WebSocket) -> None:
        """Packets and, twice a second, a status. The viewer answers each packet with a word, and gets the next then."""
        key = socket.path_params["key"]
        if key not in self.state.views:
            return await socket.close(4404, "there is no such source")
        await socket.accept()
        view = self.state.views[key]
        event, credit = view.watch(), [IN_FLIGHT]

        async def listen() -> None:
            while True:
                await socket.receive_text()
                credit[0] = min(credit[0] + 1, IN_FLIGHT)
                event.set()

        listener = asyncio.create_task(listen())
        last, told = -1, 0.0
        try:
            while not self.state.closing and not listener.done():
                if time.monotonic() - told >= STATUS_EVERY:
                    told = time.monotonic()
                    await socket.send_text(json.dumps(self._status_of(key)))
                event.clear()
                if view.number != last and credit[0] > 0 and view.packet:
                    last, credit[0] = view.number, credit[0] - 1
                    await socket.send_bytes(view.packet)
                else:
                    await wait(event, STATUS_EVERY)
            if not listener.done():
                await socket.close(1001, "the server ends")
        except (WebSocketDisconnect, RuntimeError):  # the browser has gone
            pass
        finally:
            view.leave(event)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def camera(self, socket: WebSocket) -> None:
        """A visitor's own camera: each binary message is an encoded frame, each answer its boxes as JSON, in order."""
        if self.visitors >= MOST_VISITORS:
            return await socket.close(1013, "too many cameras at once: try again later")
        await socket.accept()
        self.visitors += 1
        try:
            while not self.state.closing:
                try:
                    data = await socket.receive_bytes()
                except (WebSocketDisconnect, RuntimeError, KeyError):  # gone, or it sent text
                    break
                begin = time.perf_counter()
                try:
                    found = await self.state.uploads.detect(data, "the frame")
                    took = round(1000 * (time.perf_counter() - begin), 1)
                    answer = {"size": list(found.image_size), "d": rows(found), "ms": took}
                except Refused as refusal:
                    answer = {"error": str(refusal)}
                try:
                    await socket.send_text(json.dumps(answer, separators=(",", ":")))
                except (WebSocketDisconnect, RuntimeError):
                    break
        finally:
            self.visitors -= 1
