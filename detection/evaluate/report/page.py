"""report.html from the templates beside this file. jinja2 escapes every name; nothing is loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.boxes.class_names import spelling
from detection.errors import MissingPackageError, install_line
from detection.evaluate.coco import CocoNumbers
from detection.evaluate.errors import ErrorSplit
from detection.evaluate.tables import MEANING, show
from detection.evaluate.thresholds import Thresholds
from detection.weights.card import Card

TILES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
LABELS = {"APs": "AP small", "APm": "AP medium", "APl": "AP large"}


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading. macro: of templates/sections.html. content: its arguments."""

    heading: str
    macro: str
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.heading.lower().replace(" ", "-")


@dataclass(frozen=True)
class Tile:
    """An image of the page. source: a `data:` address, "" where there is none. link: the file behind it, if any."""

    name: str
    text: str
    source: str = ""
    link: str = ""


def page_template() -> Any:
    """The template of the page. MissingPackageError, with the command that helps, where jinja2 is not installed."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingPackageError(f"report.html needs jinja2: {install_line('eval')}") from None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "show": show,
        "share": lambda value: f"{value if math.isfinite(value) else 0.0:.3f}",
        "percent": lambda value: f"{value:.0%}" if math.isfinite(value) else "-",
        "thousands": lambda value: f"{value:,}",
    }
    return environment.get_template("report.html")


def result(
    numbers: CocoNumbers, thresholds: Thresholds, objects: int, protocol: str, warnings: Sequence[str]
) -> Section:
    """The numbers that matter, the protocol below them, and what a reader must know."""
    best = thresholds.overall
    tiles = [(show(getattr(numbers, key)), LABELS.get(key, key)) for key in TILES]
    tiles.append((show(best.f1), f"best F1, at score {show(best.score)}"))
    for share, label in ((best.precision, "precision there"), (best.recall, "recall there")):
        tiles.append((f"{share:.0%}" if math.isfinite(share) else "-", label))
    tiles += [(f"{numbers.images:,}", "images"), (f"{objects:,}", "objects")]
    return Section("Result", "result", {"tiles": tiles, "protocol": protocol, "warnings": warnings})


def classes(numbers: CocoNumbers, thresholds: Thresholds) -> Section:
    """A row for each class, best AP first, those without objects last."""
    rows = zip(numbers.per_class, thresholds.per_class)
    order = sorted(rows, key=lambda row: (math.isnan(row[0].AP), -row[0].AP))
    return Section("Classes", "classes", {"rows": order})


def errors(split: ErrorSplit, charts: Sequence[Any], mixed: Sequence[tuple[str, str, int, int]]) -> Section:
    """The AP50 that each kind of error takes away, the costliest first; the confusion; and the classes that are taken
    for another most often: (class, called, how often, of how many)."""
    largest = max((value for value in split.lost.values() if value > 0), default=1.0)
    kinds = [
        (kind, MEANING[kind], lost, max(0.0, lost / largest), split.counts[kind])
        for kind, lost in sorted(split.lost.items(), key=lambda row: -row[1])
    ]
    return Section("Errors", "errors", {"AP50": split.AP50, "kinds": kinds, "charts": charts, "mixed": mixed})


def network(card: Card | None, config: str) -> list[Section]:
    """What the card says about the network, and the configuration as text; nothing where there is neither."""
    facts: dict[str, Any] = {}
    if card is not None:
        height, width = card.input_size
        names = [name for name in card.class_names if spelling(name)]  # the others are columns without a class
        facts = {
            "name": card.name,
            "input": f"{width} x {height} pixels",
            "classes": f"{len(names)}: {', '.join(names[:30])}{' ...' if len(names) > 30 else ''}",
            "trained on": f"{len(card.training_images):,} images" if card.training_images else "",
            "source": card.source,
            "licence": card.licence,
            "attribution": card.attribution,
        }
    facts, config = {name: value for name, value in facts.items() if value}, config if config.strip() else ""
    return [Section("Network", "network", {"facts": facts, "config": config})] if facts or config else []


def files(folder: Path) -> list[Section]:
    """What lies in the folder and in plots/, but for the page itself and hidden files."""
    rows = []
    for path in sorted([*folder.glob("*"), *folder.glob("plots/*")], key=lambda p: (len(p.parts), p.name)):
        if path.is_file() and path.name != "report.html" and not path.name.startswith("."):
            size = path.stat().st_size
            words = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
            rows.append((path.relative_to(folder).as_posix(), words))
    return [Section("Files", "files", {"files": rows})] if rows else []
