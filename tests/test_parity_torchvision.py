"""torchvision's detectors and bodies, imported: the same numbers from the same pixels, down to the final detections.

Their weights are drawn at random; so that sorting is not arbitrary, batch norms are calibrated on real images and the
heads scaled until the best scores pass 0.5.
"""

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from oracle import photographs
from torch import nn

from detection.boxes.geometry import to_xyxy
from detection.boxes.postprocess import PostSettings, postprocess
from detection.ssd.network import Deployable, anchors_of, build
from detection.weights.backbone import load_backbone
from detection.weights.importers.backbone_weights import IMAGENET
from detection.weights.importers.torchvision import import_torchvision_state
from detection.weights.names import load, spec_for

torchvision = pytest.importorskip("torchvision")


@pytest.fixture(autouse=True, scope="module")
def _seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(1)
    yield
    torch.set_num_threads(threads)


def real_images(number, size):
    """[N, 3, size, size] in 0..1, of photographs."""
    images = photographs(number)
    small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def calibrate(network, forward):
    """Batch norms with the statistics of one batch of real images."""
    network.train()
    for norm in [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.reset_running_stats()
        norm.momentum = 1.0
    with torch.no_grad():
        forward()
    network.eval()


def wake(model, x):
    """Calibrated norms, and heads scaled so that the best scores pass 0.5 without all being 1."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.transform.image_mean, model.transform.image_std))
    x = (x - mean) / std
    if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        calibrate(model, lambda: model.head(list(model.backbone(x).values())))
    model.eval()
    with torch.no_grad():
        features = list(model.backbone(x[:2]).values())
        for branches, spread in ((model.head.classification_head, 1.5), (model.head.regression_head, 1.0)):
            for feature, branch in zip(features, branches.module_list, strict=True):
                last = branch if isinstance(branch, nn.Conv2d) else branch[-1]
                factor = spread / branch(feature).std()
                last.weight *= factor
                last.bias *= factor
    return model


def run(model, x):
    """torchvision's own forward: final detections, and what its head and its anchor generator gave on the way."""
    seen = {}
    hooks = [
        model.head.register_forward_hook(lambda _m, _i, out: seen.update(out)),
        model.anchor_generator.register_forward_hook(lambda _m, _i, out: seen.update(anchors=out[0])),
    ]
    with torch.no_grad():
        detections = model(list(x))
    for hook in hooks:
        hook.remove()
    return detections, seen["bbox_regression"], seen["cls_logits"], seen["anchors"].numpy()


def normalised(ssd, x):
    mean, std = (torch.tensor(v)[:, None, None] for v in (ssd.spec.input.mean, ssd.spec.input.std))
    return (x * 255 - mean) / std


def check(model, ssd, card, x):
    """Raw outputs and anchors to 1e-4, and final detections equal under torchvision's own rules."""
    theirs, their_boxes, their_logits, their_anchors = run(model, x)
    same_input = torch.stack([model.transform.normalize(image) for image in x])
    assert (normalised(ssd, x) - same_input).abs().max() < 1e-4 * same_input.abs().max()
    with torch.no_grad():
        encodings, logits = ssd(same_input)  # the last bit of the input is a thousand times as large behind the heads
    assert (encodings - their_boxes).abs().max() < 1e-4 and (logits - their_logits).abs().max() < 1e-4
    size, anchors = ssd.spec.input.size, anchors_of(ssd)
    assert np.abs(to_xyxy(anchors) * size[0] - their_anchors).max() < 1e-4
    rules = PostSettings(
        score=model.score_thresh,
        iou=model.nms_thresh,
        max_detections=model.detections_per_img,
        per_class=model.topk_candidates,
        activation=ssd.spec.scores,
    )
    for e, s, found in zip(encodings.numpy(), logits.numpy(), theirs, strict=True):
        ours = postprocess(e, s, anchors, size, card.class_names, rules, ssd.spec.coder)
        labels, scores, boxes = (found[key].numpy() for key in ("labels", "scores", "boxes"))
        assert scores.max() > 0.5 and len(ours) == len(scores)
        assert np.abs(ours.scores - scores).max() < 1e-5
        same = (labels[:, None] - 1 == ours.class_ids) & (np.abs(scores[:, None] - ours.scores) < 1e-5)
        same &= np.abs(boxes[:, None] - ours.boxes).max(-1) < 1e-3
        assert same.any(0).all() and same.any(1).all()  # as sets: scores may be equal to the last bit


def test_ssdlite320_mobilenet_v3_large(tmp_path):
    from safetensors.torch import save_file

    x = real_images(6, 320)
    model = wake(torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None), x)
    torch.save(model.state_dict(), tmp_path / "ssdlite320.pth")
    ssd, card = load(tmp_path / "ssdlite320.pth")
    assert sum(p.numel() for p in ssd.parameters()) == 3_440_060
    assert card.class_names[0] == "person" and card.category_ids[-1] == 90 and not card.folded_norms
    check(model, ssd, card, x[:3])
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    save_file(state, tmp_path / "ssdlite320.safetensors")  # recognised by its keys, without a card of ours
    again, _ = load(tmp_path / "ssdlite320.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(ssd.parameters(), again.parameters(), strict=True))


def test_ssdlite_with_the_whole_tail_and_20_classes():
    """What torchvision builds where a pretrained backbone is given: 960 channels behind the last block."""
    from torchvision.models.detection import ssd as theirs
    from torchvision.models.detection import ssdlite
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    body = ssdlite._mobilenet_extractor(torchvision.models.mobilenet_v3_large(norm_layer=norm), 6, norm)
    head = ssdlite.SSDLiteHead([672, 960, 512, 256, 256, 128], [6] * 6, 21, norm)
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    half = [0.5] * 3
    model = theirs.SSD(body, anchors, (320, 320), 21, head=head, image_mean=half, image_std=half)
    x = real_images(4, 320)
    ssd, card = import_torchvision_state(wake(model, x).state_dict())
    assert ssd.spec.num_classes == 20 and ssd.spec.backbone_options["reduced_tail"] is False
    check(model, ssd, card, x[:1])


def test_ssd300_vgg16():
    x = real_images(1, 300)
    model = wake(torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None), x)
    ssd, card = import_torchvision_state(model.state_dict())
    assert sum(p.numel() for p in ssd.parameters()) == 35_641_826
    check(model, ssd, card, x)


V2_TAP = ("mobilenet_v2", "ssdlite_mobilenet_v2", lambda f, x: f[14].conv[0](f[:14](x)))


@pytest.mark.parametrize(
    ("name", "detector", "tap", "eps", "tolerance"),
    [
        (*V2_TAP, 1e-5, 1e-4),
        (*V2_TAP, 1e-3, 1e-3),  # the file's epsilon is not the detector's: gamma makes up for it, but for rounding
        ("mobilenet_v3_large", "ssdlite_mobilenet_v3_large", lambda f, x: f[13].block[0](f[:13](x)), 1e-3, 1e-4),
        ("mobilenet_v3_small", "ssdlite_mobilenet_v3_small", lambda f, x: f[9].block[0](f[:9](x)), 1e-3, 1e-4),
    ],
)
def test_bodies_of_classifiers_give_the_same_features(tmp_path, name, detector, tap, eps, tolerance):
    x = real_images(4, 224)
    model = getattr(torchvision.models, name)(weights=None)
    options = {"layout": "torchvision", **({} if name == "mobilenet_v2" else {"reduced_tail": False})}
    ssd = build(replace(spec_for(detector, **options), input=IMAGENET, norm_eps=eps)).eval()
    y = normalised(ssd, x)
    calibrate(model, lambda: model(y))
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / f"{name}.pth")  # as training scripts save it
    assert not load_backbone(ssd, tmp_path / f"{name}.pth").missing
    with torch.no_grad():
        first, last = ssd.backbone(y[:2])
        assert (first - tap(model.features, y[:2])).abs().max() < tolerance
        assert (last - model.features(y[:2])).abs().max() < tolerance


def test_vgg_s_body_in_a_detector_that_wants_bgr_and_other_means(tmp_path):
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    torch.save({f"features.{name}": tensor for name, tensor in layers.state_dict().items()}, tmp_path / "vgg16.pth")
    ssd = build(spec_for("ssd300_vgg16", num_classes=2)).eval()
    report = load_backbone(ssd, tmp_path / "vgg16.pth")
    assert ssd.spec.input.color == "bgr" and {name.split(".")[0] for name in report.missing} == {
        "conv4_3_norm",
        "fc6",
        "fc7",
    }
    x = real_images(1, 64)
    mean, std = (torch.tensor(v)[:, None, None] / 255 for v in (IMAGENET.mean, IMAGENET.std))
    with torch.no_grad():
        ours = ssd.backbone.conv1_1(Deployable(ssd).normalise((x * 255).round().permute(0, 2, 3, 1).to(torch.uint8)))
        theirs = layers[:2]((x - mean) / std)
    assert (ours - theirs)[..., 1:-1, 1:-1].abs().max() < 1e-4
