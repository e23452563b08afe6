"""timm's MobileNets as backbones: the same features, whether timm is installed or not; what else bears its names."""

import json

import pytest
import torch
from made_numbers import image, probes
from timm_files import GOLDEN, state_of

from backbones import build_classifier, count
from detection.cli.main import main
from detection.errors import BadWeightsError
from detection.ssd.network import build
from detection.weights.backbone import load_backbone, read_backbone
from detection.weights.names import spec_for

pytestmark = pytest.mark.usefixtures("one_thread")
OURS = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "mobilenetv4_conv_small": "mobilenet_v4_conv_small",
    "mobilenetv4_conv_medium": "mobilenet_v4_conv_medium",
}


def saved(folder, state, name="model.pth"):
    torch.save(state, folder / name)
    return folder / name


@pytest.mark.parametrize("model", GOLDEN)
def test_a_backbone_computes_what_timm_computed(tmp_path, model):
    found = read_backbone(saved(tmp_path, state_of(model)))
    assert found.backbone.name == OURS[model] and found.padding == "symmetric" and not found.folded
    with torch.no_grad():
        features = found.backbone.eval()(torch.from_numpy(image()))[-1]
    assert probes(features) == pytest.approx(GOLDEN[model], rel=1e-4, abs=1e-4 * max(GOLDEN[model]))


@pytest.mark.parametrize(
    "model",
    [*GOLDEN, "mobilenetv1_125", "mobilenetv2_035", "mobilenetv3_large_075", "mobilenetv4_conv_small_050"],
)
def test_with_timm_itself_features_agree_for_random_weights(tmp_path, model):
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    theirs = timm.create_model(model).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = read_backbone(saved(tmp_path, theirs.state_dict())).backbone.eval()
    x = torch.randn(1, 3, 97, 128)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[-1], theirs.forward_features(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "alpha", "params", "madds"),
    [
        ("small", 1.0, 3_774_024, 186_005_568),
        ("medium", 1.0, 9_715_512, 827_649_984),
        ("small", 0.5, 2_238_952, 64_741_408),
        ("small", 0.35, 1_905_384, 47_723_040),
    ],
)
def test_mobilenet_v4_costs_what_timm_s_does(size, alpha, params, madds):
    with torch.device("meta"):
        cost = count(build_classifier(f"mobilenet_v4_conv_{size}", alpha=alpha), 224)
    assert (cost.params, cost.madds) == (params, madds)


def test_normalisation_and_padding_come_from_the_config_beside_the_file(tmp_path):
    path, state = tmp_path / "model.pth", state_of("mobilenetv4_conv_small")
    assert read_backbone(saved(tmp_path, state)).input.mean == pytest.approx((123.675, 116.28, 103.53))
    config = {"architecture": "tf_mobilenetv4", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_backbone(path)
    assert found.padding == "same" and found.input.mean == (127.5,) * 3 and found.input.std == (63.75,) * 3
    (tmp_path / "config.json").write_text("{not json")
    assert read_backbone(path).padding == "symmetric"


@pytest.mark.parametrize("kind", ["ssd", "ssdlite"])
def test_a_detector_begins_with_it(tmp_path, kind):
    path = saved(tmp_path, {f"model.{name}": tensor for name, tensor in state_of("mobilenetv4_conv_small").items()})
    ssd = build(spec_for(f"{kind}_mobilenet_v4_conv_small", num_classes=3, input_size=160)).eval()
    report = load_backbone(ssd, path)
    assert not report.missing and not report.mismatched and "symmetric padding" in str(report)
    with torch.no_grad():
        assert all(part.isfinite().all() for part in ssd(torch.zeros(1, 3, 160, 160)))


def test_other_networks_of_timm_are_one_line(tmp_path, capsys):
    state = state_of("mobilenetv2_100")
    efficientnet = state | {"blocks.1.0.se.conv_reduce.weight": torch.zeros(4, 96, 1, 1)}
    with pytest.raises(BadWeightsError, match=r"model\.pth: a network of timm, but none of its MobileNet") as error:
        read_backbone(saved(tmp_path, efficientnet))
    assert "\n" not in str(error.value)
    state["blocks.3.0.conv_dw.weight"] = torch.zeros(7, 1, 3, 3)
    with pytest.raises(BadWeightsError, match=r"blocks\.3\.0\.conv_dw\.weight has shape"):
        read_backbone(saved(tmp_path, state))


def test_a_classifier_is_no_detector(tmp_path, capsys):
    path = saved(tmp_path, state_of("mobilenetv2_100"))
    assert main(["info", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a classifier, no detector" in said and "train --weights" in said
