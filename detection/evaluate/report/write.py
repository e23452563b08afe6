"""Writes the report of an evaluation into a folder; a training adds sections of its own.

plots/*.png      precision-recall, thresholds, confusion; predictions beside truth; those of the caller's sections
worst/NN.jpg     the images with the lowest F1, each box with its verdict
numbers.json, per_class.csv
report.html      all of it; small images and plots stand inside it, so that it can also be sent alone
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.errors import MissingPackageError
from detection.evaluate import tables
from detection.evaluate.coco import CocoNumbers, evaluate
from detection.evaluate.curves import against_threshold, precision_recall
from detection.evaluate.errors import ON, split_errors
from detection.evaluate.matches import match
from detection.evaluate.outcomes import confusion_matrix, mix_ups, outcomes_at
from detection.evaluate.report import page, plots
from detection.evaluate.report.chart import Chart, DrawnChart, draw_for_page
from detection.evaluate.report.examples import Examples
from detection.evaluate.results import Results
from detection.evaluate.tables import Protocol
from detection.evaluate.thresholds import best_thresholds
from detection.evaluate.truth import GroundTruth
from detection.files import write_text
from detection.weights.card import Card

DEFAULT_THRESHOLD = 0.3  # where nothing was found rightly, so that there is no best one


@dataclass(frozen=True)
class ChartSection:
    """A section of plots, and a card of facts (name -> text) beside them; empty facts are left out."""

    heading: str
    charts: Sequence[Chart]
    facts_title: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenReport:
    """page: the report.html. numbers: those that it shows. notes: one line for each thing that could not be done (no
    matplotlib, an image that cannot be read); they stand in the page too."""

    page: Path
    notes: tuple[str, ...]
    numbers: CocoNumbers


def write_report(
    folder: str | os.PathLike,
    truth: GroundTruth,
    results: Results,
    *,
    sections: Sequence[ChartSection] = (),
    card: Card | None = None,
    config: str = "",
    title: str = "",
    protocol: Protocol | None = None,
    numbers: CocoNumbers | None = None,
) -> WrittenReport:
    """Writes the report of `results` on `truth` into `folder`, each file atomically; older ones are replaced.

    Images are shown from `truth.paths`; where none of them is a file, the report says so.
    sections: the caller's own; they follow the result.
    card, config (YAML text), title, protocol: what the page tells about the network and about how it was measured.
    numbers: those of `evaluate(truth, results)`, if at hand.
    Raises MissingPackageError, before anything is written, if jinja2 is not installed.
    """
    folder, template = Path(folder), page.page_template()
    numbers = numbers or evaluate(truth, results)
    protocol = protocol or _unknown_protocol(truth, numbers)
    matches = match(truth, results, [ON])
    thresholds = best_thresholds(truth, results, matches)
    threshold = thresholds.overall.score
    if not math.isfinite(threshold):
        threshold = (card.score_threshold if card else None) or DEFAULT_THRESHOLD
    outcomes = outcomes_at(truth, results, threshold)
    confusion = confusion_matrix(truth, outcomes)
    errors = split_errors(truth, results, matches)
    names = truth.category_names

    data = tables.to_dict(numbers, protocol, thresholds, errors)
    write_text(folder / "numbers.json", json.dumps(data, indent=1) + "\n")
    write_text(folder / "per_class.csv", tables.to_csv(data))

    notes: list[str] = []
    curves = [
        plots.precision_recall_chart(precision_recall(matches), names),
        plots.threshold_chart(against_threshold(matches), threshold),
    ]
    charts = [_charts(section, folder, notes) for section in [*sections, ChartSection("Accuracy", curves)]]
    confused = _draw([plots.confusion_chart(confusion, names)], folder, notes)
    mixed = [(names[is_], names[called], n, int(confusion[is_].sum())) for is_, called, n in mix_ups(confusion, 10)]
    at = "the best F1" if thresholds.overall.score == threshold else "by default"
    examples = Examples(truth, outcomes, notes)
    shown = examples.sections(folder, f"score {threshold:.2f} or better, {at}")
    if not examples.at_hand:
        notes.append("the images are not at hand, so none are shown")

    warnings = [*tables.warnings_of(protocol, numbers), *notes]
    every = [
        page.result(numbers, thresholds, int(truth.objects.sum()), protocol.line(), warnings),
        *(section for drawn in charts for section in drawn),
        page.classes(numbers, thresholds),
        page.errors(errors, confused, mixed),
        *shown,
        *page.network(card, config),
        *page.files(folder),
    ]
    text = template.render(
        title=title or (card.name if card else "") or protocol.model or folder.resolve().name,
        subtitle=f"{protocol.split}: {numbers.images:,} images, {len(names):,} class{'es' * (len(names) != 1)}",
        sections=every,
    )
    write_text(folder / "report.html", text + "\n")
    return WrittenReport(folder / "report.html", tuple(notes), numbers)


def _charts(section: ChartSection, folder: Path, notes: list[str]) -> list[page.Section]:
    """The section of the page; none where there is nothing to show."""
    drawn, facts = _draw(section.charts, folder, notes), {name: text for name, text in section.facts.items() if text}
    content: dict[str, Any] = {"charts": drawn, "facts_title": section.facts_title, "facts": facts}
    return [page.Section(section.heading, "charts", content)] if drawn or facts else []


def _draw(charts: Sequence[Chart], folder: Path, notes: list[str]) -> list[DrawnChart]:
    """The charts that can be drawn; why others cannot becomes a note, once."""
    drawn = []
    for chart in charts:
        try:
            drawn.append(draw_for_page(chart, folder))
        except MissingPackageError as error:
            if str(error) not in notes:
                notes.append(str(error))
    return drawn


def _unknown_protocol(truth: GroundTruth, numbers: CocoNumbers) -> Protocol:
    return Protocol(
        annotations=truth.path,
        split=Path(truth.path).stem,
        images=numbers.images,
        score_floor=None,
        nms_iou=None,
        max_detections=None,
        model="",
        runtime=None,
        engine=numbers.engine,
    )
