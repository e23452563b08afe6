"""The page's server: starlette and uvicorn in a thread of their own. What it serves is listed in docs/live.md.

Nothing here waits for a camera, and no camera waits for anything here: see broadcaster.py.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detection.errors import MobileSSDError, need
from detection.live.auth import Guard, is_loopback
from detection.live.broadcaster import View
from detection.live.channels import Channel
from detection.live.connections import Connections, Limits, Listener
from detection.live.faults import Complaints, Faults
from detection.live.gate_book import GateBook
from detection.live.options import PageOptions
from detection.live.page_state import PageState
from detection.live.pipeline import Engine
from detection.live.sinks import Say
from detection.live.upload_api import UploadApi

SHORTEST_TOKEN = 16
LONGEST_MESSAGES = 2  # of a visitor's frames that wait inside the server, each up to LARGEST_MESSAGE
LARGEST_MESSAGE = 8 << 20  # bytes of a visitor's frame


def need_packages() -> None:
    """Raises MissingPackageError, one line, where what the page needs is not installed."""
    need("the page", "starlette", "uvicorn", "websockets")


class PageServer:
    """Serves until it is closed.

    channels: the sources. detector: for visitors' images. score: where the page's slider stands at first; the boxes
    that it gets reach down to `lowest`. engine: whose life /healthz looks at. book: lines and zones, which the page may
    change. say: gets lines for people. lost: events that did not arrive, by where they were to go. Raises MobileSSDError
    where it cannot listen.
    url: what to open; with the token in it, where there is one.
    """

    def __init__(
        self,
        options: PageOptions,
        channels: Sequence[Channel],
        detector: Any,
        score: float,
        lowest: float,
        engine: Engine | None,
        book: GateBook,
        say: Say,
        lost: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        need_packages()
        import uvicorn
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        from detection.live.routes import build

        self._token = _token_for(options)
        self._socket = _listen(options.host, options.port)
        self.port = self._socket.getsockname()[1]
        shown = options.host if options.host not in ("0.0.0.0", "::", "") else _own_address()
        shown = f"[{shown}]" if ":" in shown else shown
        scheme = "https" if options.cert else "http"
        self.url = f"{scheme}://{shown}:{self.port}/" + (f"?token={self._token}" if self._token else "")
        self._loop = asyncio.SelectorEventLoop()  # on Windows too: it calls the listener's own `accept`
        complaints = Complaints(say)
        connections = Connections(Limits.of_this_process())
        self._socket.connections = connections
        self._socket.complain = lambda line: complaints("accept", f"page: {line}")
        faults = Faults(connections, complaints)
        self._loop.set_exception_handler(faults.in_loop)
        keys = [channel.capture.source.key for channel in channels]
        views = {key: View(key, self._loop) for key in keys}
        uploads = UploadApi(detector)
        self._state = PageState(channels, detector, score, lowest, engine, uploads, book, views, connections, faults)
        self._state.lost = lost
        app, login = build(self._state)
        hosts = {"localhost", "127.0.0.1", "::1", options.host.lower()} if self._token is None else None
        guard = Guard(app, self._token, hosts, self.port, login)
        self._state.wrong_tokens = lambda: guard.guesses.wrong
        proxies = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")  # uvicorn's own rule
        # Outside of it, as connections are counted by who they are, and not by whom they speak for.
        served: Any = faults.around(ProxyHeadersMiddleware(guard, trusted_hosts=proxies))  # type: ignore[arg-type]
        self._server = uvicorn.Server(
            uvicorn.Config(
                served,
                loop="none",
                proxy_headers=False,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws_max_size=LARGEST_MESSAGE,
                ws_max_queue=LONGEST_MESSAGES,
                ws_per_message_deflate=False,  # frames are compressed already
                server_header=False,
                timeout_graceful_shutdown=2,
                ssl_certfile=options.cert,
                ssl_keyfile=options.key,
            )
        )
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def view_of(self, channel: Channel) -> View:
        """The step of the pipeline that shows a channel."""
        return self._state.view_of(channel)

    def refresh(self) -> None:
        """Shows changed lines and zones at once, also where no new frame comes."""
        for view in self._state.views.values():
            view.refresh()

    def close(self) -> None:
        """Ends it, and all connections with it."""
        self._state.closing = True
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._state.uploads.close()
        self._socket.close()

    async def _serve(self) -> None:
        sweeper = asyncio.create_task(self._sweep())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sweeper.cancel()
            # Requests that uvicorn gave up waiting for, such as slow bodies; unfinished they would fail after the loop's end.
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=2)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._state.connections.sweep()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()


def _token_for(options: PageOptions) -> str | None:
    if options.token is not None and len(options.token) < SHORTEST_TOKEN:
        raise MobileSSDError(
            f"a token of {len(options.token)} characters is guessed soon: use {SHORTEST_TOKEN} or more"
        )
    if options.token is not None and not all(char.isalnum() or char in "-_.~" for char in options.token):
        raise MobileSSDError("a token stands in addresses and cookies: use letters, digits and - _ . ~ only")
    if options.token is None and not is_loopback(options.host):
        return secrets.token_urlsafe(16)
    return options.token


def _own_address() -> str:
    """The address under which others on the network see this machine, else its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: only the route is looked up
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _listen(host: str, port: int) -> Listener:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = Listener(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        return listener
    except OSError as error:
        hint = "another program has it; choose another one with --port, or 0 for any" if error.errno in (48, 98) else ""
        raise MobileSSDError(f"cannot listen on {host}:{port}: {hint or error.strerror or error}") from None
