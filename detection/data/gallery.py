"""Labelled images to look at: chosen at random, class by class, or the most doubtful first; as a page or as one image."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.boxes.drawing import class_color, draw_boxes, encoded, save_image, scaled_down
from detection.boxes.geometry import iou_matrix
from detection.data.dataset import DetectionData
from detection.errors import BadDataError, BadImageError, MobileSSDError
from detection.files import write_text
from detection.images.decode import read_image

ORDERS = ("random", "class", "worst")
TILE = 320  # pixels of the longer side
COLUMNS, GAP = 4, 4  # of one image
GREY = (160, 160, 160)
SAME = 0.9  # IoU of two boxes that are one object labelled twice
TINY = 0.01  # share of the image's side
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px system-ui, sans-serif; margin: 1rem; }}
main {{ display: flex; flex-wrap: wrap; gap: .7rem; }}
figure {{ margin: 0; max-width: 320px; }} figcaption {{ overflow-wrap: anywhere; color: #444; }}
</style></head><body><h1>{title}</h1>
{body}</body></html>
"""


@dataclass(frozen=True)
class Choice:
    """Images under a heading: their indices, and what is said of each."""

    heading: str
    images: Sequence[int]
    words: Sequence[str]


def choose(data: DetectionData, order: str = "random", number: int = 24, seed: int = 0) -> list[Choice]:
    """At most `number` images, by one of `ORDERS`: `random`; `class` as many of each class as fit, at least one; `worst`, the
    most doubtful first (see `doubts`). The same for the same seed. Raises BadDataError where `worst` finds none."""
    mixed = np.random.default_rng((seed, 0x5917)).permutation(len(data))
    if order == "random":
        return [Choice("", mixed[:number].tolist(), [""] * min(number, len(data)))]
    if order == "class":
        holds = np.zeros((len(data), len(data.class_names)), bool)
        holds[data.owners()[data.labels >= 0], data.labels[data.labels >= 0]] = True
        each = max(1, number // max(int(holds.any(0).sum()), 1))
        choices, shown = list[Choice](), set[int]()
        for label, name in enumerate(data.class_names):
            if images := mixed[holds[mixed, label]].tolist():
                chosen = sorted(images, key=lambda at: at in shown)[:each]  # those that no other class has shown first
                shown.update(chosen)
                choices.append(Choice(f"{name}: {len(images):,} images", chosen, [""] * len(chosen)))
        return choices
    found = [doubts(data, index) for index in range(len(data))]
    worst = sorted((at for at in range(len(data)) if found[at]), key=lambda at: -sum(found[at].values()))
    if not worst:
        raise BadDataError(f"{data.origin}: no box is doubtful; show them at random")
    words = [", ".join(f"{count} {what}" for what, count in found[at].items()) for at in worst[:number]]
    return [Choice("", worst[:number], words)]


def doubts(data: DetectionData, index: int) -> dict[str, int]:
    """What may be wrong with the labels of an image, with how many boxes: of a data set as read, before repair."""
    image = data.image(index)
    known = image.labels >= 0
    boxes, labels = image.boxes[known], image.labels[known]
    height, width = image.size if all(image.size) else (np.inf, np.inf)
    sides = boxes[:, 2:] - boxes[:, :2]
    sound = np.isfinite(boxes).all(1) & (sides > 0).all(1)
    inside = (boxes[:, :2] >= -1).all(1) & (boxes[:, 2] <= width + 1) & (boxes[:, 3] <= height + 1)
    tiny = (sides < np.array([width, height]) * TINY).any(1) if np.isfinite(width) else np.zeros(len(boxes), bool)
    twice = np.triu(iou_matrix(boxes[sound], boxes[sound]) >= SAME, 1)
    alike = labels[sound][:, None] == labels[sound][None]
    counts = {
        "without a class": int((~known).sum()),
        "without width or height": int((~sound).sum()),
        "beyond the image": int((sound & ~inside).sum()),
        "labelled twice": int((twice & alike).sum()),
        "of two classes in one place": int((twice & ~alike).sum()),
        "very thin": int((sound & tiny).sum()),
    }
    return {what: count for what, count in counts.items() if count}


def drawn(data: DetectionData, index: int) -> np.ndarray:
    """An image with its labels, uint8 RGB, at most TILE pixels a side; crowds, difficult objects and regions to ignore are
    dashed. Raises BadImageError, FileNotFoundError."""
    image, pixels = data.image(index), read_image(data.path(index))
    height, width = image.size if all(image.size) else pixels.shape[:2]
    small = scaled_down(pixels, TILE / max(pixels.shape[:2]))
    scale = np.array([small.shape[1] / width, small.shape[0] / height] * 2)
    order = np.argsort((image.boxes[:, 2:] - image.boxes[:, :2]).prod(1), kind="stable")  # the small ones on top
    names = [data.class_names[label] if label >= 0 else "?" for label in image.labels[order]]
    colors = [class_color(int(label)) if label >= 0 else GREY for label in image.labels[order]]
    return draw_boxes(small, image.boxes[order] * scale, colors, names, dashed=(image.flags[order] != 0).tolist())


def write(data: DetectionData, choices: Sequence[Choice], path: str | os.PathLike) -> list[str]:
    """Writes the chosen images into a page (.html, which needs nothing else) or one image (.png, .jpg, .webp). Returns what could
    not be drawn. Raises MobileSSDError for another ending."""
    ending, lost, tiles = os.path.splitext(path)[1].lower(), list[str](), list[list[tuple[int, str, np.ndarray]]]()
    if ending not in (".html", ".png", ".jpg", ".jpeg", ".webp"):
        raise MobileSSDError(f"{path}: name a page (.html) or an image (.png, .jpg, .webp)")
    for choice in choices:
        row = []
        for index, words in zip(choice.images, choice.words):
            try:
                row.append((index, words, drawn(data, index)))
            except (BadImageError, OSError) as error:
                lost.append(str(error) if isinstance(error, BadImageError) else f"{data.described(index)}: missing")
        tiles.append(row)
    if not any(tiles):
        raise BadDataError(f"{data.origin}: none of the images can be drawn ({lost[0] if lost else 'none was chosen'})")
    if ending == ".html":
        write_text(path, _page(data, choices, tiles))
    else:
        save_image(_sheet([image for row in tiles for _, _, image in row]), Path(path))
    return lost


def _page(
    data: DetectionData, choices: Sequence[Choice], tiles: Sequence[Sequence[tuple[int, str, np.ndarray]]]
) -> str:
    parts = []
    for choice, row in zip(choices, tiles):
        parts.append(f"<h2>{html.escape(choice.heading)}</h2>\n" if choice.heading else "")
        figures = []
        for index, words, image in row:
            source = base64.b64encode(encoded(image, ".jpg")).decode()
            caption = html.escape(os.fsencode(data.path(index)).decode(errors="replace"))
            more = f"<br><b>{html.escape(words)}</b>" if words else ""
            figures.append(
                f'<figure><img alt="" src="data:image/jpeg;base64,{source}"><figcaption>{caption}{more}</figcaption></figure>\n'
            )
        parts.append(f"<main>{''.join(figures)}</main>\n")
    return PAGE.format(title=html.escape(data.origin), body="".join(parts))


def _sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """The images in rows of COLUMNS, each row as high as its highest."""
    columns, rows = min(COLUMNS, len(images)), list[np.ndarray]()
    for first in range(0, len(images), columns):
        part = images[first : first + columns]
        row = np.full((max(len(image) for image in part) + GAP, columns * (TILE + GAP), 3), 255, np.uint8)
        for at, image in enumerate(part):
            left = at * (TILE + GAP)
            row[: len(image), left : left + image.shape[1]] = image
        rows.append(row)
    return np.concatenate(rows)[:-GAP, :-GAP]
