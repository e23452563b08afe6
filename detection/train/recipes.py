"""The recipes of configs/ and what a command line changes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection.errors import MobileSSDError, quoted
from detection.files import expanded
from detection.train.config import TrainConfig
from detection.weights.records import DEFAULT
from detection.yaml_reader import read_yaml

_HERE = Path(__file__).resolve().parent
# The recipes: beside the packages in a checkout, within this one when installed (setup.py puts them there).
CONFIGS = next((folder for folder in (_HERE / "configs", _HERE.parents[1] / "configs") if folder.is_dir()), _HERE)
DATA = "data"  # the section of a run's config.yaml that says what it was trained on; not of TrainConfig
FINETUNE = "finetune"  # the recipe that needs no file: it is TrainConfig's own defaults


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The config in a YAML file, or of one of configs/ by its bare name.

    overrides: values by dotted key ("optimizer.lr"), which win. Another batch keeps the file's as `recipe_batch`, so
    that lr scales with it (`rescale_lr`), and a length in steps against it. Another length ("epochs") takes the place
    of the file's as it is, and stretches what the file gives in that unit (milestones ...) along. "lr" is the rate for
    the batch of the run, "optimizer.lr" that for the recipe's. Where neither weights nor a model are named, it begins
    with the bundled weights. Raises MobileSSDError, one line.
    """
    path = config_path(path)
    data = {key: value for key, value in _read(path).items() if key != DATA}
    overrides = dict(overrides or {})
    own = TrainConfig.from_dict(data, str(path))
    if data.get("recipe_batch") is None:
        data["recipe_batch"] = own.batch
    lengths = {key: overrides[key] for key in ("steps", "epochs", "samples") if overrides.get(key) is not None}
    ratio = _positive(overrides.get("batch"), own.batch) / own.batch
    if lengths:
        unit, length = next(iter(lengths.items()))
        data = {key: value for key, value in data.items() if key not in ("steps", "epochs", "samples", "replanned")}
        length = _positive(length, own.length)
        _stretch(data, own, length / own.length)
        seen = {"steps": own.batch * ratio, "samples": 1.0, "epochs": 1.0}  # images in one; of epochs nobody knows
        if unit == own.unit or "epochs" not in (unit, own.unit):
            longer = length * seen[unit] / (own.length * (own.batch if own.unit == "steps" else 1.0))
            if longer < 1:
                put(data, "schedule.warmup", round(own.schedule.warmup * longer))
    elif own.unit == "steps" and ratio != 1 and overrides.get("rescale_lr", own.rescale_lr):
        data["steps"] = math.ceil(own.length / ratio - 1e-6)
        _stretch(data, own, 1 / ratio)
    rate = overrides.pop("lr", None)
    for key, value in overrides.items():
        put(data, key, value)
    config = TrainConfig.from_dict(data, str(path))
    if config.weights is None and config.model is None:
        config = replace(config, weights=DEFAULT)
    if rate is not None:
        scale = config.batch / (config.recipe_batch or config.batch) if config.rescale_lr else 1.0
        config = replace(config, optimizer=replace(config.optimizer, lr=rate / scale))
    return config


def data_section(path: str | Path) -> dict[str, Any] | None:
    """What a run's config.yaml says of its data, unchecked; None where the file is a recipe for any data."""
    section = _read(config_path(path)).get(DATA)
    if section is not None and not isinstance(section, dict):
        raise MobileSSDError(f"{path}: {DATA}: expected keys and values, found {quoted(section)}")
    return section


def _read(path: Path) -> dict[str, Any]:
    return {} if str(path) == FINETUNE and not path.is_file() else read_yaml(path)


def _stretch(data: dict[str, Any], own: TrainConfig, factor: float) -> None:
    """Multiplies what `own` gives in the unit of its length, and puts it into `data`."""
    for key in ("evaluate_every", "keep_every"):
        if getattr(own, key):
            data[key] = getattr(own, key) * factor
    if own.schedule.milestones:
        put(data, "schedule.milestones", [milestone * factor for milestone in own.schedule.milestones])
    if own.schedule.decay_every:
        put(data, "schedule.decay_every", own.schedule.decay_every * factor)


def _positive(value: Any, otherwise: float) -> float:
    """A number given over a config's, or the config's own where it is none: `from_dict` says what is wrong with it."""
    return value if isinstance(value, (int, float)) and value > 0 else otherwise


def config_path(name: str | Path) -> Path:
    """A file, or the file of a bare name in configs/; "finetune" itself where that folder is missing. Raises
    MobileSSDError with the names there are."""
    path = expanded(name)
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    if (own := CONFIGS / f"{path}.yaml").exists():
        return own
    if str(name) == FINETUNE:
        return path
    raise MobileSSDError(
        f"no config {str(name)!r}; there are {', '.join(list_configs()) or FINETUNE}, or a path to a YAML file"
    )


def list_configs() -> tuple[str, ...]:
    """Names of the recipes in configs/."""
    return tuple(sorted(path.stem for path in CONFIGS.glob("*.yaml")))


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Sets a value of a recipe by its dotted key, in place; sections that are missing are made."""
    *sections, last = key.split(".")
    for section in sections:
        inner = data.get(section) or {}
        inner = {"preset": inner} if isinstance(inner, str) else inner
        data[section] = inner = dict(inner) if isinstance(inner, dict) else {}
        data = inner
    data[last] = value
