"""The detections of a whole data set in flat arrays; COCO results JSON in and out, with one clear line for all that can be
wrong with it."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.data.ids import plain, plainly
from detection.errors import BadDataError, some
from detection.evaluate.categories import match_categories
from detection.evaluate.truth import GroundTruth, indices, renumber
from detection.files import open_json
from detection.outputs.coco_json import write_rows


@dataclass(frozen=True)
class Results:
    """D detections. image, category: int64 [D], indices into a GroundTruth's image_ids and category_ids.
    boxes: float64 [D, 4] `xywh` in pixels of the image.  scores: float64 [D]."""

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray) -> Results:
        """A part of them, by a boolean mask or indices."""
        return Results(self.image[which], self.category[which], self.boxes[which], self.scores[which])

    def select(self, truth: GroundTruth, images: Sequence[int] | None, categories: Sequence[int] | None) -> Results:
        """Those that belong to `truth.select(images, categories)`, with its indices. `truth` is the one before."""
        part = self
        if images is not None:
            index = renumber(indices(images, len(truth.image_ids)), len(truth.image_ids))
            part = Results(index[part.image], part.category, part.boxes, part.scores)[index[part.image] >= 0]
        if categories is not None:
            index = renumber(indices(categories, len(truth.category_ids)), len(truth.category_ids))
            part = Results(part.image, index[part.category], part.boxes, part.scores)[index[part.category] >= 0]
        return part


def no_results() -> Results:
    """Nothing found anywhere."""
    return Results(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))


def read_results(
    path: str | os.PathLike, truth: GroundTruth, tell: Callable[[str], None] = lambda line: None
) -> Results:
    """Reads COCO results, a JSON list of {image_id, category_id, bbox [x, y, width, height], score}; it may be empty.

    Where all of them hold `category_name`, classes are matched by name (`match_categories`), and where they hold
    `file_name`, images are: data sets count both differently. What is left out for that, `tell` gets a line of. Those of
    images that `truth` leaves out are passed over.
    Raises BadDataError, one line: no JSON, no such list, missing keys (all named), image or category ids that
    `truth` does not know, no class in common, broken boxes, scores that are no finite numbers.
    """
    rows = load_json(path)
    if isinstance(rows, dict):
        hint = " (it looks like ground truth: give that with --data)" if "images" in rows else ""
        raise BadDataError(f"{path}: not COCO results but an object; needs a list of detections{hint}")
    if not isinstance(rows, list):
        raise BadDataError(f"{path}: not COCO results; needs a list of detections")
    if not rows:
        return no_results()
    require_keys(path, rows, ("image_id", "category_id", "bbox", "score"))
    image, category = images_of(path, rows, truth, tell), categories_of(path, rows, truth, tell)
    kept = (image >= 0) & (category >= 0)
    return Results(image, category, boxes_of(path, rows), scores_of(path, rows))[kept]


def write_results(path: str | os.PathLike, results: Results, truth: GroundTruth) -> None:
    """Writes COCO results JSON, atomically, with the data set's ids, and the names of classes and files. Not rounded: they
    score the same when read."""
    rows = [
        {"image_id": truth.image_ids[i], "category_id": truth.category_ids[c], "bbox": box, "score": score}
        | {"category_name": truth.category_names[c], "file_name": truth.file_names[i]}
        for i, c, box, score in zip(
            results.image.tolist(), results.category.tolist(), results.boxes.tolist(), results.scores.tolist()
        )
    ]
    write_rows(path, rows)


def perfect_results(truth: GroundTruth) -> Results:
    """The ground truth fed back as detections with score 1, crowds left out: what the self-test evaluates."""
    real = ~truth.crowd
    return Results(truth.image[real], truth.category[real], truth.boxes[real], np.ones(int(real.sum())))


def concatenate(parts: Sequence[Results]) -> Results:
    """Several into one."""
    if not parts:
        return no_results()
    return Results(
        np.concatenate([part.image for part in parts]),
        np.concatenate([part.category for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def load_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file. BadDataError if it is missing, empty, cut short or something else."""
    with open_json(path) as file:
        content = file.read()
    if not content.strip():
        raise BadDataError(f"{path}: not JSON: the file is empty")
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        raise BadDataError(f"{path}: not JSON: not a text file") from None
    except json.JSONDecodeError as error:
        raise BadDataError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadDataError(f"{path}: not COCO: nested too deep") from None
    except ValueError:  # of more than 4300 digits
        raise BadDataError(f"{path}: not JSON: a number that is too long") from None


def require_keys(path: object, rows: list, keys: Sequence[str]) -> None:
    """BadDataError that names every key that some row lacks, with the first such row and how many there are."""
    lacking: dict[str, tuple[int, int]] = {}  # key: (first row, how many)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadDataError(f"{path}: results[{index}] is no object but {str(row)[:40]!r}")
        for key in keys:
            if key not in row:
                first, count = lacking.get(key, (index, 0))
                lacking[key] = (first, count + 1)
    if lacking:
        texts = [f"{key} ({count} of {len(rows)}, first results[{i}])" for key, (i, count) in lacking.items()]
        raise BadDataError(f"{path}: results without " + ", ".join(texts))


def categories_of(path: object, rows: list[dict], truth: GroundTruth, tell: Callable[[str], None]) -> np.ndarray:
    """int64 [len(rows)]: the index of each row's category, -1 where the data do not have its class: by name where all rows
    have one and the data have names, else by id."""
    named = all(isinstance(row.get("category_name"), str) for row in rows)
    if not rows or not named or truth.category_names == tuple(map(str, truth.category_ids)):
        ids = {**{identity: index for index, identity in enumerate(truth.category_ids)}, **truth.other_ids}
        return indices_of(path, "category_id", rows, ids)
    ids_of = {row["category_name"]: row["category_id"] for row in rows}
    try:
        found = match_categories(tuple(ids_of), tuple(ids_of.values()), truth)
    except BadDataError as error:
        raise BadDataError(f"{path}: {error}") from None
    if found.dropped:
        tell(f"{path}: {len(found.dropped)} of its classes are not annotated, dropped: {some(found.dropped)}")
    index = dict(zip(ids_of, found.to_truth.tolist()))
    return np.array([index[row["category_name"]] for row in rows], np.int64)


def images_of(path: object, rows: list[dict], truth: GroundTruth, tell: Callable[[str], None]) -> np.ndarray:
    """int64 [len(rows)]: the index of each row's image, -1 where the data do not have its file: by the name of the file, and
    as much of the path as it takes, where all rows have one that leads to an image, else by id."""
    by_end = _ends(truth)
    index = {name: _with_end(name, by_end) for row in rows if (name := row.get("file_name")) and isinstance(name, str)}
    ids = {**dict.fromkeys(truth.left_out, -1), **{identity: at for at, identity in enumerate(truth.image_ids)}}
    named = all(isinstance(name := row.get("file_name"), str) and name in index for row in rows)
    if not named or not any(found is not None for found in index.values()):
        return indices_of(path, "image_id", rows, ids)
    if strange := [name for name, found in index.items() if found is None]:
        tell(f"{path}: {len(strange)} of its files are no images of {truth.path}, left out, as {strange[0]}")
    return np.array([-1 if (at := index[row["file_name"]]) is None else at for row in rows], np.int64)


def _ends(truth: GroundTruth) -> dict[str, list[tuple[list[str], int]]]:
    """The images of each bare file name, with the parts of their paths from the end."""
    found: dict[str, list[tuple[list[str], int]]] = {}
    for index, name in enumerate(truth.file_names):
        if name:
            longer = truth.paths[index] if truth.paths and truth.paths[index].endswith(name) else name
            parts = _parts(longer)
            found.setdefault(parts[0], []).append((parts, index))
    return found


def _with_end(name: str, by_end: Mapping[str, list[tuple[list[str], int]]]) -> int | None:
    """The only image of that file name, or the one that shares most of the path's end; None where there is none or several."""
    parts = _parts(name)
    found = by_end.get(parts[0], [])
    if len(found) < 2:
        return found[0][1] if found else None
    shared = [
        sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts, other))) for other, _ in found
    ]
    best = [index for (_, index), count in zip(found, shared) if count == max(shared)]
    return best[0] if len(best) == 1 else None


def _parts(name: str) -> list[str]:
    return [part for part in reversed(name.replace("\\", "/").split("/")) if part not in ("", ".")] or [""]


def indices_of(path: object, key: str, rows: list[dict], known: Mapping[Hashable, int]) -> np.ndarray:
    """int64 [len(rows)]: the index that `known` has for each row's id; "7" is 7. BadDataError naming unknown ids."""
    try:
        return np.array([known[row[key]] for row in rows], np.int64)
    except (KeyError, TypeError):  # TypeError: a list or an object as an id
        by_text = plainly(known)
        found = [known.get(row[key]) if isinstance(row[key], Hashable) else None for row in rows]
        found = [by_text.get(plain(row[key])) if at is None else at for row, at in zip(rows, found)]
        if None not in found:
            return np.array(found, np.int64)
        unknown = [row[key] for row, at in zip(rows, found) if at is None]
    kinds = list(dict.fromkeys(map(str, unknown)))
    examples = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
    raise BadDataError(f"{path}: {len(unknown)} results with an unknown {key}: {examples}")


def boxes_of(path: object, rows: list[dict]) -> np.ndarray:
    """float64 [len(rows), 4] from their `bbox`. BadDataError for the first that is not 4 finite numbers, w, h >= 0."""
    try:
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(len(rows), 4)
        bad = ~(np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 0).all(1))
    except (TypeError, ValueError, OverflowError):
        bad = np.array([not _is_box(row["bbox"]) for row in rows])
    if bad.any():
        first = int(bad.argmax())
        more = f" ({bad.sum()} such boxes)" if bad.sum() > 1 else ""
        raise BadDataError(
            f"{path}: results[{first}] has bbox {str(rows[first]['bbox'])[:60]}{more}; "
            "needs [x, y, width, height], finite, width and height not negative"
        )
    return boxes


def scores_of(path: object, rows: list[dict]) -> np.ndarray:
    """float64 [len(rows)] from their `score`. BadDataError for the first that is no finite number."""
    values = np.empty(len(rows), np.float64)
    for index, row in enumerate(rows):
        try:
            values[index] = row["score"]
        except (TypeError, ValueError, OverflowError):
            values[index] = np.nan
        if not np.isfinite(values[index]):
            raise BadDataError(
                f"{path}: results[{index}] has score {str(row['score'])[:40]!r}, which is no finite number"
            )
    return values


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, (list, tuple)) and len(value) == 4
    return (
        numbers
        and all(isinstance(v, (int, float)) and abs(v) <= sys.float_info.max for v in value[:])
        and min(value[2:]) >= 0
    )
