"""Children of a test process: run to their end or to a time limit, or forked, so that nothing is imported again, and may
die. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detection.errors import MobileSSDError


def run(command: Sequence[str | Path], timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, ended, with its `stdout` and `stderr` as text. One that takes longer than `timeout` seconds fails the
    test with what it and those that it has forked were doing, thread by thread.

    `subprocess.run` would kill the command alone and then wait, for ever, for the pipes that a forked child holds."""
    environment = {**options.pop("env", os.environ), "PYTHONFAULTHANDLER": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    alone = {"start_new_session": True} if hasattr(os, "killpg") else {}
    process = subprocess.Popen(list(map(str, command)), env=environment, **pipes, **alone, **options)
    try:
        said, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        complaints = "\n".join(_end(process))
        raise AssertionError(f"longer than {timeout} s: {command}\n{complaints[-20_000:]}") from None
    except BaseException:
        _end(process)
        raise
    return subprocess.CompletedProcess(command, process.returncode, said, complaints)


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process that hangs and its group have said, Python's faulthandler last of all."""
    for number in (signal.SIGABRT, signal.SIGKILL) if hasattr(os, "killpg") else (signal.SIGTERM,):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if hasattr(os, "killpg") else process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)
    return "", "(something outside its group holds its pipes)"


def fork(work: Callable[[], int | None], **environment: str) -> int:
    """A child that does `work` and exits with what it returns (None: 0), or as the command does; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = work() or 0
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """Its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_rename(number: int, prefix: str = "") -> None:
    """Kills this process in the place of its `number`-th os.replace, from 1, of those to a name that begins with `prefix`."""
    rename, count = os.replace, iter(range(1, 10**6))

    def replace(*paths: Any) -> None:
        if Path(paths[1]).name.startswith(prefix) and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)

    os.replace = replace
