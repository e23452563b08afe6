"""Shapes without values: PyTorch's own, to the cell and to the word of an error, and without its compiler."""

import sys

import children
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbones import build_classifier
from backbones.shapes import ShapesOnly, shapes_only
from detection.ssd.network import SSD
from detection.weights.names import spec_for


def shapes_of(network, size):
    """(layer, shape of the map that it gives), layer by layer, and the shapes of what the network gives."""
    found = []

    def note(name):
        def after(_module, _inputs, output):
            if isinstance(output, torch.Tensor):
                found.append((name, tuple(output.shape)))

        return after

    for name, layer in network.named_modules():
        layer.register_forward_hook(note(name))
    with torch.no_grad():
        given = network(torch.empty(2, 3, *size, device="meta"))
    return found, [tuple(one.shape) for one in given]


@pytest.mark.parametrize(
    "name",
    [
        *("ssdlite_mobilenet_v2", "ssdlite_mobilenet_v3_large", "ssdlite_mobilenet_v4_conv_medium", "ssd_mobilenet_v1"),
        *("ssd_vgg16", "ssd_mobilenet_v2_fpnlite"),
    ],
)
def test_a_detector_has_the_shapes_that_pytorch_gives(name):
    spec = spec_for(name)
    with torch.device("meta"):
        expected = shapes_of(SSD(spec).eval(), (301, 418))
    with shapes_only():
        assert shapes_of(SSD(spec).eval(), (301, 418)) == expected


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3_small", "mobilenet_v4_conv_small"])
def test_a_classifier_has_the_shapes_that_pytorch_gives(name):
    with torch.device("meta"):
        expected = shapes_of(build_classifier(name, 7).eval(), (97, 130))
    with shapes_only():
        assert shapes_of(build_classifier(name, 7).eval(), (97, 130)) == expected


OPERATIONS = {
    "sum of two shapes": lambda x: x + x[:, :1, :, :1],
    "product with one number": lambda x: 2 * x * 0.5,
    "pool to one side": lambda x: F.adaptive_avg_pool2d(x, (None, 3)),
    "mean of some axes": lambda x: x.mean((2, 3), keepdim=True),
    "joined from behind": lambda x: torch.cat([x, x], dim=-1),
    "dilated and grouped": lambda x: F.conv2d(x, x.new_empty(4, 1, 3, 3), stride=(2, 1), dilation=(1, 2), groups=2),
    "a map too small": lambda x: F.conv2d(x, x.new_empty(4, 2, 9, 9)),
    "channels that do not fit": lambda x: F.conv2d(x, x.new_empty(4, 3, 1, 1)),
    "sums that do not fit": lambda x: x + x[:, :, :2],
    "ends that do not fit": lambda x: torch.cat([x, x[:, :, :2]], 1),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_gives_or_says_what_pytorch_does(operation):
    def outcome(x):
        try:
            found = operation(x)
        except RuntimeError as error:
            return str(error)
        return tuple(found.shape), found.dtype, found.device.type

    expected = outcome(torch.empty(1, 2, 8, 7, device="meta"))
    with ShapesOnly():
        assert outcome(torch.empty(1, 2, 8, 7, device="meta")) == expected


def test_tensors_with_values_are_left_alone():
    with ShapesOnly():
        layer = nn.Conv2d(1, 1, 3)
        assert layer.weight.abs().sum() > 0 and (torch.ones(2) + 1).tolist() == [2, 2]


def test_a_model_is_described_without_pytorchs_compiler():
    script = """
import sys
from detection.cli.main import main
assert main(["info", "ssdlite_mobilenet_v2"]) == 0
print(*sorted({"torch._dynamo", "sympy", "torchvision"} & set(sys.modules)), file=sys.stderr)
"""
    done = children.run([sys.executable, "-c", script])
    assert done.returncode == 0 and done.stderr == "\n", done.stderr
