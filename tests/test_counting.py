"""What the bodies cost: every figure of the papers, slim and torchvision that they reproduce, to the integer."""

from functools import cache

import pytest
import torch
from torch import nn

from backbones import build_backbone, build_classifier, count


@cache
def classifier(name, num_classes, **options):
    with torch.device("meta"):  # shapes are all that counting needs
        return build_classifier(name, num_classes, **options)


def cost(name, size, num_classes=1000, *, include_norms=True, **options):
    found = count(classifier(name, num_classes, **options), size, include_norms=include_norms)
    return found.params, found.madds


V1 = {
    (1.0, 224): (4_231_976, 568_740_352),
    (1.0, 192): (4_231_976, 418_121_728),
    (1.0, 160): (4_231_976, 290_675_200),
    (1.0, 128): (4_231_976, 186_400_768),
    (0.75, 224): (2_585_560, 325_400_448),
    (0.75, 192): (2_585_560, 239_273_472),
    (0.75, 160): (2_585_560, 166_396_800),
    (0.75, 128): (2_585_560, 106_770_432),
    (0.5, 224): (1_331_592, 149_497_088),
    (0.5, 192): (1_331_592, 109_970_432),
    (0.5, 160): (1_331_592, 76_524_800),
    (0.5, 128): (1_331_592, 49_160_192),
    (0.25, 224): (470_072, 41_030_272),
    (0.25, 192): (470_072, 30_212_608),
    (0.25, 160): (470_072, 21_059_200),
    (0.25, 128): (470_072, 13_570_048),
}

V2 = {
    (1.4, 224): (6_108_776, 582_195_824),
    (1.3, 224): (5_386_792, 509_374_560),
    (1.0, 224): (3_504_872, 300_774_272),
    (1.0, 192): (3_504_872, 221_316_608),
    (1.0, 160): (3_504_872, 154_083_200),
    (1.0, 128): (3_504_872, 99_074_048),
    (1.0, 96): (3_504_872, 56_289_152),
    (0.75, 224): (2_636_424, 209_069_792),
    (0.75, 192): (2_636_424, 153_941_888),
    (0.75, 160): (2_636_424, 107_295_200),
    (0.75, 128): (2_636_424, 69_129_728),
    (0.75, 96): (2_636_424, 39_445_472),
    (0.5, 224): (1_968_680, 97_131_840),
    (0.5, 192): (1_968_680, 71_701_760),
    (0.5, 160): (1_968_680, 50_184_000),
    (0.5, 128): (1_968_680, 32_578_560),
    (0.5, 96): (1_968_680, 18_885_440),
    (0.35, 224): (1_677_128, 59_285_808),
    (0.35, 192): (1_677_128, 43_896_512),
    (0.35, 160): (1_677_128, 30_874_800),
    (0.35, 128): (1_677_128, 20_220_672),
    (0.35, 96): (1_677_128, 11_934_128),
}


@pytest.mark.parametrize("alpha, size", V1)
def test_mobilenet_v1_at_every_width_and_size(alpha, size):
    assert cost("mobilenet_v1", size, alpha=alpha) == V1[alpha, size]


def test_the_twins_of_mobilenet_v1_in_the_papers_tables_4_and_5():
    assert cost("mobilenet_v1_fullconv", 224) == (29_294_088, 4_867_293_184)
    assert cost("mobilenet_v1", 224, shallow=True) == (2_887_976, 307_323_392)


@pytest.mark.parametrize(
    "alpha, norms, without, classes_1001",
    [
        (1.0, 21_888, 4_210_088, 4_233_001),
        (0.75, 16_416, 2_569_144, 2_586_329),
        (0.5, 10_944, 1_320_648, 1_332_105),
        (0.25, 5_472, 464_600, 470_329),
    ],
)
def test_batch_norms_can_be_left_out_and_tensorflow_has_1001_classes(alpha, norms, without, classes_1001):
    all_of_it = cost("mobilenet_v1", 128, alpha=alpha)[0]
    assert cost("mobilenet_v1", 128, alpha=alpha, include_norms=False)[0] == without == all_of_it - norms
    assert cost("mobilenet_v1", 128, 1001, alpha=alpha)[0] == classes_1001


@pytest.mark.parametrize("alpha, size", V2)
def test_mobilenet_v2_at_every_width_and_size(alpha, size):
    assert cost("mobilenet_v2", size, alpha=alpha) == V2[alpha, size]


@pytest.mark.parametrize(
    "alpha, params",
    [(1.4, 6_060_840), (1.3, 5_342_536), (1.0, 3_470_760), (0.75, 2_609_784), (0.5, 1_950_136), (0.35, 1_663_048)],
)
def test_slims_table_of_mobilenet_v2_leaves_batch_norms_out(alpha, params):
    assert cost("mobilenet_v2", 96, alpha=alpha, include_norms=False)[0] == params


@pytest.mark.parametrize(
    "size, alpha, expected",
    [
        ("large", 1.0, (5_483_032, 216_589_760)),
        ("small", 1.0, (2_542_856, 56_510_400)),
        ("large", 0.75, (3_377_576, 140_033_816)),
        ("small", 0.75, (1_653_920, 39_115_576)),
    ],
)
def test_mobilenet_v3_as_torchvision_has_it(size, alpha, expected):
    assert cost(f"mobilenet_v3_{size}", 224, alpha=alpha) == expected


def test_slims_own_mobilenet_v3_figures_come_from_unscaled_hidden_layers_and_expansions_by_ratio():
    """slim's README: large 0.75 155 M, 4.0 M; small 0.75 44 M, 2.4 M; small 1.0 2.9 M parameters."""
    slim = {"expand_by_ratio": True, "hidden": 1280}
    assert cost("mobilenet_v3_large", 224, 1001, alpha=0.75, **slim) == (3_994_809, 154_561_904)
    assert cost("mobilenet_v3_small", 224, 1001, alpha=0.75, **slim) == (2_410_001, 43_767_216)
    assert cost("mobilenet_v3_small", 224, 1001, **slim)[0] == 2_947_849


def test_vgg16():
    assert cost("vgg16", 224) == (138_357_544, 15_470_264_320)


@pytest.mark.parametrize(
    "name, options, params",
    [
        ("mobilenet_v1", {}, 3_206_976),
        ("mobilenet_v2", {}, 2_223_872),
        ("mobilenet_v3_large", {}, 2_971_952),
        ("mobilenet_v3_large", {"reduced_tail": True}, 1_620_512),
    ],
)
def test_bodies_of_the_published_detectors(name, options, params):
    with torch.device("meta"):
        body = build_backbone(name, **options)
    assert count(body, 320).params == params == sum(p.numel() for p in body.parameters())


def test_layers_come_in_the_order_of_execution_with_shapes_and_add_up():
    found = count(build_backbone("mobilenet_v2", alpha=0.35), (97, 160))
    first, last = found.layers[0], found.layers[-1]
    assert (first.name, first.kind, first.output_shape) == ("stem.conv", "convolution", (16, 49, 80))
    assert (first.params, first.madds) == (16 * 27, 16 * 27 * 49 * 80)
    assert (last.name, last.kind, last.output_shape) == ("top.norm", "norm", (1280, 4, 5))
    assert sum(layer.params for layer in found.layers) == found.params
    assert sum(layer.madds for layer in found.layers) == found.madds
    assert list(found.by_kind()) == ["convolution", "norm", "depthwise", "pointwise"]
    assert sum(madds for _, madds in found.by_kind().values()) == found.madds


class Shared(nn.Module):
    """A layer that is called twice, one that is never called, a parameter that belongs to no layer, a buffer."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(1, 1, 3, padding=1)
        self.never = nn.Linear(5, 2)
        self.scale = nn.Parameter(torch.ones(7))
        self.register_buffer("offset", torch.ones(1), persistent=False)

    def forward(self, x):
        return self.twice(self.twice(x)) * self.scale.sum() + self.offset


def test_any_module_can_be_counted_and_none_is_changed():
    network = Shared().train()
    found = count(network, 4, num_channels=1)
    assert (found.params, found.madds) == (10 + 12 + 7, 2 * 9 * 16)
    assert [(layer.name, layer.params, layer.madds) for layer in found.layers] == [
        ("twice", 10, 144),
        ("twice", 0, 144),
        ("", 7, 0),
        ("never", 12, 0),
    ]
    assert network.training and not network.twice._forward_hooks
    assert {p.device.type for p in network.parameters()} == {"cpu"}
