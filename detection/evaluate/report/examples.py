"""The images of the report: those with the lowest F1, and a sample of all. Files of their own, and small in the page."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from detection.boxes.drawing import save_image
from detection.errors import BadImageError
from detection.evaluate.outcomes import Outcomes
from detection.evaluate.report import gallery
from detection.evaluate.report.page import Section, Tile
from detection.evaluate.truth import GroundTruth
from detection.images.decode import read_image

WORST, SAMPLE = 20, 16
QUALITY = 88  # of these, as JPEG
# (height, width) in pixels that an image may have: as worst/NN.jpg, small in the page, in the sheet of predictions
FULL, THUMB, TILE = (960, 1280), (420, 560), (330, 440)
FRAMES = (  # what the colours of boxes mean: text, RGB, dashed
    ("missed", gallery.MISSED, True),
    ("wrong", gallery.WRONG, False),
    ("right", gallery.RIGHT, False),
    ("object that was found", gallery.FOUND, True),
    ("crowd, and what lies on it: not counted", gallery.CROWD, False),
)


class Examples:
    """Reads images of the truth when they are to be shown; what cannot be read becomes one of `notes`."""

    def __init__(self, truth: GroundTruth, outcomes: Outcomes, notes: list[str]):
        self.truth, self.outcomes, self.notes = truth, outcomes, notes
        self.at_hand = any(path and os.path.isfile(path) for path in truth.paths)
        self.names = _display_names(truth)

    def sections(self, folder: Path, at: str) -> list[Section]:
        """Writes the images into `folder`. at: the threshold in words."""
        sample, worst = self._write_sample(folder), self._write_worst(folder)
        number = int((self.outcomes.alarms + self.outcomes.missed > 0).sum())
        note = "None: no object was missed and nothing was found wrongly."
        if worst:
            note = (
                f"{len(worst)} of {number:,} with an error, lowest F1 first; {at}; IoU 0.5. Click to see them larger."
            )
        sections = [
            Section("Worst images", "gallery", {"note": note, "images": worst, "frames": FRAMES if worst else ()})
        ]
        if sample:
            note = f"{len(sample)} spread over the data. Left: the truth. Right: what was found; {at}."
            sections.append(Section("Predictions", "gallery", {"note": note, "images": sample, "kind": "pairs"}))
        return sections

    def _scenes(self, index: int, *limits: tuple[int, int]) -> list[gallery.Scene]:
        """Image `index` with its boxes, in each of these sizes; nothing without the file."""
        if not self.at_hand or not self.truth.paths[index]:
            return []
        try:
            image = read_image(self.truth.paths[index])
        except BadImageError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
            return []
        return [gallery.scene(image, limit, self.truth, self.outcomes, index) for limit in limits]

    def _describe(self, index: int) -> str:
        """F1 0.25 · 2 right, 1 wrong, 3 missed"""
        out = self.outcomes
        counts = f"{out.hits[index]} right, {out.alarms[index]} wrong, {out.missed[index]} missed"
        return f"F1 {out.f1[index]:.2f} · {counts}"

    def _write_worst(self, folder: Path) -> list[Tile]:
        """worst/01.jpg ..., and the same small for the page. Those of an earlier report that had more are removed."""
        shown = []
        chosen = self.outcomes.worst(WORST).tolist()
        for rank, index in enumerate(chosen, 1):
            source = link = ""
            if scenes := self._scenes(index, FULL, THUMB):
                link = f"worst/{rank:02d}.jpg"
                save_image(gallery.judged(scenes[0], self.truth, self.outcomes), folder / link, QUALITY)
                source = gallery.data_uri(gallery.judged(scenes[1], self.truth, self.outcomes, words=False))
            shown.append(Tile(self.names[index], self._describe(index), source, link))
        for rank in range(1, WORST + 1):
            if rank > len(shown) or not shown[rank - 1].link:
                (folder / f"worst/{rank:02d}.jpg").unlink(missing_ok=True)
        return shown

    def _write_sample(self, folder: Path) -> list[Tile]:
        """plots/predictions.png: truth beside predictions of images spread over those that have anything in them."""
        truth, outcomes = self.truth, self.outcomes
        something = np.flatnonzero(
            np.bincount(truth.image, minlength=len(truth.image_ids)) + outcomes.hits + outcomes.alarms
        )
        chosen = (
            something[np.unique(np.linspace(0, len(something) - 1, SAMPLE).round().astype(int))]
            if len(something)
            else []
        )
        shown, tiles = [], []
        for index in chosen:
            for scene in self._scenes(int(index), TILE):
                tiles.append(gallery.pair(scene, truth, outcomes))
                source = gallery.data_uri(tiles[-1])
                shown.append(Tile(self.names[index], self._describe(index), source, "plots/predictions.png"))
        sheet = folder / "plots" / "predictions.png"
        if tiles:
            heading = f"left: truth   right: found, score {outcomes.threshold:.2f} or better"
            save_image(gallery.contact_sheet(tiles, 2, heading), sheet, QUALITY)
        else:
            sheet.unlink(missing_ok=True)
        return shown


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
