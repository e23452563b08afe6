"""Faster R-CNN on our backbones: both halves learn, what was learned is measured and kept, and the command counts it."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import cv2  # noqa: E402

from detection.cli.main import main  # noqa: E402
from detection.data.build import build  # noqa: E402
from detection.data.repair import repair  # noqa: E402
from detection.errors import BadWeightsError, MobileSSDError  # noqa: E402
from detection.evaluate.truth import ground_truth  # noqa: E402
from detection.train.config import OptimizerConfig, ScheduleConfig, TrainConfig  # noqa: E402
from detection.train.input.augment import Augmentation  # noqa: E402
from detection.two_stage.card import TwoStageCard  # noqa: E402
from detection.two_stage.network import faster_rcnn, faster_rcnn_cost  # noqa: E402
from detection.two_stage.run import build_network, detect, load, measure, save, train  # noqa: E402

NAMES = ("square", "bar")
SMALL = ("faster_rcnn_mobilenet_v1", "faster_rcnn_mobilenet_v2")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Four images of 96 x 128 pixels with a red square and a green bar."""
    folder, boxes = tmp_path_factory.mktemp("shapes"), []
    for number in range(4):
        image = np.full((96, 128, 3), 90, np.uint8)
        left = 10 + 8 * number
        image[20:68, left : left + 48] = (40, 40, 220)
        image[76:90, 20:110] = (60, 200, 60)
        boxes += [[left, 20, left + 48, 68], [20, 76, 110, 90]]
        cv2.imwrite(str(folder / f"{number}.png"), image)
    paths = [folder / f"{number}.png" for number in range(4)]
    owners, labels = [0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4
    return repair(build(NAMES, paths, owners, boxes, labels, sizes=[(96, 128)] * 4))[0]


def small_config(steps):
    return TrainConfig(
        steps=steps, batch=2, optimizer=OptimizerConfig("sgd", lr=0.02), schedule=ScheduleConfig("constant", warmup=0),
        augmentation=Augmentation(), workers=0, norms="frozen",
    )  # fmt: skip


@pytest.mark.parametrize("model", SMALL)
def test_two_steps_change_every_part_and_it_is_measured_and_read_back(model, shapes, tmp_path):
    torch.manual_seed(0)
    card = TwoStageCard(model, NAMES, 96, {"alpha": 0.25})
    network = build_network(card)
    before = {name: value.clone() for name, value in network.named_parameters()}
    history = train(network, card, shapes, small_config(2))
    assert len(history) == 2 and all(np.isfinite(list(losses.values())).all() for losses in history)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    kernels = {name for name, value in before.items() if value.ndim == 4 and name.startswith("backbone.")}
    assert kernels <= moved, "gradients reach the whole backbone"
    for part in ("rpn.head.", "roi_heads.box_head.0", "roi_heads.box_predictor."):
        assert any(name.startswith(part) for name in moved), part
    numbers = measure(network, card, ground_truth(shapes))
    assert numbers.images == 4 and 0 <= numbers.AP <= 1
    save(tmp_path / "two.safetensors", network, card)
    again, its_card = load(tmp_path / "two.safetensors")
    assert its_card == card
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items() if value.ndim)


def test_a_perfect_network_has_boxes_in_the_pixels_of_the_image(shapes):
    """The network's answer in its own 96 x 96 pixels is measured in the image's 96 x 128."""
    card = TwoStageCard(SMALL[0], NAMES, 96, {"alpha": 0.25})

    class Knows(torch.nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            assert images[0].shape == (3, 96, 96) and 0 <= images[0].min() and images[0].max() <= 1
            boxes = torch.from_numpy(shapes.image(self.calls).boxes) * torch.tensor([0.75, 1, 0.75, 1])
            self.calls += 1
            return [{"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.8])}]

    found = detect(Knows(), card, np.zeros((96, 128, 3), np.uint8))
    assert found.image_size == (96, 128) and found.names == ["square", "bar"]
    assert measure(Knows(), card, ground_truth(shapes)).AP == pytest.approx(1)


def test_a_published_backbone_fills_both_stages(tmp_path):
    from backbones import build_classifier
    from detection.weights.classifier import ClassifierCard, save_classifier

    classifier, options = build_classifier("mobilenet_v1", 2, alpha=0.25), {"alpha": 0.25}
    file = tmp_path / "c.safetensors"
    save_classifier(file, classifier.state_dict(), ClassifierCard("mobilenet_v1", NAMES, options))
    network = faster_rcnn(SMALL[0], 3, 96, file, alpha=0.25)
    theirs = classifier.backbone.blocks
    assert torch.equal(network.backbone[11].pointwise.conv.weight, theirs[10].pointwise.conv.weight)
    assert torch.equal(network.roi_heads.box_head[0].pointwise.conv.weight, theirs[11].pointwise.conv.weight)
    with pytest.raises(BadWeightsError, match="another width"):
        faster_rcnn(SMALL[0], 3, 96, file, alpha=0.5)
    with pytest.raises(BadWeightsError, match="holds a mobilenet_v1"):
        faster_rcnn(SMALL[1], 3, 96, file)
    with pytest.raises(BadWeightsError, match="no weights of a two-stage detector"):
        load(file)


def test_the_second_stage_counts_once_a_proposal_and_info_prints_it(capsys):
    with torch.device("meta"):
        network = faster_rcnn("faster_rcnn_mobilenet_v1", 91, 300)
    none, one = (faster_rcnn_cost(network, 300, proposals) for proposals in (0, 1))
    assert one.params == none.params == sum(value.numel() for value in network.parameters())
    assert main(["info", "faster_rcnn_mobilenet_v1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["params"] == none.params == 6_063_939
    assert report["madds"] == none.madds + 300 * (one.madds - none.madds) == 25_223_422_912
    assert main(["info", "faster_rcnn_vgg16", "--alpha", "0.5"]) == 2
    assert "faster_rcnn_vgg16: takes no" in capsys.readouterr().err


def test_what_cannot_be_says_so(shapes):
    with pytest.raises(MobileSSDError, match="nearest: faster_rcnn_mobilenet_v1"):
        faster_rcnn("faster_rcnn_mobilenet_v11", 3)
    with pytest.raises(MobileSSDError, match="classes are not those"):
        train(torch.nn.Linear(1, 1), TwoStageCard(SMALL[0], ("cat",), 96), shapes, small_config(1))


def test_train_and_eval_take_it_and_refuse_what_it_has_not(shapes, tmp_path, capsys):
    objects = [
        {"id": i + 1, "image_id": o + 1, "category_id": c + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (o, c, box) in enumerate(zip(shapes.owners().tolist(), shapes.labels.tolist(), shapes.exact.tolist()))
    ]
    images = [{"id": i + 1, "file_name": path, "height": 96, "width": 128} for i, path in enumerate(shapes.paths)]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    data = tmp_path / "shapes.json"
    data.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    run = ["train", "--model", SMALL[0], "--data", str(data), "--output", str(tmp_path / "run"), "--steps", "1"]
    run += ["--batch", "2", "--input-size", "96", "--set", "options.alpha=0.25", "--threads", "1", "--select", "0"]
    assert main([*run, "--resume"]) == 2
    assert "--resume: not with a two-stage detector" in capsys.readouterr().err
    assert main(run) == 0
    assert "step 1 of 1, loss" in capsys.readouterr().out
    weights = tmp_path / "run" / "last.safetensors"
    measured = ["eval", "--weights", str(weights), "--data", str(data), "--threads", "1"]
    assert main([*measured, "--json", str(tmp_path / "numbers.json")]) == 0
    assert json.loads((tmp_path / "numbers.json").read_text())["images"] == 4
    assert main([*measured, "--tiles", "2x2"]) == 2
    assert "--tiles: not with a two-stage detector" in capsys.readouterr().err
    assert main(["detect", str(shapes.path(0)), "--weights", str(weights), "--output", str(tmp_path / "o")]) == 2
