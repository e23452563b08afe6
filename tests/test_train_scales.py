"""Training at several input sizes, one a step: anchors by the network's geometry, boxes of trusted sizes alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import train_runs as runs
from random_networks import random_network

from detection.data.open import open_data
from detection.errors import MobileSSDError
from detection.ssd.network import Deployable, anchors_at, anchors_of, build, feature_maps
from detection.train.config import DistillationConfig, TrainConfig
from detection.train.input.loader import TrainLoader
from detection.train.learn import loop
from detection.train.learn.history import read_history
from detection.train.learn.targets import build_targets
from detection.train.run import train
from detection.train.scales import Scale, scales_of, usual_range
from detection.train.state import read_state
from detection.train.teachers.distillation_loss import distillation_loss
from detection.train.teachers.teacher import teacher_for
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint

SIZES = [96, 130, [64, 96]]
MANY = {"input_sizes": SIZES, "select": 0.0, "evaluate_every": 0, "log_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    ssd = random_network("ssd_mobilenet_v1", alpha=0.25, input_size=96)
    path = tmp_path_factory.mktemp("weights") / "parent.safetensors"
    names = ("disc", "square", "cat")
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), names, (1, 2, 3), feature_maps(ssd), name="parent"))
    return str(path)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


@pytest.fixture
def seen(monkeypatch):
    """The size and the targets of every batch that is learned from."""
    found, original = [], loop.targets_of

    def targets_of(job, batch):
        found.append((tuple(batch.images.shape[1:3]), original(job, batch), job.scale(batch)))
        return found[-1][1]

    monkeypatch.setattr(loop, "targets_of", targets_of)
    return found


class TestRuns:
    def test_each_step_has_a_size_and_the_anchors_of_the_network_there(self, data, tmp_path, seen):
        folder = train(runs.request(data, tmp_path, **MANY, steps=6))
        sizes = [size for size, _, _ in seen]
        assert sorted(sizes[:3]) == sorted(sizes[3:]) == [(64, 96), (96, 96), (130, 130)]
        ssd = load_checkpoint(folder / "last.safetensors")[0]
        assert ssd.spec.input.size == (96, 96) and ssd.spec.anchors.centred_at is None, "the result has its own size"
        for size, targets, scale in seen:
            assert np.array_equal(scale.anchors, anchors_of(build(ssd.spec.resized(size))))
            assert targets.positive.shape[1] == len(scale.anchors)

    def test_stopped_and_resumed_it_is_the_same_run_to_the_bit(self, data, weights, tmp_path, monkeypatch):
        own = MANY | {"distillation": {"teacher": weights}, "trusted_boxes": [[0, 500], [0, 40], [10, 60]]}
        whole = train(runs.request(data, tmp_path / "whole", **own, steps=7))
        with monkeypatch.context() as patch:
            runs.interrupt_at(patch, 5)
            with pytest.raises(KeyboardInterrupt):
                train(runs.request(data, tmp_path / "parts", **own, steps=7))
        assert read_state(tmp_path / "parts").meta["step"] == 5
        parts = train(runs.request(data, tmp_path / "parts", resume=True, **own, steps=7))
        runs.assert_same(runs.outcome(whole), runs.outcome(parts))

    def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it_at_any_size(self, data, weights, tmp_path):
        same = {"model": None, "options": {}, "weights": weights, "distillation": {"teacher": weights}}
        frozen = {"norms": "frozen", "optimizer": {"kind": "sgd", "lr": 0.0}, "ema": {"decay": 0}}
        train(runs.request(data, tmp_path, **MANY | same | frozen, steps=3))
        rows = [row for row in read_history(tmp_path) if "distillation" in row]
        assert len(rows) == 3 and all(abs(row["distillation"]) < 1e-3 < row["loss"] for row in rows)

    @pytest.mark.parametrize(
        "changes, line",
        [
            ({"input_sizes": [96, 20]}, "input_sizes: an input of 20x20 pixels is too small"),
            ({"input_sizes": [96, 0]}, "input_sizes: 0 is not from 1"),
            ({"input_sizes": [96, 64], "trusted_boxes": [[0, 30]]}, "trusted_boxes: 1 ranges for 2 input_sizes"),
            ({"input_sizes": [96], "trusted_boxes": [[30, 30]]}, "is no \\[least, most\\]"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, data, tmp_path, changes, line):
        with pytest.raises(MobileSSDError, match=line):
            train(runs.request(data, tmp_path, **changes, steps=1))


class TestLoader:
    def test_every_turn_has_every_size_as_often_as_it_is_named_whoever_loads(self, data):
        truth = open_data(str(data), "train")
        sizes = [(96, 96), (96, 96), (130, 64)]
        streams = []
        for workers, first in ((0, 0), (1, 2)):
            loader = TrainLoader(truth, (96, 96), 4, sizes=sizes, workers=workers, cache_mb=8)
            streams.append(list(loader.batches(first, 6)))
            loader.close()
        alone, beside = streams
        shapes = [tuple(batch.images.shape[1:3]) for batch in alone]
        assert sorted(shapes[:3]) == sorted(shapes[3:]) == sorted(sizes)
        for one, other in zip(alone[2:], beside, strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.boxes, other.boxes)
        plain = loader.augmented_by(replace(loader.source.augmentation, crop="none"))
        assert {tuple(batch.images.shape[1:3]) for batch in plain.batches(0, 4)} == {(96, 96)}


class TestTrust:
    anchors = torch.tensor([[0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])

    def targets(self, boxes, scale):
        boxes = torch.tensor([boxes])
        trusted = scale.trusts(boxes)
        labels, scores = torch.zeros(boxes.shape[:2], dtype=torch.int64), torch.ones(boxes.shape[:2])
        ignore = torch.zeros(boxes.shape[:2], dtype=torch.bool)
        untrusted = None if trusted is None else ~trusted
        return build_targets(boxes, labels, scores, ignore, self.anchors, untrusted=untrusted)

    def test_a_box_out_of_range_is_neither_learned_nor_background_but_what_lies_in_it_is(self):
        boxes = [[0.05, 0.05, 0.95, 0.95], [0.15, 0.15, 0.25, 0.25]]  # 360 and 40 pixels of 400
        gated = self.targets(boxes, Scale((400, 400), self.anchors, (0, 180)))
        assert gated.positive[0].tolist() == [False, False, True, False]
        assert gated.ignore[0].tolist() == [True, False, False, False]
        free = self.targets(boxes, Scale((400, 400), self.anchors))
        assert free.positive[0].tolist() == [True, False, True, False] and not free.ignore.any()

    def test_sides_are_pixels_of_the_input_whatever_its_shape(self):
        scale = Scale((200, 800), self.anchors, (100, 200))
        boxes = torch.tensor([[0.0, 0.0, 0.125, 0.5], [0.0, 0.0, 0.25, 1.0], [0.0, 0.0, 0.3, 1.0]])
        assert scale.trusts(boxes).tolist() == [True, True, False]

    def test_what_is_trusted_where_nobody_says(self):
        own = (300, 300)
        assert usual_range(own, (300, 300)) is usual_range(own, (364, 364)) is usual_range(own, (236, 236)) is None
        assert usual_range(own, (428, 428)) == usual_range(own, (512, 512)) == (0, 180)

    def test_a_sure_teacher_counts_nothing_where_its_box_is_out_of_range_and_background_stays(self):
        torch.manual_seed(0)
        mine, theirs = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
        logits, sure = torch.zeros(1, 3, 3), torch.full((1, 3, 3), -12.0)
        sure[0, 0, 1] = sure[0, 1, 1] = 12.0
        trusted = torch.tensor([[True, False, False]])
        one = torch.tensor(1.0)

        def loss(anchors, **options):
            parts = [tensor[:, anchors] for tensor in (mine, logits, theirs, sure)]
            options = {name: value[:, anchors] for name, value in options.items()}
            return distillation_loss(*parts, DistillationConfig(teacher="t"), normaliser=one, **options)

        assert loss([0], trusted=trusted) == loss([0])
        assert loss([1], trusted=trusted) < 1e-3 < loss([1])
        assert loss([2], trusted=trusted) == pytest.approx(loss([2]).item(), rel=1e-3)


def test_the_teacher_has_the_students_anchors_at_every_size(weights):
    ssd, card = load_checkpoint(weights)
    config = TrainConfig.from_dict({"input_sizes": SIZES, "steps": 1})
    scales = scales_of(config, ssd, "cpu")
    teacher = teacher_for(DistillationConfig(teacher=weights), ssd, card, {}, False, "cpu", scales)
    assert set(teacher.at) == {(130, 130), (64, 96)}
    image = torch.randint(0, 256, (2, 130, 130, 3), dtype=torch.uint8)
    own = Deployable(build(ssd.spec.resized(130)).eval())
    own.ssd.load_state_dict(ssd.state_dict())
    with torch.no_grad():
        for theirs, mine in zip(teacher.at[130, 130](image), own.eval()(image)):
            torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-3)
    assert np.array_equal(scales[130, 130].anchors, anchors_at(ssd.spec, (130, 130)))
