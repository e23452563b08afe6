"""The runtimes: one answer from all of them, the choice between them, and what cannot go together in one line."""

import importlib.util
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import numpy as np
import pytest
from oracle import litert_reference, rgb, sigmoid

from detection import Detector
from detection.errors import BadWeightsError, MobileSSDError
from detection.images.preprocess import stretch
from detection.runtimes.open import choose, open_runtime
from detection.runtimes.table import RUNTIMES
from detection.ssd.network import build, feature_maps
from detection.weights.card import Card
from detection.weights.card_files import onnx_metadata
from detection.weights.checkpoint import save_checkpoint
from detection.weights.formats import card_of
from detection.weights.names import spec_for
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network with random weights, as a checkpoint."""
    import torch

    torch.manual_seed(1)
    ssd = build(spec_for("ssdlite_mobilenet_v2", alpha=0.35, input_size=96, num_classes=3)).eval()
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name="small")
    save_checkpoint(path, ssd, card)
    return path


@pytest.fixture(scope="module")
def tflite(shared):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    return shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"


def batch(number, size=96):
    return np.random.default_rng(number).integers(0, 255, (number, size, size, 3), np.uint8)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("number", [1, 2, 8])
def test_every_runtime_says_what_torch_says(small, runtime, number):
    pytest.importorskip(runtime)
    weights = open_weights(small)
    reference = open_runtime(weights, "torch", "cpu", threads=1)(batch(number))
    said = open_runtime(weights, runtime, threads=1)(batch(number))
    for ours, theirs in zip(said, reference):
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_torch_says_what_torch_says(small):
    compiled = open_runtime(open_weights(small), "torch-compiled", "cpu", threads=1)
    assert compiled.name == "torch-compiled"
    for ours, theirs in zip(compiled(batch(1)), open_runtime(open_weights(small), "torch", "cpu", threads=1)(batch(1))):
        assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "litert"])
def test_eight_threads_at_once_get_what_one_gets(made_v1, runtime):
    pytest.importorskip("ai_edge_litert" if runtime == "litert" else runtime)
    run = open_runtime(open_weights(made_v1), runtime, threads=2)
    inputs = list(np.split(batch(8), 8))
    alone, found = [run(one) for one in inputs], [None] * 8

    def work(i):
        found[i] = run(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(np.allclose(a, b, atol=1e-5) for one, other in zip(alone, found) for a, b in zip(one, other))


def test_every_function_that_a_row_names_is_there():
    for row in RUNTIMES.values():
        for place in filter(None, (row.opener, row.cache)):
            assert callable(row.load(place)), place


FIRST_ARRAYS = """
import os, sys, threading
import numpy as np
from detection.runtimes.openvino_library import core, library
library()
given = library().op.Parameter(library().Type.f32, library().Shape([1, 3]))
model = library().Model([library().opset13.relu(given)], [given], "model")
threads, start = [], threading.Barrier(8)
def run():
    compiled = core().compile_model(model, "CPU")
    start.wait()
    compiled.create_infer_request().infer([np.ones((1, 3), np.float32)])
sys.setswitchinterval(1e-6)
for _ in range(8):
    threads.append(threading.Thread(target=run))
    threads[-1].start()
for thread in threads:
    thread.join()
os._exit(0)
"""


def test_the_first_arrays_of_a_process_may_come_from_several_threads():
    """It hung in two of five runs while OpenVINO's first look at numpy was left to the threads."""
    pytest.importorskip("openvino", reason="needs openvino")
    root = Path(__file__).resolve().parents[1]
    for _ in range(3):
        subprocess.run([sys.executable, "-c", FIRST_ARRAYS], cwd=root, check=True, timeout=60)


def test_litert_runs_the_original_file_with_its_own_anchors(shared, tflite):
    theirs = litert_reference(shared).TFLiteSSD(str(tflite))
    detector = Detector(tflite, runtime="litert", threads=2)
    assert (detector.runtime.name, detector.runtime.precision) == ("litert", "int8")
    image = stretch(rgb(shared / "data" / "photos" / "coral_cat_720p.jpg"), (300, 300))
    encodings, scores, anchors = theirs.raw(image)
    ours, logits = detector.runtime(image[None])
    assert np.array_equal(ours[0], encodings[:, [1, 0, 3, 2]])
    assert np.abs(sigmoid(logits[0]) - scores).max() < 1e-6
    assert np.array_equal(detector.anchors, anchors[:, [1, 0, 3, 2]])
    assert detector(shared / "data" / "photos" / "coral_cat_720p.jpg").names[0] == "cat"


def test_litert_runs_files_with_real_numbers_at_input_and_output(shared):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    file = shared / "models" / "teachers" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_dr.tflite"
    detector = Detector(file, runtime="litert", threads=2)
    assert detector(shared / "data" / "photos" / "coral_cat_720p.jpg").names[0] == "cat"


def test_auto_takes_the_fastest_that_is_installed(small, monkeypatch):
    weights = open_weights(small)
    everything = {"torch", "onnx", "onnxruntime", "openvino"}

    def with_packages(*names):
        there = lambda package: object() if package in names else None  # noqa: E731
        monkeypatch.setattr(importlib.util, "find_spec", there)

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("detection.runtimes.open._converted_before", lambda weights, row: False)
    with_packages(*everything)
    assert choose(weights, "cpu") == "openvino" and choose(weights, "cuda") == "torch"
    with_packages(*everything - {"openvino"})
    assert choose(weights, "cpu") == "onnxruntime"
    with_packages("torch", "onnxruntime")  # an ONNX file cannot be made without onnx
    assert choose(weights, "cpu") == "torch"
    with_packages("openvino")  # nothing to convert with: torch it is, which then says that it is missing
    assert choose(weights, "cpu") == "torch"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with_packages(*everything)
    assert choose(weights, "cpu") == "onnxruntime"


def test_weights_where_nothing_can_convert_them_say_what_would(small, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "openvino" else None)
    monkeypatch.setattr("detection.runtimes.open._converted_before", lambda weights, row: False)
    with pytest.raises(
        MobileSSDError, match=r"needs torch to become .*; files that mobilessd export wrote run without"
    ):
        Detector(small)


def test_help_names_the_package_of_a_runtime_that_is_missing(small, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MobileSSDError, match=r"litert is not installed: pip install .mobilessd\[litert\]"):
        Detector(small, runtime="litert")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "litert"}, "runs .tflite files alone"),
        ({"runtime": "onnxruntime", "precision": "bfloat16"}, "no precision 'bfloat16'"),
        ({"runtime": "onnxruntime", "device": "cuda"}, "runs on the CPU here, not on cuda"),
        ({"precision": "int8"}, "holds float32 weights; make an int8 file with mobilessd quantize"),
        ({"precision": "int3"}, "no precision 'int3'"),
        ({"device": "cuda:x:1", "runtime": "openvino"}, "not on cuda"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_does_not_go_together_is_one_line(small, options, words):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    with pytest.raises(MobileSSDError, match=words) as error:
        Detector(small, **options)
    assert "\n" not in str(error.value)


def test_the_card_of_an_onnx_file_is_read_without_any_library(small, tmp_path):
    file = exported_to_onnx(small, tmp_path / "small.onnx")
    assert card_of(file).class_names == ("a", "b", "c")
    code = (
        "import sys; from pathlib import Path; from detection.weights.formats import card_of;"
        f"print(card_of(Path({str(file)!r})).name, {{'onnx', 'onnxruntime', 'torch'}} & set(sys.modules))"
    )
    assert children.run([sys.executable, "-c", code]).stdout == "small set()\n"


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.98])
def test_an_onnx_file_cut_short_is_one_line(small, tmp_path, share):
    whole = exported_to_onnx(small, tmp_path / "whole.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadWeightsError, match=r"cut\.onnx: (not a whole|not an|an empty)") as error:
        Detector(cut)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"hello, this is no model" * 20, b"\x00" * 500, b"<?xml version='1.0'?><net/>"])
def test_an_onnx_file_of_another_kind_is_one_line(tmp_path, content):
    file = tmp_path / "other.onnx"
    file.write_bytes(content)
    with pytest.raises(BadWeightsError, match=r"other\.onnx: (not a whole|not an) ONNX file"):
        Detector(file)


def test_somebody_elses_onnx_file_has_no_card(shared):
    with pytest.raises(BadWeightsError, match="carries no mobilessd card"):
        Detector(shared / "models" / "teachers" / "deimv2_hgnetv2_femto_coco.onnx")


def exported_to_onnx(checkpoint, target):
    """The runtime's own conversion, copied."""
    pytest.importorskip("onnx", reason="needs onnx")
    from detection.runtimes.onnxruntime import converted

    target.write_bytes(converted(open_weights(checkpoint)).read_bytes())
    assert set(onnx_metadata(target)) == {"mobilessd_card"}
    return target


def test_one_in_a_stream_is_what_it_is_among_several_and_calls_begun_together_keep_apart(small):
    pytest.importorskip("openvino", reason="needs openvino")
    runtime, other = (open_runtime(open_weights(small), "openvino", threads=2) for _ in range(2))
    images = batch(19)
    several = runtime(images)
    assert 1 <= runtime.streams() <= 2
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda k: runtime.in_stream(images[k : k + 1]), range(19)))
    begun = runtime.begin(images), other.begin(images[::-1]), runtime.begin(images[:3])
    for k in (0, 1):
        assert np.array_equal(several[k], np.concatenate([one[k] for one in alone]))
    assert np.array_equal(begun[2]()[1], several[1][:3])
    assert np.array_equal(begun[0]()[1], several[1]) and np.array_equal(begun[1]()[1], several[1][::-1])


@pytest.mark.parametrize(
    "rates, wanted", [({8: 80, 4: 50}, 8), ({8: 80, 4: 79, 2: 41}, 4), ({8: 5, 4: 5, 2: 5, 1: 9}, 1)]
)
def test_streams_are_as_many_as_pay(small, monkeypatch, rates, wanted):
    pytest.importorskip("openvino", reason="needs openvino")
    monkeypatch.setattr("detection.runtimes.openvino_streams.rate_of", lambda idle, image, count: rates[count])
    assert open_runtime(open_weights(small), "openvino", threads=8).streams() == wanted


def test_a_compiled_network_is_kept_and_a_damaged_one_is_made_anew(small, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs openvino")
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    weights, image = open_weights(small), batch(1)
    first = open_runtime(weights, "openvino", threads=1)(image)
    kept = tmp_path / "openvino" / "compiled"
    wait_for(lambda: list(kept.glob("[!.]*.blob")))
    (blob,) = kept.glob("[!.]*.blob")
    assert np.array_equal(first[1], open_runtime(weights, "openvino", threads=1)(image)[1])
    blob.write_bytes(blob.read_bytes()[:1000])
    assert np.array_equal(first[1], open_runtime(weights, "openvino", threads=1)(image)[1])
    wait_for(lambda: blob.exists() and blob.stat().st_size > 1000)


def test_a_cache_that_cannot_be_written_is_no_error(small, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs openvino")
    weights = open_weights(small)
    (tmp_path / "file").write_text("no folder")
    from detection.runtimes.openvino import OpenVINORuntime, converted

    file = converted(weights)
    monkeypatch.setattr("detection.runtimes.openvino.converted", lambda weights: file)
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "file"))
    assert OpenVINORuntime(weights, threads=1)(batch(1))[1].shape[2] == 4


def wait_for(there, seconds=20):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_networks_that_come_and_go_leave_the_signals_alone(small):
    """OpenVINO's CPU plugin lends its thread a signal stack; a Core that goes out of turn leaves a freed one behind."""
    import ctypes
    import gc

    class Stack(ctypes.Structure):
        _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

    def signal_stack():
        found = Stack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
        return found.start, found.flags

    first = Detector(small, runtime="openvino")
    before = signal_stack()
    second, third = Detector(small, runtime="openvino"), Detector(small, runtime="openvino")
    del first, second
    gc.collect()
    del third
    gc.collect()
    assert signal_stack() == before
