"""Shards made in this process: images are fetched, decoded and stretched in threads ahead of the network, and its
outputs finished in the same threads behind it, across the borders of shards.

The stages are the Detector's own (`prepare`, `runtime`, `finish`), so what stands in a shard is what it finds. A batch
never crosses from one shard into the next: what a shard holds does not depend on where a run was stopped.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.bulk.shards import Looked, Shard, encode
from detection.detector import Detector
from detection.errors import BadImageError
from detection.images.addresses import fetch, is_address
from detection.images.decode import decode_image, read_image

TURN = 0.001  # seconds: a callback of the network that needs Python waits that long for a thread that computes in it
FETCHING = 16  # images asked for at once where they come from an address: a store is slow to answer, not to send


@dataclass(frozen=True)
class Task:
    """How shards are made, wherever that is. weights, options: what `Detector` is opened with. base: the folder that
    relative paths start from. batch: images that the network sees at once. cores: to use. kind: of the files."""

    weights: str
    options: dict[str, Any]
    base: str
    batch: int
    cores: int
    kind: str

    def open(self) -> Detector:
        return Detector(self.weights, **self.options)


@dataclass(frozen=True)
class Finished:
    """A shard that is ready to be written. data: the file. objects: boxes in it. problems: (image, what is wrong)."""

    index: int
    data: bytes
    images: int
    objects: int
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Group:
    """Images of one shard that the network sees at once; `last` of its shard or not."""

    shard: Shard
    names: tuple[str, ...]
    last: bool


@dataclass(frozen=True)
class _Loaded:
    name: str
    pixels: np.ndarray | None = None  # uint8 [1, h, w, 3], prepared
    size: tuple[int, int] = (0, 0)
    problem: str = ""


def make_shards(
    task: Task, detector: Detector, shards: Iterable[Shard], seen: Callable[[int], Any] = lambda images: None
) -> Iterator[Finished]:
    """The shards one after the other. `seen` is told how many images more are done, as they are.

    Raises MobileSSDError where a store cannot be reached; an image that cannot be read is no error, it is written down.
    """
    sys.setswitchinterval(TURN)
    for shard, looked in _look(task, detector, shards, seen):
        problems = tuple((one.name, one.problem) for one in looked if one.problem)
        objects = sum(len(one.detections) for one in looked if one.detections is not None)
        yield Finished(shard.index, encode(looked, task.kind), len(looked), objects, problems)


def _look(
    task: Task, detector: Detector, shards: Iterable[Shard], seen: Callable[[int], Any]
) -> Iterator[tuple[Shard, list[Looked]]]:
    groups = _groups(shards, task.batch)
    decoding = threading.BoundedSemaphore(task.cores)
    # Threads beyond the cores only wait for a store. Whether there is one is seen as the names come.
    pool = ThreadPoolExecutor(max(FETCHING, task.cores), "bulk")
    waiting: deque[tuple[_Group, list[Future[_Loaded]]]] = deque()
    finishing: deque[tuple[_Group, list[Future[Looked]]]] = deque()
    looked: list[Looked] = []

    def read_ahead() -> None:
        while sum(len(group.names) for group, _ in waiting) < 2 * task.batch + FETCHING:
            if (group := next(groups, None)) is None:
                return
            waiting.append((group, [pool.submit(_load, detector, name, task.base, decoding) for name in group.names]))

    try:
        read_ahead()
        while waiting or finishing:
            if waiting:
                group, reading = waiting.popleft()
                loaded = [future.result() for future in reading]
                read_ahead()
                finishing.append((group, _run(detector, loaded, pool)))
            while finishing and (not waiting or len(finishing) > 1):  # the raw outputs are large: two batches of them
                group, ending = finishing.popleft()
                looked += [future.result() for future in ending]
                seen(len(group.names))
                if group.last:
                    yield group.shard, looked
                    looked = []
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _groups(shards: Iterable[Shard], batch: int) -> Iterator[_Group]:
    for shard in shards:
        for i in range(0, len(shard.names), batch):
            yield _Group(shard, shard.names[i : i + batch], i + batch >= len(shard.names))


def _run(detector: Detector, loaded: list[_Loaded], pool: ThreadPoolExecutor) -> list[Future[Looked]]:
    """The network over those of a group that could be read; their post-processing is left to the pool."""
    pixels = [one.pixels for one in loaded if one.pixels is not None]
    raw = zip(*detector.runtime(np.concatenate(pixels))) if pixels else iter(())
    return [
        pool.submit(_bad, one) if one.pixels is None else pool.submit(_finish, detector, one, *next(raw))
        for one in loaded
    ]


def _load(detector: Detector, name: str, base: str, decoding: threading.BoundedSemaphore) -> _Loaded:
    path = name if is_address(name) else os.path.join(base, name)
    try:
        if is_address(name):
            data = fetch(name)
            with decoding:
                return _prepared(detector, name, decode_image(data, name))
        with decoding:
            return _prepared(detector, name, read_image(path))
    except BadImageError as error:
        shown = path if path.isprintable() else ascii(path)
        return _Loaded(name, problem=str(error).removeprefix(f"{shown}: "))


def _prepared(detector: Detector, name: str, image: np.ndarray) -> _Loaded:
    height, width = image.shape[:2]
    return _Loaded(name, detector.prepare([image]), (height, width))


def _finish(detector: Detector, one: _Loaded, encodings: np.ndarray, logits: np.ndarray) -> Looked:
    return Looked(one.name, detector.finish(encodings, logits, one.size))


def _bad(one: _Loaded) -> Looked:
    return Looked(one.name, None, one.problem)
