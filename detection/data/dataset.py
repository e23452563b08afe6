"""One form for every data set in memory: a few flat arrays, so that workers share it and 118k images cost little.

A hundred thousand small Python objects would be copied into every worker page by page (their reference counts are
written when they are read); the arrays here are never written, so forked workers share them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from detection.boxes.class_names import ClassNames, without_doubles
from detection.data.faults import Faults
from detection.data.ids import Id
from detection.errors import BadDataError, some

CROWD, DIFFICULT, IGNORE = 1, 2, 4  # bits of `flags`
UNKNOWN_LABEL = -1  # the label of a box whose class is not in the list of classes


class PathTable:
    """Many paths as one block of bytes [.] and offsets int64 [P + 1]; `table[i]` is the i-th as text."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray):
        self.blob, self.offsets = blob, offsets

    @staticmethod
    def of(paths: Iterable[str | os.PathLike]) -> PathTable:
        encoded = [os.fsencode(path) for path in paths]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(path) for path in encoded], out=offsets[1:])
        return PathTable(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Image:
    """A small view of one image of a data set. boxes float32 [n, 4] xyxy in pixels; see `DetectionData`."""

    index: int
    path: str
    image_id: Id
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    flags: np.ndarray
    unknown: np.ndarray


@dataclass(frozen=True)
class DetectionData:
    """A data set of P images and B boxes. Boxes of image i are rows `starts[i] : starts[i + 1]`.

    class_names: the classes 0..C-1, no two of one name; category_ids: the data set's own id of each; other_ids: further
    ids of a class, where the data set has it twice. paths: the image files, "" where the data set names none.
    sizes int32 [P, 2]: (height, width) as annotated, (0, 0) where unknown; after repair, as decoded, EXIF applied.
    image_ids int64 [P]: the data set's own ids (COCO; objects where some are texts), else made up. starts int64 [P + 1].
    boxes float32 [B, 4]: xyxy pixels, far edges exclusive. labels int32 [B]: -1 where the class is not in the list.
    exact float64 [B, 4]: the same as the data set has them, xywh and not clipped by rounding, for evaluation to the last
    digit. areas float64 [B]: as annotated (of a segmentation, say), else those of the boxes.
    scores float32 [B]: 1 for real labels, a teacher's confidence for pseudo-labels.
    flags uint8 [B]: CROWD | DIFFICULT | IGNORE. None of the three is a training target by default; an IGNORE region
    says that nothing is known about that part of the image.
    unknown bool [G, C]: classes that a data set does not annotate, so that they must never count as background there;
    groups int32 [P]: the row of `unknown` of each image.
    left_out: ids of images that repair left out. names: the images' names in the data set (COCO's file_name); None: those
    of the files, see `file_names`.
    faults: what the reader stumbled over. source: the format; origin: what was opened, for messages.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[Id, ...]
    paths: PathTable
    sizes: np.ndarray
    image_ids: np.ndarray
    boxes: np.ndarray
    exact: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    flags: np.ndarray
    starts: np.ndarray
    groups: np.ndarray
    unknown: np.ndarray
    other_ids: Mapping[Id, int] = field(default_factory=dict)
    left_out: tuple[Id, ...] = ()
    names: PathTable | None = None
    source: str = ""
    origin: str = ""
    faults: Faults = field(default_factory=Faults)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_boxes(self) -> int:
        return len(self.boxes)

    @property
    def unknown_classes(self) -> tuple[str, ...]:
        """Names of the classes that some part of this data set does not annotate."""
        return tuple(np.array(self.class_names, object)[self.unknown.any(0)]) if len(self.unknown) else ()

    @property
    def targets(self) -> np.ndarray:
        """bool [B]: the boxes that are training targets by default: a known class, no flag."""
        return (self.flags == 0) & (self.labels >= 0)

    def owners(self) -> np.ndarray:
        """int64 [B]: the image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def path(self, index: int) -> str:
        return self.paths[index]

    def described(self, index: int) -> str:
        """The path of an image for a message; its id where it has none."""
        return self.paths[index] or f"{self.origin}: image {self.image_ids[index]}"

    def file_names(self) -> list[str]:
        """The name of each image in the data set; where it has none, its path below the folder that all share."""
        if self.names is not None:
            return list(self.names)
        paths = list(self.paths)
        folders = {os.path.dirname(path) for path in paths}
        try:
            shared = os.path.join(os.path.commonpath(folders), "") if folders else ""
        except ValueError:  # some absolute, some not
            shared = ""
        return [path[len(shared) :] for path in paths]

    def numeric_ids(self) -> tuple[int, ...]:
        """The ids of the classes for a weights file, which holds numbers: 1, 2, ... where the data set has texts."""
        if all(isinstance(one, int) for one in self.category_ids):
            return tuple(int(one) for one in self.category_ids)
        return tuple(range(1, len(self.class_names) + 1))

    def corners(self) -> np.ndarray:
        """float64 [B, 4]: the exact boxes as xyxy."""
        with np.errstate(invalid="ignore", over="ignore"):  # faulty boxes are the business of repair
            return to_corners(self.exact)

    def with_corners(self, corners: np.ndarray, changed: np.ndarray) -> DetectionData:
        """The same with other boxes, float64 [B, 4] xyxy; rows that are not `changed` (bool [B]) stay exact."""
        exact = self.exact.copy()
        exact[changed] = to_xywh(corners[changed])
        return replace(self, boxes=corners.astype(np.float32), exact=exact)

    def image(self, index: int) -> Image:
        """Image `index` (0..P-1); its arrays are views, not copies."""
        rows = slice(int(self.starts[index]), int(self.starts[index + 1]))
        height, width = self.sizes[index]
        return Image(
            index=int(index),
            path=self.paths[index],
            image_id=self.image_ids[index : index + 1].tolist()[0],
            size=(int(height), int(width)),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            areas=self.areas[rows],
            flags=self.flags[rows],
            unknown=self.unknown[self.groups[index]],
        )

    def subset(self, images: Sequence[int] | np.ndarray) -> DetectionData:
        """The images with these indices (or of this boolean mask [P]), in the order given."""
        chosen = np.asarray(images)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        counts = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], counts)
        return replace(
            self._with_rows(rows),
            paths=PathTable.of(self.paths[i] for i in chosen.tolist()),
            sizes=self.sizes[chosen],
            names=self.names and PathTable.of(self.names[i] for i in chosen.tolist()),
            image_ids=self.image_ids[chosen],
            groups=self.groups[chosen],
            starts=starts,
        )

    def keep_boxes(self, mask: np.ndarray) -> DetectionData:
        """All images, but only the boxes of the boolean mask [B]."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return replace(self._with_rows(np.flatnonzero(mask)), starts=kept[self.starts].astype(np.int64))

    def in_every_class(self) -> DetectionData:
        """The same where each IGNORE region without a class is one of every class, and no other box is without one: for
        programs that know regions of a class only."""
        regions = np.flatnonzero((self.labels < 0) & ((self.flags & IGNORE) != 0))
        classed = np.flatnonzero(self.labels >= 0)
        classes = len(self.class_names)
        rows = np.concatenate([classed, np.repeat(regions, classes)])
        owners = self.owners()[rows]
        order = np.argsort(owners, kind="stable")
        labels = np.concatenate([self.labels[classed], np.tile(np.arange(classes, dtype=np.int32), len(regions))])
        starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(self)))]).astype(np.int64)
        return replace(self._with_rows(rows[order]), labels=labels[order], starts=starts)

    def split(self, share: float, seed: int = 0) -> tuple[DetectionData, DetectionData]:
        """(the rest, a random `share` of the images), the same for the same seed; at least one image in each."""
        if len(self) < 2:
            raise BadDataError(f"{self.origin}: one image cannot be split into training and selection; give --val")
        held = min(max(round(len(self) * share), 1), len(self) - 1)
        order = np.random.default_rng((seed, 0x5917)).permutation(len(self))
        return self.subset(np.sort(order[held:])), self.subset(np.sort(order[:held]))

    def class_counts(self) -> np.ndarray:
        """int64 [C]: how many boxes (flagged ones left out) each class has."""
        return np.bincount(self.labels[self.targets], minlength=len(self.class_names))

    def declare_unknown(self, names: Iterable[str]) -> DetectionData:
        """The same data, with these classes marked as not annotated in any of its images."""
        unknown = self.unknown.copy()
        unknown[:, ClassNames(self.class_names).choose(names, self.origin, BadDataError)] = True
        return replace(self, unknown=unknown)

    def with_classes(self, class_names: Sequence[str], category_ids: Sequence[Id] | None = None) -> DetectionData:
        """The same data in another list of classes, matched by name as `boxes.class_names` says.

        Boxes of a class that is not in the list get the label -1 and are counted as faults. A class of the list that
        this data set does not have is unknown in it, not background. Raises BadDataError if no class is in common, or
        one is asked for twice.
        """
        once, place = without_doubles(class_names)
        if len(once) < len(class_names):
            twice = next(name for i, name in enumerate(class_names) if place[i] in place[:i])
            raise BadDataError(f"{self.origin}: class {twice!r} is asked for twice; name each class once")
        known, by_name = ClassNames(class_names), {name: i for i, name in enumerate(class_names)}
        new = [
            by_name[name] if name in by_name else (known.find(name) or [UNKNOWN_LABEL])[0] for name in self.class_names
        ]
        if max(new, default=UNKNOWN_LABEL) < 0:
            raise BadDataError(
                f"{self.origin}: none of its classes ({some(self.class_names, 6)}) is among those asked for "
                f"({some(class_names, 6)}); map them by name or leave the list of classes away"
            )
        table = np.array([*new, UNKNOWN_LABEL], np.int32)  # the last is reached by label -1
        faults = self.faults.merged()
        for old, name in enumerate(self.class_names):
            if new[old] < 0 and (count := int((self.labels == old).sum())):
                faults.add("unknown class", f"{self.origin}: class {name!r}, {count} boxes", count)
        unknown = np.ones((len(self.unknown), len(class_names)), bool)
        for old, position in enumerate(new):
            if position >= 0:
                unknown[:, position] &= self.unknown[:, old]
        ids = tuple(category_ids) if category_ids is not None else self._ids_of(class_names, new)
        labels = table[self.labels]
        others = {identity: new[old] for identity, old in self.other_ids.items() if new[old] >= 0}
        return replace(
            self,
            class_names=tuple(class_names),
            category_ids=ids,
            other_ids=others,
            labels=labels,
            unknown=unknown,
            faults=faults,
        )

    def _ids_of(self, class_names: Sequence[str], new: list[int]) -> tuple[Id, ...]:
        ids = {position: self.category_ids[old] for old, position in enumerate(new) if position >= 0}
        free = iter(i for i in range(1, len(class_names) + len(ids) + 1) if i not in set(ids.values()))
        return tuple(ids[i] if i in ids else next(free) for i in range(len(class_names)))

    def _with_rows(self, rows: np.ndarray) -> DetectionData:
        """Boxes reordered; the caller must set `starts`."""
        return replace(
            self,
            boxes=self.boxes[rows],
            exact=self.exact[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            areas=self.areas[rows],
            flags=self.flags[rows],
        )


def to_xywh(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)


def to_corners(xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
