"""One door for data sets: looks at a path, says what it is and which splits it has, and reads it.

`open_data("BCCD")`, `open_data("coco/", "val")`, `open_data("instances.json", images="images/")`,
`open_data("data.yaml")`. What was looked for is in the error where nothing is recognised.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.boxes.class_names import meaning
from detection.data.dataset import DetectionData
from detection.data.layout import Layout, role_of
from detection.data.readers import FORMATS
from detection.errors import BadDataError, MobileSSDError


def open_data(
    path: str | os.PathLike,
    split: str | None = None,
    format: str = "auto",
    class_names: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
) -> DetectionData:
    """Reads a data set.

    split: `train`, `val`, `test` or the data set's own name for one; None takes `train` where there is one, else
    everything; "all" takes everything (COCO with several files excepted). format: coco, voc, yolo or auto (by looking).
    class_names: the classes wanted, in order (`DetectionData.with_classes`). images: folder of a COCO file's images.
    Raises BadDataError with one line.
    """
    layout = recognise(path, format)
    if split == "all" and "all" not in layout.splits:
        name = None
    else:
        name = layout.resolve(split) if split else layout.default("train")
    data = read(layout, name, images)
    return data if class_names is None else data.with_classes(class_names)


def open_pair(
    path: str | os.PathLike,
    split: str | None = None,
    val: str | os.PathLike | None = None,
    format: str = "auto",
    class_names: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
    val_images: str | os.PathLike | None = None,
) -> tuple[DetectionData, DetectionData | None]:
    """Training and validation data; validation gets the classes of training.

    `val`: a split of the same data set, or the path of another; None looks for the split `val` (then `valid`, `test`)
    and gives None where there is none.
    """
    train = open_data(path, split, format, class_names, images)
    layout = recognise(path, format)
    own = split or layout.default("train")
    if val is None:
        name = layout.default("val", "test")
        if name is None or own is None or name == own or role_of(name) == role_of(own):
            return train, None
        held = read(layout, name, val_images or images)
    elif os.path.exists(val) and os.fspath(val) not in layout.splits:
        other = recognise(val, "auto")
        held = read(other, other.default("val", "test"), val_images)
    else:
        held = read(layout, layout.resolve(os.fspath(val)), val_images or images)
    return train, held.with_classes(train.class_names, train.category_ids)


def open_parts(
    path: str | os.PathLike,
    split: str | None = None,
    format: str = "auto",
    images: str | os.PathLike | None = None,
    failed: dict[str, str] | None = None,
) -> dict[str, DetectionData]:
    """Each split of a data set by its name (`trainval` not beside train and val), all with the same classes; "" where it has
    none, or `split` is "all". failed: gets what is wrong with a split that cannot be read, as long as another one can;
    None: the first such ends all."""
    layout = recognise(path, format)
    if split is not None and (split != "all" or "all" in layout.splits):
        names = [layout.resolve(split)]
    else:
        names = [name for name in layout.splits if role_of(name) != "trainval" or len(layout.splits) < 3]
    if split == "all" and "all" not in layout.splits or not names:
        return {"": read(layout, None, images)}
    parts = dict[str, DetectionData]()
    for name in names:
        try:
            parts[name] = read(layout, name, images)
        except MobileSSDError as error:
            if failed is None or len(failed) + 1 == len(names):
                raise
            failed[name] = str(error)
    return with_one_list(parts)


def with_one_list(parts: Mapping[str, DetectionData]) -> dict[str, DetectionData]:
    """The same with one list of classes: those of the first, then what the others have besides."""
    first, *others = parts.values()
    names, ids, known = list(first.class_names), list(first.category_ids), set(map(meaning, first.class_names))
    for part in others:
        for name, identity in zip(part.class_names, part.category_ids):
            if meaning(name) not in known:
                known.add(meaning(name))
                names.append(name)
                ids.append(identity if identity not in ids else next(i for i in range(1, len(ids) + 2) if i not in ids))
    alike = {split: part.class_names == tuple(names) for split, part in parts.items()}
    return {split: part if alike[split] else part.with_classes(names, ids) for split, part in parts.items()}


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Reads a split by its exact name; None reads everything that is annotated."""
    with _guard(layout.path, layout.format):
        return importlib.import_module(FORMATS[layout.format][0]).read(layout, split, images)


@contextmanager
def _guard(path: Path, format: str) -> Iterator[None]:
    """Whatever a reader makes of a stranger's file that nobody has thought of: one line."""
    try:
        yield
    except MobileSSDError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise BadDataError(f"{path}: cannot be read as {format.upper()} ({reason})") from error


def recognise(path: str | os.PathLike, format: str = "auto") -> Layout:
    """Which format a path holds, and which splits. A folder whose only data set lies one level down is opened there."""
    path = Path(path)
    if format not in ("auto", *FORMATS):
        raise BadDataError(f"unknown data format {format!r}: known are auto, {', '.join(sorted(FORMATS))}")
    if not path.exists():
        raise BadDataError(f"{path}: no such file or folder")
    if layout := _look_at(path, format):
        return layout
    below = [found for child in _children(path) if (found := _look_at(child, format))]
    if len(below) == 1:
        return below[0]
    if below:
        raise BadDataError(
            f"{path}: holds several data sets, give one: {', '.join(str(found.path) for found in below)}"
        )
    wanted = [f"{name.upper()}: {FORMATS[name][1]}" for name in sorted(FORMATS) if format in ("auto", name)]
    raise BadDataError(f"{path}: no data set recognised. Looked for {'; '.join(wanted)}")


def _look_at(path: Path, format: str) -> Layout | None:
    for name, (module, _) in FORMATS.items():
        if format in ("auto", name):
            with _guard(path, name):
                if layout := importlib.import_module(module).look(path):
                    return layout
    return None


def _children(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if path.is_dir() else []
