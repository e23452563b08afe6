"""A detector of arrays: uint8 RGB in, detections out, step by step. `detector.Detector` is one that people open by name and
give whatever they hold."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.boxes.anchors import Size
from detection.boxes.detections import Detections
from detection.boxes.postprocess import PostSettings
from detection.errors import MobileSSDError
from detection.postprocessor import PostProcessor
from detection.runtimes.base import Runtime
from detection.runtimes.reopened import Opening, Reopened
from detection.weights.card import Card

if TYPE_CHECKING:
    from typing_extensions import Self

    from detection.views import Plan, View

BATCH = 16  # images that the network sees at once, where there are many

Seen = list[tuple["View | None", np.ndarray]]  # of one image: each view, and uint8 [1, h, w, 3] as its network takes it
Raw = list[tuple["View | None", np.ndarray, np.ndarray]]  # of one image: each view, its encodings and its logits


class ArrayDetector:
    """A card and a runtime at work, with the rules of post-processing: `score`, `iou`, `max_detections`, `classes`, `merge`.

    source: how an error names the weights. opening: how the runtime was opened; without it the detector cannot be pickled,
    used in a forked process, or look at images in several sizes. What a stream asks of a detector is `see`, in any thread,
    then `compute`, then `conclude`.
    """

    def __init__(
        self, card: Card, runtime: Runtime, source: str = "", opening: Opening | None = None, **rules: Any
    ) -> None:
        source = source or card.name
        self.card, self.source = card, source
        self._runtime = Reopened(runtime, opening)
        self._opening, self._views_lock = opening, threading.Lock()
        self._resized: dict[Size, ArrayDetector] = {}
        self.plan: Plan | None = None
        rules = {name: value for name, value in rules.items() if value is not None}
        self._chosen = frozenset(rules)
        self.input_size = card.input_size
        self.postprocessor = PostProcessor.of(card, source=source, anchors=runtime.anchors, **rules)

    @property
    def runtime(self) -> Runtime:
        """What computes the network in this process: float32 encodings and logits of uint8 images; see `Runtime`."""
        return self._runtime.get()

    def with_rules(self, **rules: Any) -> Self:
        """The same detector, runtime shared, with other rules of post-processing: `score`, `iou`, `max_detections`,
        `classes`, `merge`; those that are None, or not given, stay. This one stays as it is."""
        other = copy.copy(self)
        other.postprocessor = self.postprocessor.with_rules(owner=self.source, **rules)
        other._chosen = self._chosen | {name for name, value in rules.items() if value is not None}
        return other

    def with_score(self, score: float) -> Self:
        """The same detector, runtime shared, with another score threshold for all classes; this one stays as it is."""
        return self.with_rules(score=score)

    def with_views(self, views: str | None = None, tiles: str | None = None) -> Self:
        """The same detector, networks shared, that looks at each image in several views. This one stays as it is.

        MobileSSDError, one line, for views that cannot be understood, and for sizes that the weights cannot take."""
        other = copy.copy(self)
        other._look(views, tiles)
        return other

    def _look(self, views: str | None, tiles: str | None) -> None:
        if views is None and tiles is None:
            return
        from detection.views import joined, parse

        text = joined(views, tiles)
        plan = parse(text or "")
        self.plan = None if plan.plain else plan
        if self.plan is not None:
            rules = {name: value for name, value in self.plan.rules().items() if name not in self._chosen}
            self.postprocessor = self.postprocessor.with_rules(**rules)
        for size in plan.sizes(self.input_size):
            self._at(size)

    def _at(self, size: Size) -> ArrayDetector:
        """The detector of this input size, opened when it is first asked for."""
        if size == self.input_size:
            return self
        with self._views_lock:
            if size not in self._resized:
                if self._opening is None:
                    raise MobileSSDError(f"{self.source}: a network at hand has one input size; views need the weights")
                from detection.runtimes.resize import at_size

                weights = at_size(self._opening.weights, size)
                opening = replace(self._opening, weights=weights)
                self._resized[size] = ArrayDetector(weights.card, opening(), weights.source, opening)
            return self._resized[size]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views_lock": None, "_resized": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_views_lock": threading.Lock()}

    @property
    def settings(self) -> PostSettings:
        """The rules of post-processing."""
        return self.postprocessor.settings

    @settings.setter
    def settings(self, settings: PostSettings) -> None:
        self.postprocessor = replace(self.postprocessor, settings=settings)

    @property
    def anchors(self) -> np.ndarray:
        """`cxcywh` float32 [A, 4] in fractions of the input."""
        return self.postprocessor.anchors

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.card.class_names

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """A list of uint8 RGB arrays [H, W, 3] of any sizes -> their detections, in the same order; all at once."""
        raw = self.compute([self.see(image) for image in images])
        return [self.conclude(one, image.shape[:2]) for one, image in zip(raw, images)]

    def see(self, image: np.ndarray) -> Seen:
        """What the network is to see of uint8 RGB [H, W, 3]: the whole image, or each view of it."""
        if self.plan is None:
            return [(None, self.prepare([image]))]
        views = self.plan.views((image.shape[0], image.shape[1]), self.input_size)
        return [(view, view.pixels(image)[None]) for view in views]

    def compute(self, seen: Sequence[Seen]) -> list[Raw]:
        """The network over several images, all views of one size together -> the raw outputs of each image.

        One image with one view a size goes size by size, each with all threads: side by side, one thread each, 300,512 took
        1.9 times as long (medians of 60 in turns, float32, a quiet AMD EPYC with two cores)."""
        if not seen:
            return []
        if self.plan is None:
            encodings, logits = self.runtime(np.concatenate([pixels for ((_, pixels),) in seen]))
            return [[(None, e, s)] for e, s in zip(encodings, logits)]
        raw: list[Raw] = [[] for _ in seen]
        begun = []  # the largest, which take longest, first; those of other sizes run beside them
        for size in sorted(self.plan.sizes(self.input_size), reverse=True):
            mine = [
                (k, view, pixels) for k, one in enumerate(seen) for view, pixels in one if view and view.size == size
            ]
            for start in range(0, len(mine), BATCH):
                part = mine[start : start + BATCH]
                begun.append((part, self._at(size).runtime.begin(np.concatenate([pixels for _, _, pixels in part]))))
        for part, outputs in begun:
            for (k, view, _), e, s in zip(part, *outputs()):
                raw[k].append((view, e, s))
        return raw

    def streams(self) -> int:
        """How many images at a time `compute_alone` is best called with; 0 where `compute` with a batch is the better way."""
        size = self.input_size if self.plan is None else max(self.plan.sizes(self.input_size))
        return self._at(size).runtime.streams()

    def compute_alone(self, seen: Seen) -> Raw:
        """What `compute` gives of one image among several, in one thread: for `streams` of them at a time."""
        networks = [(view, self if view is None else self._at(view.size), pixels) for view, pixels in seen]
        return [(view, *(part[0] for part in network.runtime.in_stream(pixels))) for view, network, pixels in networks]

    def conclude(self, raw: Raw, image_size: tuple[int, ...]) -> Detections:
        """Raw outputs of one image of (height, width), of all its views -> detections in its pixels."""
        if self.plan is None:
            ((_, encodings, logits),) = raw
            return self.finish(encodings, logits, image_size)
        from detection.views import merge_views, of_one_view

        settings = of_one_view(self.settings)
        found = []
        for view, encodings, logits in raw:
            assert view is not None
            post = replace(self.postprocessor, anchors=self._at(view.size).anchors, settings=settings)
            found.append(post(encodings, logits, (1, 1)))
        height, width = image_size[:2]
        return merge_views([view for view, _, _ in raw if view], found, self.settings, (int(height), int(width)))

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images of any sizes -> one uint8 batch [N, h, w, 3] at the network's input size."""
        from detection.images.preprocess import to_batch  # OpenCV is imported while the network compiles

        return to_batch(images, self.input_size)

    def finish(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        """Raw outputs of one image [A, 4], [A, K] -> detections in its pixels."""
        return self.postprocessor(encodings, logits, image_size)
