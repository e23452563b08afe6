"""Classifiers: an image folder is read as it is, a small network learns it, a stopped run goes on to the bit, and a
detector begins from the result."""

import contextlib
import json

import cv2
import numpy as np
import pytest
import torch
import yaml

from detection.classify import run as training
from detection.classify.config import ClassifierConfig, load_classifier_config, recipes
from detection.classify.images import RandomCrops, middle, open_image_folder, open_splits
from detection.classify.network import open_classifier
from detection.classify.score import columns_of
from detection.cli.main import main
from detection.errors import BadDataError, BadWeightsError, MobileSSDError
from detection.ssd.network import build
from detection.weights.backbone import load_backbone
from detection.weights.classifier import ClassifierCard, load_classifier, save_classifier
from detection.weights.names import spec_for

COLOURS = {"blue": (200, 60, 40), "green": (40, 180, 60), "red": (40, 40, 210)}  # as OpenCV has them
SMALL = ["--model", "mobilenet_v1", "--set", "options.alpha=0.25", "--set", "input_size=32", "--set", "workers=0",
         "--batch", "12", "--set", "ema.decay=0.7", "--set", "jitter=0", "--set", "schedule.warmup=2",
         "--set", "optimizer.backbone_lr=1", "--lr", "0.03",
         "--set", "options.norm_momentum=0.3",
         "--threads", "1"]  # fmt: skip


def paint(folder, name, count, start=0, colours=COLOURS):
    """`count` noisy images of one colour."""
    generator = np.random.default_rng(start + len(name))
    for number in range(count):
        image = np.clip(generator.normal(colours[name], 15, (40, 52, 3)), 0, 255).astype(np.uint8)
        path = folder / name / f"{name}{start + number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Twelve images of each of three colours."""
    folder = tmp_path_factory.mktemp("colours")
    for name in COLOURS:
        paint(folder, name, 12)
    return folder


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    """The folder of a run of 30 steps on the colours."""
    output = tmp_path_factory.mktemp("runs") / "colours"
    assert main(["classify", "--train", str(colours), *SMALL, "--steps", "30", "--output", str(output)]) == 0
    return output


class TestImageFolder:
    def test_a_folder_a_class_in_alphabetical_order(self, colours):
        found = open_image_folder(colours)
        assert found.class_names == ("blue", "green", "red") and len(found) == 36 and found.said == []

    def test_what_is_no_image_is_left_out_and_named(self, tmp_path):
        for name in COLOURS:
            paint(tmp_path, name, 2)
        (tmp_path / "red" / "notes.txt").write_text("x")
        (tmp_path / "red" / "broken.jpg").write_bytes(b"no image")
        (tmp_path / "loose.png").write_bytes((tmp_path / "red" / "red0.png").read_bytes())
        found = open_image_folder(tmp_path)
        assert len(found) == 6
        assert "2 files that are no images of a class left out: loose.png, red/notes.txt" in found.said[0]
        assert "1 files that cannot be read as images left out: red/broken.jpg" in found.said[1]

    def test_grey_and_transparent_images_are_three_channels(self, tmp_path):
        paint(tmp_path, "red", 1)
        (tmp_path / "grey").mkdir()
        cv2.imwrite(str(tmp_path / "grey" / "a.png"), np.full((20, 30), 90, np.uint8))
        cv2.imwrite(str(tmp_path / "grey" / "b.png"), np.full((20, 30, 4), 90, np.uint8))
        crops = RandomCrops(open_image_folder(tmp_path), 32, ClassifierConfig())
        assert [tuple(crops[i, 5][0].shape) for i in range(3)] == [(3, 32, 32)] * 3

    @pytest.mark.parametrize(
        "make, what",
        [
            (lambda d: None, "no such folder"),
            (lambda d: d.mkdir(), "holds no folders"),
            (lambda d: paint(d, "red", 2), "only one class (red)"),
            (lambda d: (paint(d, "red", 2), (d / "empty").mkdir()), "no image in empty"),
        ],
    )
    def test_what_cannot_be_learned_is_one_line(self, tmp_path, make, what):
        make(tmp_path / "data")
        with pytest.raises(BadDataError, match="data") as error:
            open_image_folder(tmp_path / "data")
        assert what in str(error.value) and "\n" not in str(error.value)

    def test_imagenets_layout_has_its_own_validation(self, tmp_path):
        for name in COLOURS:
            paint(tmp_path / "train", name, 3)
            paint(tmp_path / "val", name, 2, start=9)
        train, val = open_splits(tmp_path, None, 0.2, 0)
        assert (len(train), len(val)) == (9, 6)
        paint(tmp_path / "val", "red", 1)
        (tmp_path / "val" / "red").rename(tmp_path / "val" / "crimson")
        with pytest.raises(BadDataError, match="other classes than .*train .crimson, red"):
            open_splits(tmp_path, None, 0.2, 0)

    def test_without_one_a_share_of_each_class_is_kept_back(self, colours):
        train, val = open_splits(colours, None, 0.25, 0)
        assert sorted(label for _, label in val.samples) == [0] * 3 + [1] * 3 + [2] * 3
        assert not set(train.samples) & set(val.samples) and len(train) == 27
        assert open_splits(colours, None, 0.25, 0)[1].samples == val.samples
        assert open_splits(colours, None, 0.25, 1)[1].samples != val.samples

    def test_evaluation_looks_at_the_middle(self):
        image = np.zeros((100, 200, 3), np.uint8)
        image[6:94, 56:144] = 255
        assert middle(image, 32, 0.875).min() == 255 and middle(image, 32, 1.0).min() == 0


class TestTraining:
    def test_three_colours_are_learned(self, trained, colours, capsys):
        assert main(["classify", "--eval", str(colours), "--weights", str(trained / "last.safetensors")]) == 0
        assert "top-1 1.0000, top-5 1.0000 on 36 images" in capsys.readouterr().out
        command = ["classify", "--eval", str(colours), "--weights", str(trained / "last.safetensors"), "--json", "-"]
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["top1"] == 1 and "top-1 1.0000" in err

    def test_an_image_is_named(self, trained, colours, capsys, tmp_path):
        image, weights = str(colours / "red" / "red0.png"), str(trained / "last.safetensors")
        (tmp_path / "none.jpg").write_bytes(b"no image")
        assert main(["classify", str(tmp_path / "none.jpg"), image, "--weights", weights, "--top", "2"]) == 2
        shown = capsys.readouterr()
        assert "red0.png: red " in shown.out and "none.jpg" in shown.err
        assert main(["classify", image, "--weights", weights, "--json", "-"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["classes"][0]["name"] == "red" and len(row["classes"]) == 3

    def test_a_stopped_run_goes_on_to_the_bit(self, colours, tmp_path, monkeypatch):
        command = ["classify", "--train", str(colours), *SMALL, "--steps", "9", "--set", "evaluate_every=1", "--output"]
        assert main([*command, str(tmp_path / "whole")]) == 0
        with monkeypatch.context() as patch:
            answers = iter([False] * 4 + [True])
            patch.setattr(training, "stop_signals", lambda loud: contextlib.nullcontext(lambda: next(answers)))
            assert main([*command, str(tmp_path / "parts")]) == 130
        assert not (tmp_path / "parts" / "nothing").exists()
        resume = [
            "classify",
            "--train",
            str(colours),
            "--threads",
            "1",
            "--resume",
            "--output",
            str(tmp_path / "parts"),
        ]
        assert main(resume) == 0
        for name in ("last.safetensors", "best.safetensors"):
            whole, parts = (load_classifier(tmp_path / run / name)[0].state_dict() for run in ("whole", "parts"))
            assert all(torch.equal(whole[key], parts[key]) for key in whole), name

    def test_soft_targets_of_a_teacher_are_learned_without_labels(self, trained, colours, tmp_path, capsys):
        extra = ["--teacher", str(trained / "last.safetensors"), "--set", "distillation.share=1", "--steps", "30"]
        assert main(["classify", "--train", str(colours), *SMALL, *extra, "--output", str(tmp_path / "student")]) == 0
        metrics = load_classifier(tmp_path / "student" / "last.safetensors")[1].metrics
        assert metrics[0]["top1"] >= 0.8

    def test_a_run_says_what_it_did_in_its_config(self, trained):
        said = yaml.safe_load((trained / "config.yaml").read_text())
        assert ClassifierConfig.from_dict(said).steps == 30 and said["model"] == "mobilenet_v1"

    @pytest.mark.parametrize(
        "options, what",
        [
            (["--model", "mobilenet_v9"], "unknown backbone 'mobilenet_v9'"),
            ([], "neither weights nor a model"),
            (["--set", "label_smooting=0.1"], "unknown key 'label_smooting'"),
            (["--config", "mobilenet_v4"], "no such recipe"),
            (["--steps", "3", "--epochs", "1"], "only one can be the length"),
        ],
    )
    def test_mistakes_are_one_line_and_leave_no_folder(self, colours, tmp_path, options, what, capsys):
        output = tmp_path / "run"
        assert main(["classify", "--train", str(colours), "--output", str(output), *options]) == 2
        assert what in capsys.readouterr().err and not output.exists()

    def test_a_folder_that_holds_a_run_is_left_alone(self, trained, colours, capsys):
        assert main(["classify", "--train", str(colours), *SMALL, "--output", str(trained)]) == 2
        assert "holds a run already" in capsys.readouterr().err


class TestBackbone:
    def test_a_detector_begins_from_the_result(self, trained):
        network, card = load_classifier(trained / "best.safetensors")
        ssd = build(spec_for("ssd_mobilenet_v1", num_classes=2, alpha=0.25, min_depth=8))
        report = load_backbone(ssd, trained / "best.safetensors")
        assert not report.mismatched and not report.folded and card.options["alpha"] == 0.25
        ours, theirs = ssd.backbone.state_dict(), network.backbone.state_dict()
        assert torch.equal(ours["blocks.3.pointwise.conv.weight"], theirs["blocks.3.pointwise.conv.weight"])

    def test_classes_of_the_same_name_go_on(self, trained, tmp_path, capsys):
        for name in ("red", "yellow"):
            paint(tmp_path / "data", name, 3, colours={"red": (40, 40, 210), "yellow": (40, 210, 210)})
        begun = training.begin(ClassifierConfig(weights=str(trained / "best.safetensors")), ("red", "yellow"))
        old = load_classifier(trained / "best.safetensors")[0]
        assert "classes: 1 continued, 1 new" in begun.said
        assert torch.equal(begun.network.fc.weight[0], old.fc.weight[2]) and begun.card.input_size == 32

    def test_another_width_is_one_line(self, trained):
        config = ClassifierConfig(
            weights=str(trained / "best.safetensors"), model="mobilenet_v1", options={"alpha": 0.5}
        )
        with pytest.raises(BadWeightsError, match="another width"):
            training.begin(config, ("a", "b"))


class TestFile:
    def test_it_must_fit_its_card(self, trained, tmp_path):
        network, card = load_classifier(trained / "best.safetensors")
        wrong = tmp_path / "wrong.safetensors"
        save_classifier(wrong, network.state_dict(), ClassifierCard("mobilenet_v1", ("a",) * 7, {"alpha": 0.25}))
        with pytest.raises(BadWeightsError, match=r"wrong\.safetensors: its tensors are not those of a mobilenet_v1"):
            load_classifier(wrong)
        save_classifier(wrong, {}, ClassifierCard("mobilenet_v1", ("a", "b"), {"alpha": "wide"}))
        with pytest.raises(BadWeightsError, match="its classifier card is wrong"):
            load_classifier(wrong)

    def test_a_detector_is_no_classifier(self):
        with pytest.raises(BadWeightsError, match="no classifier"):
            open_classifier("ssdlite_mobilenet_v2.mobilessd")


class TestColumns:
    def test_by_name_and_for_imagenet_by_order(self):
        assert columns_of(("cat", "Dog"), ("dog", "cat")) == [1, 0]
        synsets = tuple(f"n{i:08d}" for i in range(1000))
        assert columns_of(synsets, ("background", *map(str, range(1000))))[:2] == [1, 2]
        assert columns_of(synsets, tuple(map(str, range(1000))))[999] == 999

    def test_a_folder_without_a_column_is_said(self):
        with pytest.raises(MobileSSDError, match="1 of 2 folders are no class of these weights: zebra"):
            columns_of(("cat", "zebra"), ("dog", "cat"))
        with pytest.raises(MobileSSDError, match="understood only where all 1,000"):
            columns_of(("n01440764", "n01443537"), ("dog", "cat"))


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_read(name):
    config = load_classifier_config(name, {"batch": 48})
    assert config.optimizer.kind == "rmsprop" and config.recipe_batch != 48 and config.batch == 48


def test_published_classifiers_say_what_their_own_runtime_says(shared, capsys):
    """Top-1 of every photograph, known right (tests/test_classifier_import.py compares with LiteRT itself)."""
    weights = shared / "models" / "imagenet" / "mobilenet_v1_0.75_192_quant.tflite"
    images = shared / "models" / "photos"
    assert main(["classify", str(images), "--weights", str(weights), "--top", "1"]) == 0
    said = [line.split(": ")[1].rsplit(" ", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert [name.split(",")[0] for name in said] == ["tiger cat", "dragonfly", "military uniform", "hotdog", "macaw"]
