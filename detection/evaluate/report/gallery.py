"""Images with their truth and what was found in them, side by side or judged box by box."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.boxes.drawing import Area, class_color, draw_boxes, encoded, fit_text, put_text, scaled_down
from detection.evaluate.errors import KINDS
from detection.evaluate.outcomes import Outcomes
from detection.evaluate.truth import GroundTruth

# Okabe and Ito's: told apart by any colour vision, also on photographs. Missed and found objects are dashed besides.
RIGHT, WRONG, MISSED, FOUND, CROWD = (86, 180, 233), (230, 97, 0), (240, 228, 66), (255, 255, 255), (160, 160, 160)
WHY = {
    "classification": "wrong class",
    "localisation": "badly placed",
    "both": "wrong class and place",
    "duplicate": "found before",
    "background": "nothing there",
}
PAPER = (236, 239, 243)


@dataclass(frozen=True)
class Scene:
    """One image uint8 RGB [H, W, 3], scaled to be shown, and in its pixels (`xyxy`) what it holds and what was found.
    objects: indices into the GroundTruth.  shown: indices into outcomes.shown, best score first."""

    image: np.ndarray
    objects: np.ndarray
    object_boxes: np.ndarray
    shown: np.ndarray
    shown_boxes: np.ndarray


def scene(image: np.ndarray, limit: tuple[int, int], truth: GroundTruth, outcomes: Outcomes, index: int) -> Scene:
    """Image `index` of `truth`, shrunk where it is larger than `limit` = (height, width) in pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, limit[0] / height, limit[1] / width)
    image = scaled_down(image, scale)
    objects = np.flatnonzero(truth.image == index)
    shown = np.flatnonzero(outcomes.shown.image == index)
    shown = shown[np.argsort(-outcomes.shown.scores[shown], kind="stable")]
    boxes = truth.boxes[objects], outcomes.shown.boxes[shown]
    return Scene(image, objects, _xyxy(boxes[0]) * scale, shown, _xyxy(boxes[1]) * scale)


def pair(scene: Scene, truth: GroundTruth, outcomes: Outcomes) -> np.ndarray:
    """The image twice: with the truth on the left, with the detections on the right; a colour for each class."""
    names = truth.category_names
    small_first = np.argsort((scene.object_boxes[:, 2:] - scene.object_boxes[:, :2]).prod(1), kind="stable")
    categories = truth.category[scene.objects[small_first]]
    crowds = truth.crowd[scene.objects[small_first]]
    left = draw_boxes(
        scene.image,
        scene.object_boxes[small_first],
        [CROWD if crowd else class_color(int(k)) for k, crowd in zip(categories, crowds)],
        [f"crowd: {names[k]}" if crowd else names[k] for k, crowd in zip(categories, crowds)],
        dashed=crowds.tolist(),
    )
    found = outcomes.shown[scene.shown]
    right = draw_boxes(
        scene.image,
        scene.shown_boxes,
        [class_color(int(k)) for k in found.category],
        [f"{names[k]} {score:.2f}" for k, score in zip(found.category, found.scores)],
    )
    return np.concatenate([left, np.full((len(left), 4, 3), PAPER, np.uint8), right], 1)


def judged(scene: Scene, truth: GroundTruth, outcomes: Outcomes, words: bool = True) -> np.ndarray:
    """The image once, each box in the colour of its verdict: right, wrong, missed; objects that were found in thin
    dashes. words: the labels also say that something was missed, and why it is wrong; else only the names."""
    names, found = truth.category_names, outcomes.shown[scene.shown]
    crowd, missed = truth.crowd[scene.objects], ~outcomes.found[scene.objects]
    plain = draw_boxes(
        scene.image,
        scene.object_boxes[crowd | ~missed],
        [CROWD if of_crowd else FOUND for of_crowd in crowd[crowd | ~missed]],
        dashed=[True] * int((crowd | ~missed).sum()),
        line_width=max(1, round(max(scene.image.shape) / 500)),
    )
    boxes, colors, texts, dashed = [], [], [], []
    for at in np.flatnonzero(missed & ~crowd):
        boxes.append(scene.object_boxes[at])
        colors.append(MISSED)
        texts.append("missed: " * words + names[truth.category[scene.objects[at]]])
        dashed.append(True)
    wrong = outcomes.wrong[scene.shown]
    for at in np.argsort(~wrong, kind="stable"):  # what is wrong lies on top of what is right
        text = f"{names[found.category[at]]} {found.scores[at]:.2f}"
        kind = outcomes.kind[scene.shown[at]]
        boxes.append(scene.shown_boxes[at])
        colors.append(WRONG if wrong[at] else RIGHT if outcomes.right[scene.shown[at]] else CROWD)
        texts.append(f"{text}: {WHY[KINDS[kind]]}" if wrong[at] and words else text)
        dashed.append(False)
    return draw_boxes(plain, np.array(boxes).reshape(-1, 4), colors, texts, dashed)


def contact_sheet(tiles: Sequence[np.ndarray], columns: int, heading: str) -> np.ndarray:
    """All tiles uint8 [h, w, 3] in a grid of equal cells, each in the middle of its own, under a line of text."""
    high, wide = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    columns, gap, top = min(columns, len(tiles)), 12, 44
    rows = -(-len(tiles) // columns)
    sheet = np.full((top + rows * (high + gap), gap + columns * (wide + gap), 3), PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        y = top + row * (high + gap) + (high - tile.shape[0]) // 2
        x = gap + column * (wide + gap) + (wide - tile.shape[1]) // 2
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    (text_width, text_height), scale = fit_text(heading, 17, sheet.shape[1] - gap)
    if scale:
        put_text(sheet, heading, Area(gap // 2, 4, gap // 2 + text_width, 4 + text_height), scale, PAPER)
    return sheet


def data_uri(image: np.ndarray, quality: int = 80) -> str:
    """The image uint8 RGB as a JPEG inside a `data:` address, for a page that must stand alone."""
    return "data:image/jpeg;base64," + base64.b64encode(encoded(image, ".jpg", quality)).decode()


def _xyxy(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
