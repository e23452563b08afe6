"""What nobody foresaw while the page's server answers: counted, said at most once a minute, answered with 500.

The outermost ASGI layer; it also tells `connections` when a request begins and ends. Standard library only.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from detection.live.auth import App, Scope, with_headers
from detection.live.connections import Connections

SAY_EVERY = 60.0  # seconds between two lines of one kind
LONGEST_LINE = 300  # characters
UNFORESEEN = b'{"error": "a fault of the program, not of the request; it is counted in /metrics"}'


class Complaints:
    """Lines for people, of each kind at most one in SAY_EVERY seconds; what was left out is counted in the next one."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._told: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, kind: str, line: str) -> None:
        now = time.monotonic()
        if now - self._told.get(kind, -SAY_EVERY) < SAY_EVERY:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._told[kind] = now
        more = self._left_out.pop(kind, 0)
        line = "".join(char if char.isprintable() else "?" for char in line)[:LONGEST_LINE]
        self._say(f"{line}{f' (and {more} more like it)' if more else ''}")


class Faults:
    """Wraps an ASGI app. count: how many requests ended in what nobody foresaw."""

    def __init__(self, connections: Connections, complain: Callable[[str, str], object]) -> None:
        self.count = 0
        self._connections, self._complain = connections, complain
        self.app: App | None = None

    def around(self, app: App) -> Faults:
        self.app = app
        return self

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable) -> None:
        assert self.app is not None
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        client = tuple(scope.get("client") or ("", 0))
        started = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        self._connections.began(client)  # type: ignore[arg-type]
        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            self.note(f"{scope.get('method', 'WebSocket')} {scope['path'][:80]}", error)
            if not started:
                await _answer(scope, send)
        finally:
            self._connections.ended(client)  # type: ignore[arg-type]

    def note(self, where: str, error: BaseException) -> None:
        """Counts a fault, and says it unless one was said a moment ago."""
        self.count += 1
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        self._complain("fault", f"page: {where}: a fault of the program: {type(error).__name__}: {error}{place}")

    def in_loop(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`: what asyncio would print, each time, with a traceback."""
        error = context.get("exception")
        if isinstance(error, OSError):  # connections that break off, TLS that is none
            self._complain("connection", f"page: {context.get('message', '')}: {error}")
        else:
            self.note(str(context.get("message", "")), error or RuntimeError("unknown"))


async def _answer(scope: Scope, send: Callable) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1011})
    send = with_headers(send, None)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(UNFORESEEN)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": head})
    await send({"type": "http.response.body", "body": UNFORESEEN})
