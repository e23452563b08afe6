"""Published ImageNet classifiers: as classifiers they say what LiteRT says, as backbones they start a detector."""

import numpy as np
import pytest
import torch
from oracle import rgb
from safetensors.torch import load_file, save_file

from detection.errors import BadWeightsError
from detection.images.preprocess import stretch
from detection.ssd.network import build
from detection.weights.backbone import load_backbone, read_backbone
from detection.weights.importers.classifiers import import_tflite_classifier
from detection.weights.names import spec_for

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = (
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v1_0.75_192_quant",
    "mobilenet_v2_1.0_224_quant",
    "tf2_mobilenet_v2_1.0_224_ptq",
)


@pytest.fixture(scope="module")
def imagenet(shared):
    return shared / "models" / "imagenet"


def normalised(image, contract):
    """An image of any size as a network of this `InputSpec` wants it: [1, 3, h, w]."""
    x = torch.from_numpy(stretch(image, contract.size)).float()
    return ((x - torch.tensor(contract.mean)) / torch.tensor(contract.std)).permute(2, 0, 1)[None]


def interpreter(path):
    litert = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="needs ai-edge-litert, the oracle for .tflite files"
    )
    net = litert.Interpreter(str(path), num_threads=1)
    net.allocate_tensors()

    def probabilities(pixels):
        net.set_tensor(net.get_input_details()[0]["index"], pixels[None])
        net.invoke()
        return net.get_tensor(net.get_output_details()[0]["index"])[0] / 256

    return probabilities


@pytest.mark.parametrize("name", FILES)
def test_top_1_is_litert_s_on_every_photograph(shared, imagenet, name):
    path = imagenet / f"{name}.tflite"
    litert = interpreter(path)
    network, labels, contract = import_tflite_classifier(path)
    in_real_numbers = import_tflite_classifier(path, rounded=False)[0]
    assert len(labels) == 1001 and labels[0] == "background"
    for photo in sorted((shared / "models" / "photos").iterdir()):
        theirs = litert(stretch(rgb(photo), contract.size))
        with torch.no_grad():
            x = normalised(rgb(photo), contract)
            ours, real = network(x).softmax(1)[0].numpy(), in_real_numbers(x).softmax(1)[0].numpy()
        assert labels[ours.argmax()] == labels[theirs.argmax()], photo.name
        assert np.abs(ours - theirs).max() < 0.06
        assert np.abs(real - theirs).max() < 0.09  # not rounded on the way, so a close call can end otherwise


def test_width_classes_and_normalisation_are_read_from_the_file(imagenet):
    network, _, contract = import_tflite_classifier(imagenet / "mobilenet_v1_0.25_128_quant.tflite")
    assert network.backbone.taps[-1].channels == 256 and network.fc.out_features == 1001
    assert contract.size == (128, 128) and contract.mean == (128.0,) * 3 and contract.std == (128.0,) * 3


def test_a_detector_is_no_classifier(shared):
    with pytest.raises(BadWeightsError, match="detector .* not a classifier"):
        import_tflite_classifier(shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite")


def test_a_classifier_s_body_starts_a_detector_that_normalises_otherwise(shared, imagenet):
    """The detector wants -1..1, the classifier was trained on (x - 128) / 128: away from the border nothing changes."""
    path = imagenet / "mobilenet_v1_0.75_192_quant.tflite"
    network, _, contract = import_tflite_classifier(path, rounded=False)
    ssd = build(spec_for("ssd_mobilenet_v1", alpha=0.75, input_size=192)).eval()
    heads = {name: tensor.clone() for name, tensor in ssd.heads.state_dict().items()}
    report = load_backbone(ssd, path)
    assert not report.missing and not report.mismatched and report.folded and not report.notes
    assert all(torch.equal(tensor, heads[name]) for name, tensor in ssd.heads.state_dict().items())
    photo = rgb(shared / "models" / "photos" / "parrot.jpg")
    with torch.no_grad():
        theirs = network.backbone.conv0(normalised(photo, contract))[..., 1:-1, 1:-1]
        ours = ssd.backbone.conv0(normalised(photo, ssd.spec.input))[..., 1:-1, 1:-1]
    assert (ours - theirs).abs().max() < 1e-4
    assert ssd.spec.input.mean != contract.mean


def test_the_folded_float_v2_says_what_torchvision_s_network_says_with_its_weights(shared, imagenet):
    from torchvision.models import mobilenet_v2

    state = load_file(imagenet / "mobilenet_v2_1.0_folded.safetensors")
    oracle = mobilenet_v2().features.eval()
    with torch.no_grad():
        for name, conv in [(n, m) for n, m in oracle.named_modules() if isinstance(m, torch.nn.Conv2d)]:
            conv.weight.copy_(state[f"features.{name}.weight"])
            conv.bias = torch.nn.Parameter(state[f"features.{name}.bias"])
        for norm in [m for m in oracle.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
            norm.eps = 0.0  # mean 0, variance 1: does nothing
    body = read_backbone(imagenet / "mobilenet_v2_1.0_folded.safetensors")
    x = normalised(rgb(shared / "models" / "photos" / "cat.bmp"), body.input)
    assert body.padding == "symmetric" and body.folded
    with torch.no_grad():
        assert (body.backbone.eval()(x)[0] - oracle(x)).abs().max() < 1e-4


def test_other_padding_than_the_detector_s_is_said(imagenet):
    ssd = build(spec_for("ssdlite_mobilenet_v2"))
    report = load_backbone(ssd, imagenet / "mobilenet_v2_1.0_folded.safetensors")
    assert "symmetric padding, the detector pads same" in str(report) and not report.missing
    padded_alike = build(spec_for("ssdlite_mobilenet_v2", layout="mmdet"))
    assert load_backbone(padded_alike, imagenet / "mobilenet_v2_1.0_folded.safetensors").notes == []


def test_the_body_of_a_detector_starts_another_with_other_classes(shared):
    ssd = build(spec_for("ssd_mobilenet_v1", alpha=0.75, num_classes=3))
    report = load_backbone(ssd, shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite")
    assert len(report.loaded) == len([n for n in ssd.backbone.state_dict() if not n.endswith("num_batches_tracked")])


def test_another_network_and_another_width_are_refused(imagenet):
    with pytest.raises(BadWeightsError, match="holds a mobilenet_v1, the detector has a mobilenet_v2"):
        load_backbone(build(spec_for("ssdlite_mobilenet_v2")), imagenet / "mobilenet_v1_0.5_160_quant.tflite")
    with pytest.raises(BadWeightsError, match="another width .* needs"):
        load_backbone(build(spec_for("ssd_mobilenet_v1")), imagenet / "mobilenet_v1_0.5_160_quant.tflite")


def test_tensors_that_are_no_body_are_refused_with_their_names(tmp_path):
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(BadWeightsError, match="layer.weight"):
        read_backbone(tmp_path / "other.safetensors")
