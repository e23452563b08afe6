"""How many connections the page's server holds, and for how long: so that those who never finish a request take nothing
from those who do, nor from cameras and recordings, which need file descriptors as well. Standard library only.

A connection waits until the header of its first request is whole; from then on it is served. Where room is short, the one
that has waited longest is closed for the new one (as SYN queues do): a header that is whole needs milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST = 512  # connections at once
KEPT_BACK = 128  # file descriptors for cameras, recordings, files
HEADER_SECONDS = 10.0  # until the header of a request is whole, TLS included
IDLE_SECONDS = 15.0  # between two requests; uvicorn closes after 5 where not a byte of the next one comes
ACCEPTED_AT_ONCE = 16  # then those that are open are read from, before the next are accepted
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Client = tuple[str, int]


@dataclass(frozen=True)
class Limits:
    """Connections in all (`most`) and of one address (`of_one`), and how many of them may be without a whole header."""

    most: int = MOST
    of_one: int = MOST // 2
    waiting: int = MOST // 2
    waiting_of_one: int = MOST // 4

    @classmethod
    def of_this_process(cls, most: int = MOST) -> Limits:
        """As many as `most`, or as the file descriptors that are free allow, with KEPT_BACK of them left."""
        most = max(min(most, _free_descriptors() - KEPT_BACK), 16)
        return cls(most, most // 2, most // 2, most // 4)


@dataclass
class _Connection:
    """since: when it came, or when its last request ended. requests: that are being answered."""

    socket: socket.socket
    address: str
    since: float = field(default_factory=time.monotonic)
    requests: int = 0


class Connections:
    """The open connections of a server; used in the thread of its event loop alone.

    refused: connections that were not let in, or closed before a request of theirs was whole.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.refused = 0
        self._waiting: dict[Client, _Connection] = {}  # the oldest first
        self._served: dict[Client, _Connection] = {}
        self._of: Counter[str] = Counter()  # by address, of both
        self._waiting_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._served)

    def admit(self, connection: socket.socket, client: Client) -> bool:
        """Whether a new connection may stay; others that wait may be closed for it."""
        address, limits = network_of(client[0]), self.limits
        crowded = len(self) >= limits.most or self._of[address] >= limits.of_one
        if crowded or len(self._waiting) >= limits.waiting or self._waiting_of[address] >= limits.waiting_of_one:
            self._forget_closed()
        if self._waiting_of[address] >= limits.waiting_of_one or self._of[address] >= limits.of_one:
            self._close_oldest(address)
        if len(self._waiting) >= limits.waiting or len(self) >= limits.most:
            self._close_oldest()
        if len(self) >= limits.most or self._of[address] >= limits.of_one:
            self.refused += 1
            return False
        if client in self._waiting or client in self._served:  # closed, and its port is used again
            self._forget(client)
        self._waiting[client] = _Connection(connection, address)
        self._of[address] += 1
        self._waiting_of[address] += 1
        return True

    def began(self, client: Client) -> None:
        """The header of a request is whole."""
        if (one := self._waiting.pop(client, None)) is not None:
            self._served[client] = one
            self._less(self._waiting_of, one.address)
        if (one := self._served.get(client)) is not None:
            one.requests += 1

    def ended(self, client: Client) -> None:
        """A request was answered."""
        if (one := self._served.get(client)) is not None:
            one.requests -= 1
            one.since = time.monotonic()

    def sweep(self) -> None:
        """Closes whoever is too slow. To be called about once a second."""
        self._forget_closed()
        now = time.monotonic()
        for client, one in list(self._waiting.items()):
            if now - one.since <= HEADER_SECONDS:
                break
            self._close(client)
        for client, one in list(self._served.items()):
            if not one.requests and now - one.since > IDLE_SECONDS:
                self._close(client)

    def close_oldest(self) -> None:
        """Makes room where the system has none left."""
        self._close_oldest()

    def _close_oldest(self, address: str | None = None) -> None:
        for client, one in self._waiting.items():
            if address in (None, one.address):
                self._close(client)
                return

    def _close(self, client: Client) -> None:
        one = self._forget(client)
        self.refused += 1
        with contextlib.suppress(OSError):  # the event loop reads the end, and closes it
            one.socket.shutdown(socket.SHUT_RDWR)

    def _forget(self, client: Client) -> _Connection:
        one = self._waiting.pop(client, None)
        if one is not None:
            self._less(self._waiting_of, one.address)
        else:
            one = self._served.pop(client)
        self._less(self._of, one.address)
        return one

    def _forget_closed(self) -> None:
        for group in (self._waiting, self._served):
            for client in [client for client, one in group.items() if one.socket.fileno() < 0]:
                self._forget(client)

    @staticmethod
    def _less(counter: Counter[str], address: str) -> None:
        counter[address] -= 1
        if not counter[address]:
            del counter[address]


class Listener(socket.socket):
    """A listening socket whose `accept` obeys the limits of `connections`, for asyncio's selector event loops.

    complain: called with a line when the system has no file descriptor left.
    """

    connections: Connections | None = None
    complain: Callable[[str], object] = staticmethod(lambda line: None)
    _accepted = 0
    _spare: Any = None

    def accept(self) -> tuple[socket.socket, Any]:
        if self.connections is None:
            return super().accept()
        if self._spare is None:
            self._spare = open(os.devnull)  # noqa: SIM115 - given up for a moment when no descriptor is left
        try:
            while self._accepted < ACCEPTED_AT_ONCE:
                self._accepted += 1
                connection, address = super().accept()
                if self.connections.admit(connection, (str(address[0]), int(address[1]))):
                    return connection, address
                connection.close()
        except OSError as error:
            self._accepted = 0
            if error.errno not in _EXHAUSTED:
                raise
            # asyncio would try each of the waiting connections, log them all, and stop listening for a second.
            self.complain(f"no connection can be accepted: {error.strerror}")
            self.connections.close_oldest()
            self._turn_away()
        self._accepted = 0
        raise BlockingIOError

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        super().close()

    def _turn_away(self) -> None:
        """Accepts and closes one, with the descriptor that was kept for this: else the loop would spin on it."""
        self._spare.close()
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        self._spare = None
        with contextlib.suppress(OSError):
            self._spare = open(os.devnull)  # noqa: SIM115


def network_of(host: str) -> str:
    """Whom an address belongs to: of IPv6 the first 64 bits, as one machine has all that follow."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def _free_descriptors() -> int:
    """How many more files this process may open; its soft limit is raised where it is below what is usual."""
    try:
        import resource  # not on Windows
    except ImportError:
        return MOST + KEPT_BACK
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1024 if hard == resource.RLIM_INFINITY else min(1024, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        return MOST + KEPT_BACK
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 64
    return int(soft) - used
