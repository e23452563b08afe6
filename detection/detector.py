"""The one door for people who write Python: `Detector(name_or_path)(image) -> Detections`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from detection.array_detector import BATCH, ArrayDetector
from detection.boxes.detections import Detections
from detection.boxes.postprocess import Merge
from detection.errors import MobileSSDError, nearest
from detection.runtimes.base import Runtime
from detection.runtimes.reopened import Opening
from detection.weights.card import Card
from detection.weights.resolve import open_weights

if TYPE_CHECKING:
    from detection.images.inputs import ImageInput

Image = Any  # what `detection.images.inputs.pixels_of` takes
Classes = str | Sequence[str | int]

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


class Detector(ArrayDetector):
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
        super().__init__(opened.card, opening(), opened.source, opening, **rules)
        self._look(views, tiles)

    @classmethod
    def of(
        cls, card: Card, runtime: Runtime, source: str = "", opening: Opening | None = None, **rules: Any
    ) -> Detector:
        """A detector of a card and a runtime at hand (a network in training), with the rules of post-processing.

        opening: how the runtime was opened; without it the detector cannot be pickled, used in a forked process, or look
        at images in several sizes."""
        detector = cls.__new__(cls)
        ArrayDetector.__init__(detector, card, runtime, source, opening, **rules)
        return detector

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
