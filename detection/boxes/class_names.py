"""Class names: those of COCO and VOC, and the one rule by which the names of two lists are matched.

Models, data sets and people spell classes differently. A name stands for the classes that are, in this order,

1. spelled exactly so;
2. spelled so but for case, spaces, underscores, hyphens and punctuation ("Dining_Table" and "diningtable");
3. called so in COCO's words ("sofa" and "couch").

The first of the three that finds a class decides, so that "Thing" and "thing" stay apart where a list has both. A name
that stands for several classes selects them all where classes are chosen (`ClassNames.choose`); where one counterpart
is needed (`match`), the data set's ids decide, and without them the name is ambiguous: nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from detection.errors import MobileSSDError, nearest, some

COCO_80: dict[int, str] = dict(
    zip(
        # The official ids: 80 of 1..90, eleven were given up between the 2014 paper and the release.
        [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)],
        (
            "person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|stop sign|"
            "parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|umbrella|handbag|tie|"
            "suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|"
            "tennis racket|bottle|wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|"
            "hot dog|pizza|donut|cake|chair|couch|potted plant|bed|dining table|toilet|tv|laptop|mouse|remote|keyboard|"
            "cell phone|microwave|oven|toaster|sink|refrigerator|book|clock|vase|scissors|teddy bear|hair drier|toothbrush"
        ).split("|"),
        strict=True,
    )
)

VOC_20 = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()

SYNONYMS = {  # VOC's words for classes of COCO, as `spelling` writes both
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def spelling(name: str) -> str:
    """A class name without case, spaces and punctuation; "" for a column without a class.

    Such columns are "" and "???" in TensorFlow's label maps, "unused 12" in ours. Kept are "+" and "#" ("C" is not
    "C++") and marks between two digits ("1.5" is not "15").
    """
    name = unicodedata.normalize("NFKC", name).casefold()
    words = re.sub(r"[\s_-]+", " ", name).strip()
    plain = re.sub(r"(?<!\d)[^\w+#]|[^\w+#](?!\d)", "", words)
    if re.fullmatch(r"unused\d+", plain):
        return ""
    return plain or words.strip("? ")  # a name may be all signs, an emoji


def meaning(name: str) -> str:
    """`spelling` in COCO's words: VOC's names translated."""
    plain = spelling(name)
    return SYNONYMS.get(plain, plain)


class ClassNames:
    """A list of class names that finds its classes by other spellings of their names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._exact: dict[str, list[int]] = {}
        self._spelling: dict[str, list[int]] = {}
        self._meaning: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            if plain := spelling(name):
                self._exact.setdefault(name, []).append(index)
                self._spelling.setdefault(plain, []).append(index)
                self._meaning.setdefault(meaning(name), []).append(index)

    def find(self, name: str) -> list[int]:
        """The indices of the classes that a name stands for, by the rule above; none for a name without a class."""
        return self._exact.get(name) or self._spelling.get(spelling(name)) or self._meaning.get(meaning(name)) or []

    def choose(
        self, names: Iterable[str | int] | str | int, owner: str, error: type[MobileSSDError] = MobileSSDError
    ) -> list[int]:
        """The indices of all classes that the names stand for, in their order, each once. One name may stand by itself; a
        whole number is an index.

        Raises `error`, which begins with `owner` (a file, an option), for what stands for none.
        """
        found: dict[int, None] = {}
        for name in names if isinstance(names, Iterable) and not isinstance(names, str) else [names]:
            indices = self.find(name) if isinstance(name, str) else self._at(name)
            if not indices:
                raise error(f"{owner}: no class {name!r}; {self.hint(str(name))}")
            found |= dict.fromkeys(indices)
        return list(found)

    def _at(self, index: Any) -> list[int]:
        """[index] where there is such a class; numpy's whole numbers, too."""
        if isinstance(index, bool) or not hasattr(index, "__index__") or not 0 <= int(index) < len(self.names):
            return []
        return [int(index)]

    def hint(self, name: str) -> str:
        """What to say of a name that stands for no class: the nearest names, else some of those there are."""
        near = nearest(name, self.names, most=3)
        return f"nearest: {', '.join(near)}" if near else f"the classes are {some(self.names)}"


@dataclass(frozen=True)
class Match:
    """Which names of one list are which of another.

    to: for each name of the first list its index in the other, or None. missing: names of the first list without a
    counterpart, the ambiguous among them; ambiguous: those that have several. left: names of the other list that are
    no name's counterpart. Columns without a class are in none of them.
    """

    to: tuple[int | None, ...]
    missing: tuple[str, ...]
    ambiguous: tuple[str, ...]
    left: tuple[str, ...]


def match(
    names: Sequence[str],
    others: Sequence[str],
    ids: Sequence[Any] | None = None,
    other_ids: Sequence[Any] | None = None,
) -> Match:
    """For each of `names` its counterpart among `others`; several may have the same one.

    ids, other_ids: the data sets' ids of both, where known. They only choose between classes whose names fit equally
    well: an id alone matches nothing, since data sets count differently.
    """
    known = ClassNames(others)
    to: list[int | None] = []
    missing, ambiguous = [], []
    for position, name in enumerate(names):
        found = known.find(name)
        if len(found) > 1 and ids is not None and other_ids is not None:
            found = [index for index in found if other_ids[index] == ids[position]] or found
        to.append(found[0] if len(found) == 1 else None)
        if len(found) > 1:
            ambiguous.append(name)
        if len(found) != 1 and spelling(name):
            missing.append(name)
    used = set(to)
    left = tuple(name for index, name in enumerate(others) if index not in used and spelling(name))
    return Match(tuple(to), tuple(missing), tuple(ambiguous), left)


def without_doubles(names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """(the names, each class once; the new index of each old one): one data set that lists "thing" twice, or "Thing" and
    "thing", means one class. Synonyms stay apart: who has both "sofa" and "couch" tells them apart. The first spelling
    stands; columns without a class are kept as they are."""
    first: dict[str, int] = {}
    kept: list[str] = []
    index = []
    for name in names:
        plain = spelling(name)
        new = first.setdefault(plain, len(kept)) if plain else len(kept)
        if new == len(kept):
            kept.append(name)
        index.append(new)
    return tuple(kept), index


def coco_classes_of_columns(columns: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and COCO ids of the object columns of a COCO detector: 80 (contiguous) or 90 (by official id; the ten ids
    that COCO gave up are called "unused 12" and so on)."""
    if columns == 80:
        return tuple(COCO_80.values()), tuple(COCO_80)
    if columns == 90:
        return tuple(COCO_80.get(i, f"unused {i}") for i in range(1, 91)), tuple(range(1, 91))
    raise ValueError(f"no COCO detector has {columns} object columns")
