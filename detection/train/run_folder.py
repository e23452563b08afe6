"""The folder of a training run: made for it, its own alone while it runs, and gone again where it never began."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from detection.errors import MobileSSDError
from detection.files import locked
from detection.train.distributed import World, same_on_all
from detection.train.state import has_state, sweep

LOCK = ".lock"


@contextlib.contextmanager
def run_folder(folder: Path, resume: bool, here: World) -> Iterator[Path]:
    """The folder of a run, made if need be, for this process and those of its world alone. A start that fails leaves none:
    what it made goes before its error does.

    Raises MobileSSDError, one line, where another training is at work in it (two of them would write over each other's
    states), and where it holds a run and `resume` was not asked for.
    """
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        if here.first:
            if not resume and has_state(folder):
                raise MobileSSDError(
                    f"{folder}: holds a run already; go on with --resume, or name another folder with --output"
                )
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            busy = (
                f"{folder}: another training is at work in this folder: wait for it, stop it, or name another --output"
            )
            stack.enter_context(locked(folder / LOCK, busy))
            sweep(folder)
        try:
            yield Path(same_on_all(str(folder)))
        except BaseException:
            if made and not has_state(folder):
                shutil.rmtree(folder)
                for parent in made[1:]:
                    with contextlib.suppress(OSError):  # another run's folder is in it by now
                        parent.rmdir()
            raise
