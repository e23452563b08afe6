"""The card: what every weights file, exported file and run folder says about itself. Plain data, no torch."""

from __future__ import annotations

import binascii
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from detection.config import Count, Share, build, known_keys
from detection.errors import BadWeightsError, MobileSSDError
from detection.ssd.spec import Side, SSDSpec

MARK = 12  # hexadecimal digits of a hash: of a hundred thousand images no two are likely to share them
FORMAT = 1  # raised when a reader of today could misread a card of tomorrow


@dataclass
class Card:
    """Everything needed to run a network and to know where it comes from.

    spec: the `SSDSpec` as plain data (the network, its input and its anchors).
    class_names / category_ids: the object classes in the order of the score columns, and the data set's id of each.
    feature_maps: (height, width) of each map at the spec's input size, so that anchors can be laid without torch.
    score_threshold: the score of best F1, where it was measured; class_thresholds: the same for single classes, by name.
    folded_norms: the batch norms hold trivial statistics (the file they came from had folded them): recalibrate before
    training. metrics: a list of {split, protocol, images, AP, ...}.
    training_images: the first twelve digits of the SHA-256 of each image's file (longer ones are cut); in the file
    they are one text, six bytes each in base64. precision: how the file holds its weights: float32, float16 or int8.
    """

    spec: dict[str, Any]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    feature_maps: Annotated[tuple[tuple[Side, Side], ...], Meta(max_length=64)] = ()
    name: str = ""
    score_threshold: Share | None = None
    class_thresholds: dict[str, Share] | None = None
    folded_norms: bool = False
    licence: str = ""
    attribution: str = ""
    source: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    training_images: tuple[str, ...] = ()
    precision: str = "float32"
    format: Count = FORMAT

    def __post_init__(self) -> None:
        self.training_images = tuple(digits[:MARK] for digits in self.training_images)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        height, width = self.spec["input"]["size"]
        return int(height), int(width)

    def to_json(self) -> str:
        marks = binascii.b2a_base64(bytes.fromhex("".join(self.training_images)), newline=False).decode()
        return json.dumps(asdict(self) | {"training_images": marks}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str, name: str = "card") -> Card:
        """Reads a card; `name` is the file that an error message names. Keys of a later version are passed over.

        A card may be anybody's: types, ranges and the spec are looked at here, before anything is made of them.
        Raises BadWeightsError, one line.
        """
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise ValueError("no keys and values")
            if (version := data.get("format", FORMAT)) > FORMAT:
                raise BadWeightsError(
                    f"{name}: card format {version} is newer than this mobilessd reads ({FORMAT}); update"
                )
            if isinstance(marks := data.get("training_images"), str):
                digits = binascii.a2b_base64(marks).hex()
                data["training_images"] = [digits[i : i + MARK] for i in range(0, len(digits), MARK)]
            if data.get("score_threshold") is not None and math.isnan(data["score_threshold"]):
                data["score_threshold"] = None  # of a run that found nothing
            card = build(Card, known_keys(Card, data))
            columns = SSDSpec.from_dict(card.spec).num_classes
        except BadWeightsError:
            raise
        except (ValueError, TypeError, RecursionError, MobileSSDError) as error:
            raise BadWeightsError(f"{name}: its card cannot be read ({error}); was it written by mobilessd?") from None
        if len(card.class_names) != columns and card.spec:
            raise BadWeightsError(f"{name}: its card names {len(card.class_names)} classes for {columns} columns")
        if len(card.category_ids) not in (0, len(card.class_names)):
            raise BadWeightsError(f"{name}: its card has {len(card.category_ids)} ids for {columns} classes")
        return card
