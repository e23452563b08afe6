"""What happens is told: as JSON lines, to a webhook, to a command. None of them can hold up a camera.

An event is a plain dict, ready for JSON: {event, source, at (ISO 8601, UTC), time (seconds of the source), text, ...}.
Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timezone
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from detection.errors import MobileSSDError
from detection.masking import without_secrets

Event = dict[str, Any]
Say = Callable[[str], object]

LONGEST_LINE = 1 << 20  # bytes that are looked through for the end of the last whole line
WAITING = 1000  # events that wait for a webhook; beyond, the oldest go
PAUSES = (1, 2, 4, 8, 15)  # seconds between the tries to deliver one event
TIMEOUT = 10.0  # seconds for one try
_FOR_SHELL = re.compile(r"\|\|?|&&?|;|<|[0-9]?>>?\S*|\$\w+|\$\{\w+\}|\S+;")  # words that only a shell understands
MOST_COMMANDS = 4  # at once
LONGEST_COMMAND = 60.0  # seconds


def new_event(kind: str, source: str, seconds: float, text: str, **more: Any) -> Event:
    """An event of now. seconds: since the source began; text: the same for people."""
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": kind, "source": source, "at": at, "time": round(seconds, 3), "text": text, **more}


class Lines:
    """Text lines to a file that grows, or to standard output ("-"). Each line is whole when it is there.

    A file is added to, so that nothing is lost when the program is started anew; a last line that a kill has torn is cut off
    first. While it cannot be written (disk full) lines are lost, none is torn, and the camera goes on: that is said once,
    as is when there is room again, and `lost` counts them. `gone` is called where nobody reads standard output any more.
    """

    def __init__(self, path: str, say: Say, gone: Callable[[], object] = lambda: None, head: str = "") -> None:
        self.path, self._say, self._gone = path, say, gone
        self.lost = 0
        self._failing = False
        self._lock = threading.Lock()
        self._file: IO[Any] | None
        try:
            self._file = sys.stdout if path == "-" else open(path, "ab", buffering=0)  # noqa: SIM115
            if path != "-":
                _mend(path, self._file)  # type: ignore[arg-type]
            if head and (path == "-" or not os.path.getsize(path)):
                self.write(head)
        except OSError as error:
            raise MobileSSDError(f"{path}: cannot be written: {error.strerror or error}") from None

    def write(self, line: str) -> None:
        with self._lock:
            if self._file is None:
                return
            try:
                if self.path == "-":
                    self._file.write(line + "\n")
                    self._file.flush()
                else:
                    _append(self._file, (line + "\n").encode("utf-8", "backslashreplace"))
            except (OSError, ValueError) as error:
                self._failed(getattr(error, "strerror", None) or str(error))
                return
        if self._failing:
            self._failing = False
            self._say(f"{self.path}: is written again; {self.lost} lines were lost")

    def _failed(self, reason: str) -> None:
        if self.path == "-":
            self._file = None
            self._say(f"{self.path}: no more lines are written: {reason}")
            self._gone()
            return
        self.lost += 1
        if not self._failing:
            self._failing = True
            self._say(f"{self.path}: cannot be written: {reason}; lines are lost until it can")

    def write_json(self, event: Event) -> None:
        self.write(json.dumps(event))

    def close(self) -> None:
        """Says how many lines were lost, if any."""
        with self._lock:
            if self._file is not None and self.path != "-":
                self._file.close()
                if self.lost:
                    self._say(f"{self.path}: {self.lost} lines could not be written and are lost")
            self._file = None


def _append(file: IO[bytes], data: bytes) -> None:
    """All of it, or nothing: what a full disk takes of a line is taken back, for which it needs no room."""
    before = os.fstat(file.fileno()).st_size
    done = 0
    try:
        while done < len(data):
            done += file.write(data[done:])
    except OSError:
        if done and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.ftruncate(file.fileno(), before)
        raise


def _mend(path: str, file: IO[bytes]) -> None:
    """Cuts off a last line that was torn by a kill; ends it, where it is whole but for its end. file: `path`, to be added to."""
    status = os.fstat(file.fileno())
    size, start = status.st_size, max(0, status.st_size - LONGEST_LINE)
    if not size or not stat.S_ISREG(status.st_mode):
        return
    with open(path, "rb") as written:
        written.seek(start)
        tail = written.read(LONGEST_LINE)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return
    try:
        json.loads(last)
        torn = False
    except ValueError:
        torn = last.startswith(b"{") and (len(last) < len(tail) or not start)
    if torn:
        os.ftruncate(file.fileno(), size - len(last))
    else:
        _append(file, b"\n")


class Post:
    """Posts JSON to an address. Its user and password are shown at once (Basic), or as the server asks for (Digest); they
    are no part of the name that is looked up. Raises what urllib raises; MobileSSDError for an address that is none."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, user, password = parts.netloc.rpartition("@")[2], parts.username, parts.password
            if not parts.hostname or parts.port == 0:  # raises ValueError for one that is no number
                raise ValueError
        except ValueError:
            raise MobileSSDError(
                f"--webhook {without_secrets(url)} is not a web address: check its host and port"
            ) from None
        self._url = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "mobilessd"}
        handlers: list[Any] = []
        if user is not None:
            pair = unquote(user), unquote(password or "")
            known = urllib.request.HTTPPasswordMgrWithPriorAuth()
            known.add_password(None, self._url, *pair, is_authenticated=True)
            handlers += [urllib.request.HTTPBasicAuthHandler(known), urllib.request.HTTPDigestAuthHandler(known)]
        self._open = urllib.request.build_opener(*handlers).open

    def __call__(self, data: bytes, timeout: float) -> None:
        request = urllib.request.Request(self._url, data, self._headers, method="POST")
        self._open(request, timeout=timeout).close()


class Webhook:
    """Sends each event as JSON in a POST, in order, tried several times; a server that is away loses events, not frames.

    lost: events that could not be delivered.
    """

    def __init__(self, url: str, say: Say, pauses: tuple[float, ...] = PAUSES) -> None:
        if not url.startswith(("http://", "https://")):
            raise MobileSSDError(f"--webhook {url!r} is not a web address: write http://... or https://...")
        self._post = Post(url)
        self._say, self._pauses = say, pauses
        self.lost = 0
        self._queue: queue.Queue[Event | None] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        while True:
            try:
                return self._queue.put_nowait(event)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                    self.lost += 1

    def close(self) -> None:
        """Gives what is waiting one more chance, for a few seconds at most."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            problem = self._deliver(json.dumps(event).encode())
            if problem:
                self.lost += 1
                if not self._failing:
                    self._say(f"webhook: {problem}; events are lost until it answers")
            elif self._failing:
                self._say("webhook: answers again")
            self._failing = bool(problem)

    def _deliver(self, data: bytes) -> str:
        """Nothing once it was taken, else why not. What the server refuses as wrong (4xx) is not sent again."""
        problem = ""
        for pause in (0.0, *self._pauses):
            if pause and (self._failing or self._closing.wait(pause)):
                break  # while it is away each event is tried once: the next one is newer
            try:
                self._post(data, 2 if self._closing.is_set() else TIMEOUT)
                return ""
            except urllib.error.HTTPError as error:
                problem = f"answers {error.code}"
                if 400 <= error.code < 500 and error.code not in (408, 429):
                    break
            except Exception as error:
                problem = f"cannot be reached ({without_secrets(str(getattr(error, 'reason', None) or error))})"
        return problem


class Command:
    """Runs a command, without a shell, for an event: its JSON on standard input, and MOBILESSD_EVENT, _SOURCE, _CLASS,
    _TEXT around it.

    At most a few at once, none longer than a minute: a camera on a busy street must not fill the machine.
    """

    def __init__(self, command: str, say: Say) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise MobileSSDError(f"--run {command!r} cannot be understood: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise MobileSSDError(f"--run {command!r}: there is no such program")
        if for_shell := next(filter(_FOR_SHELL.fullmatch, self._words[1:]), None):
            hint = f"no shell runs it, so {for_shell!r} would be an option: write --run \"sh -c '...'\""
            raise MobileSSDError(f"--run {command!r}: {hint}")
        self._say = say
        self._free = threading.Semaphore(MOST_COMMANDS)

    def __call__(self, event: Event) -> None:
        if not self._free.acquire(blocking=False):
            self._say(f"{self._words[0]} still runs {MOST_COMMANDS} times: left out for {event['text']}")
            return
        threading.Thread(target=self._run, args=(event,), name="command", daemon=True).start()

    def _run(self, event: Event) -> None:
        names = {
            "EVENT": event["event"],
            "SOURCE": event["source"],
            "CLASS": event.get("class", ""),
            "TEXT": event["text"],
        }
        environment = os.environ | {f"MOBILESSD_{name}": str(value) for name, value in names.items()}
        try:
            done = subprocess.run(
                self._words,
                input=json.dumps(event).encode(),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=LONGEST_COMMAND,
            )
            if done.returncode:
                words = done.stderr.decode("utf-8", "replace").strip().splitlines()
                self._say(f"{self._words[0]} failed ({done.returncode}){': ' + words[-1][:200] if words else ''}")
        except subprocess.TimeoutExpired:
            self._say(f"{self._words[0]} took longer than {LONGEST_COMMAND:g} s and was ended")
        except OSError as error:
            self._say(f"{self._words[0]} cannot be run: {error.strerror or error}")
        finally:
            self._free.release()


def seconds_since_1970(event: Event) -> float:
    """When it happened, for clocks of browsers."""
    return datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp() if "at" in event else time.time()
