"""Every detector of the zoo: parameters, multiply-adds and anchors to the integer, forward, YAML, and what errors say.

The figures are those of the papers and of the frameworks' own networks. `columns` counts background, as they do.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backbones import count
from detection.boxes.anchors import AnchorSpec
from detection.errors import MobileSSDError
from detection.ssd.families import list_architectures
from detection.ssd.network import anchors_of, build, feature_maps
from detection.ssd.spec import SSDSpec
from detection.weights.names import list_models, spec_for
from detection.weights.records import list_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def on_meta(name, **options):
    with torch.device("meta"):
        return build(spec_for(name, **options))


SIX = AnchorSpec("tensorflow", {"reduce_lowest": False})
PAPER = {"columns": 91, "norms": False}  # the V3 paper leaves batch norms' parameters out

# name, options, parameters, multiply-adds, anchors
FIGURES = [
    ("ssd_mobilenet_v1", {"columns": 91}, 6_819_839, 1_237_129_408, 1917),  # V1 paper: 6.8M, 1.2B
    ("ssd_mobilenet_v1", {}, 6_673_589, 1_224_465_088, 1917),
    ("ssd_mobilenet_v1", {"columns": 91, "input_size": 320}, 6_819_839, 1_346_218_752, 2034),
    ("ssd_mobilenet_v1", {"input_size": 320}, 6_673_589, 1_332_955_392, 2034),
    ("ssd_mobilenet_v1", {"columns": 91, "head_kernel": 3}, 17_909_759, 2_199_617_728, 1917),
    ("ssd_mobilenet_v1", {"head_kernel": 3}, 16_596_149, 2_085_638_848, 1917),
    ("ssd_mobilenet_v1", {"columns": 91, "alpha": 0.75}, 4_110_735, 728_036_496, 1917),
    ("ssd_mobilenet_v1", {"columns": 91, "alpha": 0.5}, 2_071_583, 352_150_624, 1917),
    ("ssd_mobilenet_v1", {"columns": 91, "alpha": 0.25}, 702_831, 118_831_792, 1917),
    ("ssdlite_mobilenet_v1", {"input_size": 320}, 5_100_661, 1_309_162_944, 2034),  # V2 paper: 5.1M, 1.3B
    ("ssdlite_mobilenet_v1", {}, 5_100_661, 1_200_313_216, 1917),
    ("ssdlite_mobilenet_v1", {"columns": 91}, 5_246_911, 1_212_977_536, 1917),
    ("ssdlite_mobilenet_v1", {"columns": 91, "input_size": 320}, 5_246_911, 1_322_426_304, 2034),
    ("ssd_mobilenet_v2", {"input_size": 320, "extras": "plain"}, 17_000_501, 1_870_281_472, 2034),
    ("ssd_mobilenet_v2", {"columns": 91}, 16_837_567, 1_875_065_840, 1917),
    ("ssd_mobilenet_v2", {"columns": 91, "extras": "plain", "head_kernel": 1}, 6_066_431, 772_779_056, 1917),
    ("ssdlite_mobilenet_v2", {"input_size": 320}, 4_337_013, 788_830_144, 2034),  # V2 paper: 4.3M, 0.8B
    ("ssdlite_mobilenet_v2", {}, 4_337_013, 734_610_416, 1917),
    ("ssdlite_mobilenet_v2", {"columns": 91}, 4_500_543, 749_503_856, 1917),
    ("ssdlite_mobilenet_v2", {"columns": 91, "input_size": 320}, 4_500_543, 804_397_504, 2034),
    ("ssdlite_mobilenet_v2", {"columns": 91, "anchors": SIX}, 4_664_988, 808_765_616, 3000),
    ("ssdlite_mobilenet_v2", {"columns": 91, "anchors": SIX, "input_size": 320}, 4_664_988, 870_061_504, 3234),
    ("ssdlite_mobilenet_v2", {"anchors": SIX}, 4_484_148, 787_634_096, 3000),
    ("ssdlite_mobilenet_v2", {"anchors": SIX, "input_size": 320}, 4_484_148, 847_582_144, 3234),
    ("ssdlite_mobilenet_v2", {"columns": 91, "input_size": 320, "alpha": 0.75}, 2_864_927, 554_054_736, 2034),
    ("ssdlite_mobilenet_v2", {"columns": 91, "input_size": 320, "alpha": 0.5}, 1_564_799, 312_796_896, 2034),
    ("ssdlite_mobilenet_v2", {"columns": 91, "input_size": 320, "alpha": 0.35}, 956_285, 236_422_586, 2034),
    ("ssdlite_mobilenet_v2", {**PAPER, "input_size": 320, "alpha": 0.5, "min_depth": 8}, 1_536_527, 272_348_896, 2034),
    ("ssdlite_mobilenet_v2", {**PAPER, "input_size": 320, "alpha": 0.35, "min_depth": 8}, 929_531, 166_713_786, 2034),
    ("ssdlite_mobilenet_v2", {"layout": "mmdet"}, 4_228_788, 746_206_144, 3234),
    ("ssdlite_mobilenet_v3_large", {**PAPER, "reduced_tail": False}, 4_966_591, 613_143_104, 2034),  # 4.97M, .62B
    ("ssdlite_mobilenet_v3_large", PAPER, 3_215_311, 506_563_904, 2034),  # 3.22M, .51B
    ("ssdlite_mobilenet_v3_large", {"columns": 91, "reduced_tail": False}, 5_006_735, 613_143_104, 2034),
    ("ssdlite_mobilenet_v3_large", {"columns": 91}, 3_248_255, 506_563_904, 2034),
    ("ssdlite_mobilenet_v3_small", {**PAPER, "reduced_tail": False}, 2_493_487, 210_417_856, 2034),  # 2.49M, .21B
    ("ssdlite_mobilenet_v3_small", PAPER, 1_765_279, 162_303_424, 2034),  # 1.77M, .16B
    ("ssdlite_mobilenet_v3_small", {"columns": 91, "reduced_tail": False}, 2_518_271, 210_417_856, 2034),
    ("ssdlite_mobilenet_v3_small", {"columns": 91}, 1_785_743, 162_303_424, 2034),
    ("ssdlite_mobilenet_v4_conv_small", {}, 3_122_645, 527_012_544, 2034),
    ("ssdlite_mobilenet_v4_conv_medium", {}, 9_170_501, 1_878_423_744, 2034),
    ("ssdlite_mobilenet_v3_large", {"columns": 91, "layout": "torchvision"}, 3_440_060, 583_171_904, 3234),
    ("ssdlite_mobilenet_v3_large", {"columns": 91, "layout": "torchvision", "reduced_tail": False},
     5_198_540, 689_751_104, 3234),
    ("ssdlite_mobilenet_v3_large", {"columns": 21, "layout": "torchvision"}, 2_469_860, None, 3234),
    ("ssd_mobilenet_v1", {"columns": 21, "layout": "qfgaohao"}, 9_468_996, 1_526_986_688, 3000),  # mb1-ssd
    ("ssd_mobilenet_v1", {"columns": 91, "layout": "qfgaohao"}, 20_115_996, 2_674_655_168, 3000),
    ("ssdlite_mobilenet_v2", {"columns": 21, "layout": "qfgaohao"}, 3_388_228, 660_828_976, 3000),  # mb2-ssd-lite
    ("ssdlite_mobilenet_v2", {"columns": 91, "layout": "qfgaohao"}, 4_627_228, 808_722_736, 3000),
    ("ssdlite_mobilenet_v1", {"columns": 21, "layout": "qfgaohao"}, 4_312_388, None, 3000),  # mb1-ssd-lite
    ("ssd300_vgg16", {"columns": 21}, 26_285_486, 31_373_537_792, 8732),
    ("ssd300_vgg16", {"columns": 81}, 34_305_206, 34_360_351_232, 8732),
    ("ssd300_vgg16", {"columns": 91, "layout": "torchvision"}, 35_641_826, 34_858_153_472, 8732),
    ("ssd512_vgg16", {"columns": 21}, 27_188_676, 90_207_908_864, 24564),
    ("ssd512_vgg16", {"columns": 81}, 36_038_196, 98_628_936_704, 24564),
    ("ssd512_vgg16", {"columns": 91, "layout": "mmdet"}, 37_513_116, 100_032_441_344, 24564),
    ("ssd_mobilenet_v1", {"columns": 21, "layout": "caffe"}, None, None, 1917),  # chuanqi305
    ("ssd_mobilenet_v2_fpnlite", {"columns": 91}, None, None, 12804),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "params", "madds", "anchors"), FIGURES)
def test_the_figures_of_the_papers_and_frameworks(name, options, params, madds, anchors):
    options = dict(options)
    norms, layout = options.pop("norms", True), options.pop("anchors", None)
    spec = spec_for(name, num_classes=options.pop("columns", 81) - 1, **options)
    with torch.device("meta"):
        ssd = build(spec if layout is None else replace(spec, anchors=layout))
    cost = count(ssd, ssd.spec.input.size, include_norms=norms)
    assert params is None or cost.params == params
    assert madds is None or cost.madds == madds
    assert len(anchors_of(ssd)) == anchors


def test_parameters_by_part():
    """Backbone, extras, heads of the V1 and V2 papers' detectors."""
    for options, parts in (
        (("ssd_mobilenet_v1", {"num_classes": 90}), (3_206_976, 2_223_488, 1_389_375)),
        (("ssdlite_mobilenet_v1", {}), (3_206_976, 591_424, 1_302_261)),
        (("ssd_mobilenet_v2", {"extras": "plain"}), (2_223_872, 2_289_024, 12_487_605)),
        (("ssdlite_mobilenet_v2", {"num_classes": 90}), (2_223_872, 656_960, 1_619_711)),
    ):
        ssd = on_meta(options[0], **options[1])
        found = tuple(sum(p.numel() for p in part.parameters()) for part in (ssd.backbone, ssd.extras, ssd.heads))
        assert found == parts


@pytest.mark.parametrize(
    ("size", "maps", "anchors"),
    [
        (300, (19, 10, 5, 3, 2, 1), 1917),
        (320, (20, 10, 5, 3, 2, 1), 2034),
        (224, (14, 7, 4, 2, 1, 1), 1014),
        (256, (16, 8, 4, 2, 1, 1), 1284),
        (384, (24, 12, 6, 3, 2, 1), 2892),
        (512, (32, 16, 8, 4, 2, 1), 5118),
    ],
)
def test_anchors_come_from_the_maps_at_any_size(size, maps, anchors):
    ssd = on_meta("ssdlite_mobilenet_v2", input_size=size)
    assert feature_maps(ssd) == tuple((n, n) for n in maps)
    assert len(anchors_of(ssd)) == anchors


def test_anchors_of_the_frameworks_start_where_theirs_do():
    lite = anchors_of(on_meta("ssdlite_mobilenet_v3_large", layout="torchvision"))[0] * 320
    assert np.allclose(lite, (8, 8, 64, 64))  # corners -24, -24, 40, 40
    vgg = anchors_of(on_meta("ssd300_vgg16", layout="torchvision"))[0] * 300
    assert np.allclose(vgg, (4, 4, 21, 21))  # corners -6.5, -6.5, 14.5, 14.5
    pinned = anchors_of(on_meta("ssdlite_mobilenet_v2", layout="qfgaohao"))
    assert ((pinned[:, :2] == 1).any(1)).sum() == 114  # priors whose centre the clamp moved to the border
    assert np.allclose(anchors_of(on_meta("ssd_mobilenet_v1", layout="caffe"))[0, 2:] * 300, 60)
    tf = anchors_of(on_meta("ssd_mobilenet_v1"))
    assert ((tf[:, 2:] > 1).any(1)).sum() == 38
    corners = np.concatenate([tf[:, :2] - tf[:, 2:] / 2, tf[:, :2] + tf[:, 2:] / 2], 1)
    assert ((corners < 0) | (corners > 1)).any(1).sum() == 918


SMALL = {"ssd300_vgg16": (300, 300), "ssd512_vgg16": (512, 512)}


@pytest.mark.parametrize("name", list_architectures())
def test_forward_at_odd_sizes_fits_the_anchors(name):
    """On the meta device for VGG, whose sizes are fixed by its unpadded extras."""
    for size in (SMALL[name],) if name in SMALL else ((97, 131), (160, 96)):
        options = {} if "fpnlite" not in name else {"channels": 32}
        ssd = on_meta(name, num_classes=3, input_size=size, **options).eval()
        with torch.no_grad():
            encodings, logits = ssd(torch.empty(2, 3, *size, device="meta"))
        anchors = anchors_of(ssd)
        assert encodings.shape == (2, len(anchors), 4) and logits.shape == (2, len(anchors), 4)


@pytest.mark.parametrize("name", [name for name in list_architectures() if "vgg" not in name])
@pytest.mark.parametrize("alpha", [0.25, 1.4])
def test_any_width_and_any_batch(name, alpha):
    torch.manual_seed(0)
    ssd = build(spec_for(name, alpha=alpha, num_classes=2, input_size=64))
    x = torch.randn(5, 3, 64, 64)
    for norm in [m for m in ssd.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.momentum = 1.0  # statistics of this batch: else nothing reaches the heads of an untrained network
    with torch.no_grad():
        ssd.train()(x)
        whole = ssd.eval()(x)
        assert whole[1].std() > 1e-2
        for batch in (1, 2):
            for part, all_of_it in zip(ssd(x[:batch]), whole):
                assert (part - all_of_it[:batch]).abs().max() < 1e-3


@pytest.mark.parametrize("name", list_architectures())
def test_a_spec_is_plain_data_that_comes_back(name):
    import yaml

    spec = spec_for(name, num_classes=7)
    text = yaml.safe_dump(spec.to_dict())
    again = SSDSpec.from_dict(yaml.safe_load(text))
    assert again.to_dict() == spec.to_dict()
    with torch.device("meta"):
        one, other = build(spec), build(again)
    assert {n: t.shape for n, t in one.state_dict().items()} == {n: t.shape for n, t in other.state_dict().items()}
    assert np.array_equal(anchors_of(one), anchors_of(other))


@pytest.mark.parametrize("name", [name for name in list_architectures() if "vgg" not in name and "fpn" not in name])
def test_a_finer_map_for_small_objects(name):
    for layout, first in (("tensorflow", 4), ("torchvision", 6)):
        ssd = on_meta(name, stride8=True, layout=layout, input_size=320)
        assert feature_maps(ssd)[:2] == ((40, 40), (20, 20)) and len(feature_maps(ssd)) == 7
        assert ssd.spec.anchors.per_cell(7, (320, 320)) == (first, 6, 6, 6, 6, 6, 6)
    smallest = anchors_of(on_meta(name, stride8=True, input_size=320))[:, 2:].min() * 320
    assert smallest == pytest.approx(16)


def test_taps_by_name():
    spec = spec_for("ssdlite_mobilenet_v2", taps=("block12", "top"))
    with torch.device("meta"):
        assert [tap.channels for tap in build(spec).backbone.taps] == [96, 1280]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ssd_mobilnet_v2", {}, "nearest: ssd_mobilenet_v2"),
        ("ssdlite_mobilenet_v2", {"alhpa": 1}, "did you mean alpha"),
        ("ssdlite_mobilenet_v2", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("ssd300_vgg16", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("ssdlite_mobilenet_v2", {"layout": "caffe"}, "unknown layout 'caffe'.*known: tensorflow, torchvision, mmdet"),
        ("ssd512_vgg16", {"layout": "torchvision"}, "known: caffe, mmdet"),
        ("ssdlite_mobilenet_v2", {"extras": "dense"}, "kind of extras 'dense'"),
        ("ssdlite_mobilenet_v2", {"stride8": True, "layout": "mmdet"}, "stride8"),
        ("ssdlite_mobilenet_v2", {"input_size": 0}, "0 x 0"),
        ("ssdlite_mobilenet_v2", {"num_classes": 0}, "0 classes"),
        ("ssd_mobilenet_v2_fpnlite", {"layout": "tensorflow"}, "no option 'layout'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name, options, words):
    with pytest.raises(MobileSSDError, match=words) as error:
        spec_for(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ssdlite_mobilenet_v2", {"input_size": 16}, "16x16 pixels is too small"),
        ("ssd300_vgg16", {"input_size": 128}, "128 x 128 is too small for this pyramid"),
        ("ssdlite_mobilenet_v2", {"taps": ("expand99", "top")}, "unknown tap .*expand99"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(name, options, words):
    with pytest.raises(MobileSSDError, match=words):
        on_meta(name, **options)


def test_a_name_with_a_recipe_is_the_network_of_those_weights():
    spec = spec_for("ssd_mobilenet_v1_075.coco")
    assert spec.backbone_options["alpha"] == 0.75 and spec.num_classes == 90
    assert spec_for("ssd_mobilenet_v1_075.coco", num_classes=3).num_classes == 3


def test_the_list_of_models_is_the_architectures_then_the_names_with_weights():
    assert list_models() == (*list_architectures(), *list_weights())
    assert "ssdlite_mobilenet_v2" in list_architectures() and "ssdlite_mobilenet_v2.coco" in list_weights()
    assert all(spec_for(name).num_classes == 80 for name in list_architectures())


@pytest.mark.parametrize("kind", ["ssd", "ssdlite"])
def test_a_backbone_without_a_family_of_its_own_makes_a_detector_too(kind):
    spec = spec_for(f"{kind}_mobilenet_v1_fullconv", num_classes=3, input_size=160)
    assert spec.backbone == "mobilenet_v1_fullconv" and len(feature_maps(build(spec))) == 6
    with pytest.raises(MobileSSDError, match="no model of the name"):
        spec_for(f"{kind}_resnet_50")
    with pytest.raises(MobileSSDError, match="did you mean alpha"):
        spec_for(f"{kind}_mobilenet_v1_fullconv", alfa=1)
