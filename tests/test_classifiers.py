"""The bodies and classifiers compute what torchvision's compute, given the same weights."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from backbones import build_backbone, build_classifier


def shake(network):
    """Batch norms that do something: statistics and scales as they might be after training."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.8, 1.5)
            nn.init.normal_(layer.bias, std=0.1)


def copy_in_order(source, target):
    """Both networks register their layers in the order of execution: no table of names is needed."""
    theirs, ours = source.state_dict(), target.state_dict()
    assert [tuple(t.shape) for t in theirs.values()] == [tuple(t.shape) for t in ours.values()]
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def make_image(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(7))


@pytest.fixture(autouse=True)
def _seeded(one_thread):
    torch.manual_seed(3)


CASES = {
    "v2": ("mobilenet_v2", {"norm_eps": 1e-5}, lambda: torchvision.models.mobilenet_v2()),
    "v2 x 0.35": (
        "mobilenet_v2",
        {"norm_eps": 1e-5, "alpha": 0.35},
        lambda: torchvision.models.mobilenet_v2(width_mult=0.35),
    ),
    "v2 x 1.4": (
        "mobilenet_v2",
        {"norm_eps": 1e-5, "alpha": 1.4},
        lambda: torchvision.models.mobilenet_v2(width_mult=1.4),
    ),
    "v3 large": ("mobilenet_v3_large", {}, lambda: torchvision.models.mobilenet_v3_large()),
    "v3 large x 0.75, reduced": (
        "mobilenet_v3_large",
        {"alpha": 0.75, "reduced_tail": True},
        lambda: torchvision.models.mobilenet_v3_large(width_mult=0.75, reduced_tail=True),
    ),
    "v3 small": ("mobilenet_v3_small", {}, lambda: torchvision.models.mobilenet_v3_small()),
    "v3 small, reduced": (
        "mobilenet_v3_small",
        {"reduced_tail": True},
        lambda: torchvision.models.mobilenet_v3_small(reduced_tail=True),
    ),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_classifiers_and_features_equal_torchvisions(case):
    name, options, build = CASES[case]
    theirs = build().eval()
    shake(theirs)
    ours = build_classifier(name, padding="symmetric", **options).eval()
    copy_in_order(theirs, ours)
    x = make_image(96, 129)
    features = theirs.features(x)
    assert features.std() > 0.01  # a network that answers zero would agree with any other
    torch.testing.assert_close(ours.backbone(x)[0], features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_body_of_ssdlite320_equals_torchvisions():
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    features = theirs.eval().backbone.features
    shake(features)
    ours = build_backbone("mobilenet_v3_large", reduced_tail=True, padding="symmetric").eval()
    copy_in_order(features, ours)
    x = make_image(160, 160)
    expansion = features[0](x)
    for got, expected in zip(ours(x), (expansion, features[1](expansion)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert [(tap.name, tap.stride, tap.channels) for tap in ours.taps] == [("expand13", 16, 672), ("top", 32, 480)]


@torch.no_grad()
def test_body_of_ssd300_equals_torchvisions():
    theirs = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None).backbone.eval()
    nn.init.uniform_(theirs.scale_weight, 10, 30)
    ours = build_backbone("vgg16").eval()
    state = [*theirs.features.state_dict().values(), theirs.scale_weight, *theirs.extra[0].state_dict().values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), state, strict=True)))
    x = make_image(150, 150)[:1]  # 75 and then 37 cells: the third pool rounds up
    conv4_3 = theirs.features(x)
    expected = (theirs.scale_weight.view(1, -1, 1, 1) * F.normalize(conv4_3), theirs.extra[0](conv4_3))
    for got, wanted in zip(ours(x), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_vgg_with_batch_norms_equals_torchvisions():
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], batch_norm=True).eval()
    theirs = layers[:-1]  # without the last pool, which is the classifier's
    shake(theirs)
    ours = build_backbone("vgg16", ["conv5_3"], batch_norm=True, ceil_pool3=False).eval()
    for layer in theirs:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None  # torchvision's convolutions have one, which the norm behind makes idle
    copy_in_order(theirs, ours)
    x = make_image(64, 75)
    torch.testing.assert_close(ours(x)[0], theirs(x), rtol=1e-5, atol=1e-5)


def test_shape_of_the_answer_and_the_smallest_image():
    with torch.device("meta"):
        for name in (
            "mobilenet_v1",
            "mobilenet_v1_fullconv",
            "mobilenet_v2",
            "mobilenet_v3_small",
            "mobilenet_v4_conv_small",
            "vgg16",
        ):
            classifier = build_classifier(name, 7).eval()
            assert classifier(torch.empty(2, 3, 32, 45)).shape == (2, 7)
            with pytest.raises(ValueError, match="31x45 pixels is too small for"):
                classifier(torch.empty(2, 3, 31, 45))
    with pytest.raises(ValueError, match="mobilenet_v2 has none"):
        build_classifier("mobilenet_v2", hidden=64)
