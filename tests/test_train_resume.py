"""A run that was stopped and resumed is the run that was never stopped, to the bit, on a CPU."""

import json
import shutil
import signal

import pytest
import train_runs as runs
from safetensors.torch import load_file

from detection.errors import BadDataError, BadWeightsError, MobileSSDError
from detection.train.run import train
from detection.train.state import LAST, PREVIOUS, read_state

OPTIMIZERS = {
    "sgd": {"optimizer": {"kind": "sgd", "lr": 0.02, "nesterov": True}},
    "adamw": {"optimizer": {"kind": "adamw", "lr": 2e-3}, "accumulate": 2},
    "int8": {"optimizer": {"kind": "adamw", "lr": 2e-3}, "round_to_int8": True},
    "knobs": {
        "augmentation": {
            "mosaic": 0.3,
            "mixup": 0.3,
            "flip_vertical": 0.5,
            "rotate": 20,
            "transforms": [{"OneOf": {"transforms": ["Blur", "GaussNoise", {"CoarseDropout": {"p": 0.5}}], "p": 0.9}}],
        },
        "balanced_sampling": 1.0,
        "loss": {"class_weights": {"disc": 2.0}},
        "input_sizes": [96, 128],
    },
    "rmsprop": {"optimizer": {"kind": "rmsprop", "lr": 4e-3, "weight_decay": 4e-5}, "ema": {"decay": 0}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    runs.shapes(folder)
    return runs.shapes(folder, 4, "val")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of an uninterrupted run by optimiser; made once."""
    made = {}

    def of(kind):
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                runs.without_report(patch)
                folder = tmp_path_factory.mktemp("whole") / kind
                made[kind] = train(runs.request(data, folder, **OPTIMIZERS[kind]))
        return made[kind]

    return of


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("sgd", 0, 2), ("adamw", 2, 0), ("int8", 0, 0), ("rmsprop", 0, 0), ("knobs", 0, 2)]
)
def test_stopped_in_mid_epoch_and_resumed(data, whole, tmp_path, monkeypatch, capfd, kind, before, after):
    """Step 7 of 10: between evaluations (5 and 10), log rows (4 and 8) and the ends of epochs (3 and 6 steps)."""
    with monkeypatch.context() as patch:
        runs.interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train(runs.request(data, tmp_path, workers=before, **OPTIMIZERS[kind]))
    assert "stopping after this step" in capfd.readouterr().err
    assert read_state(tmp_path).meta["step"] == 7
    train(runs.request(data, tmp_path, resume=True, workers=after, **OPTIMIZERS[kind]))
    runs.assert_same(runs.outcome(whole(kind)), runs.outcome(tmp_path))


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(data, whole, tmp_path, caplog):
    shutil.copytree(whole("adamw"), tmp_path, dirs_exist_ok=True)
    last = tmp_path / LAST
    last.write_bytes(last.read_bytes()[:-1000])
    with caplog.at_level("WARNING", "mobilessd.train"):
        train(runs.request(data, tmp_path, resume=True, **OPTIMIZERS["adamw"]))
    assert "last.state.safetensors is damaged" in caplog.text and "going on from previous" in caplog.text
    runs.assert_same(runs.outcome(whole("adamw")), runs.outcome(tmp_path))


def test_nothing_to_resume_is_one_line(data, whole, tmp_path):
    with pytest.raises(BadWeightsError, match="holds no last.state.safetensors, so there is nothing to resume"):
        train(runs.request(data, tmp_path / "empty", resume=True))
    shutil.copytree(whole("adamw"), tmp_path / "broken")
    for name in (LAST, PREVIOUS):
        (tmp_path / "broken" / name).write_bytes(b"\0" * 100)
    with pytest.raises(BadWeightsError, match="last.state.safetensors is damaged .*; previous.state.safetensors is"):
        train(runs.request(data, tmp_path / "broken", resume=True))


@pytest.mark.parametrize("workers", (0, 1))
def test_sigterm_stops_like_ctrl_c(data, tmp_path, monkeypatch, workers):
    runs.interrupt_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(runs.request(data, tmp_path, workers=workers))
    assert read_state(tmp_path).meta["step"] == 2


def test_the_seed_gives_the_same_run_twice_and_another_seed_another(data, whole, tmp_path):
    """Whatever the number of workers."""
    train(runs.request(data, tmp_path / "again", workers=2, **OPTIMIZERS["rmsprop"]))
    runs.assert_same(runs.outcome(whole("rmsprop")), runs.outcome(tmp_path / "again"))
    train(runs.request(data, tmp_path / "other", seed=1, steps=1, **OPTIMIZERS["rmsprop"]))
    weights = [load_file(folder / "last.safetensors") for folder in (whole("rmsprop"), tmp_path / "other")]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_a_run_is_not_overwritten(data, whole):
    with pytest.raises(MobileSSDError, match="holds a run already; go on with --resume"):
        train(runs.request(data, whole("sgd")))


def test_other_data_cannot_go_on_with_a_run(whole, tmp_path):
    runs.shapes(tmp_path, seed=9)
    runs.shapes(tmp_path, 4, "val")
    with pytest.raises(BadDataError, match="began with other images or boxes"):
        train(runs.request(tmp_path, whole("sgd"), resume=True, **OPTIMIZERS["sgd"]))


def test_resume_alone_finds_the_data_and_needs_no_weights(data, tmp_path, monkeypatch, whole):
    """The run began from a file that is gone, on data and a share that nobody says again."""
    weights = shutil.copy(whole("adamw") / "best.safetensors", tmp_path / "begin.safetensors")
    changes = {"model": None, "options": {}, "weights": str(weights), "steps": 4}
    with monkeypatch.context() as patch:
        runs.interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(runs.request(data, tmp_path / "run", select=0.25, **changes))
    weights.unlink()
    request = runs.request("", tmp_path / "run", resume=True, **changes)
    train(request)
    state = read_state(tmp_path / "run").meta
    assert state["step"] == 4 and state["origin"]["request"]["select"] == 0.25


def test_a_word_that_contradicts_the_run_is_refused_also_where_it_is_the_default(data, tmp_path, monkeypatch):
    """The teacher's box of score 0.6 is no target at --keep-pseudo-labels 0.7; with an explicit 0.5 it would be one."""
    plain = json.loads((data / "annotations" / "instances_train.json").read_text())
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [70, 70, 20, 20], "area": 400, "iscrowd": 0, "score": 0.6}
    (data / "train" / "teacher.json").write_text(json.dumps(plain | {"annotations": [box]}))
    asked = {"pseudo_labels": [str(data / "train" / "teacher.json")], "unknown": ["disc"], "steps": 3}
    with monkeypatch.context() as patch:
        runs.interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(runs.request(data, tmp_path, keep_pseudo_labels=0.7, **asked))
    with pytest.raises(BadDataError, match="began with other images or boxes"):
        train(runs.request("", tmp_path, resume=True, steps=3, keep_pseudo_labels=0.5))
    with pytest.raises(MobileSSDError, match="this run has the class map none; leave --class-map out"):
        train(runs.request("", tmp_path, resume=True, steps=3, class_map={"disc": "square"}))
    assert read_state(tmp_path).meta["step"] == 2
    train(runs.request("", tmp_path, resume=True, steps=3))
    assert read_state(tmp_path).meta["step"] == 3


def test_another_length_in_the_config_of_a_run_takes_effect(data, tmp_path):
    """A finished run goes on to its new end; what cannot change is said, and so is a length that is over already."""
    train(runs.request(data, tmp_path, steps=2, evaluate_every=1))
    train(runs.request("", tmp_path, resume=True, steps=4, evaluate_every=2))
    state = read_state(tmp_path).meta
    assert state["step"] == 4 and state["plan"]["steps"] == 4 and state["plan"]["evaluate_every"] == 2
    with pytest.raises(MobileSSDError, match="steps: 3 are 3 steps, but this run has made 4 already"):
        train(runs.request("", tmp_path, resume=True, steps=3))
    with pytest.raises(MobileSSDError, match="batch was 4 when the run began and cannot change"):
        train(runs.request("", tmp_path, resume=True, steps=4, batch=2))
