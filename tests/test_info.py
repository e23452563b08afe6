"""`mobilessd info` and `tools/model_info.py`: published figures to the integer, and one line for whatever cannot be."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from detection.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_network(tmp_path, monkeypatch):
    """Looking at a model never fetches it."""

    def opened(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", opened)
    monkeypatch.setattr(socket, "getaddrinfo", opened)


@pytest.fixture
def info(capsys):
    """`info("mobilenet_v2", "--json")` -> the exit code, stdout, stderr."""

    def call(*words):
        code = main(["info", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def figures(info):
    """`figures("mobilenet_v2 --alpha 0.5")` -> what --json prints."""

    def call(line):
        code, out, err = info(*line.split(), "--json")
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.mark.parametrize(
    "line, params, madds, anchors",
    [
        # V1 paper, Table 13; V2 paper, Table 6; and what the same networks are with other widths, sizes and classes
        ("ssd_mobilenet_v1 --num-classes 90", 6_819_839, 1_237_129_408, 1917),
        ("ssdlite_mobilenet_v1 --input-size 320", 5_100_661, 1_309_162_944, 2034),
        ("ssdlite_mobilenet_v2 --input-size 320", 4_337_013, 788_830_144, 2034),
        ("ssdlite_mobilenet_v2 --num-classes 90", 4_500_543, 749_503_856, 1917),
        ("ssdlite_mobilenet_v2.coco", 4_500_543, 749_503_856, 1917),
        ("ssdlite_mobilenet_v2 --alpha 0.75 --input-size 320 --num-classes 90", 2_864_927, 554_054_736, 2034),
        ("ssd_mobilenet_v1_075.coco", 4_110_735, 728_036_496, 1917),
        ("ssdlite_mobilenet_v3_large.coco", 3_440_060, 583_171_904, 3234),
        ("ssd300_vgg16", 34_305_206, 34_360_351_232, 8732),
        ("ssd300_vgg16.coco", 35_641_826, None, 8732),
        ("ssd512_vgg16 --num-classes 20", 27_188_676, None, 24564),
        ("mobilenet_v1", 4_231_976, 568_740_352, 0),
        ("mobilenet_v1 --alpha 0.5 --input-size 160", 1_331_592, 76_524_800, 0),
        ("mobilenet_v1_025.imagenet", 470_329, 13_570_304, 0),
        ("mobilenet_v2 --no-norm", 3_470_760, 300_774_272, 0),
        ("mobilenet_v3_large", 5_483_032, 216_589_760, 0),
        ("vgg16", 138_357_544, 15_470_264_320, 0),
    ],
)
def test_figures_are_the_published_ones(figures, line, params, madds, anchors):
    found = figures(line)
    assert (found["params"], found["anchors"]) == (params, anchors)
    assert madds in (None, found["madds"])
    for sums in (found["layers"], found["parts"].values(), found["kinds"].values()):
        assert sum(entry["params"] for entry in sums) == found["params"]
        assert sum(entry["madds"] for entry in sums) == found["madds"]


def test_a_layer_says_what_it_is(figures):
    stem = figures("ssdlite_mobilenet_v2")["layers"][0]
    assert stem["kind"] == "convolution" and stem["output"] == [32, 150, 150]
    assert (stem["params"], stem["madds"]) == (3 * 3 * 3 * 32, 3 * 3 * 3 * 32 * 150 * 150)


def test_input_may_be_of_any_shape(figures):
    found = figures("ssdlite_mobilenet_v2 --input-size 240x427")
    assert found["input_size"] == [240, 427] and found["feature_maps"][0] == [15, 27]
    cells = [h * w for h, w in found["feature_maps"]]
    assert found["anchors"] == sum(c * a for c, a in zip(cells, found["anchors_per_cell"]))


def test_weights_that_are_not_in_the_cache_are_described_by_their_record(info):
    code, out, _ = info("ssdlite_mobilenet_v2.coco")
    assert code == 0 and "not in the cache" in out and "Apache-2.0, The TensorFlow Authors" in out
    assert "AP 0.220 on COCO, TensorFlow's minival of 2014 (8,059 images)" in out


def test_a_weights_file_shows_its_own_card(info, shared):
    file = shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"
    code, out, _ = info(file, "--json")
    found = json.loads(out)
    assert code == 0 and (found["params"], found["num_classes"], found["anchors"]) == (4_110_735, 90, 1917)
    assert found["class_names"][:2] == ["person", "bicycle"] and "(x - 128) / 128" in found["rule"]
    code, out, _ = info(file, "--num-classes", 3, "--input-size", 224, "--json")
    found = json.loads(out)
    assert code == 0 and (found["num_classes"], found["anchors"], found["class_names"]) == (3, 1014, [])


def test_a_classifier_file_too(figures, shared):
    found = figures(str(shared / "models" / "imagenet" / "mobilenet_v1_0.25_128_quant.tflite"))
    assert found["kind"] == "classifier" and found["params"] == 470_329 and found["input_size"] == [128, 128]


def test_the_text_shows_maps_parts_kinds_and_on_request_layers(info):
    _, out, _ = info("ssdlite_mobilenet_v2", "--num-classes", 90)
    for wanted in ("19x19 (3)", "1x1 (6)", "1,917", "4,500,543", "749,503,856", "backbone", "depthwise"):
        assert wanted in out
    assert "backbone.stem.conv" not in out
    assert "backbone.stem.conv" in info("ssdlite_mobilenet_v2", "--layers")[1]


def test_the_list_has_every_name(info):
    from detection import list_models

    code, out, _ = info("--list")
    assert code == 0 and all(name in out for name in (*list_models(), "mobilenet_v1_fullconv"))
    rows = json.loads(info("--list", "--json")[1])
    assert json.loads(info("--list", "--json", "-")[1]) == rows, "as where a file may be named"
    assert {row["name"] for row in rows} >= set(list_models())


def test_anchors_are_compared_with_a_data_set_and_with_other_forms_of_the_network(info, tmp_path):
    from data_sets import coco

    # At 300 pixels the first box is a square of 150, which anchors fit; the second is of 15 x 20, which none can match.
    data = coco(tmp_path, [(1, 1, [20, 15, 40, 30]), (2, 2, [10, 10, 4, 4])])
    code, out, _ = info("ssdlite_mobilenet_v2", "--input-size", 512, "--anchors", data)
    assert code == 0 and "anchors at 512 x 512: 50.0% of the boxes have no anchor" in out and "with stride8" in out
    code, out, _ = info("ssdlite_mobilenet_v2.coco", "--anchors", data, "--json")
    found = json.loads(out)["reach"]
    assert [(row["name"], row["reached"]) for row in found["by_class"]] == [("dog", 0), ("cat", 1)]
    forms = {one["name"]: one for one in found["alternatives"]}
    assert forms["as it is"]["anchors"] == 1917 and forms["as it is"]["reached"] == 0.5
    assert forms["with stride8"]["reached"] == 1.0, "its smallest anchor has 15 pixels"


def test_a_network_without_a_further_tap_is_compared_at_other_sizes_only(info, tmp_path):
    from data_sets import coco

    out = info("ssd300_vgg16", "--anchors", coco(tmp_path, [(1, 1, [20, 15, 40, 30])]))[1]
    assert "input 512" in out and "stride8" not in out


@pytest.mark.parametrize("boxes, model, reason", [
    ([], "ssdlite_mobilenet_v2", "no box to learn from"),
    ([(1, 1, [20, 15, 40, 30])], "mobilenet_v2", "needs a detector"),
])  # fmt: skip
def test_no_boxes_or_no_anchors_is_one_line(info, tmp_path, boxes, model, reason):
    from data_sets import coco

    code, out, err = info(model, "--anchors", coco(tmp_path, boxes))
    assert code == 2 and out == "" and err.startswith("error: ") and reason in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "line, reason",
    [
        ("ssdlite_mobilenet_v2 --alpha 0", "width multiplier"),
        ("ssdlite_mobilenet_v2 --alpha -1", "width multiplier"),
        ("ssdlite_mobilenet_v2 --alpha nan", "width multiplier"),
        ("ssdlite_mobilenet_v2 --alpha wide", "width multiplier"),
        ("ssdlite_mobilenet_v2 --input-size 16", "too small"),
        ("mobilenet_v2 --input-size 8", "too small"),
        ("ssdlite_mobilenet_v2 --input-size 0", "input size"),
        ("ssdlite_mobilenet_v2 --input-size 300x", "input size"),
        ("ssdlite_mobilenet_v2 --num-classes 0", "at least 1"),
        ("ssdlite_mobilenet_v2 --layout caffee", "caffee"),
        ("ssdlite_mobilnet_v2", "nearest: ssdlite_mobilenet_v2"),
        ("mobilnet_v2", "nearest: mobilenet_v2"),
        ("no/such/file.tflite", "no such file"),
        ("ssdlite_mobilenet_v2.coco --alpha 0.5", "bare name (ssdlite_mobilenet_v2)"),
        ("setup.py", "not weights of a known kind"),
        ("", "which model?"),
    ],
)
def test_what_cannot_be_is_one_line(info, monkeypatch, line, reason):
    monkeypatch.chdir(REPOSITORY)
    code, out, err = info(*line.split())
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1 and reason in err


def test_the_tool_is_the_command():
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "model_info.py", "ssdlite_mobilenet_v2", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["params"], found["madds"], found["anchors"]) == (4_337_013, 734_610_416, 1917)
