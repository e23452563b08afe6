"""Shards made in this process, on the stream of `detection.stream`: images are read ahead across the borders of shards.

A batch never crosses from one shard into the next: what a shard holds does not depend on where a run was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from detection.bulk.shards import FORMATS, Shard
from detection.detector import Detector
from detection.errors import shown
from detection.images.addresses import is_address
from detection.masking import without_secrets
from detection.outputs import Record
from detection.stream import Found, detect_stream, for_many_images


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


def make_shards(
    task: Task, detector: Detector, shards: Iterable[Shard], seen: Callable[[int], Any] = lambda images: None
) -> Iterator[Finished]:
    """The shards one after the other. `seen` is told how many images more are done, as they are.

    Raises MobileSSDError where a store cannot be reached; an image that cannot be read is no error, it is written down.
    """
    for_many_images()
    items = ((shard.index, name) for shard in shards for name in shard.names)
    found = detect_stream(
        detector,
        items,
        lambda item: _place(item[1], task.base),
        batch=task.batch,
        workers=task.cores,
        group_of=lambda item: item[0],
    )
    for index, part in groupby(found, lambda one: one.item[0]):
        records = []
        for one in part:
            records.append(_record(one, task.base))
            seen(1)
        problems = tuple((one.name, one.problem) for one in records if one.problem)
        objects = sum(len(one.detections) for one in records if one.detections is not None)
        yield Finished(index, FORMATS[task.kind].encode(records), len(records), objects, problems)


def _place(name: str, base: str) -> str:
    return name if is_address(name) else os.path.join(base, name)


def _record(one: Found[tuple[int, str]], base: str) -> Record:
    """The row of an image. What is wrong with it is said without its name, which stands in the row already."""
    name = one.item[1]
    problem = str(one.error).removeprefix(f"{shown(_place(name, base))}: ") if one.error else ""
    return Record(without_secrets(name) if is_address(name) else name, one.detections, problem)
