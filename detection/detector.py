"""The one door for people who write Python: `Detector(name_or_path)(image) -> Detections`."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.postprocess import PostSettings
from detection.errors import BadImageError, MobileSSDError
from detection.postprocessor import PostProcessor
from detection.runtimes.base import Runtime
from detection.runtimes.open import open_runtime
from detection.weights.card import Card
from detection.weights.resolve import open_weights

Image = Any  # a path, or an array [H, W, 3]


class Detector:
    """A detector at work.

    name_or_path: a zoo name, or a file of any kind known (.safetensors, .tflite, TF.js model.json or its folder, .xml,
    .onnx); None for the default weights. device: auto, cpu, cuda, mps. runtime: auto, torch, openvino, onnxruntime,
    litert. precision: auto, float32, bfloat16, float16, int8. threads: None for as many as there are cores.
    score, iou, max_detections, classes (names): the rules of post-processing; score None: the threshold of best F1 that
    stands in the weights' card, else 0.3; "auto": that of each class where it stands there, else as None.

    Calling it is safe from several threads. Raises MobileSSDError, one line, where weights or runtime cannot be had.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        score: float | Literal["auto"] | None = None,
        iou: float = 0.6,
        max_detections: int = 100,
        classes: Sequence[str] | None = None,
    ) -> None:
        weights = open_weights(name_or_path)
        rules: dict[str, Any] = {"score": score, "iou": iou, "max_detections": max_detections, "classes": classes}
        self._set_up(weights.card, open_runtime(weights, runtime, device, precision, threads), weights.source, rules)

    @classmethod
    def of(cls, card: Card, runtime: Runtime, source: str = "", **rules: Any) -> Detector:
        """A detector of a card and a runtime at hand (a network in training), with the rules of post-processing."""
        detector = cls.__new__(cls)
        detector._set_up(card, runtime, source or card.name, rules)
        return detector

    def _set_up(self, card: Card, runtime: Runtime, source: str, rules: dict[str, Any]) -> None:
        self.card, self.runtime, self.source = card, runtime, source
        self.input_size = card.input_size
        self.postprocessor = PostProcessor.of(card, source=source, anchors=runtime.anchors, **rules)

    def with_score(self, score: float) -> Detector:
        """The same detector, runtime shared, with another score threshold for all classes; this one stays as it is."""
        other = copy.copy(self)
        other.postprocessor = self.postprocessor.with_score(score)
        return other

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

    @overload
    def __call__(self, images: str | os.PathLike | np.ndarray, color: str = "rgb") -> Detections: ...
    @overload
    def __call__(self, images: Sequence[Image], color: str = "rgb") -> list[Detections]: ...

    def __call__(self, images: Image | Sequence[Image], color: str = "rgb") -> Detections | list[Detections]:
        """One image or a list of them: paths, or uint8 arrays [H, W, 3] in RGB (`color="bgr"` for OpenCV frames)."""
        if isinstance(images, (str, os.PathLike, np.ndarray)):
            return self.detect_batch([self._read(images, color)])[0]
        return self.detect_batch([self._read(image, color) for image in images])

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """A list of uint8 RGB arrays [H, W, 3] of any sizes -> their detections, in the same order."""
        if not images:
            return []
        encodings, logits = self.runtime(self.prepare(images))
        return [self.finish(e, s, image.shape[:2]) for e, s, image in zip(encodings, logits, images)]

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images of any sizes -> one uint8 batch [N, h, w, 3] at the network's input size."""
        from detection.images.preprocess import to_batch  # OpenCV is imported while the network compiles

        return to_batch(images, self.input_size)

    def finish(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        """Raw outputs of one image [A, 4], [A, K] -> detections in its pixels."""
        return self.postprocessor(encodings, logits, image_size)

    def _read(self, image: Image, color: str) -> np.ndarray:
        from detection.images.decode import read_image

        if color not in ("rgb", "bgr"):
            raise MobileSSDError(f"color is rgb or bgr, not {color!r}")
        if isinstance(image, (str, os.PathLike)):
            return read_image(image)
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise BadImageError(f"an image is a path or a uint8 array [height, width, 3], not {what}")
        return image[..., ::-1] if color == "bgr" else image
