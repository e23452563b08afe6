"""The processes that load data: how they begin, how the death of one is noticed, how they end."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import cv2

DYING = 2.0  # seconds in which a process whose pipes are broken is seen to be dead
_running: weakref.WeakKeyDictionary[Any, int] = (
    weakref.WeakKeyDictionary()
)  # streams, and the process that started each


def quiet_worker(_: int) -> None:
    """What a loader's worker begins with: a pool of threads in each would fight over the cores. Zero, not one: OpenCV's one
    thread ends the pool that was inherited from the main process, and waits for ever for threads that a fork leaves behind."""
    cv2.setNumThreads(0)


def start_worker(number_of_worker: int) -> None:
    quiet_worker(number_of_worker)
    for number in (signal.SIGINT, signal.SIGTERM):  # which may go to the whole group: the main process answers them
        signal.signal(number, signal.SIG_IGN)


def started(loader: Any) -> Iterator[Any]:
    """iter(loader), without torch's handler of SIGCHLD: that raises an error about a dead worker wherever the program is,
    so in no place where it could be caught."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        stream = iter(loader)
    else:
        before = signal.getsignal(signal.SIGCHLD)
        stream = iter(loader)
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    _running[stream] = os.getpid()
    return stream


def end(loader: Any) -> None:
    """Ends the workers of a torch loader that keeps them, whoever holds its iterator still (a traceback, a generator)."""
    stream = loader._iterator
    if stream in _running:
        stream._shutdown_workers()
        _kill(stream)


@atexit.register
def _kill_all() -> None:
    """multiprocessing would wait for those that are left when the program ends for ever, as they ignore its SIGTERM."""
    for stream in list(_running):
        _kill(stream)


def _kill(stream: Any) -> None:
    if _running.get(stream) == os.getpid():  # not in a child that was forked meanwhile
        for worker in getattr(stream, "_workers", ()):
            if worker.is_alive():
                worker.kill()


@contextmanager
def noticing_deaths(workers: Sequence[Any]) -> Iterator[None]:
    """A block that ends with an error as soon as one of the workers is dead. Waiting for a batch of which a killed worker
    has handed over a half would never end: others hold the pipe open."""

    def look(*_: Any) -> None:
        if not all(worker.is_alive() for worker in workers):
            raise RuntimeError("DataLoader worker is dead")

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, look)
    try:
        look()
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def one_has_died(workers: Sequence[Any]) -> bool:
    """Whether one of them is dead within DYING seconds; torch, which hears of it by a signal, may say so in the middle."""
    try:
        return bool(wait([one.sentinel for one in workers], DYING))
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        return True


def shared_memory_free() -> int:
    """Free bytes of /dev/shm, through which torch passes tensors (64 MB in many containers; then pipes are used)."""
    if sys.platform != "linux":
        return 1 << 40
    return shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
