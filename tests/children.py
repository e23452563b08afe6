"""Children of a test process that may die: forked, so that nothing is imported again. Imports no torch."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detection.errors import MobileSSDError


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
