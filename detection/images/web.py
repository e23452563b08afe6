"""Web addresses, by the standard library: for single images and for cameras that give one image a request."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

TIMEOUT = 20.0  # seconds without a byte from a web server


def open_web(address: str, timeout: float = TIMEOUT, trusting: bool = False) -> Any:
    """The open answer of a web server (use it in a `with` block), with the user and password of the address as Basic or
    Digest authentication; proxies are those of the environment. trusting: certificates are not looked at.

    FileNotFoundError (404, 410), PermissionError (401, 403) or another OSError where it gives none.
    """
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    plain = urlunsplit((parts.scheme, host, path or "/", quote(parts.query, safe="/%:@!$&'()*+,;=?~[]"), ""))
    handlers: list[Any] = []
    if parts.username:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, plain, unquote(parts.username), unquote(parts.password or ""))
        handlers += [urllib.request.HTTPBasicAuthHandler(known), urllib.request.HTTPDigestAuthHandler(known)]
    if trusting:
        handlers.append(urllib.request.HTTPSHandler(context=ssl._create_unverified_context()))
    request = urllib.request.Request(plain, headers={"User-Agent": "mobilessd", "Accept": "image/*,*/*;q=0.5"})
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        kind = {404: FileNotFoundError, 410: FileNotFoundError, 401: PermissionError, 403: PermissionError}
        raise kind.get(error.code, OSError)(f"{error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    except (http.client.HTTPException, ValueError) as error:  # no web server; an address that is none
        raise OSError(f"{type(error).__name__}: {error}") from None
