"""Anchors at another input size than that of the training: as many pixels large, and where the network looks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes.anchors import anchors_for
from detection.errors import MobileSSDError
from detection.ssd import network
from detection.ssd.network import anchor_grids, anchors_of, feature_maps, looks
from detection.ssd.spec import SSDSpec
from detection.weights.names import spec_for

LAYOUTS = [
    ("ssdlite_mobilenet_v2", {"alpha": 0.25}),
    ("ssd_mobilenet_v1", {"alpha": 0.25, "layout": "caffe"}),
    ("ssdlite_mobilenet_v2", {"alpha": 0.25, "layout": "torchvision"}),
    ("ssdlite_mobilenet_v2", {"alpha": 0.25, "layout": "mmdet"}),
    ("ssd_mobilenet_v1", {"layout": "qfgaohao"}),
    ("ssdlite_mobilenet_v3_small", {"alpha": 0.25}),
    ("ssdlite_mobilenet_v2", {"alpha": 0.25, "stride8": True}),
    ("ssd_mobilenet_v2_fpnlite", {"alpha": 0.25}),
    ("ssd300_vgg16", {"alpha": 0.1}),
]


def build(spec):
    """A network without weights, which costs nothing."""
    with torch.device("meta"):
        return network.build(spec)


@pytest.fixture(scope="module")
def lite():
    return build(spec_for("ssdlite_mobilenet_v2", alpha=0.25, num_classes=1))


def chain(size, halvings):
    """(cells, step, first) of a map behind so many stride-2 layers under TensorFlow's SAME padding, by its own rule: an
    even size pads (0, 1), so that cell i lies on 2 i + 1, an odd one (1, 1): on 2 i."""
    sizes = [size]
    for _ in range(halvings):
        sizes.append(-(-sizes[-1] // 2))
    first = 0
    for before in reversed(sizes[:-1]):
        first = 2 * first + (before % 2 == 0)
    return sizes[-1], 2**halvings, first + 0.5


def centres(trained, size, halvings):
    """Where the anchors of a map lie at `size`, in pixels, for weights that were trained at `trained`."""
    (n0, step0, first0), (n, step, first) = chain(trained, halvings), chain(size, halvings)
    learned = (np.arange(n0) + 0.5) * trained / n0 - (step0 * np.arange(n0) + first0)
    places = np.linspace(0, n0 - 1, n) if n > 1 else np.array([(n0 - 1) / 2])
    return step * np.arange(n) + first + np.interp(places, np.arange(n0), learned)


def on_grids(ssd):
    """The anchors in pixels, map by map: [rows, columns, anchors of a cell, cx cy w h]."""
    height, width = ssd.spec.input.size
    anchors, found = anchors_of(ssd) * np.array([width, height, width, height]), []
    maps = feature_maps(ssd)
    for (rows, columns), number in zip(maps, ssd.spec.anchors.per_cell(len(maps), ssd.spec.input.size)):
        part, anchors = np.split(anchors, [rows * columns * number])
        found.append(part.reshape(rows, columns, number, 4))
    return found


@settings(deadline=None, max_examples=8)
@given(st.integers(96, 900), st.integers(96, 900))
def test_centres_follow_the_parity_of_every_size_on_the_way(lite, height, width):
    grids = on_grids(build(lite.spec.resized((height, width))))
    for halvings, grid in enumerate(grids, start=4):
        assert grid[:, 0, 0, 1] == pytest.approx(centres(300, height, halvings), abs=1e-3)
        assert grid[0, :, 0, 0] == pytest.approx(centres(300, width, halvings), abs=1e-3)


@pytest.mark.parametrize("name, options", LAYOUTS)
def test_pixels_are_kept_at_larger_and_at_smaller_inputs_and_the_own_size_is_the_identity(name, options):
    spec = spec_for(name, num_classes=1, **options)
    height, width = spec.input.size
    assert spec.resized((height, width)) == spec
    own = on_grids(build(spec))
    for size in ((height + 64, width + 65), (height - 32, width + 96)):
        other = build(spec.resized(size))
        assert other.spec.resized((height, width)) == spec, "there and back"
        for old, new in zip(own, on_grids(other), strict=True):
            inner = [grid[grid.shape[0] // 2, grid.shape[1] // 2, :, 2:] for grid in (old, new)]
            if name != "ssd_mobilenet_v2_fpnlite" and spec.anchors.layout != "qfgaohao":  # which clamps what crosses
                assert inner[0] == pytest.approx(inner[1], abs=0.01)


@pytest.mark.parametrize("name, options", LAYOUTS)
def test_what_lies_32_pixels_further_is_seen_by_the_anchor_32_pixels_further(name, options):
    """A network in steps of its stride answers alike, and so must its anchors lie: in steps of the stride, but for what
    the training size's layout stretched them by."""
    spec = spec_for(name, num_classes=1, **options)
    ssd = build(spec.resized(tuple(side + 128 for side in spec.input.size)))
    there = looks(ssd, spec.input.size)
    cells = spec.anchors.cells(len(there), spec.input.size)
    for grid, ((n0, _), old), ((n, _), here), cell in zip(
        anchor_grids(ssd), there, looks(ssd, ssd.spec.input.size), cells
    ):
        if n == 1:
            continue
        stretched = ((cell.step or (spec.input.size[0] / n0,))[0] - old[2]) * (n0 - 1) / (n - 1)
        assert grid[2] - here[2] == pytest.approx(stretched, abs=1e-6)
        assert here[2] == old[2], "the stride"


@pytest.mark.parametrize(
    "name, options, size",
    [
        ("ssdlite_mobilenet_v2", {"alpha": 0.1}, (822, 901)),
        ("ssdlite_mobilenet_v2", {"alpha": 0.1, "layout": "torchvision"}, (822, 901)),
        ("ssdlite_mobilenet_v3_small", {"alpha": 0.1}, (900, 823)),
        ("ssd300_vgg16", {"alpha": 0.02}, (803, 902)),
    ],
)
def test_where_a_cell_looks_is_the_middle_of_what_moves_it(name, options, size):
    """The gradient of a cell in a network whose kernels are even all over, its activations left out."""
    ssd = network.build(spec_for(name, num_classes=1, **options)).eval()
    for module in ssd.modules():
        for child, layer in list(module.named_children()):
            if type(layer).__name__ in ("ReLU6", "ReLU", "Hardswish", "SqueezeExcite", "L2Norm"):
                setattr(module, child, torch.nn.Identity())
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.zeros(1, 3, *size).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:  # of a window the mean, in the place of the largest
        patch.setattr(torch.nn.functional, "max_pool2d", mean_pool)
        maps = ssd.maps(image)[:2]
    for found, (_, look) in zip(maps, looks(ssd, size)):
        row, column = found.shape[2] // 2, found.shape[3] // 2
        (moved,) = torch.autograd.grad(found[0, 0, row, column], image, retain_graph=True)
        weight = moved[0].double().sum(0) / moved.double().sum()
        middle = [(weight.sum(1 - axis) * (torch.arange(size[axis]) + 0.5)).sum().item() for axis in (0, 1)]
        assert middle == pytest.approx([look[0] + row * look[2], look[1] + column * look[3]], abs=0.05)


def mean_pool(x, kernel, stride=None, padding=0, ceil_mode=False):
    return torch.nn.functional.avg_pool2d(x, kernel, stride, padding, ceil_mode)


def test_weights_trained_at_a_size_of_their_own_with_the_pixels_of_another_lie_as_they_did(lite):
    """A card from before centres followed the network: pixels of 300, trained at 224, evenly laid."""
    old = SSDSpec.from_dict(
        {key: value for key, value in lite.spec.to_dict().items() if key != "anchors"}
        | {"input": lite.spec.to_dict()["input"] | {"size": [224, 224]}, "anchors": {"base": [300, 300]}}
    )
    assert old.anchors.centred_at is None and anchor_grids(build(old)) == ()
    assert on_grids(build(old))[2][:, 0, 0, 1] == pytest.approx((np.arange(4) + 0.5) * 56, abs=1e-3)
    larger = old.resized(256)
    assert (larger.anchors.base, larger.anchors.centred_at) == ((300, 300), (224, 224))
    assert larger.resized(224) == old


def test_a_card_lays_the_same_anchors_without_the_network_or_says_what_it_lacks(lite):
    ssd = build(lite.spec.resized((364, 300)))
    spec, maps = ssd.spec.anchors, feature_maps(ssd)
    assert np.array_equal(anchors_for(spec, maps, (364, 300), anchor_grids(ssd)), anchors_of(ssd))
    with pytest.raises(MobileSSDError, match="tells 0 of 6 maps"):
        anchors_for(spec, maps, (364, 300))
    with pytest.raises(MobileSSDError, match="the card tells"):
        anchors_for(spec, maps, (364, 300), [(float("nan"),) * 4] * 6)
