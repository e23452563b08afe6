"""The bodies: their taps, their maps at any size, their widths, clear refusals, clean conversion."""

import warnings

import pytest
import torch
from torch import nn

from backbones import (
    available_taps,
    build_backbone,
    count,
    initialise,
    list_backbones,
    make_divisible,
)
from backbones.blocks import activation_layer
from backbones.convolutions import SameConv2d

pytestmark = pytest.mark.usefixtures("one_thread")
MOBILENETS = [name for name in list_backbones() if name != "vgg16"]


def on_meta(name, taps=None, **options):
    """A body whose tensors have shapes and no values."""
    with torch.device("meta"):
        return build_backbone(name, taps, **options).eval()


def maps(body, height, width):
    return [tuple(found.shape[1:]) for found in body(torch.empty(1, 3, height, width, device="meta"))]


def halved(size, stride):
    return -(-size // stride)


# Taps


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("mobilenet_v1", {}, [("conv11", 16, 512), ("conv13", 32, 1024)]),
        ("mobilenet_v1", {"alpha": 0.75}, [("conv11", 16, 384), ("conv13", 32, 768)]),
        ("mobilenet_v1", {"shallow": True}, [("conv6", 16, 512), ("conv13", 32, 1024)]),
        ("mobilenet_v1_fullconv", {}, [("conv11", 16, 512), ("conv13", 32, 1024)]),
        ("mobilenet_v2", {}, [("expand13", 16, 576), ("top", 32, 1280)]),
        ("mobilenet_v3_large", {}, [("expand13", 16, 672), ("top", 32, 960)]),
        ("mobilenet_v3_large", {"reduced_tail": True}, [("expand13", 16, 672), ("top", 32, 480)]),
        ("mobilenet_v3_small", {}, [("expand9", 16, 288), ("top", 32, 576)]),
        ("mobilenet_v3_small", {"reduced_tail": True}, [("expand9", 16, 288), ("top", 32, 288)]),
        ("mobilenet_v4_conv_small", {}, [("expand10", 16, 576), ("top", 32, 960)]),
        ("mobilenet_v4_conv_medium", {}, [("expand11", 16, 960), ("top", 32, 960)]),
        ("vgg16", {}, [("conv4_3", 8, 512), ("fc7", 16, 1024)]),
    ],
)
def test_usual_taps_of_the_published_detectors(name, options, expected):
    assert [(tap.name, tap.stride, tap.channels) for tap in on_meta(name, **options).taps] == expected


@pytest.mark.parametrize(
    "name, tap, stride, channels",
    [
        ("mobilenet_v1", "conv5", 8, 256),
        ("mobilenet_v2", "block12", 16, 96),  # mmdet, lufficc; TF-OD's layer_14
        ("mobilenet_v2", "expand6", 8, 192),
        ("mobilenet_v2", "block5", 8, 32),  # TF-OD's layer_7
        ("mobilenet_v2", "block2", 4, 24),  # TF-OD's layer_4
        ("mobilenet_v4_conv_small", "expand4", 8, 192),
        ("mobilenet_v4_conv_medium", "expand3", 8, 480),
        ("mobilenet_v3_large", "expand7", 8, 240),
        ("mobilenet_v3_large", "block6", 8, 40),
        ("mobilenet_v3_small", "expand4", 8, 96),
        ("mobilenet_v3_small", "block3", 8, 24),
    ],
)
def test_other_taps_that_detectors_use(name, tap, stride, channels):
    (found,) = on_meta(name, [tap]).taps
    assert (found.stride, found.channels) == (stride, channels)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("alpha", [0.25, 1.4])
@pytest.mark.parametrize("name", MOBILENETS)
def test_every_tap_is_what_it_says_at_odd_sizes(name, alpha, padding):
    taps = available_taps(name, alpha=alpha)
    body = on_meta(name, [tap.name for tap in taps], alpha=alpha, padding=padding)
    assert body.taps == taps
    for height, width in ((33, 47), (300, 321)):
        expected = [(tap.channels, halved(height, tap.stride), halved(width, tap.stride)) for tap in taps]
        assert maps(body, height, width) == expected


def test_maps_of_vgg_in_ssd300_and_ssd512():
    assert maps(on_meta("vgg16"), 300, 300) == [(512, 38, 38), (1024, 19, 19)]
    assert maps(on_meta("vgg16"), 512, 512) == [(512, 64, 64), (1024, 32, 32)]
    names = [tap.name for tap in available_taps("vgg16")]
    assert maps(on_meta("vgg16", names), 64, 80) == [
        (tap.channels, 64 // tap.stride, 80 // tap.stride) for tap in available_taps("vgg16")
    ]


@pytest.mark.parametrize("name", list_backbones())
def test_taps_come_in_the_order_asked_for_and_are_the_same_maps_whatever_else_is_tapped(name):
    torch.manual_seed(0)
    usual = build_backbone(name, alpha=0.25).eval()
    names = [tap.name for tap in usual.taps]
    turned = build_backbone(name, names[::-1], alpha=0.25).eval()
    turned.load_state_dict(usual.state_dict())
    x = torch.randn(1, 3, 48, 33)
    with torch.no_grad():
        for found, expected in zip(turned(x), usual(x)[::-1], strict=True):
            torch.testing.assert_close(found, expected)


def test_layers_behind_the_last_tap_are_not_built():
    assert len(on_meta("mobilenet_v1", ["conv5"]).blocks) == 5
    assert list(on_meta("vgg16", ["conv4_3"]).state_dict())[-1] == "conv4_3_norm.weight"
    body = on_meta("mobilenet_v2", ["expand13", "block5"])
    assert maps(body, 64, 64) == [(576, 4, 4), (32, 8, 8)]
    behind = [key for key in body.state_dict() if key.startswith(("blocks.13", "top"))]
    assert behind and all(key.startswith("blocks.13.expand.") for key in behind)


@pytest.mark.parametrize("name", list_backbones())
def test_layers_are_registered_in_the_order_of_execution(name):
    """Importers lay the layers of a file beside ours in this order."""
    body = on_meta(name)
    registered = [key for key, layer in body.named_modules() if layer._parameters]
    assert [layer.name for layer in count(body, 64).layers] == registered


def test_names_in_the_state_dict_stay():
    keys = set(build_backbone("mobilenet_v1", alpha=0.25).state_dict())
    for key in ("conv0.conv.weight", "conv0.norm.running_mean", "blocks.0.depthwise.conv.weight"):
        assert key in keys
    assert {"blocks.12.pointwise.conv.weight", "blocks.12.pointwise.norm.bias"} <= keys
    keys = set(on_meta("mobilenet_v3_large").state_dict())
    assert {"stem.conv.weight", "blocks.12.expand.norm.weight", "blocks.12.depthwise.conv.weight"} <= keys
    assert {"blocks.12.gate.fc1.bias", "blocks.12.project.conv.weight", "top.conv.weight"} <= keys
    assert {"conv1_1.conv.weight", "conv4_3_norm.weight", "fc7.conv.bias"} <= set(on_meta("vgg16").state_dict())


# Widths


def test_width_rules():
    assert [make_divisible(v * 0.35) for v in (32, 16, 24, 1280)] == [16, 8, 8, 448]
    assert make_divisible(5.6, 8, 16) == 16
    first = {name: available_taps(name, alpha=0.25, min_depth=16)[0].channels for name in MOBILENETS}
    v4 = {first.pop("mobilenet_v4_conv_small"), first.pop("mobilenet_v4_conv_medium")}
    assert set(first.values()) == {16}  # with min_depth 8 they would have 8
    assert v4 == {32}  # timm narrows all but the stem
    assert available_taps("mobilenet_v1", alpha=0.3)[1].channels == 19  # V1 cuts to whole numbers, V2 and V3 do not
    assert available_taps("mobilenet_v2", alpha=0.3, round_to=1)[-2].channels == 96


def test_top_of_mobilenet_v2_is_scaled_or_kept():
    def top(alpha, scale_top):
        return available_taps("mobilenet_v2", alpha=alpha, scale_top=scale_top)[-1].channels

    assert [top(a, True) for a in (0.35, 0.5, 0.75, 1.0, 1.4)] == [448, 640, 960, 1280, 1792]
    assert [top(a, False) for a in (0.35, 0.5, 0.75, 1.0, 1.4)] == [1280, 1280, 1280, 1280, 1792]


def test_options_reach_every_layer():
    body = on_meta("mobilenet_v1", activation="relu", norm_eps=1e-5, norm_momentum=0.1, padding="symmetric")
    layers = list(body.modules())
    assert {(m.eps, m.momentum) for m in layers if isinstance(m, nn.BatchNorm2d)} == {(1e-5, 0.1)}
    assert not any(isinstance(m, nn.ReLU6 | SameConv2d) for m in layers)
    defaults = {(m.eps, m.momentum) for m in on_meta("mobilenet_v3_small").modules() if isinstance(m, nn.BatchNorm2d)}
    assert defaults == {(0.001, 0.03)}


def test_relu6_keeps_nothing_but_its_result_and_gives_the_gradients_of_pytorchs():
    x = torch.cat([torch.randn(1000) * 5, torch.tensor([0.0, 6.0, -0.0, 1e-30, 6 - 1e-6])]).double()

    def through(layer):
        kept, leaf = [], x.clone().requires_grad_()
        before = leaf * 1.0
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.data_ptr()), t)[1], lambda t: t):
            y = layer.train()(before)
        (y * torch.arange(len(x))).sum().backward()
        return y.detach(), leaf.grad, set(kept) == {y.data_ptr()}

    ours, theirs = through(activation_layer("relu6")), through(nn.ReLU6(inplace=True))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1]) and ours[2]


# Refusals


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (
            ("mobilenet_v9",),
            {},
            r"unknown backbone 'mobilenet_v9' \(did you mean mobilenet_v\d\?\): there are ",
        ),
        (("mobilenet_v1",), {"alpa": 1}, r"unknown option of mobilenet_v1 'alpa' \(did you mean alpha\?\)"),
        (("mobilenet_v3_small",), {"size": "large"}, "unknown option of mobilenet_v3_small 'size'"),
        (
            ("mobilenet_v2", ["block17"]),
            {},
            r"unknown tap of mobilenet_v2 'block17' .*: there are stem, block0, expand1",
        ),
        (("mobilenet_v1", ["conv7"]), {"shallow": True}, "unknown tap of mobilenet_v1 'conv7'"),
        (("mobilenet_v1", []), {}, "must be at least one and all different"),
        (("mobilenet_v1", ["conv5", "conv5"]), {}, "must be at least one and all different"),
        *[((name,), {"alpha": a}, "alpha must be above 0") for name in list_backbones() for a in (0, -1, float("nan"))],
    ],
)
def test_one_clear_line_says_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_backbone(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list_backbones())
def test_an_input_smaller_than_the_coarsest_stride_is_refused(name):
    body = on_meta(name)
    stride = max(tap.stride for tap in body.taps)
    assert all(min(shape) >= 1 for shape in maps(body, stride, stride))
    with pytest.raises(
        ValueError, match=f"{stride - 1}x99 pixels is too small for {name}: its tap .* has stride {stride}"
    ):
        maps(body, stride - 1, 99)


# Training and conversion


@pytest.mark.parametrize("name", list_backbones())
def test_gradients_reach_every_parameter(name):
    body = build_backbone(name, alpha=0.25).train()
    sum(found.square().mean() for found in body(torch.randn(2, 3, 48, 48))).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in body.parameters())


def test_first_weights():
    body = build_backbone("mobilenet_v1", alpha=0.5)
    initialise(body, "truncated_normal", stddev=0.09)
    weight = body.blocks[11].pointwise.conv.weight.detach()
    assert weight.abs().max() <= 0.18 and weight.std() == pytest.approx(0.09 * 0.88, rel=0.02)
    initialise(body, "kaiming")
    assert weight.std() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    with pytest.raises(ValueError, match="unknown initialisation 'orthogonal'"):
        initialise(body, "orthogonal")


class AsTuple(nn.Module):
    """What a whole network does with the maps: a tracer warns of a list only where it is the last answer."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return tuple(self.body(x))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.jit is on its way out, OpenVINO still uses it
def test_traces_exports_and_converts_at_a_fixed_size_without_a_warning():
    openvino = pytest.importorskip("openvino")
    body = AsTuple(build_backbone("mobilenet_v3_small", alpha=0.25)).eval()
    x = torch.randn(1, 3, 70, 97)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        expected = body(x)
        traced = torch.jit.trace(body, x)(x)
        exported = torch.export.export(body, (x,)).module()(x)
        converted = openvino.convert_model(body, example_input=x, input=[1, 3, 70, 97])
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x.numpy())
    for number, wanted in enumerate(expected):
        torch.testing.assert_close(traced[number], wanted)
        torch.testing.assert_close(exported[number], wanted)
        torch.testing.assert_close(torch.from_numpy(compiled[number]), wanted, rtol=1e-3, atol=1e-4)
