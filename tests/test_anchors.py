"""Anchors: counts, sizes and order of each framework's layout, from published code and files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.boxes.geometry import to_xyxy
from detection.errors import MobileSSDError
from detection.ssd.network import anchors_of, build, feature_maps
from detection.ssd.spec import ExtraSpec, InputSpec, SSDSpec
from detection.weights.names import spec_for

TF_EXTRAS = tuple(ExtraSpec(c, c // 2) for c in (512, 256, 256, 128))


def maps_of(size: int) -> list[tuple[int, int]]:
    """Strides 16, 32, ... with every map half of the one before, rounded up."""
    maps, side = [], -(-size // 16)
    for _ in range(6):
        maps.append((side, side))
        side = -(-side // 2)
    return maps


COUNTS = {128: 330, 192: 738, 224: 1014, 256: 1284, 300: 1917, 320: 2034, 384: 2892, 416: 3462, 512: 5118}


@pytest.mark.parametrize("size, count", COUNTS.items())
def test_number_of_tensorflow_anchors_by_input_size_from_the_networks_own_maps(size, count):
    spec = SSDSpec(taps=("conv11", "conv13"), extras=TF_EXTRAS, input=InputSpec(size=(size, size)))
    ssd = build(spec)
    assert list(feature_maps(ssd)) == maps_of(size)
    cells = sum(h * w for h, w in maps_of(size))
    assert len(anchors_of(ssd)) == 6 * cells - 3 * maps_of(size)[0][0] ** 2 == count


def test_tensorflow_sizes_of_the_second_and_the_last_map():
    cells = AnchorSpec().cells(6, (300, 300))
    height_width = [[(round(h, 4), round(w, 4)) for w, h in cell.sizes] for cell in cells]
    assert height_width[0] == [(0.1, 0.1), (0.1414, 0.2828), (0.2828, 0.1414)]
    second = [(0.35, 0.35), (0.2475, 0.495), (0.495, 0.2475), (0.2021, 0.6062), (0.6062, 0.2021), (0.4183, 0.4183)]
    assert height_width[1] == second
    last = [(0.95, 0.95), (0.6718, 1.3435), (1.3435, 0.6718), (0.5485, 1.6454), (1.6455, 0.5485), (0.9747, 0.9747)]
    assert height_width[5] == last


def test_918_of_the_1917_anchors_at_300_cross_the_border_and_38_have_a_side_above_1():
    anchors = anchors_for(AnchorSpec(), maps_of(300), (300, 300))
    boxes = to_xyxy(anchors.astype(np.float64))
    assert int(((boxes < -1e-6) | (boxes > 1 + 1e-6)).any(1).sum()) == 918
    assert int((anchors[:, 2:] > 1).any(1).sum()) == 38


def test_first_anchors_of_torchvision_at_320_and_of_ssd300():
    lite = anchors_for(AnchorSpec("torchvision"), maps_of(320), (320, 320))
    assert len(lite) == 3234
    assert to_xyxy(lite[0]) * 320 == pytest.approx([-24, -24, 40, 40], abs=1e-3)
    scales = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    options = {"scales": scales, "ratios": ratios, "steps": (8, 16, 32, 64, 100, 300)}
    ssd300 = anchors_for(AnchorSpec("torchvision", options), [(s, s) for s in (38, 19, 10, 5, 3, 1)], (300, 300))
    assert len(ssd300) == 8732
    assert to_xyxy(ssd300[0]) * 300 == pytest.approx([-6.5, -6.5, 14.5, 14.5], abs=1e-3)


def test_qfgaohao_clamps_114_centres_and_numbers_3000():
    priors = anchors_for(AnchorSpec("qfgaohao"), maps_of(300), (300, 300))
    assert len(priors) == 3000 and priors.max() == 1
    assert int((priors[:, :2] == 1).any(1).sum()) == 114


def test_caffe_truncates_sizes_and_puts_the_interpolated_square_second():
    options = {"min_sizes": [21.9], "max_sizes": [45.7], "ratios": [[2]], "steps": [8]}
    cell = AnchorSpec("caffe", options).cells(1, (300, 300))[0]
    assert np.array(cell.sizes) * 300 == pytest.approx(
        np.array([(21, 21), ((21 * 45) ** 0.5,) * 2, (21 * 2**0.5, 21 / 2**0.5), (21 / 2**0.5, 21 * 2**0.5)])
    )


def test_on_a_wide_input_tensorflows_anchors_keep_their_shape_in_pixels():
    cell = AnchorSpec().cells(6, (240, 480))[1]
    width, height = cell.sizes[0]
    assert width * 480 == pytest.approx(height * 240)


def test_a_wrong_number_of_entries_or_an_unknown_layout_is_one_clear_line():
    with pytest.raises(MobileSSDError, match="ratios has 1 entries, the network has 6"):
        AnchorSpec("torchvision", {"ratios": [[2]]}).cells(6, (320, 320))
    with pytest.raises(MobileSSDError, match="unknown anchor layout"):
        AnchorSpec("yolo").cells(6, (320, 320))


@pytest.mark.parametrize("layout", ["tensorflow", "torchvision", "qfgaohao", "mmdet"])
@pytest.mark.parametrize("size", [(204, 204), (172, 236)])
def test_anchors_with_a_base_are_as_many_pixels_large_at_every_input(layout, size):
    here = AnchorSpec(layout, base=(300, 300)).cells(6, size)
    for cell, meant in zip(here, AnchorSpec(layout).cells(6, (300, 300)), strict=True):
        most = 1 if meant.clamp else np.inf
        pixels = np.array(cell.sizes) * (size[1], size[0])
        assert pixels == pytest.approx(np.minimum(meant.sizes, most) * 300)
        assert cell.clamp is None
    grid = anchors_for(AnchorSpec(layout, base=(300, 300)), maps_of(204), (204, 204))
    plain = anchors_for(AnchorSpec(layout), maps_of(204), (204, 204))
    if layout in ("tensorflow", "mmdet"):  # the others clamp
        assert grid[:, :2] == pytest.approx(plain[:, :2])
        assert grid[:, 2:] == pytest.approx(plain[:, 2:] * 300 / 204)


def test_a_base_equal_to_the_input_changes_nothing_and_outlives_json():
    spec = SSDSpec(taps=("conv11", "conv13"), extras=TF_EXTRAS, input=InputSpec(size=(300, 300)))
    small = spec.with_input_size(204, keep_pixels=True)
    assert small.anchors.base == (300, 300) and spec.with_input_size(204).anchors.base is None
    assert spec_for("ssd_mobilenet_v1", input_size=204, anchor_base=300).anchors == replace(
        small.anchors, centred_at=None
    )
    assert SSDSpec.from_dict(json.loads(json.dumps(small.to_dict()))) == small
    assert small.with_input_size(172, keep_pixels=True).anchors.base == (300, 300), "not that of 204"
    assert small.with_input_size(300, keep_pixels=True) == spec
    back = small.with_input_size(300)
    assert anchors_of(build(back)) == pytest.approx(anchors_of(build(spec)), abs=1e-7)


# The layouts against the frameworks' own rules: torchvision's class, TensorFlow's two generators as their files write them.


@pytest.mark.parametrize("size", [(320, 320), (240, 416)])
@pytest.mark.parametrize("steps", [None, (8, 16, 32, 64, 100, 300)])
def test_torchvision_s_anchors_are_those_of_its_own_generator(size, steps):
    torch = pytest.importorskip("torch")
    anchor_utils = pytest.importorskip("torchvision.models.detection.anchor_utils", reason="needs torchvision")
    from torchvision.models.detection.image_list import ImageList

    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    maps = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (16, 32, 64, 107, 160, 320)]
    theirs = anchor_utils.DefaultBoxGenerator(ratios, min_ratio=0.2, max_ratio=0.95, steps=steps)
    (boxes,) = theirs(ImageList(torch.zeros(1, 3, *size), [size]), [torch.zeros(1, 1, *one) for one in maps])
    ours = anchors_for(AnchorSpec("torchvision", {"ratios": ratios, "steps": steps}), maps, size)
    assert to_xyxy(ours) * np.tile(size[::-1], 2) == pytest.approx(boxes.numpy(), abs=1e-3)


@pytest.mark.parametrize("size", [96, 204, 300, 384])
def test_tensorflow_s_anchors_are_those_of_its_own_generators(size):
    frozen_networks = pytest.importorskip("frozen_networks", reason="needs torch")
    sides = [side for side, _ in maps_of(size)]
    ours = anchors_for(AnchorSpec(), maps_of(size), (size, size))
    assert ours[:, [1, 0, 3, 2]] == pytest.approx(frozen_networks.grid_anchors(sides), abs=1e-6)
    if size % 128 == 0:
        sides = [size // stride for stride in (8, 16, 32, 64, 128)]
        ours = anchors_for(AnchorSpec("multiscale"), [(side, side) for side in sides], (size, size))
        assert ours[:, [1, 0, 3, 2]] == pytest.approx(frozen_networks.pyramid_anchors(sides, size), abs=1e-6)
