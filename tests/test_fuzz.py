"""Mutated files end no reader: some here, many more with `make fuzz`."""

import os
import sys
from random import Random

import fuzz
import pytest
from fuzz_mutators import mutated, mutated_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")


def test_every_fault_of_a_reader_is_found(tmp_path):
    found = fuzz.run("fuzz_nothing", 16, 0, tmp_path)
    assert [(one.case, one.kind) for one in found][::2] == [
        ("reads:0:0", "read"),
        ("refuses:0:0", "refused"),
        ("two-lines:0:0", "long"),
        ("fails:0:0", "traceback"),
        ("eats:0:0", "memory"),
        ("strays:0:0", "opened"),
        ("dies:0:0", "died"),
        ("lives-on:0:0", "read"),
    ]
    assert "KeyError" in found[6].detail and found[10].detail == "/etc/passwd" and "exit code 3" in found[12].detail
    kept = {path.name for path in tmp_path.iterdir()}
    assert "fails-0-1" in kept and "dies-0-1" in kept and "reads-0-0" not in kept
    assert found[7].detail.rpartition("KeyError: ")[2].strip("'\n") == (tmp_path / "fails-0-1" / "file").read_text()


def test_children_that_die_again_and_again_end_the_run(tmp_path):
    found = fuzz.run("fuzz_nothing", 32, 0, deaths=3)
    assert [one.kind for one in found].count("died") == 3
    assert found[-1] == fuzz.Outcome("dies:0:3", "left", "out, with 4 more")


def test_the_same_seed_makes_the_same_file():
    data, tree = bytes(range(256)) * 4, {"a": [1, {"b": None}], "c": "text"}
    assert mutated(data, Random("x:1")) == mutated(data, Random("x:1")) != mutated(data, Random("x:2"))
    assert repr(mutated_tree(tree, Random(1))) == repr(mutated_tree(tree, Random(1)))
    assert tree == {"a": [1, {"b": None}], "c": "text"}
    assert len({mutated(data, Random(i)) for i in range(200)}) > 190


FILES = int(os.environ.get("FUZZ_FILES", "400"))


def test_mutated_weights_files_are_read_or_refused_in_one_line(tmp_path):
    for module in ("onnx", "openvino", "google.protobuf", "ai_edge_litert", "tflite"):
        pytest.importorskip(module, reason=f"needs {module}")
    found = fuzz.run("fuzz_of_weights", FILES, 0, tmp_path, deaths=3)
    assert all(one.fine for one in found), fuzz.report(found)
    assert sum(one.kind == "read" for one in found) > FILES // 10, (
        "nearly all are refused: the readers are hardly reached"
    )
