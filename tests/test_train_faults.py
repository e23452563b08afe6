"""What goes wrong in the middle of a run, and what is left then: a full disk, a loss that is no number, time."""

import json
import resource
import shutil
from dataclasses import replace

import pytest
import torch
import train_runs as runs

from detection.errors import MobileSSDError
from detection.train.learn import loop, plan
from detection.train.learn.history import read_history
from detection.train.run import train
from detection.train.state import LAST, PREVIOUS, RunState, read_state, write_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    runs.shapes(folder)
    return runs.shapes(folder, 4, "val")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        runs.without_report(patch)
        return train(runs.request(data, tmp_path_factory.mktemp("whole")))


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


@pytest.fixture
def small_disk():
    """No file can grow beyond a hundred thousand bytes: what the system answers is as real as that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state(step: int) -> RunState:
    return RunState({"model.w": torch.full((100_000,), float(step))}, {"step": step})


class TestFullDisk:
    def test_the_checkpoints_before_survive(self, tmp_path, small_disk):
        write_state(tmp_path, state(1))
        write_state(tmp_path, state(2))
        before = {name: (tmp_path / name).read_bytes() for name in (LAST, PREVIOUS)}
        small_disk()
        with pytest.raises(MobileSSDError) as caught:
            write_state(tmp_path, state(3))
        assert "\n" not in str(caught.value) and "the checkpoint before it is whole; make room" in str(caught.value)
        assert {name: (tmp_path / name).read_bytes() for name in (LAST, PREVIOUS)} == before
        assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS]

    @pytest.mark.parametrize("broken", ["fsync", "replace"])
    def test_a_disk_that_fails_late_leaves_a_whole_checkpoint(self, tmp_path, monkeypatch, broken):
        write_state(tmp_path, state(1))

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(MobileSSDError, match="No space left on device"):
            patch.setattr(f"os.{broken}", fail)
            write_state(tmp_path, state(2))
        assert read_state(tmp_path).meta["step"] == 1
        write_state(tmp_path, state(2))
        assert read_state(tmp_path).meta["step"] == 2

    def test_a_run_ends_with_one_line_and_goes_on_when_there_is_room(
        self, data, whole, tmp_path, small_disk, monkeypatch
    ):
        with monkeypatch.context() as patch:
            runs.interrupt_at(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                train(runs.request(data, tmp_path))
        kept = (tmp_path / LAST).read_bytes()
        small_disk()
        with pytest.raises(MobileSSDError, match="cannot be written") as caught:
            train(runs.request(data, tmp_path, resume=True))
        assert "\n" not in str(caught.value)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (tmp_path / LAST).read_bytes() == kept
        train(runs.request(data, tmp_path, resume=True))
        runs.assert_same(runs.outcome(whole), runs.outcome(tmp_path))


class TestNonFiniteLoss:
    def test_a_rate_that_is_far_too_high(self, data, tmp_path, monkeypatch):
        """The loss overflows by itself: the line names the images of the step, and the checkpoint is from before."""
        wild = {"optimizer": {"kind": "sgd", "lr": 1e20}, "clip_norm": 0.0, "accumulate": 2, "schedule": {"warmup": 0}}
        with pytest.raises(loop.NonFiniteLoss) as caught:
            train(runs.request(data, tmp_path, **wild))
        message = str(caught.value)
        assert "\n" not in message and f"lower optimizer.lr in {tmp_path / 'config.yaml'}, then --resume" in message
        assert message.count("(id ") == 4  # two parts of two images
        files = {entry["id"]: entry["file_name"] for entry in images(data)}
        for part in message.split("images: ")[1].split("; ")[0].split(", "):
            path, _, number = part.partition(" (id ")
            assert path == files[int(number.rstrip(")"))]
        assert all(tensor.isfinite().all() for tensor in read_state(tmp_path).tensors.values())
        monkeypatch.setattr(plan, "SAVE_EVERY", 1)
        with pytest.raises(loop.NonFiniteLoss, match="is not finite behind step 2; the checkpoint in"):
            train(runs.request(data, tmp_path / "often", **wild))
        assert all(tensor.isfinite().all() for tensor in read_state(tmp_path / "often").tensors.values())

    def test_the_run_goes_on_from_before(self, data, whole, tmp_path, monkeypatch):
        original, calls = loop.detection_losses, iter(range(1, 1000))

        def spoiled(*arguments, **options):
            losses = original(*arguments, **options)
            return replace(losses, total=losses.total * torch.nan) if next(calls) == 8 else losses

        with monkeypatch.context() as patch:
            patch.setattr(loop, "detection_losses", spoiled)
            with pytest.raises(loop.NonFiniteLoss, match="not finite at step 7 .loss nan"):
                train(runs.request(data, tmp_path / "spoiled"))
        assert read_state(tmp_path / "spoiled").meta["step"] == 5
        train(runs.request(data, tmp_path / "spoiled", resume=True))
        runs.assert_same(runs.outcome(whole), runs.outcome(tmp_path / "spoiled"))

    def test_a_gradient_that_is_no_number_never_reaches_the_weights(self, data, tmp_path, monkeypatch):
        original = loop.step_gradients

        def spoiled(job, *rest):
            losses = original(job, *rest)
            next(p for p in job.ssd.parameters() if p.grad is not None).grad[0] = torch.nan
            return losses

        monkeypatch.setattr(loop, "step_gradients", spoiled)
        with pytest.raises(loop.NonFiniteLoss, match="gradient nan"):
            train(runs.request(data, tmp_path))
        assert all(tensor.isfinite().all() for tensor in read_state(tmp_path).tensors.values())


def images(data):
    return json.loads((data / "annotations" / "instances_train.json").read_text())["images"]


class TestCourse:
    def test_patience_ends_a_run_and_a_resume_does_not_go_on(self, data, tmp_path):
        """With a learning rate of 0 the first evaluation stays the best: steps 2, then 4 and 6 without a better one."""
        still = {
            "optimizer": {"lr": 0.0},
            "schedule": {"warmup": 0},
            "evaluate_every": 2,
            "patience": 2,
            "norms": "frozen",
        }
        train(runs.request(data, tmp_path, **still))
        first = runs.outcome(tmp_path)
        assert first["plain"]["step"] == 6 and first["plain"]["progress"]["best_step"] == 2
        train(runs.request(data, tmp_path, resume=True, **still))
        runs.assert_same(first, runs.outcome(tmp_path))

    def test_weights_are_kept_every_n(self, data, tmp_path):
        train(runs.request(data, tmp_path, keep_every=4))
        found = sorted(p.name for p in tmp_path.glob("step-*.safetensors"))
        assert found == ["step-0000004.safetensors", "step-0000008.safetensors"]

    def test_without_anything_to_choose_by_the_last_weights_are_the_best(self, data, tmp_path):
        train(runs.request(data, tmp_path, select=0.0, steps=4))
        assert read_state(tmp_path).meta["progress"]["best_step"] == 4
        assert not any("AP" in row for row in read_history(tmp_path))

    def test_weights_can_be_chosen_on_images_without_objects(self, data, tmp_path):
        """Not well: the first ones are kept."""
        shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("*val*"))
        file = tmp_path / "data" / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        boxes = [box for box in content["annotations"] if box["image_id"] == 2]  # not one of those that choose
        file.write_text(json.dumps(content | {"annotations": boxes}))
        folder = train(runs.request(tmp_path / "data", tmp_path / "run", steps=2, evaluate_every=1, select=0.2))
        assert (folder / "best.safetensors").exists()
        progress = read_state(folder).meta["progress"]
        assert (progress["best"], progress["best_step"]) == (-1, 1)  # there is no AP

    def test_the_folder_of_a_run(self, data, tmp_path, monkeypatch):
        """With the report this time."""
        monkeypatch.undo()
        train(runs.request(data, tmp_path, steps=2, log_every=1))
        names = {p.name for p in tmp_path.iterdir()}
        assert names >= {"best.safetensors", "last.safetensors", "config.yaml", "history.csv", "history.jsonl", LAST}
        assert names >= {"report.html", "plots"}
