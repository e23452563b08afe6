"""Images through the network in bulk: an iterator of images in, an iterator of what was found in them out.

`detect_stream` is made of the Detector's own stages (`see`, `compute`, `conclude`): what is measured, listed or drawn is
what the Detector finds, to the last bit. The Detector's own lists and streams, evaluation, `mobilessd detect`, bulk
detection and the benchmark all run on it, and pseudo-labels on its part `in_order`.

Where a runtime computes images best one in a thread (`Runtime.streams`: OpenVINO on a CPU), an image goes through all its
stages in one thread, and as many are on their way as there are cores: no core waits for the last image of a batch, and what
a stage leaves is still in the core's cache for the next. Elsewhere (a GPU) images are decoded ahead of the network in
threads, computed in batches, and post-processed behind it in other threads.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from detection.boxes.detections import Detections
from detection.errors import BadImageError
from detection.images.addresses import fetch, is_address
from detection.images.decode import decode_image, decoded_bytes, read_file
from detection.images.memory import DECODING, Memory

TURN = 0.001  # seconds: a stage that needs Python waits at most so long for a thread that computes in it
FETCHING = 16  # images asked for at once where they come from an address: a store is slow to answer, not to send

T = TypeVar("T")
R = TypeVar("R")


class Stages(Protocol):
    """What a stream needs of a detector; see `detection.detector.Detector`. What `see` and `compute` give is its own.

    A detector may have `streams` and `compute_alone`, too."""

    def see(self, image: np.ndarray) -> Any: ...

    def compute(self, seen: Sequence[Any]) -> list[Any]: ...

    def conclude(self, raw: Any, image_size: tuple[int, ...]) -> Detections: ...


@dataclass(frozen=True)
class Found(Generic[T]):
    """One image, looked at.

    item: what went in. detections: what was found, or None where the image could not be read; `error` then says why.
    size: (height, width) of the image, (0, 0) where it could not be read. image: its pixels, uint8 RGB [H, W, 3], if
    they were to be kept and there was room (very large ones are read once more to be drawn). network_seconds: its share
    of the time that its batch spent in the network.
    """

    item: T
    detections: Detections | None = None
    error: BadImageError | None = None
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    network_seconds: float = 0.0


@dataclass(frozen=True)
class _Loaded(Generic[T]):
    """An image on its way. seen: as the network takes it; raw: its encodings and logits."""

    found: Found[T]
    seen: Any = None
    raw: Any = None


def detect_stream(
    detector: Stages,
    items: Iterable[T],
    image_of: Callable[[T], Any] = lambda item: item,
    *,
    batch: int = 16,
    workers: int | None = None,
    group_of: Callable[[T], Any] | None = None,
    keep_image: bool = False,
) -> Generator[Found[T], None, None]:
    """Detects in every image of `items`; yields one `Found` for each item, in the order of the items.

    image_of: what of an item is the image: a path, an address (s3://...), the bytes of an image file, or uint8 RGB [H, W,
    3]. It is called in the reading threads, so it may itself read or compute, and may raise BadImageError.
    batch: images that the network sees at once, where it does not compute each by itself; 1: one after the other, each with
    all threads. workers: images decoded at once (default: one for each core);
    addresses are fetched by more threads. group_of: a batch never holds items of two neighbouring groups, so that what
    is found in a group does not depend on where the stream began. keep_image: give the decoded image back, for drawing,
    where all that are kept have room in a gigabyte.

    An image that cannot be read is an item with `error`. Any other exception (a store that does not answer, a bug) is
    raised where its item would have come, after all batches before it. No more than about four batches of images are
    in memory, and no more than a gigabyte of those that are being decoded. `items` is read in the thread that
    iterates. Whoever stops early closes the iterator, or drops it; its threads end with it.
    """
    workers = workers or os.cpu_count() or 1
    streams = 0
    if batch > 1 and hasattr(detector, "streams"):
        several, items = _several(items)
        if several:  # a single image gets all threads
            streams = detector.streams()
    # Threads beyond the workers only wait for a store; beside streams there is one more, for while one waits for Python.
    decoding = threading.BoundedSemaphore(max(workers, streams) + 1 if streams else workers)
    memory, kept = Memory(DECODING), Memory(DECODING)

    def load(item: T) -> _Loaded[T]:
        try:
            with decoding:
                image = image_of(item)
                if isinstance(image, np.ndarray):
                    return alone(prepared(item, image, keep_image))
                if not (isinstance(image, str) and is_address(image)):
                    return alone(decoded(item, image))
            data = fetch(image)
            with decoding:
                return alone(decoded(item, data, image))
        except BadImageError as error:
            return _Loaded(Found(item, error=error))

    def decoded(item: T, image: str | os.PathLike | bytes, name: str | os.PathLike = "image") -> _Loaded[T]:
        data, name = (image, name) if isinstance(image, bytes) else (read_file(image), image)
        with memory.held(decoded_bytes(data)):
            pixels = decode_image(data, name)
            return prepared(item, pixels, keep_image and kept.keep(pixels))

    def prepared(item: T, image: np.ndarray, keep: bool) -> _Loaded[T]:
        height, width = image.shape[:2]
        found = Found(item, size=(height, width), image=image if keep else None)
        return _Loaded(found, detector.see(image))

    def alone(one: _Loaded[T]) -> _Loaded[T]:
        """Where there are streams, the image with what was found in it."""
        if not streams:
            return one
        begin = time.perf_counter()
        raw = detector.compute_alone(one.seen)  # type: ignore[attr-defined]
        seconds = (time.perf_counter() - begin) / streams
        return _Loaded(finish(_Loaded(replace(one.found, network_seconds=seconds), raw=raw)))

    def finish(one: _Loaded[T]) -> Found[T]:
        if one.raw is None:
            return one.found
        return replace(one.found, detections=detector.conclude(one.raw, one.found.size))

    threads = max(FETCHING, workers)
    with closing(in_order(load, items, threads, 2 * batch + (workers if keep_image else threads))) as loaded:
        if streams:
            yield from (one.found for one in loaded)
            return
        ran = (one for group in _batches(loaded, batch, group_of) for one in _run(detector, group))
        with closing(in_order(finish, ran, workers, batch)) as finished:  # raw outputs are large: two batches of them
            yield from finished


def in_order(
    work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int | None = None
) -> Generator[R, None, None]:
    """`work` on every item, in threads; yields the results in the order of the items.

    At most `ahead` items (default: twice the threads) are begun beyond the one whose result comes next. What `work`
    raises is raised where its result would have come; what `items` raises, after the results of the items before.
    Threads start when there is work for them, and end with the iterator.
    """
    ahead = 2 * threads if ahead is None else ahead
    source, waiting = iter(items), deque[Future[R]]()
    failure: BaseException | None = None
    more = True
    pool = ThreadPoolExecutor(threads, thread_name_prefix=getattr(work, "__name__", "work"))
    try:
        while more or waiting:
            while more and len(waiting) <= ahead:
                try:
                    waiting.append(pool.submit(work, next(source)))
                except StopIteration:
                    more = False
                except BaseException as error:  # Ctrl-C too: what is found by then is kept
                    more, failure = False, error
            if waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        raise failure


def for_many_images() -> None:
    """Sets up a process that is all ours for a stream: each core decodes an image of its own, so that OpenCV needs no threads
    beside it, and a thread that computes in Python soon lets others have their turn."""
    import cv2

    cv2.setNumThreads(1)
    sys.setswitchinterval(TURN)


def _several(items: Iterable[T]) -> tuple[bool, Iterable[T]]:
    """Whether there is more to come than one, and all of them again. What `items` raises is raised in its place."""
    source, first = iter(items), list[T]()
    try:
        first.extend(itertools.islice(source, 2))
    except BaseException as error:  # Ctrl-C too
        return bool(first), itertools.chain(first, _raising(error))
    return len(first) > 1, itertools.chain(first, source)


def _raising(error: BaseException) -> Iterator[Any]:
    raise error
    yield


def _batches(
    loaded: Iterable[_Loaded[T]], size: int, group_of: Callable[[T], Any] | None
) -> Iterator[list[_Loaded[T]]]:
    """Neighbours of one group, at most `size` at once. Unreadable ones count: a batch depends on the items alone."""
    batch: list[_Loaded[T]] = []
    group: Any = None
    for one in loaded:
        before, group = group, group_of(one.found.item) if group_of else None
        if batch and group != before:
            yield batch
            batch = []
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _run(detector: Stages, batch: list[_Loaded[T]]) -> Iterator[_Loaded[T]]:
    """The network over those of a batch that could be read; all of the batch come back."""
    seen = [one.seen for one in batch if one.seen is not None]
    start = time.perf_counter()
    raw = iter(detector.compute(seen) if seen else ())
    share = (time.perf_counter() - start) / max(len(seen), 1)
    for one in batch:
        if one.seen is None:
            yield one
        else:
            yield _Loaded(replace(one.found, network_seconds=share), raw=next(raw))
