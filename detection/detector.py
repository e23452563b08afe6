"""The one door for people who write Python: `Detector(name_or_path)(image) -> Detections`."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from detection.boxes.anchors import Size
from detection.boxes.detections import Detections
from detection.boxes.postprocess import Merge, PostSettings
from detection.errors import MobileSSDError, nearest
from detection.postprocessor import PostProcessor
from detection.runtimes.base import Runtime
from detection.runtimes.reopened import Opening, Reopened
from detection.weights.card import Card
from detection.weights.resolve import open_weights

if TYPE_CHECKING:
    from detection.images.inputs import ImageInput
    from detection.views import Plan, View

BATCH = 16  # images that the network sees at once, where there are many

Image = Any  # what `detection.images.inputs.pixels_of` takes
Classes = str | Sequence[str | int]

Seen = list[tuple["View | None", np.ndarray]]  # of one image: each view, and uint8 [1, h, w, 3] as its network takes it
Raw = list[tuple["View | None", np.ndarray, np.ndarray]]  # of one image: each view, its encodings and its logits

# Words for our options that other programs and older versions have: the same thing, or what to say.
SAME = {"name_or_path": "weights", "max_det": "max_detections"}
ELSEWHERE = {
    "model": "weights",
    "conf": "score",
    "confidence": "score",
    "threshold": "score",
    "nms": "iou",
    "imgsz": "input_size",
}


class Detector:
    """A detector at work.

    weights: a zoo name, or a file of any kind known (.safetensors, .tflite, TF.js model.json or its folder, .xml,
    .onnx); None for the bundled weights. device: auto, cpu, cuda, mps. runtime: auto, torch, openvino, onnxruntime,
    litert. precision: auto (what the file holds), float32, bfloat16, float16, int8 (an
    int8 file, or the bundled weights, which have such a form). threads: None for as many as there are cores.
    score, iou, max_detections, classes (names, or their places in `class_names`): the rules of post-processing; score
    None: the threshold of best F1 that stands in the weights' card, else 0.3; "auto": that of each class where it stands
    there, else as None. merge: what overlapping boxes of one class become: "nms", "vote" or "soft"
    (`boxes.postprocess.merged`); None: what the weights' card says, else "vote". max_detections: of an image; None: 100,
    with tiles at the network's own scale 1,000. input_size: pixels, or (height, width),
    of the network; None for the weights' own. views: several scales or tiles of each image, as in "300,512" or "2x2"
    (`detection.views`); tiles: a grid beside the whole image, as in "2x2". The options are those of the command
    `mobilessd detect`, by the same names.

    Calling it is safe from several threads. It can be pickled; a process that it is sent to, or that is forked, opens its
    own network when it first needs it. Raises MobileSSDError, one line, where weights or runtime cannot be had, or an
    option is unknown or out of range.
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        score: float | Literal["auto"] | None = None,
        iou: float = 0.6,
        max_detections: int | None = None,
        classes: Classes | None = None,
        input_size: int | tuple[int, int] | None = None,
        views: str | None = None,
        tiles: str | None = None,
        merge: Merge | None = None,
        **others: Any,
    ) -> None:
        for name, value in others.items():
            if name == "name_or_path":
                weights = value
            elif name == "max_det":
                max_detections = value
            else:
                raise MobileSSDError(_no_option(name))
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise MobileSSDError(f"threads is a whole number from 1, not {threads!r}")
        opened = open_weights(weights).in_precision(precision)
        if input_size is not None:
            from detection.runtimes.resize import at_size  # only where somebody asks for another size

            opened = at_size(opened, input_size)
        rules: dict[str, Any] = {"score": score, "iou": iou, "max_detections": max_detections, "classes": classes}
        rules["merge"] = merge
        opening = Opening(opened, runtime, device, precision, threads)
        self._set_up(opened.card, opening(), opened.source, rules, opening)
        self._look(views, tiles)

    @classmethod
    def of(
        cls, card: Card, runtime: Runtime, source: str = "", opening: Opening | None = None, **rules: Any
    ) -> Detector:
        """A detector of a card and a runtime at hand (a network in training), with the rules of post-processing.

        opening: how the runtime was opened; without it the detector cannot be pickled, used in a forked process, or look
        at images in several sizes."""
        detector = cls.__new__(cls)
        detector._set_up(card, runtime, source or card.name, rules, opening)
        return detector

    def _set_up(
        self, card: Card, runtime: Runtime, source: str, rules: dict[str, Any], opening: Opening | None = None
    ) -> None:
        self.card, self.source = card, source
        self._runtime = Reopened(runtime, opening)
        self._opening, self._views_lock = opening, threading.Lock()
        self._resized: dict[Size, Detector] = {}
        self.plan: Plan | None = None
        rules = {name: value for name, value in rules.items() if value is not None}
        self._chosen = frozenset(rules)
        self.input_size = card.input_size
        self.postprocessor = PostProcessor.of(card, source=source, anchors=runtime.anchors, **rules)

    @property
    def runtime(self) -> Runtime:
        """What computes the network in this process: float32 encodings and logits of uint8 images; see `Runtime`."""
        return self._runtime.get()

    def with_rules(self, **rules: Any) -> Detector:
        """The same detector, runtime shared, with other rules of post-processing: `score`, `iou`, `max_detections`,
        `classes`, `merge`; those that are None, or not given, stay. This one stays as it is."""
        other = copy.copy(self)
        other.postprocessor = self.postprocessor.with_rules(owner=self.source, **rules)
        other._chosen = self._chosen | {name for name, value in rules.items() if value is not None}
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views_lock": None, "_resized": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_views_lock": threading.Lock()}

    def with_views(self, views: str | None = None, tiles: str | None = None) -> Detector:
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

    def _at(self, size: Size) -> Detector:
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
                other = Detector.__new__(Detector)
                other._set_up(weights.card, opening(), weights.source, {}, opening)
                self._resized[size] = other
            return self._resized[size]

    def with_score(self, score: float) -> Detector:
        """The same detector, runtime shared, with another score threshold for all classes; this one stays as it is."""
        return self.with_rules(score=score)

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

    def __str__(self) -> str:
        return f"{self.source} with {self.runtime}"

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"<Detector {self.source}, {len(self.class_names)} classes, {height} x {width} pixels, {self.runtime}>"

    @overload  # a name may mean several images: a folder, a pattern, a video give a list
    def __call__(
        self, images: str | os.PathLike | bytes | np.ndarray, color: str = "rgb", **rules: Any
    ) -> Detections: ...
    @overload
    def __call__(self, images: Iterable[Image], color: str = "rgb", **rules: Any) -> list[Detections]: ...
    @overload
    def __call__(self, images: Any, color: str = "rgb", **rules: Any) -> Any: ...

    def __call__(
        self,
        images: Any,
        color: str = "rgb",
        *,
        score: float | None = None,
        classes: Classes | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        views: str | None = None,
        tiles: str | None = None,
        merge: Merge | None = None,
        **others: Any,
    ) -> Any:
        """One image -> its detections; several -> a list of them, in order.

        One image: a path or an address, the bytes of an image file, a Pillow image, an array [H, W, C] (uint8, 16 bits or
        float 0..1; grey, RGB or RGBA; `color="bgr"` for OpenCV's frames), a torch tensor [C, H, W]. Several: a list, tuple or
        generator of such; a batch [N, H, W, C] or, in torch, [N, C, H, W]; a folder, a pattern such as `shots/*.jpg`, a
        video, a .txt with a name a line. The network sees 16 of them at once, however long the list is.
        score, classes, iou, max_detections, views, tiles, merge: of this call alone; None for the detector's own.

        What cannot be read raises BadImageError, one line; where it came out of a folder, pattern or list file it is a
        warning and left out. A list remembers the images that the caller holds, not those of generators and videos:
        `stream` is for these.
        """
        from detection.images.given import one_of  # OpenCV is imported while the network compiles

        if others:
            raise MobileSSDError(_no_option(next(iter(others)), call=True))
        detector = self._ruled(score, classes, iou, max_detections, views, tiles, merge)
        one = one_of(images, color)
        if one is not None:
            return replace(detector.detect_batch([one.pixels()])[0], origin=one)
        held = isinstance(images, (Sequence, np.ndarray)) or hasattr(images, "shape")
        found = []
        for detections in detector.stream(images, color):
            origin = detections.origin
            if not held and origin is not None and origin.in_memory:
                detections = replace(detections, origin=origin.forgotten())
            found.append(detections)
        return found

    def stream(
        self,
        source: Any,
        color: str = "rgb",
        *,
        score: float | None = None,
        classes: Classes | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        views: str | None = None,
        tiles: str | None = None,
        merge: Merge | None = None,
        batch: int = BATCH,
    ) -> Iterator[Detections]:
        """The detections of each image of `source` as they are found, in order, in memory that does not grow.

        source, color and the rules: as in a call; one image is a stream of one. batch: images that the network sees at
        once. Images are decoded and finished in threads; a generator is read a few batches ahead. What cannot be read is as
        in a call: raised where it would have come, or a warning and left out. Whoever needs errors as items takes
        `detection.stream.detect_stream`. To stop early, close the iterator or drop it.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise MobileSSDError(f"batch is a whole number from 1, not {batch!r}")
        if color not in ("rgb", "bgr"):
            raise MobileSSDError(f"color is rgb or bgr, not {color!r}")
        return self._ruled(score, classes, iou, max_detections, views, tiles, merge)._stream(source, color, batch)

    def _stream(self, source: Any, color: str, batch: int) -> Iterator[Detections]:
        from detection.images.given import each_of, leave_out
        from detection.images.inputs import address_or_pixels
        from detection.stream import detect_stream

        images: Iterator[ImageInput] = each_of(source, color)
        with closing(detect_stream(self, images, address_or_pixels, batch=batch)) as stream:
            for one in stream:
                if one.detections is not None:
                    yield replace(one.detections, origin=one.item)
                elif one.item.named:
                    assert one.error is not None
                    raise one.error
                else:
                    assert one.error is not None
                    leave_out(one.error)

    def _ruled(
        self, score: Any, classes: Any, iou: Any, max_detections: Any, views: Any, tiles: Any, merge: Any
    ) -> Detector:
        rules = {"score": score, "classes": classes, "iou": iou, "max_detections": max_detections, "merge": merge}
        found = self if all(value is None for value in rules.values()) else self.with_rules(**rules)
        return found if views is None and tiles is None else found.with_views(views, tiles)

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
        """The network over several images, all views of one size together -> the raw outputs of each image."""
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


RULES = ("score", "iou", "max_detections", "classes", "views", "tiles", "merge")
OPTIONS = ("weights", "device", "runtime", "precision", "threads", *RULES, "input_size")


def _no_option(name: str, call: bool = False) -> str:
    """What to say of an option that there is not."""
    known = ("color", *RULES) if call else OPTIONS
    ours = ELSEWHERE.get(name) or SAME.get(name)
    near = [ours] if ours in known else nearest(name, known)
    hint = (
        f"that is {near[0]} here"
        if ours in known
        else f"nearest: {near[0]}"
        if near
        else f"there are {', '.join(known)}"
    )
    return f"{'a call of a Detector' if call else 'Detector'} has no option {name!r}; {hint}"
