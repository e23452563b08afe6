"""A run that learns from a frozen network besides its labels."""

import pytest
import torch
import train_runs as runs

from detection.errors import MobileSSDError
from detection.ssd.heads import last_convolution
from detection.ssd.network import Deployable, build, feature_maps
from detection.train.config import DistillationConfig
from detection.train.learn import loop
from detection.train.learn.history import read_history
from detection.train.run import train
from detection.train.state import read_state
from detection.train.teachers.teacher import in_order, teacher_for
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.names import spec_for

NAMES = ("cat", "square", "disc")  # of the teacher: one more, in another order


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A file with a network of three classes that is sure of much, from its biases alone."""
    torch.manual_seed(3)
    ssd = build(spec_for("ssd_mobilenet_v1", alpha=0.25, input_size=96).with_classes(3)).eval()
    for head in ssd.heads:
        torch.nn.init.uniform_(last_convolution(head.score).bias, -3, 1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), NAMES, (1, 2, 3), feature_maps(ssd), name="teacher"))
    return str(path)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


def course(folder, key="distillation"):
    return [row[key] for row in read_history(folder) if key in row]


class TestRuns:
    changes = {"norms": "frozen", "select": 0.0, "log_every": 1, "evaluate_every": 0, "ema": {"decay": 0}}

    def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it(self, data, teacher, tmp_path):
        """Its columns are found by name; one step, whose loss is that of the weights it began with."""
        same = {"model": None, "options": {}, "weights": teacher, "distillation": {"teacher": teacher}}
        train(runs.request(data, tmp_path, **self.changes | same, steps=1))
        assert abs(course(tmp_path)[0]) < 1e-4 < course(tmp_path, "loss")[0]

    def test_another_network_comes_nearer_to_it(self, data, teacher, tmp_path):
        """From it alone: nothing is asked of the labels."""
        tuned = {"distillation": {"teacher": teacher}, "optimizer": {"lr": 0.02}, "schedule": {"warmup": 0}}
        tuned["loss"] = {"classification_weight": 0.0, "localization_weight": 0.0}
        train(runs.request(data, tmp_path, **self.changes | tuned, steps=12, augmentation="none"))
        found = course(tmp_path)
        assert sum(found[-3:]) < 0.8 * sum(found[:3]), found
        assert course(tmp_path, "loss") == pytest.approx(found)

    def test_accumulated_parts_add_up_to_the_whole_batch(self, data, teacher, tmp_path):
        """Divided by the teacher's confidence over all parts, not over each."""
        for parts in (1, 2):
            tuned = {
                "distillation": {"teacher": teacher},
                "accumulate": parts,
                "optimizer": {"kind": "sgd", "lr": 0.01},
            }
            train(runs.request(data, tmp_path / str(parts), **self.changes | tuned, steps=2))
        one, two = (torch.tensor(course(tmp_path / name)) for name in "12")
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
        one, two = (read_state(tmp_path / name).part("model") for name in "12")
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)

    def test_the_teacher_itself_never_changes(self, data, teacher, tmp_path, monkeypatch):
        monkeypatch.setattr("detection.train.teachers.teacher.choose", lambda *_: "torch")
        jobs = []
        fit = loop.fit
        monkeypatch.setattr("detection.train.run.fit", lambda job, *rest: (jobs.append(job), fit(job, *rest)))
        train(runs.request(data, tmp_path, **self.changes, steps=2, distillation__teacher=teacher))
        network = jobs[0].teacher.network
        assert not network.training and not any(p.requires_grad for p in network.parameters())
        assert all(p.grad is None for p in network.parameters())
        x = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8)
        original = Deployable(load_checkpoint(teacher)[0]).eval()
        for mine, other in zip(network(x), original(x)):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


class TestFit:
    def made(self, teacher, names, student="ssd_mobilenet_v1", class_map=None, focal=False, **options):
        ssd = build(spec_for(student, **{"alpha": 0.25, "input_size": 96} | options).with_classes(len(names)))
        card = Card(ssd.spec.to_dict(), names, tuple(range(len(names))), feature_maps(ssd))
        return teacher_for(DistillationConfig(teacher=teacher), ssd, card, class_map or {}, focal, "cpu")

    def test_columns_by_name(self, teacher):
        assert self.made(teacher, ("disc", "square")).columns.tolist() == [0, 3, 2]
        assert self.made(teacher, ("ball", "cat"), class_map={"ball": "disc", "dog": "horse"}).columns.tolist() == [
            0,
            3,
            1,
        ]
        with pytest.raises(MobileSSDError, match="does not know horse; see --class-map"):
            self.made(teacher, ("disc", "horse"))

    def test_a_runtime_computes_it_where_one_is_installed(self, teacher, monkeypatch):
        pytest.importorskip("openvino", reason="needs openvino")
        fast = self.made(teacher, NAMES)
        assert not isinstance(fast.network, torch.nn.Module) and fast.compiled() is fast
        monkeypatch.setattr("detection.train.teachers.teacher.choose", lambda *_: "torch")
        slow = self.made(teacher, NAMES)
        x = torch.randint(0, 256, (3, 96, 96, 3), dtype=torch.uint8)
        for mine, other in zip(fast.network(x), slow.network(x)):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)

    def test_a_background_that_means_something_else_is_left_out(self, teacher):
        assert self.made(teacher, NAMES).background
        assert not self.made(teacher, NAMES[:2]).background, "it stands for all but three classes, not all but two"
        assert not self.made(teacher, NAMES, focal=True).background

    def test_a_teacher_of_another_size_is_laid_out_anew_with_a_warning(self, teacher, caplog):
        found = self.made(teacher, NAMES, input_size=160)
        assert found.network.ssd.spec.input.size == (160, 160)
        assert "was made for 96x96; at 160x160 all its boxes have the wrong size" in caplog.text

    def test_a_teacher_of_another_size_whose_anchors_keep_their_pixels_is_right(self, teacher, caplog, monkeypatch):
        monkeypatch.setattr("detection.train.teachers.teacher.choose", lambda *_: "torch")
        ssd = build(load_checkpoint(teacher)[0].spec.with_input_size(80, keep_pixels=True))
        card = Card(ssd.spec.to_dict(), NAMES, (1, 2, 3), feature_maps(ssd))
        found = teacher_for(DistillationConfig(teacher=teacher), ssd, card, {}, False, "cpu")
        assert found.network.ssd.spec == ssd.spec and not caplog.text

    def test_other_anchors_are_refused(self, teacher):
        with pytest.raises(MobileSSDError, match="anchors that are not the student's"):
            self.made(teacher, NAMES, layout="torchvision")

    def test_what_a_softmax_gave_to_other_classes_is_background(self):
        logits = torch.randn(2, 5, 4)
        columns = torch.tensor([0, 3, 1])
        found = in_order(logits, columns, "softmax").softmax(-1)
        whole = logits.softmax(-1)
        torch.testing.assert_close(found[..., 1:], whole[..., [3, 1]])
        torch.testing.assert_close(found[..., 0], whole[..., 0] + whole[..., 2])
        assert torch.equal(in_order(logits, columns, "sigmoid"), logits[..., [0, 3, 1]])
