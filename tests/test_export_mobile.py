"""TensorFlow Lite and ExecuTorch: where their converters are installed (one wants an older torch), the same boxes."""

import copy
import importlib.util
import sys
from dataclasses import replace

import children
import cv2
import numpy as np
import pytest
import torch
from random_networks import random_network
from torch.nn import functional as F

from backbones.vgg import L2Norm
from detection import Detector
from detection.benchmark.candidates import candidates_of
from detection.cli.main import main
from detection.errors import BadWeightsError, MobileSSDError
from detection.export import mobile
from detection.export.calibration import PLANS
from detection.export.compare import match, sample_images
from detection.export.int8 import quantize_tflite
from detection.export.quantize import float_file
from detection.export.targets.base import PLAIN, Job
from detection.export.targets.tflite_ssd import append_postprocess
from detection.export.write import Wish, export
from detection.ssd.families import list_architectures
from detection.ssd.network import anchors_of, feature_maps
from detection.weights.backbone import read_backbone
from detection.weights.card import Card
from detection.weights.card_files import add_tflite_card, tflite_card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.formats import card_of
from detection.weights.resolve import Weights, open_weights
from detection.weights.tflite_check import check_tflite
from detection.weights.tflite_shapes import OPERATORS


def saved(folder, name, **options):
    """Weights drawn by chance, with norms that do something and scores that differ."""
    ssd = random_network(name, variances=(0.7, 1.3), **options)
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name="small"))
    return path


# Layouts that pad, norm, score or order colours in other ways; extras and taps of other kinds.
MORE = [
    ("ssd_mobilenet_v1", {"layout": "qfgaohao"}),
    ("ssd_mobilenet_v1", {"extras": "separable", "stride8": True, "head_kernel": 3}),
    ("ssdlite_mobilenet_v2", {"layout": "mmdet"}),
    ("ssdlite_mobilenet_v2", {"layout": "qfgaohao"}),
    ("ssdlite_mobilenet_v3_large", {"layout": "torchvision", "stride8": True}),
]
# The operators of those files (litert-torch 0.10, ai-edge-quantizer 0.10), which few have the packages to write.
CONVERTED = """
ADD CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE GATHER HARD_SWISH L2_NORMALIZATION LOGISTIC MAX_POOL_2D MEAN MINIMUM
MUL PAD QUANTIZE RESHAPE RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SLICE SOFTMAX TFLite_Detection_PostProcess TRANSPOSE
"""


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("small"), "ssdlite_mobilenet_v2", alpha=0.35, input_size=(97, 131))


@pytest.fixture
def ours(tmp_path):
    """What looks like a .tflite of ours: a head without a body, and a card."""
    file = tmp_path / "m.tflite"
    file.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(500))
    add_tflite_card(file, Card({}, ("a",), (1,), name="ours").to_json())
    return file


def test_a_tflite_file_says_the_same_and_runs_from_its_path_alone(small, tmp_path, capsys):
    pytest.importorskip("litert_torch", reason="needs litert-torch, in an environment of its own")
    file = tmp_path / "small.tflite"
    assert main(["export", str(small), "--output", str(file), "--threads", "1"]) == 0
    assert "small.tflite: tflite, float32 weights" in capsys.readouterr().out
    ours, theirs = Detector(file, score=0.05), Detector(small, "cpu", "torch", threads=1, score=0.05)
    assert (ours.runtime.name, ours.card.name) == ("litert", "small")
    for image in sample_images(None, 3):
        wanted, found = theirs(image), ours(image)
        assert match(wanted, found)[:2] == (len(wanted), 0) and len(wanted) > 5
    assert main(["info", str(file)]) == 0 and "97 x 131 pixels" in capsys.readouterr().out
    assert main(["export", str(file), "--bundle", str(tmp_path / "bundle")]) == 0
    cv2.imwrite(str(tmp_path / "image.png"), sample_images(None, 1)[0])
    command = [sys.executable, "detect.py", str(tmp_path / "image.png"), "--score", "0.05"]
    done = children.run(command, cwd=tmp_path / "bundle")
    assert done.returncode == 0 and done.stdout.count(" 0.") > 5, done.stderr


def test_an_executorch_program_is_compared_and_has_its_card_beside_it(small, tmp_path, capsys):
    pytest.importorskip("executorch", reason="needs executorch")
    file = tmp_path / "small.pte"
    assert main(["export", str(small), "--output", str(file), "--threads", "1"]) == 0
    assert "small.pte: executorch, float32 weights" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.json", "small.pte"]
    assert Card.from_json((tmp_path / "small.json").read_text()).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "options"),
    [("ssd_mobilenet_v2_fpnlite", {"alpha": 0.35, "input_size": 128}), ("ssd300_vgg16", {"alpha": 0.1})],
)
@pytest.mark.parametrize(("suffix", "package"), [(".tflite", "litert_torch"), (".pte", "executorch")])
def test_shared_heads_and_the_norm_of_vgg_are_the_same_there(tmp_path, name, options, suffix, package):
    pytest.importorskip(package, reason=f"needs {package}")
    source = saved(tmp_path, name, **options)
    wish = Wish(tmp_path / f"m{suffix}", "tflite" if suffix == ".tflite" else "executorch")
    found = export(open_weights(source), wish, threads=1)
    assert max(found.encodings, found.logits) < 1e-4


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in list_architectures()), ("ssd_mobilenet_v1", {"layout": "caffe"}), *MORE],
)
def test_no_tflite_file_of_ours_is_refused_by_what_looks_at_files_of_strangers(tmp_path, name, options):
    """Float32 and int8, raw and with post-processing behind."""
    for package in ("litert_torch", "ai_edge_litert"):
        pytest.importorskip(package, reason=f"needs {package}")
    small = {"ssd_mobilenet_v2_fpnlite": {"input_size": 128}, "ssd300_vgg16": {}, "ssd512_vgg16": {"input_size": 321}}
    ssd = random_network(name, alpha=0.25, **small.get(name, {"input_size": (97, 131)}) | options)
    size = ssd.spec.input.size
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name=name)
    files = [tmp_path / "float.tflite"]
    mobile.write_tflite(ssd, files[0], card)
    if importlib.util.find_spec("ai_edge_quantizer"):
        files.append(tmp_path / "int8.tflite")
        quantize_tflite(files[0], files[1], replace(card, precision="int8"), noise((2, *size, 3)), PLANS[-1])
    for file in [*files]:
        job = Job(tmp_path, open_weights(file), None, ssd.spec, np.asarray(anchors_of(ssd)), PLAIN)
        append_postprocess(job, file, tmp_path / f"post-{file.name}")
        files.append(tmp_path / f"post-{file.name}")
    for file in files:
        check_tflite(file, size)


def test_the_operators_that_our_converters_write_are_let_through():
    """Those of the files of the test above, which few have the packages for: litert-torch 0.10, ai-edge-quantizer 0.10."""
    assert set(CONVERTED.split()) <= set(OPERATORS)


def test_heads_that_all_maps_share_say_the_same_with_a_tower_for_each(tmp_path):
    path = saved(tmp_path, "ssd_mobilenet_v2_fpnlite", alpha=0.35, input_size=128)
    heads = load_checkpoint(path)[0].eval().heads
    apart = mobile._Unshared(copy.deepcopy(heads))
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in apart.modules())
    maps = [torch.randn(1, 128, side, side) for side in (16, 8, 4, 2, 1)]
    for one, other in zip(heads(maps), apart(maps), strict=True):
        for wanted, found in zip(one, other, strict=True):
            assert torch.allclose(wanted, found, atol=1e-5)


def test_the_norm_of_vgg_is_that_of_torch_and_its_gradient_lives_where_nothing_is_seen():
    x = torch.randn(2, 8, 5, 5)
    x[0, :, 2, 2] = 0
    x.requires_grad_()
    assert torch.equal(L2Norm(8)(x), 20 * F.normalize(x))
    L2Norm(8)(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "package", "words"),
    [
        ("m.tflite", "litert_torch", "litert-torch in an environment of its own"),
        ("m.pte", "executorch", "pip install executorch"),
    ],
)
def test_without_the_converter_one_line_says_how_to_get_it(small, tmp_path, capsys, monkeypatch, name, package, words):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted, *rest: None if wanted == package else find(wanted, *rest)
    )
    assert main(["export", str(small), "--output", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_card_in_the_zip_at_the_end_tells_our_files_from_published_ones(ours, tmp_path):
    published = tmp_path / "published.tflite"
    published.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(500))
    assert tflite_card(published) is None and card_of(published) is None
    assert card_of(ours) and '"ours"' in tflite_card(ours)
    assert ours.read_bytes().startswith(b"\x1c\x00\x00\x00TFL3")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from detection.runtimes.litert import open_interpreter

    with pytest.raises(BadWeightsError, match="m.tflite: (was not opened|not a whole TensorFlow Lite file)"):
        open_interpreter(ours, (96, 96), 1)


def test_where_a_network_is_needed_a_tflite_file_of_ours_is_refused_in_one_line(ours, tmp_path, capsys):
    weights = open_weights(ours)
    for form in ("onnx", "openvino"):
        with pytest.raises(MobileSSDError, match="name the weights it was made of"):
            float_file(weights, form)
    with pytest.raises(BadWeightsError, match="cannot become a network again"):
        read_backbone(ours)
    assert main(["export", str(tmp_path / "m.pte"), "--bundle", str(tmp_path / "bundle")]) == 2
    assert "there is none of an ExecuTorch program" in capsys.readouterr().err


def test_a_tflite_file_of_ours_is_timed_by_litert_alone(ours):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    found = candidates_of(Weights(ours, Card({}, ("a",), (1,)), str(ours)), "m", None, None, [1], [1])
    assert [(one.runtime, one.shown) for one in found] == [("litert", "float32")]
