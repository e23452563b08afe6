"""TensorFlow Lite and ExecuTorch: where their converters are installed (an environment of their own), the same boxes."""

import importlib.util

import pytest
import torch

from detection import Detector
from detection.cli.main import main
from detection.core.card import Card
from detection.core.errors import BadWeightsError
from detection.export.compare import match, sample_pictures
from detection.runtimes.exported import add_tflite_card, is_exported, tflite_card
from detection.ssd.network import build, feature_maps
from detection.weights.checkpoint import save_checkpoint
from detection.zoo import spec_for


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    ssd = build(spec_for("ssdlite_mobilenet_v2", alpha=0.35, input_size=(97, 131), num_classes=3)).eval()
    with torch.no_grad():
        for head in ssd.heads:
            for parameter in head.score.parameters():
                parameter.mul_(3)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name="small"))
    return path


def test_a_tflite_file_says_the_same_and_runs_from_its_path_alone(small, tmp_path, capsys):
    pytest.importorskip("litert_torch", reason="needs litert-torch, in an environment of its own")
    file = tmp_path / "small.tflite"
    assert main(["export", str(small), "--output", str(file), "--threads", "1"]) == 0
    assert "small.tflite: tflite, float32 weights" in capsys.readouterr().out
    ours, theirs = Detector(file, score=0.05), Detector(small, "cpu", "torch", threads=1, score=0.05)
    assert (ours.runtime.name, ours.card.name) == ("litert", "small")
    for picture in sample_pictures(None, 3):
        wanted, found = theirs(picture), ours(picture)
        assert match(wanted, found)[:2] == (len(wanted), 0) and len(wanted) > 5


def test_an_executorch_program_is_compared_and_has_its_card_beside_it(small, tmp_path, capsys):
    pytest.importorskip("executorch", reason="needs executorch, in an environment of its own")
    file = tmp_path / "small.pte"
    assert main(["export", str(small), "--output", str(file), "--threads", "1"]) == 0
    assert "small.pte: executorch, float32 weights" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.json", "small.pte"]
    assert Card.from_json((tmp_path / "small.json").read_text()).class_names == ("a", "b", "c")


@pytest.mark.parametrize(("name", "package"), [("m.tflite", "litert_torch"), ("m.pte", "executorch")])
def test_without_the_converter_one_line_says_where_to_put_it(small, tmp_path, capsys, monkeypatch, name, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted, *rest: None if wanted == package else find(wanted, *rest)
    )
    assert main(["export", str(small), "--output", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert "in an environment of its own" in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_card_in_the_zip_at_the_end_tells_our_files_from_published_ones(tmp_path):
    file = tmp_path / "m.tflite"
    file.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(500))
    assert tflite_card(file) is None and not is_exported(file)
    add_tflite_card(file, Card({}, ("a",), (1,), name="ours").to_json())
    assert is_exported(file) and '"ours"' in tflite_card(file)
    assert file.read_bytes().startswith(b"\x1c\x00\x00\x00TFL3")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from detection.runtimes.litert import open_interpreter

    with pytest.raises(BadWeightsError, match="LiteRT cannot run it"):
        open_interpreter(file, 1)
