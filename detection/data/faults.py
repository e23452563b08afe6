"""What is wrong with a data set, counted by kind, with the first examples by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# kind -> (what it is, what repair does about it); the order is that of the report
KINDS: dict[str, tuple[str, str]] = {
    "missing": ("images are missing", "left out"),
    "unreadable": ("images cannot be read", "left out"),
    "size contradicts": ("images have another size and shape than the annotation says", "left out"),
    "resized": ("images were resized after annotation", "boxes scaled to the image"),
    "exif turned": ("images are turned by EXIF, their boxes are not", "boxes turned with the image"),
    "size wrong": ("images have another size than the annotation says, and the boxes fit the image", "boxes kept"),
    "fits either way": ("of these images have boxes that fit either way", "decided as for the others"),
    "no annotation": ("images have no annotation file", "kept as images without objects"),
    "unannotated": ("images are in none of the annotations", "left out"),
    "unread annotation": ("annotation files cannot be read", "their images left out"),
    "bad line": ("annotation entries cannot be understood", "left out; nothing else in the image is background"),
    "unread": ("files were not read", "left out"),
    "encoding": ("files are in no Unicode encoding", "read as Windows-1252"),
    "same file": ("entries of different images lead to the same file", "left out"),
    "same name": ("classes have the same name as another", "read as one class"),
    "no name": ("classes have no name", "called by their ids"),
    "no image": ("annotations belong to an image that is not listed", "left out"),
    "undeclared class": ("boxes have a class that the data set does not declare", "neither objects nor background"),
    "unknown class": ("boxes have a class that is not in the list of classes", "dropped"),
    "not finite": ("boxes hold NaN or infinity", "dropped"),
    "reversed": ("boxes have x2 < x1 or y2 < y1", "corners swapped"),
    "degenerate": ("boxes have no width or no height", "dropped"),
    "outside": ("boxes lie wholly outside their image", "dropped"),
    "clipped": ("boxes reach beyond their image", "clipped"),
    "bad number": ("areas or scores are no numbers", "area of the box, score 1"),
    "bad score": ("scores lie outside 0..1", "clipped to 0..1"),
    "duplicate box": ("boxes occur twice in an image", "kept"),
}
NOTES = frozenset(  # kinds by which no annotation is lost
    (
        "resized",
        "exif turned",
        "size wrong",
        "fits either way",
        "no annotation",
        "unannotated",
        "encoding",
        "same name",
        "no name",
    )
)
EXAMPLES = 10  # kept by kind; the counts are complete


@dataclass
class Faults:
    """Counts and first examples (`file: what`) by kind of `KINDS`."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, kind: str) -> int:
        return self.counts.get(kind, 0)

    @property
    def lost(self) -> int:
        """How many of them may have cost annotations."""
        return sum(count for kind, count in self.counts.items() if kind not in NOTES)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts `count` faults of a kind; `example` is kept while there are few."""
        if kind not in KINDS:
            raise KeyError(kind)
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(example)

    def add_all(self, kind: str, count: int, examples: Iterable[str]) -> None:
        """Counts `count` faults of a kind at once; takes as many of the (lazy) examples as are wanted."""
        if not count:
            return
        for example in examples:
            if len(self.examples.get(kind, ())) >= EXAMPLES:
                break
            self.examples.setdefault(kind, []).append(example)
        self.counts[kind] = self.counts.get(kind, 0) + count

    def merged(self, *others: Faults) -> Faults:
        """These faults and those of others, as a new object."""
        total = Faults()
        for faults in (self, *others):
            for kind, count in faults.counts.items():
                total.add_all(kind, count, faults.examples.get(kind, []))
        return total

    def brief(self) -> list[str]:
        """A line by kind, with its first example."""
        return [
            f"{self[kind]:,} {what}: {treatment}"
            + (f", as {self.examples[kind][0]}" if self.examples.get(kind) else "")
            for kind, (what, treatment) in KINDS.items()
            if self[kind]
        ]

    def lines(self) -> list[str]:
        """For people: a line by kind, then its first examples, indented."""
        text = []
        for kind, (what, treatment) in KINDS.items():
            if not self[kind]:
                continue
            text.append(f"{self[kind]:>8,} {what}: {treatment}")
            shown = self.examples.get(kind, [])[:3]
            text += [f"           {example}" for example in shown]
            if self[kind] > len(shown):
                text.append(f"           and {self[kind] - len(shown):,} more")
        return text

    def to_dict(self) -> dict[str, dict]:
        """{kind: {count, treatment, examples}}, kinds that occur only."""
        return {
            kind: {"count": self[kind], "treatment": KINDS[kind][1], "examples": self.examples.get(kind, [])}
            for kind in KINDS
            if self[kind]
        }
