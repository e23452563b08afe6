"""--batch auto: as many images as the memory takes, once, when a run begins."""

import logging

import pytest
import train_runs as runs
import yaml

from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.train import memory
from detection.train.run import train
from detection.train.state import read_state

MB = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = runs.shapes(tmp_path_factory.mktemp("shapes"), 24)
    return runs.shapes(folder, 4, "val")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


def auto(data, folder, **changes):
    """A request whose batch is what fits."""
    asked = runs.request(data, folder, **changes)
    asked.at_batch = lambda batch: runs.config(**changes, batch=batch)
    return asked


def found(data, folder, monkeypatch, megabytes, **changes):
    monkeypatch.setattr(memory, "free_memory", lambda device: megabytes * MB)
    train(auto(data, folder, **{"steps": 2, "evaluate_every": 0, **changes}))
    return read_state(folder).meta["plan"]["batch"]


def test_twice_the_memory_takes_about_twice_the_images(data, tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "mobilessd.train"):
        small, large = (found(data, tmp_path / str(size), monkeypatch, size) for size in (40, 80))
    assert 2 <= small < large <= 24 and large >= 2 * small
    assert f"batch {large}: an image takes" in caplog.text and "0.1 GB are free" in caplog.text


def test_no_more_than_there_are_images(data, tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "mobilessd.train"):
        assert found(data, tmp_path / "all", monkeypatch, 10_000) == 24
    assert "GB are free; all there are" in caplog.text


def test_a_run_of_so_many_images_keeps_a_hundred_steps(data, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "FEWEST_STEPS", 4)
    assert found(data, tmp_path, monkeypatch, 10_000, steps=None, samples=46, accumulate=2) == 10, (
        "11 would have no two parts"
    )


def test_larger_inputs_and_their_anchors_count_with_the_largest(data, tmp_path, monkeypatch):
    plain = found(data, tmp_path / "one", monkeypatch, 60)
    assert found(data, tmp_path / "two", monkeypatch, 60, input_sizes=[96, 192]) < plain


def test_no_memory_is_one_line(data, tmp_path, monkeypatch):
    with pytest.raises(MobileSSDError, match="--batch auto: an image takes .* MB and 9 MB are free, so no batch fits"):
        found(data, tmp_path / "run", monkeypatch, 9)
    assert not (tmp_path / "run").exists()


def test_a_system_that_does_not_say_is_one_line(tmp_path):
    with pytest.raises(MobileSSDError, match="does not say how much memory is free for mps; give a number"):
        memory.free_memory("mps")
    assert memory.free_memory("cpu") > 0


def test_a_resumed_run_has_the_batch_that_was_found_and_is_the_unbroken_one(data, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 50 * MB)
    command = [
        "train",
        "--data",
        str(data),
        "--model",
        "ssd_mobilenet_v1",
        "--set",
        "options.alpha=0.25",
        "--device",
        "cpu",
    ]
    command += [
        "--input-size",
        "96",
        "--steps",
        "6",
        "--batch",
        "auto",
        "--threads",
        "1",
        "--workers",
        "0",
        "--compile",
        "no",
    ]
    command += ["--precision", "float32", "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        # two sizes are measured, one of them twice, before the first step
        runs.interrupt_at(patch, 3)
        assert main([*command, str(tmp_path / "halves")]) == 130
    monkeypatch.setattr(memory, "free_memory", lambda device: 10_000 * MB)
    assert main([*command, str(tmp_path / "halves"), "--resume"]) == 0
    runs.assert_same(runs.outcome(tmp_path / "whole"), runs.outcome(tmp_path / "halves"))
    kept = yaml.safe_load((tmp_path / "halves" / "config.yaml").read_text())
    assert (
        2 < kept["batch"] == read_state(tmp_path / "halves").meta["plan"]["batch"] < 24 and kept["recipe_batch"] == 16
    )


def test_it_is_refused_where_it_means_nothing(data, tmp_path, capsys):
    assert main(["train", "--data", str(data), "--model", "faster_rcnn_mobilenet_v1", "--batch", "auto"]) == 2
    assert "--batch auto: not with a two-stage detector; give a number" in capsys.readouterr().err
    assert main(["train", "--data", str(data), "--batch", "automatic"]) == 2
