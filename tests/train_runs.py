"""Tiny training runs for tests: images of coloured shapes, a quarter-width network at 96 pixels, a dozen steps."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from detection.train.config import TrainConfig
from detection.train.learn import loop
from detection.train.learn.history import read_history
from detection.train.run import Request
from detection.train.state import read_state

SIDE = 96
CLASSES = ("disc", "square")


def shapes(folder: Path, count: int = 12, split: str = "train", seed: int = 0) -> Path:
    """A COCO data set `folder` with the split `split`: one to three discs and squares on a grey ground."""
    rng = np.random.default_rng((seed, len(split)))
    images, annotations = [], []
    (folder / split).mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        image = rng.integers(90, 130, (SIDE, SIDE, 3), dtype=np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
        for _ in range(int(rng.integers(1, 4))):
            side = int(rng.integers(24, 48))
            x, y = (int(v) for v in rng.integers(0, SIDE - side, 2))
            kind = int(rng.integers(1, 3))
            if kind == 1:
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (40, 60, 230), -1)
            else:
                cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (220, 80, 30), -1)
            box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": kind, **box})
        cv2.imwrite(str(folder / split / f"{number}.png"), image)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    (folder / "annotations").mkdir(exist_ok=True)
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations" / f"instances_{split}.json").write_text(text)
    return folder


def config(**changes: Any) -> TrainConfig:
    """A run of ten steps that evaluates every five; `changes` by dotted key with `__` for the dot."""
    plain: dict[str, Any] = {
        "model": "ssd_mobilenet_v1",
        "options": {"alpha": 0.25},
        "input_size": SIDE,
        "batch": 4,
        "steps": 10,
        "evaluate_every": 5,
        "evaluation_share": 1,
        "workers": 0,
        "compile": False,
        "precision": "float32",
        "cache_mb": 0,
        "optimizer": {"kind": "adamw", "lr": 2e-3},
        "schedule": {"warmup": 3},
        "log_every": 4,
    }
    for key, value in changes.items():
        section, dot, name = key.partition("__")
        if dot:
            plain[section] = {**plain.get(section, {}), name: value}
        else:
            plain[section] = value
    return TrainConfig.from_dict(plain)


def request(data: Path, output: Path, resume: bool = False, **changes: Any) -> Request:
    """What `train` takes: on one thread of the CPU; `changes` go to `config`."""
    names = ("select", "val", "time_budget", "class_map", "classes", "unknown", "pseudo_labels", "keep_pseudo_labels")
    own = {key: changes.pop(key) for key in names if key in changes}
    return Request(str(data), config(**changes), output, device="cpu", threads=1, resume=resume, **own)


def without_report(monkeypatch: Any) -> None:
    """Leaves the plots out, which take longer than a tiny training."""
    monkeypatch.setattr("detection.train.finalize._report", lambda *_: None)


def interrupt_at(monkeypatch: Any, step: int, what: signal.Signals = signal.SIGINT) -> None:
    """Sends a signal to this process and to all that load for it, as a terminal and `kill -- -GROUP` do, in the middle
    of step `step`, counted from 1 for each call of `train`."""
    original, count = loop.step_gradients, iter(range(1, 10**6))

    def interrupted(*arguments: Any) -> dict[str, float]:
        if next(count) == step:
            for child in multiprocessing.active_children():
                os.kill(child.pid, what)
            os.kill(os.getpid(), what)
        return original(*arguments)

    monkeypatch.setattr(loop, "step_gradients", interrupted)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run learned and said: state, plan and progress, weights, history; without what the clock decides."""
    state = read_state(folder)
    plain = {key: state.meta[key] for key in ("plan", "progress", "step", "optimizer")}
    plain["progress"] = {key: value for key, value in plain["progress"].items() if key != "seconds"}
    clock = ("seconds", "images_per_second", "data_wait")
    rows = [{key: value for key, value in row.items() if key not in clock} for row in read_history(folder)]
    tensors = {f"state {name}": tensor for name, tensor in state.tensors.items()}
    for file in sorted(folder.glob("*.safetensors")):
        if not file.name.endswith(".state.safetensors"):
            tensors |= {f"{file.name} {name}": tensor for name, tensor in load_file(file).items()}
    return {"plain": plain, "rows": rows, "tensors": tensors}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two outcomes are equal, to the bit."""
    assert one["plain"] == other["plain"]
    assert one["rows"] == other["rows"]
    assert list(one["tensors"]) == list(other["tensors"])
    differ = [name for name, tensor in one["tensors"].items() if not torch.equal(tensor, other["tensors"][name])]
    assert not differ, f"{len(differ)} of {len(one['tensors'])} tensors differ: {differ[:5]}"
