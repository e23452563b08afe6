"""The card: what every weights file, exported file and run folder says about itself. Plain data, no torch."""

from __future__ import annotations

import binascii
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from detection.boxes.anchors import PIXELS
from detection.boxes.postprocess import Merge
from detection.errors import BadWeightsError

MARK = 12  # hexadecimal digits of a hash: of a hundred thousand images no two are likely to share them
LARGEST = 1 << 24  # characters of a card: one of a million training images has 8,000,000
FORMAT = 1  # raised when a reader of today could misread a card of tomorrow


@dataclass
class Card:
    """Everything needed to run a network and to know where it comes from.

    spec: the `SSDSpec` as plain data (the network, its input and its anchors).
    class_names / category_ids: the object classes in the order of the score columns, and the data set's id of each.
    feature_maps: (height, width) of each map at the spec's input size, so that anchors can be laid without torch.
    anchor_grids: of each map the anchors' centres in pixels, first cell (y, x) and steps (y, x), where they follow the
    network because the weights were trained at another input size (`ssd.network.anchor_grids`); else none.
    score_threshold: the score of best F1, where it was measured; class_thresholds: the same for single classes, by name.
    merge: what overlapping boxes become where nobody says it (`PostSettings.merge`); published networks have "nms", by which
    their published figures were measured; None: `DEFAULT_MERGE`.
    folded_norms: the batch norms hold trivial statistics (the file they came from had folded them): recalibrate before
    training. metrics: a list of {split, protocol, images, AP, ...}.
    training_images: the first twelve digits of the SHA-256 of each image's file (longer ones are cut); in the file
    they are one text, six bytes each in base64. notes: what a person has to know who uses the weights, a line each.
    precision: how the file holds its weights: float32, float16 or int8. interface: how a file made for another system is
    fed and read, a name of `runtimes.interfaces.INTERFACES`; empty for one with our own input and outputs.
    """

    spec: dict[str, Any]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    feature_maps: tuple[tuple[int, int], ...] = ()
    anchor_grids: tuple[tuple[float, float, float, float], ...] = ()
    name: str = ""
    score_threshold: float | None = None
    class_thresholds: dict[str, float] | None = None
    merge: Merge | None = None
    folded_norms: bool = False
    licence: str = ""
    attribution: str = ""
    source: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    training_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    precision: str = "float32"
    interface: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        self.training_images = tuple(digits[:MARK] for digits in self.training_images)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels. Raises BadWeightsError where the spec has none, or one that no
        network has."""
        try:
            height, width = map(int, self.spec["input"]["size"])
        except (LookupError, TypeError, ValueError, OverflowError):
            raise BadWeightsError(f"{self.name or 'card'}: its card has no input size") from None
        if min(height, width) < 1 or height * width > PIXELS:
            raise BadWeightsError(f"{self.name or 'card'}: its card has an input of {height} x {width} pixels")
        return height, width

    def to_json(self) -> str:
        marks = binascii.b2a_base64(bytes.fromhex("".join(self.training_images)), newline=False).decode()
        return json.dumps(asdict(self) | {"training_images": marks}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str, name: str = "card") -> Card:
        """Reads a card; `name` is the file that an error message names. Keys of a later version are passed over.

        What it says is looked at by `card_check.spec_of`. Raises BadWeightsError, one line, for what is no card, or has
        other numbers of names, ids and columns.
        """
        if len(text) > LARGEST:
            raise BadWeightsError(f"{name}: its card has {len(text):,} characters, more than any ({LARGEST:,})")
        try:
            data = json.loads(text)
            if (version := data.get("format", FORMAT)) > FORMAT:
                raise BadWeightsError(
                    f"{name}: card format {version} is newer than this mobilessd reads ({FORMAT}); update"
                )
            if isinstance(marks := data.get("training_images"), str):
                digits = binascii.a2b_base64(marks).hex()
                data["training_images"] = [digits[i : i + MARK] for i in range(0, len(digits), MARK)]
            known = {f.name for f in fields(Card)}
            card = Card(**{key: value for key, value in data.items() if key in known})
            # The rest is looked at later, by `card_check`; `interface` tells how a file is opened at all.
            if wrong := [
                f.name for f in fields(Card) if f.type == "str" and not isinstance(getattr(card, f.name), str)
            ]:
                raise TypeError(f"{wrong[0]} is no text")
            card.class_names, card.category_ids = tuple(card.class_names), tuple(card.category_ids)
            card.notes = tuple(map(str, card.notes))
            card.feature_maps = tuple((int(h), int(w)) for h, w in card.feature_maps)
            card.anchor_grids = tuple((float(y), float(x), float(v), float(h)) for y, x, v, h in card.anchor_grids)
            if card.score_threshold is not None and math.isnan(card.score_threshold):
                card.score_threshold = None  # of a run that found nothing
            columns = card.spec.get("num_classes", len(card.class_names))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BadWeightsError(f"{name}: its card cannot be read ({error}); was it written by mobilessd?") from None
        if len(card.class_names) != columns:
            raise BadWeightsError(f"{name}: its card names {len(card.class_names)} classes for {columns} columns")
        if len(card.category_ids) not in (0, columns):
            raise BadWeightsError(f"{name}: its card has {len(card.category_ids)} ids for {columns} classes")
        return card
