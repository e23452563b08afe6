"""Quantisation: a quarter of the size, nearly the same AP, measured before the file appears; else no file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from data_sets import coco, make_image

from detection import Detector
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.evaluate.truth import read_truth
from detection.export import int8
from detection.export import quantize as quantizing
from detection.export.calibration import PLANS, calibration_images, groups_of, kept_float
from detection.export.file_formats import FILE_FORMATS
from detection.export.quantize import QuantizeOrder, quantize
from detection.export.staging import size_of
from detection.weights.resolve import open_weights

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnx", reason="needs onnx")


@pytest.fixture(scope="module")
def detector_file(shared):
    return shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"


@pytest.fixture(scope="module")
def few(shared, tmp_path_factory):
    """The ground truth of 60 images of coco_val500, and a folder of 24 others to calibrate on."""
    folder = tmp_path_factory.mktemp("few")
    data = json.loads((shared / "data" / "coco_val500" / "instances.json").read_text())
    data["images"] = data["images"][:60]
    ids = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]
    (folder / "truth.json").write_text(json.dumps(data))
    calibration = folder / "calibration"
    calibration.mkdir()
    for file in sorted((shared / "data" / "coco_pool" / "images").iterdir())[:24]:
        (calibration / file.name).write_bytes(file.read_bytes())
    (calibration / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ground truth of one image, and 24 images to calibrate on."""
    folder = tmp_path_factory.mktemp("made")
    coco(folder, [(1, 1, [5, 5, 20, 20])], number=1, name="truth.json")
    for number in range(24):
        make_image(folder / "calibration" / f"{number:03}.jpg", seed=number)
    (folder / "calibration" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.mark.parametrize("name", ["v1.onnx", "v1.xml"])
def test_int8_is_small_and_loses_little(shared, detector_file, few, tmp_path, capsys, name):
    pytest.importorskip("nncf" if name.endswith("xml") else "onnxruntime")
    images = str(shared / "data" / "coco_val500" / "images")
    command = ["quantize", str(detector_file), "--annotations", str(few / "truth.json"), "--images", images]
    command += ["--calibration", str(few / "calibration"), "--output", str(tmp_path / name), "--max-drop", "0.02"]
    assert main([*command, "--threads", "2", "--no-timing"]) == 0
    said = capsys.readouterr().out
    assert "AP, 60 images" in said and "calibrated on 24 images" in said
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == (["v1.bin", "v1.xml"] if name.endswith("xml") else ["v1.onnx"])
    weights = open_weights(tmp_path / name)
    assert weights.card.precision == "int8" and weights.card.recipe["quantization"]["images"] == 24
    source = open_weights(detector_file)
    form = "openvino" if name.endswith("xml") else "onnx"
    assert size_of(weights.path) <= 0.3 * size_of(quantizing.float_file(source, form))
    found = Detector(tmp_path / name)(shared / "data" / "photos" / "coral_cat_720p.jpg")
    assert found.names[0] == "cat"
    assert Detector(tmp_path / name).runtime.precision == "int8"


@pytest.fixture
def faked(monkeypatch, made_v1):
    """Quantisation that takes no time, and APs that are told: of the float network, then of each plan."""

    def told(*values):
        left = iter(values)
        monkeypatch.setattr(quantizing, "average_precision", lambda *_: next(left))
        monkeypatch.setattr(quantizing, "_agreement", lambda *_: 0.9)
        monkeypatch.setattr(int8, "quantize_onnx", copy_of)
        monkeypatch.setitem(FILE_FORMATS, "onnx", replace(FILE_FORMATS["onnx"], int8_needs=("onnxruntime",)))
        return open_weights(made_v1)

    def copy_of(source, target, card, images, plan):
        import onnx

        from detection.runtimes.onnx_graph import save

        save(onnx.load(source), target, card)
        return []

    return told


def order_of(made, tmp_path, **options):
    truth = read_truth(made / "truth.json", made / "images")
    return QuantizeOrder(tmp_path / "m.onnx", "onnx", made / "calibration", 12, truth, threads=1, **options)


def test_layers_stay_in_float32_as_long_as_too_much_is_lost(faked, made, tmp_path):
    source, lines = faked(0.30, 0.28, 0.29, 0.298), []
    result = quantize(source, order_of(made, tmp_path), lines.append)
    assert result.plan == PLANS[2] and result.ap == 0.298 and abs(result.drop - 0.002) < 1e-9
    assert open_weights(tmp_path / "m.onnx").card.recipe["quantization"]["float32"] == PLANS[2].name
    assert len(lines) == 4 and lines[0].startswith("float32: AP 0.3000")


def test_what_loses_too_much_in_every_plan_is_not_written_unless_forced(faked, made, tmp_path):
    values = [0.30, 0.1, 0.2, 0.15, *[0.1] * (len(PLANS) - 3)]
    with pytest.raises(MobileSSDError, match=r"m\.onnx: not written: AP falls from 0\.3000 to 0\.2000") as error:
        quantize(faked(*values), order_of(made, tmp_path))
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
    result = quantize(faked(*values), order_of(made, tmp_path, force=True))
    assert result.plan == PLANS[1] and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert open_weights(tmp_path / "m.onnx").card.recipe["quantization"]["float32"] == PLANS[1].name


def test_the_groups_that_can_stay_in_float32_are_found_by_name():
    torch_names = ["Convolution_1", "__module.ssd.extras.0.1.conv/aten::_convolution/Convolution"]
    torch_names += [
        f"__module.ssd.heads.{k}.{b}/aten::_convolution/Convolution" for k in (0, 1) for b in ("box", "score")
    ]
    onnx_names = ["/ssd/backbone/stem/conv/Conv", "/ssd/extras/extras.0/extras.0.1/conv/Conv"]
    onnx_names += [f"/ssd/heads/heads.{k}/{b}/Conv" for k in (0, 1) for b in ("box", "score")]
    for names in (torch_names, onnx_names):
        counts = {"first": 1, "boxes": 2, "scores": 2, "extras": 1}
        groups = groups_of(names)
        assert {group: len(found) for group, found in groups.items()} == counts
        assert kept_float(names, PLANS[0]) == [] and set(kept_float(names, PLANS[-1])) == set(names)


def test_too_few_images_are_one_line(made, tmp_path, made_v1, capsys):
    for file in sorted((made / "calibration").glob("0*"))[:4]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out" / "m.onnx"
    assert main(["quantize", str(made_v1), "--images", str(tmp_path), "--output", str(out)]) == 2
    said = capsys.readouterr().err
    assert "4 images are too few to calibrate on; it takes at least 10" in said and said.count("\n") == 1
    assert not out.parent.exists()


def test_calibration_images_are_spread_over_the_folder_and_always_the_same(made):
    images = calibration_images(made / "calibration", (96, 128), 12)
    assert images.shape == (12, 96, 128, 3) and images.dtype == np.uint8
    assert np.array_equal(images, calibration_images(made / "calibration", (96, 128), 12))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "m.onnx"], "which images?"),
        (["--images", "I", "--output", "m.pte"], "which format?"),
        (["--images", "I", "--output", "m.tflite"], "is made of the float file: mobilessd export"),
        (["--images", "I", "--output", "m.onnx", "--max-drop", "0.1"], "needs ground truth"),
        (["--images", "I", "--output", "m.onnx", "--format", "openvino"], "is called m.xml"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(made_v1, made, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    arguments = [str(made / "calibration") if a == "I" else a for a in arguments]
    assert main(["quantize", str(made_v1), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []
