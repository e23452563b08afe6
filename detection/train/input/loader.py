"""Batches for training: the same ones for the same seed, whatever the number of workers, from any step on.

A step of the stream is a pure function of (data, seed, step): image `step * batch + j` of an endless order, in which
each epoch is a permutation, augmented by a generator seeded with that position. Nothing is carried from one step to the
next, so a run resumes in mid-epoch to the bit.
"""

from __future__ import annotations

import copy
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.image_files import load_image
from detection.data.repair import clean_boxes
from detection.errors import BadDataError, BadImageError, MobileSSDError
from detection.train.input.augment import Augmentation, augment
from detection.train.input.batch import Batch, collate
from detection.train.input.cache import ImageCache
from detection.train.input.sample import Sample, make_sample
from detection.train.input.sampling import drawn, image_shares
from detection.train.input.workers import end, noticing_deaths, one_has_died, shared_memory_free, start_worker, started

log = logging.getLogger("mobilessd.data")
TRIES = 20  # unreadable images in a row before training gives up


class TrainLoader:
    """An endless, deterministic stream of training batches.

    data: boxes are cleaned here (`clean_boxes`); clean the images beforehand. batch_size: of all ranks together; rank
    r of `world` gets its r-th part of each global batch. workers: processes; 0 works in this one. cache_mb: memory for
    decoded images (`ImageCache`). sizes: those of the batches, one a step, each as often as it stands there, in an order by
    chance; (): all of `input_size`. Large images are halved as in detection (`images.preprocess.halved`). crowd,
    difficult: what becomes of such boxes: "drop" (torchvision, Caffe), "ignore" (a region of which nothing is known) or
    "train" (TensorFlow). balanced: how much more often images of rare classes come (`sampling`).
    """

    def __init__(
        self,
        data: DetectionData,
        input_size: tuple[int, int],
        batch_size: int,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        cache_mb: float = 0,
        crowd: str = "drop",
        difficult: str = "drop",
        prefetch: int = 2,
        pin_memory: bool = False,
        sizes: Sequence[tuple[int, int]] = (),
        balanced: float = 0.0,
    ):
        if not len(data):
            raise BadDataError(f"{data.origin}: no images to train on")
        if batch_size % world:
            raise BadDataError(f"a batch of {batch_size} cannot be shared equally by {world} processes")
        self.data = _with_policy(clean_boxes(data), crowd=crowd, difficult=difficult)
        self.batch_size, self.rank, self.world, self.workers = batch_size, rank, world, workers
        self.prefetch, self.pin_memory = prefetch, pin_memory
        self.source = _Source(self.data, input_size, augmentation, seed, None, batch_size, rank, world, tuple(sizes))
        if balanced:
            self.source.shares = image_shares(self.data, balanced)
        if cache_mb > 0:
            self.source.cache = ImageCache(self.data.sizes, cache_mb, self.source.largest, workers)
        self._warned: set[str] = set()
        self._loader: Any = None
        self._steps = _Steps()

    def batches(self, start_step: int = 0, stop_step: int | None = None) -> Iterator[Batch]:
        """The batches of steps start_step, start_step + 1, ... (of this rank), for ever or until `stop_step`.

        Workers live on between calls; leaving the loop early is fine.
        """
        if self.workers == 0:
            steps = itertools.count(start_step) if stop_step is None else range(start_step, stop_step)
            stream: Iterator[Any] = (self.source[step] for step in steps)
        else:
            self._steps.start, self._steps.stop = start_step, stop_step
            stream = self._from_workers()
        try:
            for batch in stream:
                yield self._checked(batch)
        except MobileSSDError:  # whose traceback may hold the workers for long
            self.close()
            raise

    def augmented_by(self, augmentation: Augmentation) -> TrainLoader:
        """The same stream with another augmentation, all of `input_size`, loaded in this process; the two share their
        cache."""
        other = copy.copy(self)
        other.source, other.workers, other._loader = replace(self.source, augmentation=augmentation, sizes=()), 0, None
        return other

    def names(self, batch: Batch) -> list[str]:
        """The files of a batch's images."""
        return [self.data.path(int(i)) for i in batch.indices]

    def close(self) -> None:
        """Ends the workers."""
        loader, self._loader = self._loader, None
        if loader is not None:
            end(loader)

    def _checked(self, batch: Batch | str) -> Batch:
        if isinstance(batch, str):
            raise BadDataError(batch)
        for problem in batch.problems:
            if problem not in self._warned:
                self._warned.add(problem)
                log.warning("%s; another image takes its place", problem)
        if isinstance(batch.images, np.ndarray):
            batch = batch.map(torch.from_numpy)
        return batch.pin_memory() if self.pin_memory and not batch.images.is_pinned() else batch

    def _from_workers(self) -> Iterator[Any]:
        stream = started(self._torch_loader())
        workers = stream._workers  # type: ignore[attr-defined]
        while True:
            try:
                with noticing_deaths(workers):
                    batch = next(stream, None)
            except Exception as error:
                # Where it died while a batch of its was being handed over, that may be any: EOFError, a file of shared
                # memory that is not there, half of a pickle.
                if "DataLoader worker" not in str(error) and not one_has_died(workers):
                    raise
                raise MobileSSDError(
                    "a data worker was killed (out of memory?): fewer workers or a smaller cache; then resume"
                ) from None
            if batch is None:
                return
            yield batch

    def _torch_loader(self) -> Any:
        if self._loader is None:
            height, width = self.source.largest
            in_flight = (self.workers * self.prefetch + 2) * (self.batch_size // self.world) * height * width * 3
            self.source.shared_memory = shared_memory_free() > 2 * in_flight
            self._loader = DataLoader(
                self.source,  # type: ignore[arg-type]
                batch_size=None,
                sampler=self._steps,
                num_workers=self.workers,
                collate_fn=_identity,
                worker_init_fn=start_worker,
                prefetch_factor=self.prefetch,
                generator=torch.Generator(),  # else it draws from torch's own numbers, and a run depends on workers
                persistent_workers=True,
                # forked workers share the annotations and the cache; elsewhere (macOS, Windows) they are copied
                multiprocessing_context="fork" if sys.platform == "linux" else None,
            )
        return self._loader


class _Steps:
    """The sampler of the torch loader: step numbers, from where `batches` wants them."""

    start: int = 0
    stop: int | None = None

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start) if self.stop is None else iter(range(self.start, self.stop))


@dataclass
class _Source:
    """What a worker holds: `source[step]` is this rank's batch of that step, or a line of text that says why not."""

    data: DetectionData
    input_size: tuple[int, int]
    augmentation: Augmentation
    seed: int
    cache: ImageCache | None
    batch_size: int
    rank: int
    world: int
    sizes: tuple[tuple[int, int], ...] = ()
    shares: np.ndarray | None = None  # float64 [P], their sum 1; None: each image once an epoch
    shared_memory: bool = False
    _epoch: int = -1
    _order: np.ndarray | None = None

    @property
    def largest(self) -> tuple[int, int]:
        """(height, width) of which every batch has at most as much: images are loaded for it."""
        heights, widths = zip(*(self.sizes or (self.input_size,)))
        return max(heights), max(widths)

    def size_at(self, step: int) -> tuple[int, int]:
        """The size of a step's batch: every turn of as many steps as there are sizes has each of them once."""
        if not self.sizes:
            return self.input_size
        turn, place = divmod(step, len(self.sizes))
        return self.sizes[np.random.default_rng((self.seed, 2, turn)).permutation(len(self.sizes))[place]]

    def __getitem__(self, step: int) -> Batch | str:
        own = self.batch_size // self.world
        first = step * self.batch_size + self.rank * own
        problems: list[str] = []
        size = self.size_at(step)
        try:
            samples = [self.sample(position, problems, size) for position in range(first, first + own)]
        except BadDataError as error:  # torch would wrap an exception into pages of traceback
            return str(error)
        batch = replace(collate(samples, size, len(self.data.class_names)), problems=tuple(problems))
        if self.shared_memory:
            batch = batch.map(torch.from_numpy)
        return batch

    def sample(self, position: int, problems: list[str], size: tuple[int, int]) -> Sample:
        """The sample, of `size`, at a position of the endless order. An image that cannot be read is replaced by another one."""
        index = self.image_at(position)
        for attempt in range(TRIES):
            rng = np.random.default_rng((self.seed, 1, position, attempt))
            try:
                return augment(self.load(index), self.augmentation, rng, size, lambda r: self._partner(r, problems))
            except BadImageError as error:
                problems.append(str(error))
                index = int(rng.integers(len(self.data)))
        raise BadDataError(f"{TRIES} images in a row cannot be read, the last of them: {problems[-1]}")

    def image_at(self, position: int) -> int:
        """The image at a position: each epoch is a permutation of its own, or a drawing of as many by `shares`."""
        epoch, place = divmod(position, len(self.data))
        if epoch != self._epoch or self._order is None:
            rng = np.random.default_rng((self.seed, 0, epoch))
            self._order = rng.permutation(len(self.data)) if self.shares is None else drawn(self.shares, rng)
            self._epoch = epoch
        return int(self._order[place])

    def load(self, index: int) -> Sample:
        """Image `index` as it is, decoded, with its boxes in the decoded image's pixels. Raises BadImageError."""
        entry = self.data.image(index)
        image = self.cache.get(index) if self.cache else None
        if image is None:
            image = load_image(entry.path, self.largest)
            if self.cache:
                self.cache.put(index, image)
        boxes = entry.boxes
        if all(entry.size) and image.shape[:2] != entry.size:
            scale = np.array(image.shape[:2], np.float32) / np.array(entry.size, np.float32)
            boxes = boxes * scale[[1, 0, 1, 0]]
        ignore = entry.flags != 0
        return make_sample(
            image,
            boxes,
            np.where(ignore, -1, entry.labels),
            entry.scores,
            ignore,
            unknown=entry.unknown,
            image_id=entry.image_id if isinstance(entry.image_id, int) else index,
            index=index,
        )

    def _partner(self, rng: np.random.Generator, problems: list[str]) -> Sample:
        for _ in range(TRIES):
            try:
                return self.load(int(rng.integers(len(self.data))))
            except BadImageError as error:
                problems.append(str(error))
        raise BadDataError(f"{TRIES} images in a row cannot be read, the last of them: {problems[-1]}")


def _with_policy(data: DetectionData, **policies: str) -> DetectionData:
    """Crowd and difficult boxes dropped, turned into ignore regions, or made ordinary targets."""
    flags, kept = data.flags.copy(), np.ones(data.num_boxes, bool)
    for (name, policy), bit in zip(policies.items(), (CROWD, DIFFICULT)):
        marked = (data.flags & bit) != 0
        if policy == "drop":
            kept &= ~marked | ((data.flags & IGNORE) != 0)
        elif policy == "train":
            flags[marked] &= ~np.uint8(bit)
        elif policy != "ignore":
            raise BadDataError(f"{name}: {policy!r} is none of drop, ignore, train")
    return replace(data, flags=flags).keep_boxes(kept)


def _identity(batch: Any) -> Any:
    return batch
