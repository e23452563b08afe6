"""What a person looks at after a training or an evaluation: plots, images, and one page that shows them.

    plots/*.png      loss, mAP, learning rate; precision-recall, thresholds, confusion; predictions beside truth
    worst/NN.jpg     the images with the lowest F1, each box with its verdict
    numbers.json, per_class.csv
    report.html      all of it; small images and plots stand inside it, so that it can also be sent alone

Imports numpy and OpenCV; matplotlib only to draw; never torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadImageError, MissingPackageError
from detection.evaluate import report as tables
from detection.evaluate.coco import CocoNumbers, evaluate
from detection.evaluate.curves import against_threshold, precision_recall
from detection.evaluate.errors import ON, split_errors
from detection.evaluate.matches import match
from detection.evaluate.outcomes import Outcomes, confusion_matrix, mix_ups, outcomes_at
from detection.evaluate.report import Protocol
from detection.evaluate.results import Results
from detection.evaluate.thresholds import best_thresholds
from detection.evaluate.truth import GroundTruth, image_path
from detection.files import write_text
from detection.images.decode import read_image
from detection.train.report import gallery, page, plots
from detection.train.report.chart import Chart, save
from detection.weights.card import Card

DEFAULT_THRESHOLD = 0.3  # where nothing was found rightly, so that there is no best one
WORST, SAMPLE = 20, 16
# (height, width) in pixels that an image may have: as worst/NN.jpg, small in the page, in the sheet of predictions
FULL, THUMB, TILE = (960, 1280), (420, 560), (330, 440)


@dataclass(frozen=True)
class Report:
    """page: the report.html. numbers: those that it shows. notes: one line for each thing that could not be done (no
    matplotlib, an image that cannot be read); they stand in the page too."""

    page: Path
    notes: tuple[str, ...]
    numbers: CocoNumbers


def write_report(
    folder: str | os.PathLike,
    truth: GroundTruth,
    results: Results,
    images: str | os.PathLike | None = None,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    card: Card | None = None,
    config: str = "",
    title: str = "",
    protocol: Protocol | None = None,
    numbers: CocoNumbers | None = None,
) -> Report:
    """Writes the report of `results` on `truth` into `folder`, each file atomically; older ones are replaced.

    images: the folder of the images, as for `evaluate.run.detect_all`; None: no images are shown.
    history: the rows of the log of a training, see `plots.history_charts`; empty for an evaluation.
    card, config (YAML text), title, protocol: what the page tells about the network and about how it was measured.
    numbers: those of `evaluate(truth, results)`, if at hand.
    """
    folder = Path(folder)
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
    training = _draw(plots.history_charts(history), folder, notes)
    curves = [
        plots.precision_recall_chart(precision_recall(matches), names),
        plots.threshold_chart(against_threshold(matches), threshold),
    ]
    accuracy = _draw(curves, folder, notes)
    confused = _draw([plots.confusion_chart(confusion, names)], folder, notes)
    shown = _Images(truth, outcomes, None if images is None else Path(images), notes)
    sample, worst = _write_sample(folder, shown), _write_worst(folder, shown)
    if images is None:
        notes.append("the images are not at hand, so none are shown")

    mixed = [(names[is_], names[called], n, int(confusion[is_].sum())) for is_, called, n in mix_ups(confusion, 10)]
    at = f"score {threshold:.2f} or better, " + (
        "the best F1" if thresholds.overall.score == threshold else "by default"
    )
    warnings = [*tables.warnings_of(protocol, numbers), *notes]
    title = title or (card.name if card else "") or protocol.model or folder.resolve().name
    sections = [
        ("Result", page.summary(numbers, thresholds, int(truth.objects.sum()), protocol.line(), warnings)),
        ("Training", page.charts(training, "plots", page.facts("In numbers", _training_facts(history)))),
        ("Accuracy", page.charts(accuracy, "plots")),
        ("Classes", page.class_table(numbers, thresholds)),
        ("Errors", _stack(page.error_table(errors), page.charts(confused, "plots", page.mix_up_table(mixed)))),
        ("Worst images", _worst_html(worst, outcomes, at)),
        ("Predictions", _sample_html(sample, at)),
        (
            "Network",
            _stack(page.facts("Card", page.card_facts(card)) if card else "", page.text_block("Configuration", config)),
        ),
        ("Files", page.file_table(_files(folder))),
    ]
    subtitle = f"{protocol.split}: {numbers.images:,} images, {len(names):,} class{'es' * (len(names) != 1)}"
    write_text(folder / "report.html", page.render(title, subtitle, sections))
    return Report(folder / "report.html", tuple(notes), numbers)


class _Images:
    """Reads images of the truth when they are to be shown; what cannot be read becomes a note."""

    def __init__(self, truth: GroundTruth, outcomes: Outcomes, folder: Path | None, notes: list[str]):
        self.truth, self.outcomes, self.folder, self.notes = truth, outcomes, folder, notes
        self.names = _display_names(truth)

    def scenes(self, index: int, *rooms: tuple[int, int]) -> list[gallery.Scene]:
        """Image `index` with its boxes, in each of these sizes; nothing without the file."""
        name = self.truth.file_names[index]
        if self.folder is None or not name:
            return []
        try:
            image = read_image(image_path(self.folder, name))
        except BadImageError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
            return []
        return [gallery.scene(image, room, self.truth, self.outcomes, index) for room in rooms]

    def describe(self, index: int) -> str:
        """F1 0.25 · 2 right, 1 wrong, 3 missed"""
        out = self.outcomes
        counts = f"{out.hits[index]} right, {out.alarms[index]} wrong, {out.missed[index]} missed"
        return f"F1 {out.f1[index]:.2f} · {counts}"


def _draw(charts: Sequence[Chart], folder: Path, notes: list[str]) -> list[tuple[Chart, str]]:
    drawn = []
    for chart in charts:
        try:
            drawn.append((chart, save(chart, folder / "plots")))
        except MissingPackageError as error:
            if str(error) not in notes:
                notes.append(str(error))
    return drawn


def _write_worst(folder: Path, images: _Images) -> list[page.Shown]:
    """worst/01.jpg ..., and the same small for the page. Those of an earlier report that had more are removed."""
    shown = []
    chosen = images.outcomes.worst(WORST).tolist()
    for rank, index in enumerate(chosen, 1):
        source = link = ""
        if scenes := images.scenes(index, FULL, THUMB):
            link = f"worst/{rank:02d}.jpg"
            gallery.write_image(folder / link, gallery.judged(scenes[0], images.truth, images.outcomes))
            source = gallery.data_uri(gallery.judged(scenes[1], images.truth, images.outcomes, words=False))
        shown.append(page.Shown(images.names[index], images.describe(index), source, link))
    for rank in range(1, WORST + 1):
        if rank > len(shown) or not shown[rank - 1].link:
            (folder / f"worst/{rank:02d}.jpg").unlink(missing_ok=True)
    return shown


def _write_sample(folder: Path, images: _Images) -> list[page.Shown]:
    """plots/predictions.png: truth beside predictions of images spread over those that have anything in them."""
    truth, outcomes = images.truth, images.outcomes
    something = np.flatnonzero(
        np.bincount(truth.image, minlength=len(truth.image_ids)) + outcomes.hits + outcomes.alarms
    )
    chosen = (
        something[np.unique(np.linspace(0, len(something) - 1, SAMPLE).round().astype(int))] if len(something) else []
    )
    shown, tiles = [], []
    for index in chosen:
        for scene in images.scenes(int(index), TILE):
            tiles.append(gallery.pair(scene, truth, outcomes))
            source = gallery.data_uri(tiles[-1])
            shown.append(page.Shown(images.names[index], images.describe(index), source, "plots/predictions.png"))
    sheet = folder / "plots" / "predictions.png"
    if tiles:
        heading = f"left: truth   right: found, score {outcomes.threshold:.2f} or better"
        gallery.write_image(sheet, gallery.contact_sheet(tiles, 2, heading))
    else:
        sheet.unlink(missing_ok=True)
    return shown


def _worst_html(worst: Sequence[page.Shown], outcomes: Outcomes, at: str) -> str:
    if not worst:
        return '<p class="note">None: no object was missed and nothing was found wrongly.</p>'
    number = int((outcomes.alarms + outcomes.missed > 0).sum())
    text = f"{len(worst)} of {number:,} with an error, lowest F1 first; {at}; IoU 0.5. Click to see them larger."
    frames = {
        "missed": (gallery.MISSED, True),
        "wrong": (gallery.WRONG, False),
        "right": (gallery.RIGHT, False),
        "object that was found": (gallery.FOUND, True),
        "crowd, and what lies on it: not counted": (gallery.CROWD, False),
    }
    return f'<p class="note">{text}</p>{page.legend(frames)}{page.gallery(worst)}'


def _sample_html(sample: Sequence[page.Shown], at: str) -> str:
    text = f"{len(sample)} spread over the data. Left: the truth. Right: what was found; {at}."
    return f'<p class="note">{text}</p>{page.gallery(sample, "pairs")}' if sample else ""


def _training_facts(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the log says in a few words."""
    last: dict[str, Any] = {}
    for row in history:
        last |= {key: value for key, value in row.items() if value is not None}
    scored = [row for row in history if isinstance(row.get("AP"), (int, float)) and math.isfinite(row["AP"])]
    best = max(scored, key=lambda row: row["AP"], default=None)
    speeds = [row["images_per_second"] for row in history if row.get("images_per_second")]
    return {
        "images seen": f"{last['images']:,}" if "images" in last else "",
        "steps": f"{last['step']:,}" if "step" in last else "",
        "best": f"AP {best['AP']:.3f} after {best.get('images', best.get('step', 0)):,}" if best else "",
        "time": _duration(last["seconds"]) if "seconds" in last else "",
        "speed": f"{np.median(speeds):.1f} images/s (median)" if speeds else "",
    }


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _display_names(truth: GroundTruth) -> list[str]:
    """File names without the folders that all share; the id where there is no name."""
    names = [name or f"image {identity}" for name, identity in zip(truth.file_names, truth.image_ids)]
    folders = {os.path.dirname(name) for name in names}
    if not all(map(os.path.isabs, names)):
        return names
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # on several drives
        return names
    return [os.path.relpath(name, common) for name in names]


def _files(folder: Path) -> list[tuple[str, int]]:
    """(path, bytes) of what lies in the folder and in plots/, but for the page itself and hidden files."""
    found = []
    for path in sorted([*folder.glob("*"), *folder.glob("plots/*")], key=lambda p: (len(p.parts), p.name)):
        if path.is_file() and path.name != "report.html" and not path.name.startswith("."):
            found.append((path.relative_to(folder).as_posix(), path.stat().st_size))
    return found


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


def _stack(*parts: str) -> str:
    kept = [part for part in parts if part]
    return f'<div class="stack">{"".join(kept)}</div>' if kept else ""
