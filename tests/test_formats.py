"""Files are recognised by what they hold; whatever a parser of foreign bytes meets is one line that names the file."""

import importlib
import shutil
import sys

import pytest

from detection.errors import BadWeightsError, MissingPackageError
from detection.weights.formats import FORMATS, by_ending, recognise
from detection.weights.importers.table import IMPORTERS, READABLE, import_detector
from detection.weights.names import load
from detection.weights.records import DEFAULT, find_record
from detection.weights.resolve import open_weights


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))


@pytest.fixture
def bundled():
    return find_record(DEFAULT).shipped


def test_every_importer_of_the_table_is_there():
    for importer in IMPORTERS:
        for entry in filter(None, (importer.detector, importer.classifier, importer.backbone)):
            module, _, function = entry.partition(":")
            assert callable(getattr(importlib.import_module(f"detection.weights.importers.{module}"), function))


def test_names_and_endings_of_formats_are_unique():
    assert len({format.name for format in READABLE}) == len(READABLE)
    endings = [ending for format in READABLE for ending in format.endings]
    assert len(set(endings)) == len(endings)
    assert all(by_ending(f"folder/A{format.ending.upper()}") == format for format in FORMATS)


@pytest.mark.parametrize("name", ["weights", "weights.onnx", "weights.bin", "weights.pth"])
def test_a_checkpoint_is_opened_whatever_it_is_called(bundled, tmp_path, name):
    shutil.copy(bundled, tmp_path / name)
    weights = open_weights(tmp_path / name)
    assert weights.format.name == "safetensors" and weights.card.name == DEFAULT and not weights.exported


def test_a_graph_without_its_ending_still_runs_as_it_is(bundled, tmp_path):
    shutil.copy(bundled.with_suffix(".onnx"), tmp_path / "graph")
    assert recognise(tmp_path / "graph").name == "onnx"


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.pth", b"PK\x03\x04" + bytes(100)),
        ("a.pt", b"\x80\x02" + bytes(100)),
        (
            "model.json",
            b'{"modelTopology": {"node": [{"name": "x"}]}, "weightsManifest": [{"paths": [1], "weights": []}]}',
        ),
        ("model.json", b'{"modelTopology": {"node": 3}, "weightsManifest": [{"paths": [], "weights": [{}]}]}'),
        ("a.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(range(200))),
        ("a.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"),
        ("a.onnx", b""),
        ("a.pte", b"\x00\x00\x00\x00ET12"),
        ("a.txt", b"words"),
        ("a", b""),
    ],
)
def test_whatever_a_parser_meets_is_one_line_that_names_the_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadWeightsError) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_weights_is_one_line(tmp_path):
    with pytest.raises(BadWeightsError, match="not weights of a known kind"):
        open_weights(tmp_path)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite", None)
    path = tmp_path / "a.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    with pytest.raises(MissingPackageError, match=r'needs tflite: pip install "mobilessd\[tflite\]"'):
        import_detector(path)
