"""albumentations' transforms by name, for `augmentation.transforms` of a recipe; their boxes go along.

They see the image as the network will, after crop and resize, where they are cheap. Nothing is remembered between two
images: each has the seed that the loader's generator gives, so that a resumed run goes on to the bit.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from detection.errors import BadDataError, MissingPackageError, MobileSSDError, install_line, nearest
from detection.train.input.sample import Sample, cut

Entry = str | dict[str, dict[str, Any] | None]  # Blur, or {Blur: {p: 0.2}}
GROUPS = ("OneOf", "SomeOf", "Sequential")  # whose argument `transforms` is a list of the same kind
VISIBLE = 0.1  # of a box's area: with less of it left inside the image the object is gone
TRIED = 384  # side of the image that a new list is tried with
MOST = 100  # transforms in a list


@cache
def albumentations() -> Any:
    """The module. Raises MissingPackageError where it is missing or another than the MIT 2.0.x."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for a newer version
    from importlib import metadata

    try:
        licence_holder = {name.lower() for name in metadata.packages_distributions().get("albumentations", [])}
        import albumentations as A
    except ImportError:
        raise MissingPackageError(
            f"augmentation.corrupt, .rotate and .transforms need albumentations: {install_line('train')}"
        ) from None
    if "albumentationsx" in licence_holder or not A.__version__.startswith("2.0."):
        raise MissingPackageError(
            "the installed albumentations is not the MIT 2.0.x: pip uninstall albumentationsx; "
            "pip install 'albumentations>=2.0,<2.1'"
        )
    return A


def check_transforms(rotate: float, entries: Sequence[Entry], fill: Sequence[int]) -> None:
    """Raises MobileSSDError, one line, for a name or an argument that albumentations does not have, and for what cannot be
    done to an image and its boxes: each transform is tried once."""
    if len(entries) > MOST:
        raise MobileSSDError(f"augmentation.transforms: {len(entries)} are more than {MOST}")
    pipeline = pipeline_of(*key_of(rotate, entries, fill))
    image = np.random.default_rng(0).integers(0, 256, (TRIED, TRIED, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, TRIED, TRIED], [9, 9, 99, 199]], np.float32)
    for transform in pipeline.transforms:
        usual, transform.p = transform.p, 1.0
        name = type(transform).__name__
        try:
            done = pipeline(image=image, bboxes=boxes, index=np.arange(2))["image"]
        except Exception as error:
            raise MobileSSDError(f"augmentation.transforms: {name}: {_reason(error)}") from None
        finally:
            transform.p = usual
        if done.dtype != np.uint8 or done.shape[2:] != (3,):
            raise MobileSSDError(
                f"augmentation.transforms: {name} gives {done.dtype} {list(done.shape)}, and an image in colours is "
                "uint8 [height, width, 3]; leave it out (the network normalises by itself)"
            )


def key_of(rotate: float, entries: Sequence[Entry], fill: Sequence[int]) -> tuple[float, str, tuple[int, ...]]:
    """The arguments of `pipeline_of`, which can be hashed."""
    return float(rotate), json.dumps(entries), tuple(fill)


@cache
def pipeline_of(rotate: float, entries: str, fill: tuple[int, ...]) -> Any:
    """The pipeline: up to `rotate` degrees to either side first, then the entries (JSON) in their order."""
    A = albumentations()
    chosen = [A.Rotate(limit=rotate, border_mode=0, fill=fill, p=1.0)] if rotate else []
    chosen += [_made(A, entry, f"augmentation.transforms[{i}]") for i, entry in enumerate(json.loads(entries))]
    bounds = A.BboxParams(
        "pascal_voc", label_fields=["index"], min_visibility=VISIBLE, clip=True, filter_invalid_bboxes=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where none of them moves boxes, it wonders why it has some
        return A.Compose(chosen, bbox_params=bounds)


def transformed(sample: Sample, key: tuple[float, str, tuple[int, ...]], rng: np.random.Generator) -> Sample:
    """A sample after the pipeline of `key_of`, of the same size: what changes it is stretched back."""
    pipeline = pipeline_of(*key)
    pipeline.set_random_seed(int(rng.integers(2**31)))
    try:
        done = pipeline(image=sample.image, bboxes=sample.boxes, index=np.arange(len(sample.boxes)))
    except Exception as error:
        height, width = sample.size
        raise BadDataError(f"augmentation.transforms: {_reason(error)}, with an input of {width}x{height}") from None
    kept = np.asarray(done["index"], np.int64).reshape(-1)
    boxes = np.asarray(done["bboxes"], np.float32).reshape(-1, 4)
    out = replace(sample.select(kept), image=np.ascontiguousarray(done["image"]), boxes=boxes)
    return out if out.size == sample.size else cut(out, (0, 0, *out.size[::-1]), sample.size)


def _made(A: Any, entry: Any, where: str) -> Any:
    """One transform of a recipe. Raises MobileSSDError."""
    given = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(given, Mapping) or len(given) != 1:
        raise MobileSSDError(f"{where}: write a name, or one name with its arguments as in {{Blur: {{p: 0.2}}}}")
    ((name, arguments),) = given.items()
    if arguments is not None and not isinstance(arguments, Mapping):
        raise MobileSSDError(f"{where}: {name}: its arguments are keys and values, as in {{Blur: {{p: 0.2}}}}")
    kind, arguments = _known(A).get(name), dict(arguments or {})
    if kind is None:
        raise MobileSSDError(
            f"{where}: {name!r} is no transform of albumentations {A.__version__} for images with boxes"
            f"{_hint(name, _known(A))}"
        )
    parameters = list(inspect.signature(kind).parameters)
    for argument in arguments:
        if argument not in parameters:
            raise MobileSSDError(f"{where}: {name} has no argument {argument!r}{_hint(argument, parameters)}")
    if name in GROUPS:
        inner = arguments.get("transforms")
        if not isinstance(inner, list):
            raise MobileSSDError(f"{where}: {name} needs transforms: a list")
        arguments["transforms"] = [_made(A, each, f"{where}.{name}[{i}]") for i, each in enumerate(inner)]
    try:
        return kind(**arguments)
    except Exception as error:
        raise MobileSSDError(f"{where}: {name}: {_reason(error)}") from None


@cache
def _known(A: Any) -> dict[str, type]:
    """The transforms that leave boxes right, by name."""
    boxes = A.core.type_definitions.Targets.BBOXES
    found = {name: getattr(A, name) for name in dir(A)}
    kinds = (A.ImageOnlyTransform, A.DualTransform)
    fits = {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, kinds) and not inspect.isabstract(kind) and kind not in kinds
        if issubclass(kind, A.ImageOnlyTransform) or boxes in getattr(kind, "_targets", ())
    }
    return fits | {name: found[name] for name in GROUPS}


def _hint(word: str, known: Any) -> str:
    near = nearest(word, known)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known)[:12])}, ..."


def _reason(error: Exception) -> str:
    """What was wrong, in one line: of pydantic's several those that say which argument, and why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "validation error" in lines[0]:
        said = [line.partition(" [type=")[0] for line in lines[1:3] if not line.startswith("For further")]
        return ": ".join(said).replace("Value error, ", "")
    return lines[0]
