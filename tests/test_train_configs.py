"""Every recipe of configs/ makes two steps: its network, augmentation, loss, optimiser and schedule work together."""

import math

import pytest
import torch
import train_runs as runs

from detection.train.learn import loop
from detection.train.learn.history import read_history
from detection.train.learn.optimizer import RMSpropTF
from detection.train.learn.schedule import learning_rate, resolve
from detection.train.recipes import list_configs, load_config
from detection.train.run import Request, train
from detection.train.state import read_state

KINDS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "rmsprop": RMSpropTF}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.shapes(tmp_path_factory.mktemp("shapes"), 5)


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    """For the recipes that need a network to begin with, or one to learn from."""
    with pytest.MonkeyPatch.context() as patch:
        runs.without_report(patch)
        return train(runs.request(data, tmp_path_factory.mktemp("begin"), steps=1, select=0.0)) / "best.safetensors"


def shrunk(name, weights):
    """The recipe with a thin network, a small input and two images a step."""
    config = load_config(name)
    small = {
        "batch": 2,
        "steps": 2,
        "recipe_batch": None,
        "workers": 0,
        "compile": False,
        "log_every": 1,
        "cache_mb": 0,
    }
    taught = {"distillation.teacher": str(weights)} if config.distillation.teacher else {}
    if config.model is None:
        return load_config(name, small | taught | {"weights": str(weights)})
    vgg = "vgg" in config.model  # whose last layers need so large an input
    options = dict(config.options) | {"alpha": 0.125 if vgg else 0.25}
    size = 288 if vgg else 96
    return load_config(name, small | taught | {"options": options, "input_size": size, "weights": None})


@pytest.mark.parametrize("name", list_configs())
def test_two_steps(name, data, weights, tmp_path, monkeypatch):
    jobs = []
    fit = loop.fit
    monkeypatch.setattr("detection.train.run.fit", lambda job, *rest: (jobs.append(job), fit(job, *rest)))
    monkeypatch.setattr("detection.train.run.finish", lambda *_, **__: None)
    config = shrunk(name, weights)
    train(Request(str(data), config, tmp_path, device="cpu", threads=1, select=0.0))
    rows, state = read_history(tmp_path), read_state(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(math.isfinite(row[key]) for row in rows for key in ("loss", "classification", "localization"))
    assert rows[0]["loss"] > 0 and rows[0]["positives"] > 0
    schedule = resolve(config, len(jobs[0].loader.data), 2)
    assert [row["lr"] for row in rows] == pytest.approx([learning_rate(schedule, step) for step in (0, 1)])
    assert isinstance(jobs[0].optimizer, KINDS[config.optimizer.kind])
    scores = jobs[0].ssd.spec.scores
    assert jobs[0].loss.classification == (
        scores if config.loss.classification == "auto" else config.loss.classification
    )
    assert state.meta["step"] == 2 and all(tensor.isfinite().all() for tensor in state.part("model").values())
