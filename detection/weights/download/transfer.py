"""One file over HTTP: resumed where it stopped, tried again after a pause, never waiting for long.

`urllib` follows redirects and honours `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and the system's settings.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.errors import MobileSSDError
from detection.files import no_link

CONNECT_SECONDS = 5.0  # name look-up and connection together, so that a machine without network is told so at once
READ_SECONDS = 20.0
ATTEMPTS = 4
PAUSE_SECONDS = 0.5  # doubled after each attempt
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # states of a server that may pass
BLOCK = 1 << 16


class DownloadError(MobileSSDError):
    """Something could not be fetched; the message is the reason."""


class WrongContentError(DownloadError):
    """What was fetched is whole by its length and still not what was published."""


class _Passing(Exception):
    """A failure worth another attempt."""


def transfer(url: str, target: Path, size: int = 0) -> None:
    """Fetches `url` to `target`, through `<target>.part`, which is taken up again if it is there and renamed last.

    size: in bytes, 0 where it is not known; a file of another size is refused. The content is for the caller to check.
    Raises DownloadError: at once where the server is out of reach or says no, else when `ATTEMPTS` in a row have failed
    without getting any further.
    """
    part = target.with_name(target.name + ".part")
    _check_reachable(url)
    left, wait = ATTEMPTS, PAUSE_SECONDS
    while True:
        before = _length(part)
        try:
            _attempt(url, part, size, target.name)
            os.replace(part, target)
            return
        except _Passing as failure:
            got_further = _length(part) > before
            left = ATTEMPTS - 1 if got_further else left - 1
            if left <= 0:
                raise DownloadError(str(failure)) from None
            time.sleep(wait)
            wait = PAUSE_SECONDS if got_further else wait * 2


def _attempt(url: str, part: Path, size: int, label: str) -> None:
    """One request: the rest of `part` if the server gives ranges, else the whole file from its start."""
    have = _length(part)
    if size and have == size:
        return
    if size and have > size:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "mobilessd", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener()  # `urlopen` would keep the proxies of its first call
    with _failures_named(part), opener.open(request, timeout=READ_SECONDS) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not resumed:
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else size
        if size and total != size:
            raise DownloadError(f"offers {total} bytes where {size} were published")
        have = _copy(response, part, have, total, label)
    if total and have < total:
        raise _Passing(f"the connection ended after {have} of {total} bytes")
    if size and have != size:
        part.unlink()
        raise DownloadError(f"sent {have} bytes where {size} were published")


def _copy(response: http.client.HTTPResponse, part: Path, have: int, total: int, label: str) -> int:
    """The body of a response into `part` from byte `have` on; returns the length of `part` then."""
    from tqdm import tqdm

    bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=label, leave=False, disable=None)
    with bar, open(part, "ab" if have else "wb", opener=no_link) as file:
        while block := response.read(BLOCK):
            file.write(block)
            have += len(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    return have


@contextmanager
def _failures_named(part: Path) -> Iterator[None]:
    """Sorts what can go wrong into what may pass (`_Passing`) and what will not (`DownloadError`)."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and part.exists():  # what is here already is no beginning of what lies there
            part.unlink()
            raise _Passing("the file changed on the server") from None
        kind = _Passing if error.code in PASSING else DownloadError
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _named(error.reason) from None
    except (http.client.HTTPException, OSError) as error:
        if isinstance(error, OSError) and error.filename:  # our own disk, not the network
            raise
        raise _named(error) from None


def _named(error: object) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DownloadError("its certificate cannot be verified (behind a proxy: set SSL_CERT_FILE)")
    if isinstance(error, TimeoutError):
        return _Passing(f"no answer for {READ_SECONDS:.0f} s")
    if isinstance(error, OSError) and error.errno == 28:  # ENOSPC
        return DownloadError("no space left on the disk")
    return _Passing(str(error) or type(error).__name__)


def _check_reachable(url: str) -> None:
    """Raises DownloadError within `CONNECT_SECONDS` if nobody answers.

    Name look-ups know no time limit, and a name may have a dozen addresses that would each be waited for, so this runs
    in a thread that is left behind.
    """
    host, port = _next_hop(url)
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), CONNECT_SECONDS).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    error = outcome[0] if outcome else TimeoutError()
    if isinstance(error, TimeoutError):
        raise DownloadError(f"no answer within {CONNECT_SECONDS:.0f} s")
    if isinstance(error, socket.gaierror):
        raise DownloadError("its name cannot be resolved")
    if error is not None:
        raise DownloadError(error.strerror or str(error))


def _next_hop(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` connects to: the server's, or those of the proxy in front of it."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"{url} is no http address")
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
