"""Who may talk to the page's server: an ASGI layer around it. Standard library only.

On loopback (the default) everybody on this machine may, but no page of another origin: neither by reading answers, nor
by embedding images, nor over WebSockets (which know no same-origin rule), nor under a name that was made to point
here (DNS rebinding). On any other address a token is needed as well, from everybody.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from detection.live.connections import network_of

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
OPEN_PATHS = ("/healthz",)  # one word, for whoever looks after machines
MOST_GUESSES = 10  # different wrong tokens of one address within GUESSING_SECONDS
GUESSING_SECONDS = 60.0
MOST_GUESSERS = 1000  # addresses that are remembered


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Wraps `app`. token: what everybody must show, None on loopback. hosts: names of this server in requests (without
    port), None for any. port: makes the cookie this server's own, as browsers do not tell ports apart. login: the page
    for people who come without the token.
    """

    def __init__(self, app: App, token: str | None, hosts: set[str] | None, port: int, login: bytes) -> None:
        self.app, self.token, self.hosts, self.login = app, token, hosts, login
        self.guesses = Guesses()
        self.cookie = f"mobilessd_{port}"

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None:
            cookie = self._cookie_to_set(scope)
            # Whoever shows no token may not keep a connection.
            closes = self.token is not None and scope["path"] in OPEN_PATHS
            return await self.app(scope, receive, with_headers(send, cookie, closes))
        status, words = refusal
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close", "code": 4000 + status, "reason": words[:120]})
        page = status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        body, kind = (self.login, "text/html; charset=utf-8") if page else (_json(words), "application/json")
        extra = [(b"connection", b"close")]
        extra += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        extra += [(b"retry-after", b"%d" % GUESSING_SECONDS)] if status == 429 else []
        head = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *extra]
        send = with_headers(send, None)
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return 421, f"this server does not answer to the name {_name_of(host)!r}"
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != host.lower():
            return 403, "pages of another origin may not use this server"
        # Browsers send no Origin with images and scripts that another page embeds, but they say where it stands.
        navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not navigates:
            return 403, "pages of another origin may not use this server"
        if self.token is None or scope["path"] in OPEN_PATHS:
            return None
        shown, address = self._tokens_of(scope, headers), network_of((scope.get("client") or ("",))[0])
        if shown and self.guesses.too_many(address):  # also the right one: else guessing would go on
            return 429, "too many wrong tokens from this address: try again in a minute"
        if any(hmac.compare_digest(one.encode(), self.token.encode()) for one in shown):
            return None
        self.guesses.add(address, shown)
        return 401, "a token is needed: open the address with ?token=..., or send it as Authorization: Bearer"

    def _tokens_of(self, scope: Scope, headers: dict[str, str]) -> list[str]:
        shown = [_query_token(scope)]
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            shown.append(value.strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            cookie = None
        if cookie is not None:
            shown.append(cookie.value)
        return [one for one in shown if one]

    def _cookie_to_set(self, scope: Scope) -> str | None:
        """A token in the address of the page is kept as a cookie, so that the page can take it out of the address."""
        if self.token is None or scope["type"] != "http" or scope["path"] != "/" or not _query_token(scope):
            return None
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/{secure}"


class Guesses:
    """Wrong tokens, by the address that they came from. One that comes again and again is one guess: a page of yesterday
    that is still open shows its old one every second. wrong: how many there were in all.
    """

    def __init__(self) -> None:
        self.wrong = 0
        self._of: dict[str, dict[bytes, float]] = {}  # address -> digest of a token -> when it came

    def add(self, address: str, tokens: list[str]) -> None:
        """Remembers tokens that were wrong."""
        if not tokens:
            return
        self.wrong += len(tokens)
        seen = self._of.pop(address, {})
        for token in tokens:
            seen[hashlib.sha256(token.encode()).digest()] = time.monotonic()
        self._of[address] = seen  # at the end: the first is the one heard of longest ago
        if len(self._of) > MOST_GUESSERS:
            del self._of[next(iter(self._of))]

    def too_many(self, address: str) -> bool:
        """Whether an address has to wait."""
        seen, now = self._of.get(address, {}), time.monotonic()
        for token in [token for token, when in seen.items() if now - when > GUESSING_SECONDS]:
            del seen[token]
        return len(seen) >= MOST_GUESSES


def with_headers(send: Callable, cookie: str | None, closes: bool = False) -> Callable:
    """`send` with the security headers on each answer. cookie: to be set. closes: the connection ends with the answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", [])}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            if closes:
                more.append((b"connection", b"close"))
            if cookie:
                more.append((b"set-cookie", cookie.encode()))
            message["headers"] = [*message.get("headers", []), *more]
        await send(message)

    return sending


def _query_token(scope: Scope) -> str:
    values = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
    return values[0]


def _place_of(origin: str) -> str | None:
    """`host:port` of an Origin, None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # http://[
        return None


def _name_of(host: str) -> str:
    """`Host` without its port, in small letters: `[::1]:8080` -> `::1`."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return host


def _json(words: str) -> bytes:
    return json.dumps({"error": words}).encode()
