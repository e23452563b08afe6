"""`mobilessd train` as a person meets it: whatever can be put right is one line with the way out, and exit code 2."""

import importlib.util
import io
import json
import os
import shutil
import stat

import pytest
import train_runs as runs
import yaml
from data_sets import coco

from detection.cli.main import main
from detection.data.faults import KINDS
from detection.train.learn.schedule import resolve
from detection.train.recipes import load_config
from detection.train.state import read_state
from detection.weights.records import DEFAULT

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX file modes")
TINY = runs.config(steps=4, evaluate_every=2).to_dict()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    runs.shapes(folder)
    return runs.shapes(folder, 4, "val")


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return str(file)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


@pytest.fixture
def asked(monkeypatch):
    """Runs the command as far as its request, and returns that."""

    def of(*arguments):
        found = []
        monkeypatch.setattr("detection.train.run.train", found.append)
        assert main(["train", *map(str, arguments)]) == 0
        return found[0]

    return of


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs the command and returns its one line of complaint, without `error: `."""

    def of(*arguments):
        code = main(["train", "--device", "cpu", "--threads", "1", *map(str, arguments)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
        assert not list((tmp_path / "out").glob("*")), "nothing was begun, so nothing is left"
        return lines[0].removeprefix("error: ")

    return of


class Head(io.StringIO):
    """A pipe that is closed at the other end when a text comes."""

    def __init__(self, until):
        super().__init__()
        self.until = until

    def write(self, text):
        if self.until in text:
            raise BrokenPipeError
        return super().write(text)


class TestBadData:
    def test_missing(self, refused, recipe, tmp_path):
        assert "no such file or folder" in refused("--data", tmp_path / "nowhere", "--config", recipe)
        assert "give --data PATH" in refused("--config", recipe)

    def test_a_folder_without_a_data_set(self, refused, recipe, tmp_path):
        (tmp_path / "samples").mkdir()
        assert "no data set recognised. Looked for COCO" in refused("--data", tmp_path / "samples", "--config", recipe)

    def test_empty(self, refused, recipe, tmp_path):
        file = tmp_path / "instances_train.json"
        file.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}))
        assert "no images" in refused("--data", file, "--config", recipe, "--output", tmp_path / "out")

    def test_images_that_are_missing(self, refused, recipe, tmp_path):
        file = coco(tmp_path, [(1, 1, [5, 5, 20, 20])])
        shutil.rmtree(tmp_path / "images")
        said = refused("--data", file, "--config", recipe, "--output", tmp_path / "out")
        assert "no image that can be used" in said and "1.png" in said

    def test_no_class_in_common(self, refused, recipe, data, tmp_path):
        common = ("--data", data, "--config", recipe, "--output", tmp_path / "out")
        assert "disc, square" in refused(*common, "--classes", "cat,dog")
        (tmp_path / "other").mkdir()
        other = coco(tmp_path / "other", [(1, 1, [5, 5, 20, 20])])
        assert "disc" in refused(*common, "--val", other)

    def test_validation_that_is_training(self, refused, recipe, data, tmp_path):
        said = refused("--data", data, "--config", recipe, "--val", "train", "--output", tmp_path / "out")
        assert "every validation image is in training; give another set with --val" in said

    def test_faults_that_can_be_lived_with_are_reported_before_the_first_step(self, recipe, tmp_path, capsys):
        boxes = [(i, 1 + i % 2, [5, 5, 30, 30]) for i in range(1, 9)]
        bad = [(1, 1, [70, 50, 40, 40]), (2, 2, [10, 10, 0, 5]), (3, 1, [200, 200, 5, 5]), (4, 7, [5, 5, 9, 9])]
        file = coco(tmp_path, [*boxes, *bad], number=9)
        (tmp_path / "images" / "5.png").unlink()
        (tmp_path / "images" / "6.png").write_bytes(b"no image")
        assert (
            main([*f"train --threads 1 --data {file} --config {recipe} --select 0 --output {tmp_path / 'out'}".split()])
            == 0
        )
        said = capsys.readouterr().out
        for kind in ("missing", "unreadable", "undeclared class", "degenerate", "outside", "clipped"):
            assert f"1 {KINDS[kind][0]}" in said.partition("training on")[0], kind


class TestBadRecipe:
    def test_unknown_key(self, refused, data, tmp_path):
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(TINY | {"optimiser": {"lr": 0.1}}))
        assert "unknown key 'optimiser'; did you mean 'optimizer'?" in refused("--data", data, "--config", file)

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            ("optimizer.lr", "write KEY=VALUE"),
            ("optimizer.rate=0.1", "unknown key 'optimizer.rate'"),
            ("optimizer.lr=fast", "optimizer.lr: expected a number, found 'fast'"),
            ("batch=0", "batch: 0 is not from 1 to 65536"),
            ("batch=1000000000", "batch: 1e+09 is not from 1 to 65536"),
            ("workers=100000", "workers: 100000 is not from 0 to 256"),
            ("loss=[", "is no value that YAML can read"),
            ("optimizer.kind=adamW", "did you mean 'adamw'?"),
        ],
    )
    def test_wrong_setting(self, refused, recipe, data, item, reason):
        assert reason in refused("--data", data, "--config", recipe, "--set", item)

    def test_unknown_config(self, refused, data):
        assert "there are finetune" in refused("--data", data, "--config", "fine_tune").replace("\n", "")

    def test_weights_of_an_unknown_kind(self, refused, data, tmp_path):
        weights = tmp_path / "network.mat"
        weights.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(100))
        said = refused("--data", data, "--weights", weights, "--output", tmp_path / "out")
        assert str(weights) in said and "not weights of a known kind" in said

    def test_weights_that_are_missing_or_broken(self, refused, data, tmp_path):
        assert "nowhere.safetensors" in refused("--data", data, "--weights", tmp_path / "nowhere.safetensors")
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(b"\0" * 64)
        assert "not a whole safetensors file" in refused("--data", data, "--weights", broken)

    def test_a_class_map_to_nowhere(self, refused, data, recipe):
        assert "write MINE=THEIRS" in refused("--data", data, "--config", recipe, "--class-map", "disc")

    def test_a_batch_of_one_has_no_batch_norms(self, refused, data, recipe, tmp_path):
        said = refused("--data", data, "--config", recipe, "--batch", 1, "--output", tmp_path / "run")
        assert "or keep them with --set norms=frozen" in said

    def test_a_batch_that_cannot_be_shared(self, refused, data, recipe):
        said = refused("--data", data, "--config", recipe, "--set", "accumulate=3")
        assert "a batch of 4 has no 3 equal parts" in said


class TestRuns:
    def test_from_start_over_ctrl_c_to_the_end(self, data, recipe, tmp_path, capfd, monkeypatch):
        output = tmp_path / "out"
        command = ["train", "--data", str(data), "--config", recipe, "--output", str(output), "--threads", "1"]
        with monkeypatch.context() as patch:
            runs.interrupt_at(patch, 3)
            assert main(command) == 130
        said = capfd.readouterr()
        assert f"stopped at step 3 of 4; go on with --resume --output {output}" in said.out
        assert main([*command, "--resume"]) == 0  # the same command again
        assert main(["train", "--resume", "--output", str(output)]) == 0  # a finished run has nothing left to do
        assert "resuming at step 4 of 4" in capfd.readouterr().out
        assert read_state(output).meta["step"] == 4
        assert main(command) == 2 and "holds a run already; go on with --resume" in capfd.readouterr().err
        assert main([*command, "--resume", "--set", "optimizer.lr=0.5"]) == 2
        assert "this run has optimizer" in (said := capfd.readouterr().err) and "or change it in" in said
        assert main([*command, "--resume", "--workers", "0", "--batch", "8"]) == 2
        assert "this run has batch 4, not 8" in capfd.readouterr().err
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump(TINY | {"clip_norm": 1.0}))
        assert main(["train", "--resume", "--output", str(output), "--config", str(other)]) == 2
        assert "this run has clip_norm 10.0, not 1.0" in capfd.readouterr().err
        assert main(["train", "--resume", "--output", str(output), "--time-budget", "1m"]) == 0
        assert "--time-budget changes nothing now: it became these 4 steps" in capfd.readouterr().out

    @pytest.mark.parametrize("until", ["training on", "step 2 of 4"])
    def test_a_pipe_that_closes_ends_it_and_it_can_go_on(self, data, recipe, tmp_path, capfd, monkeypatch, until):
        """`train | head -N`: before anything is begun, and on its way."""
        output = tmp_path / "run"
        command = [*f"train --data {data} --config {recipe} --threads 1 --set log_every=1 --output {output}".split()]
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", Head(until))
            assert main(command) == 141
        err = capfd.readouterr().err
        if until == "training on":
            assert err == "" and not output.exists()
            return
        assert read_state(output).meta["step"] == 2
        assert f"stopped at step 2 of 4; go on with --resume --output {output}" in err
        assert main([*command, "--resume"]) == 0 and read_state(output).meta["step"] == 4

    def test_resuming_nothing(self, refused, data, tmp_path):
        assert "--resume needs the folder of the run" in refused("--data", data, "--resume")
        assert "holds no run to go on with" in refused("--resume", "--output", tmp_path / "out")

    def test_the_config_of_a_run_says_all(self, data, recipe, tmp_path, capsys):
        arguments = [
            "--threads",
            "1",
            "--steps",
            "1",
            "--batch",
            "2",
            "--seed",
            "5",
            "--keep-every",
            "1",
            "--set",
            "ema.decay=0.5",
        ]
        output = tmp_path / "run"
        assert main(["train", "--data", str(data), "--config", recipe, "--output", str(output), *arguments]) == 0
        config = load_config(output / "config.yaml")
        assert (config.steps, config.batch, config.seed, config.ema.decay, config.recipe_batch) == (1, 2, 5, 0.5, 4)
        assert (output / "step-0000001.safetensors").exists()

    def test_without_weights_it_starts_from_those_that_ship(self, data, recipe, asked):
        assert asked("--data", data).config.weights == DEFAULT
        assert asked("--data", data, "--model", "ssd_mobilenet_v1").config.weights is None
        assert asked("--data", data, "--config", recipe).config.weights is None, "it has a model"

    def test_lr_is_the_rate_whatever_the_batch(self, data, asked):
        for batch in (8, 16, 24):
            config = asked("--data", data, "--lr", 0.003, "--batch", batch).config
            assert resolve(config, 1000).lr == pytest.approx(0.003), batch

    def test_input_sizes_that_are_not_square(self, data, asked):
        assert asked("--data", data, "--input-size", "96").config.input_size == 96
        assert asked("--data", data, "--input-size", "96x160").config.input_size == (96, 160)

    def test_what_the_end_needs_is_looked_for_at_the_beginning(self, data, recipe, tmp_path, capsys, monkeypatch):
        command = [
            "train",
            "--data",
            str(data),
            "--config",
            recipe,
            "--threads",
            "1",
            "--output",
            str(tmp_path / "run"),
        ]
        there = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if "coco" in name else there(name, *a))
        monkeypatch.setattr("detection.train.run.fit", None)
        assert main(command) == 2
        assert "pycocotools" in capsys.readouterr().err and not (tmp_path / "run").exists()

    def test_a_failed_start_leaves_no_folder(self, data, recipe, tmp_path, capsys):
        output = tmp_path / "new" / "run"
        command = ["train", "--data", str(data), "--config", recipe, "--output", str(output)]
        assert main([*command, "--classes", "cat"]) == 2
        assert main([*command, "--batch", "1"]) == 2 and "too few for batch norms" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
        output.mkdir(parents=True)
        assert main([*command, "--batch", "1"]) == 2 and output.exists(), "a folder that was there stays"

    @posix
    def test_the_files_of_a_run_have_the_umask_s_mode(self, data, recipe, tmp_path):
        before = os.umask(0o027)
        try:
            assert (
                main([*f"train --threads 1 --data {data} --config {recipe} --output {tmp_path / 'run'}".split()]) == 0
            )
        finally:
            os.umask(before)
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*") if path.is_file()
        }
        assert set(modes.values()) == {0o640} and "best.safetensors" in modes, modes

    def test_runs_without_an_output_are_numbered(self, data, recipe, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("detection.train.run.train", lambda request: request.output.mkdir(parents=True))
        for name in ("train", "train2", "train3"):
            assert main(["train", "--data", str(data), "--config", recipe]) == 0
            assert (tmp_path / "runs" / name).exists()


def test_the_former_name_of_pseudo_label_still_works(capsys):
    assert main(["teach", "--help"]) == 0 and "usage: mobilessd pseudo-label" in capsys.readouterr().out
