"""A runtime that is at hand in every process: pickled it is only how to open it, and after a fork it is opened anew.

Threads do not survive a fork: a runtime that has some would wait for them for ever in the child (OpenVINO and torch do, from
the first batch on). So a forked process opens its own when it first needs it, and leaves the parent's alone.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detection.errors import MobileSSDError
from detection.runtimes.base import Runtime
from detection.runtimes.open import choose, open_runtime
from detection.weights.resolve import Weights

PATIENCE = 60.0  # seconds within which a runtime in a forked process has computed something, on a busy machine too


@dataclass(frozen=True)
class Opening:
    """How a runtime was opened; see `open_runtime`."""

    weights: Weights
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __call__(self) -> Runtime:
        """The runtime, opened in this process. Raises MobileSSDError, one line, where it cannot be."""
        if _fork.forked:
            return self._in_forked()
        _fork.used = True
        return open_runtime(self.weights, self.runtime, self.device, self.precision, self.threads)

    def _in_forked(self) -> Runtime:
        name = choose(self.weights, self.device) if self.runtime == "auto" else self.runtime
        threads = self.threads
        if torch := sys.modules.get("torch"):
            if torch.cuda.is_initialized():
                raise MobileSSDError("a GPU in use does not survive a fork: start the process with the method 'spawn'")
            # GNU's OpenMP, which torch computes with, cannot start threads in the child of a process that had some.
            torch.set_num_threads(1)
            threads = 1 if name.startswith("torch") else threads
        runtime = open_runtime(self.weights, name, self.device, self.precision, threads)
        if not _computes(runtime, self.weights.card.input_size):
            raise MobileSSDError(
                f"{name} does not start in a process forked from one that had used it: start the process with the method "
                "'spawn', or open the first Detector in the child"
            )
        return runtime


def _computes(runtime: Runtime, size: tuple[int, int]) -> bool:
    """Whether a runtime answers. OpenVINO hands idle threads of networks that are gone to new ones (its ExecutorManager),
    and in a forked process there are none behind them: nobody could tell, and the wait has no end."""
    failures: list[Exception] = []

    def work() -> None:
        try:
            for number in (1, 2):  # batches have threads of their own
                runtime(np.zeros((number, *size, 3), np.uint8))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="first images", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if failures:
        raise failures[0]
    return not thread.is_alive()


class Reopened:
    """Holds a runtime, shared by all who hold this object. opening: None for a runtime of a network at hand, which can be
    opened nowhere else."""

    def __init__(self, runtime: Runtime | None, opening: Opening | None = None) -> None:
        self._runtime, self._opening, self._lock = runtime, opening, threading.Lock()
        _fork.holders.add(self)

    def get(self) -> Runtime:
        """The runtime of this process. Raises MobileSSDError, one line, where there cannot be one."""
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    if self._opening is None:
                        raise MobileSSDError(
                            "a detector of a network at hand does not survive a fork: open it in there"
                        )
                    self._runtime = self._opening()
        return self._runtime

    def leave(self) -> None:
        """In a forked process: what the parent had is left alone."""
        if self._runtime is not None:
            _fork.left.append(self._runtime)
        self._runtime, self._lock = None, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        if self._opening is None:
            raise MobileSSDError(
                "a detector of a network at hand is not pickled: save its weights, and open them there"
            )
        weights = self._opening.weights
        return {"opening": replace(self._opening, weights=replace(weights, path=weights.path.absolute()))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(None, state["opening"])  # type: ignore[misc]


class _Fork:
    """What a process has to know of forks, as runtimes have threads that belong to the process, not to an object.

    used: it has opened a runtime. forked: it comes from one that had. left: the parent's runtimes, kept for good, as taking
    them apart would wait for their threads.
    """

    def __init__(self) -> None:
        self.used = self.forked = False
        self.holders: weakref.WeakSet[Reopened] = weakref.WeakSet()
        self.left: list[Runtime] = []

    def in_child(self) -> None:
        self.forked = self.forked or self.used
        for holder in list(self.holders):
            holder.leave()


_fork = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork.in_child)
