"""`PostProcessor`: all that turns the raw outputs of a network into detections, made from a card alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.boxes.class_names import ClassNames
from detection.boxes.detections import Detections
from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import PostSettings, postprocess
from detection.errors import MobileSSDError
from detection.weights.card import Card
from detection.weights.card_check import spec_of

DEFAULT_SCORE = 0.3  # where neither the user nor the card names a score threshold


@dataclass(frozen=True)
class PostProcessor:
    """Raw outputs of one image -> detections in its pixels. It needs no runtime.

    anchors: float32 [A, 4] `cxcywh`, fractions of the input. category_ids: the data set's id of each class.
    """

    anchors: np.ndarray
    coder: BoxCoder
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    settings: PostSettings

    @classmethod
    def of(
        cls,
        card: Card,
        score: float | Literal["auto"] | None = None,
        iou: float = 0.6,
        max_detections: int = 100,
        classes: Sequence[str] | None = None,
        *,
        source: str = "",
        anchors: np.ndarray | None = None,
    ) -> PostProcessor:
        """The post-processing of the network that `card` describes.

        score: the score threshold; None: the one of best F1 that stands in the card, else 0.3; "auto": that of each
        class where it stands there, else as None. iou, max_detections: see `PostSettings`. classes: names of the only
        classes that are kept. source: how an error names the weights. anchors: those of the file, where it brings its
        own, rounded as they may be. Raises MobileSSDError, one line, for a class that the card does not have.
        """
        spec = spec_of(card, source)
        if anchors is None:
            anchors = anchors_for(spec.anchors, card.feature_maps, spec.input.size, card.anchor_grids)
        ids = None if classes is None else tuple(ClassNames(card.class_names).choose(classes, source or card.name))
        lowest, by_class = _thresholds(card, score)
        settings = PostSettings(lowest, iou, max_detections, None, ids, spec.scores, by_class)
        return cls(anchors, spec.coder, card.class_names, card.category_ids, settings)

    def __call__(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        """Encodings [A, 4] and logits [A, 1 + C] of one image of `image_size` (height, width) -> its detections."""
        size = (int(image_size[0]), int(image_size[1]))
        return postprocess(
            encodings, logits, self.anchors, size, self.class_names, self.settings, self.coder, self.category_ids
        )

    def with_score(self, score: float) -> PostProcessor:
        """The same with another score threshold, for all classes."""
        return replace(self, settings=replace(self.settings, score=score, class_scores=None))


def _thresholds(card: Card, score: float | str | None) -> tuple[float, tuple[float, ...] | None]:
    """(score threshold, that of each class or None) from what was asked for and what the card knows."""
    if isinstance(score, str) and score != "auto":
        raise MobileSSDError(f'score is a number from 0 to 1 or "auto", not {score!r}')
    if score is not None and not isinstance(score, str):
        return score, None
    usual = card.score_threshold if card.score_threshold is not None else DEFAULT_SCORE
    if score is None or not card.class_thresholds:
        return usual, None
    by_class = tuple(card.class_thresholds.get(name, usual) for name in card.class_names)
    return min(by_class), by_class
