"""`PostProcessor`: all that turns the raw outputs of a network into detections, made from a card alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.boxes.class_names import ClassNames
from detection.boxes.detections import Detections
from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import DEFAULT_MERGE, MERGES, Merge, PostSettings, postprocess
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
        classes: str | Sequence[str | int] | None = None,
        merge: Merge | None = None,
        *,
        source: str = "",
        anchors: np.ndarray | None = None,
    ) -> PostProcessor:
        """The post-processing of the network that `card` describes.

        score: the score threshold; None: the one of best F1 that stands in the card, else 0.3; "auto": that of each
        class where it stands there, else as None. iou, max_detections: see `PostSettings`. classes: names, or indices, of
        the only classes that are kept. merge: "nms", "vote" or "soft", see `merged`; None: what the card says, else
        `DEFAULT_MERGE`. source: how an error names the weights. anchors: those of the file, where it brings
        its own, rounded as they may be. Raises MobileSSDError, one line, for a class that the card does not have, and for
        numbers out of range.
        """
        spec = spec_of(card, source)
        if anchors is None:
            anchors = anchors_for(spec.anchors, card.feature_maps, spec.input.size, card.anchor_grids)
        ids = None if classes is None else _chosen(card.class_names, classes, source or card.name)
        lowest, by_class = _thresholds(card, score)
        merge = merge or card.merge or DEFAULT_MERGE
        _check(lowest, iou, max_detections, merge)
        settings = PostSettings(lowest, iou, max_detections, None, ids, spec.scores, by_class, merge)
        return cls(anchors, spec.coder, card.class_names, card.category_ids, settings)

    def __call__(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        """Encodings [A, 4] and logits [A, 1 + C] of one image of `image_size` (height, width) -> its detections."""
        size = (int(image_size[0]), int(image_size[1]))
        return postprocess(
            encodings, logits, self.anchors, size, self.class_names, self.settings, self.coder, self.category_ids
        )

    def with_rules(
        self,
        score: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        classes: str | Sequence[str | int] | None = None,
        merge: Merge | None = None,
        owner: str = "detector",
    ) -> PostProcessor:
        """The same with other rules, which are as in `of`; None: stays as it is. score is for all classes alike."""
        settings = self.settings
        if score is not None:
            settings = replace(settings, score=score, class_scores=None)
        if iou is not None:
            settings = replace(settings, iou=iou)
        if max_detections is not None:
            settings = replace(settings, max_detections=max_detections)
        if classes is not None:
            settings = replace(settings, classes=_chosen(self.class_names, classes, owner))
        if merge is not None:
            settings = replace(settings, merge=merge)
        _check(settings.score, settings.iou, settings.max_detections, settings.merge)
        return replace(self, settings=settings)

    def with_score(self, score: float) -> PostProcessor:
        """The same with another score threshold, for all classes."""
        return self.with_rules(score=score)


def _chosen(names: Sequence[str], classes: str | Sequence[str | int], owner: str) -> tuple[int, ...]:
    """The indices of the classes that are to be kept."""
    if not (ids := tuple(ClassNames(names).choose(classes, owner))):
        raise MobileSSDError(f"{owner}: no classes named; leave that out to keep all")
    return ids


def _check(score: Any, iou: Any, max_detections: Any, merge: Any) -> None:
    """Raises MobileSSDError, one line, for a rule out of its range."""
    for name, value in (("score", score), ("iou", iou)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
            raise MobileSSDError(f"{name} is a number from 0 to 1, not {value!r}")
    if isinstance(max_detections, bool) or not hasattr(max_detections, "__index__") or max_detections < 1:
        raise MobileSSDError(f"max_detections is a whole number from 1, not {max_detections!r}")
    if merge not in MERGES:
        raise MobileSSDError(f"merge is {', '.join(MERGES[:-1])} or {MERGES[-1]}, not {merge!r}")


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
