"""Checkpoints: what is written is what is read, a card says everything, and nothing is ever unpickled."""

import json
import pickle
import re

import pytest
import torch

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.errors import BadWeightsError, MobileSSDError
from detection.postprocessor import PostProcessor
from detection.ssd.network import build, feature_maps
from detection.ssd.spec import ExtraSpec, HeadSpec, InputSpec, SSDSpec
from detection.weights.card import Card
from detection.weights.card_files import safetensors_card
from detection.weights.checkpoint import load_checkpoint, load_into, read_card, save_checkpoint, update_card

SPEC = SSDSpec(
    backbone_options={"alpha": 0.25},
    taps=("conv11", "conv13"),
    num_classes=2,
    input=InputSpec(size=(96, 128)),
    extras=(ExtraSpec(64, 32, "separable"), ExtraSpec(32, 16)),
    heads=HeadSpec("separable", 3),
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build(SPEC)


@pytest.fixture
def card(network):
    return Card(SPEC.to_dict(), ("cat", "dog"), (17, 18), feature_maps(network), licence="Apache-2.0")


def test_a_round_trip_changes_no_bit(tmp_path, network, card):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, network, card)
    again, card_again = load_checkpoint(path)
    assert again.spec == SPEC and card_again == card
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters()))


def test_half_precision_halves_the_file(tmp_path, network, card):
    save_checkpoint(tmp_path / "a.safetensors", network, card)
    save_checkpoint(tmp_path / "b.safetensors", network, card, half=True)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.6 * (tmp_path / "a.safetensors").stat().st_size
    load_checkpoint(tmp_path / "b.safetensors")


def test_a_card_can_be_changed_without_touching_the_weights(tmp_path, network, card):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, network, card)
    update_card(path, score_threshold=0.42)
    again, card_again = load_checkpoint(path)
    assert card_again.score_threshold == 0.42 and card_again.class_names == ("cat", "dog")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters()))


def test_loading_into_another_network_reports_each_kind_of_mismatch(network):
    other = build(SPEC.with_classes(5))
    state = network.state_dict() | {"something.else": torch.zeros(1)}
    del state["backbone.conv0.conv.weight"]
    report = load_into(other, state)
    assert report.missing == ["backbone.conv0.conv.weight"] and report.unexpected == ["something.else"]
    assert set(report.mismatched) == {f"heads.{i}.score.1.{p}" for i in range(4) for p in ("weight", "bias")}
    assert "1 new (backbone.conv0.conv.weight)" in str(report) and "is [9, 128, 1, 1], needs [18, 128, 1, 1]" in str(
        report
    )


class Trap:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('sprung').touch()",))


def test_a_header_as_long_as_a_pickle_begins_is_none(tmp_path):
    path, header = tmp_path / "w.safetensors", b'{"__metadata__":{"card":"text"}}'
    path.write_bytes(0x0280.to_bytes(8, "little") + header.ljust(0x0280))
    assert path.read_bytes().startswith(b"\x80\x02") and safetensors_card(path) == "text"


@pytest.mark.parametrize("write", [lambda p: p.write_bytes(pickle.dumps(Trap())), lambda p: torch.save(Trap(), p)])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.safetensors"
    write(path)
    with pytest.raises(BadWeightsError, match="refused"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_damaged_files_are_one_clear_line(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadWeightsError, match=r"bad\.safetensors"):
        read_card(path)


def test_a_file_cut_short_and_one_without_a_card(tmp_path, network, card):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_checkpoint(path, network, card)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadWeightsError, match="not a whole safetensors file"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(BadWeightsError, match="without a mobilessd card"):
        load_checkpoint(tmp_path / "plain.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path, network, card, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, network, card)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MobileSSDError, match="cannot be written .*No space left"):
        save_checkpoint(path, network, card)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_spec_with_an_unknown_key_names_the_nearest():
    with pytest.raises(MobileSSDError, match="unknown key 'paddding'; did you mean 'padding'"):
        SSDSpec.from_dict(SPEC.to_dict() | {"paddding": "same"})
    assert SSDSpec.from_dict(SPEC.to_dict()) == SPEC


@pytest.mark.parametrize(
    "change, line",
    [
        ({"num_classes": 10**9}, "spec: num_classes: 1e+09 is not from 1 to 100000"),
        ({"input": {"size": [300, 10**6]}}, "spec: input.size: 1e+06 is not from 1 to 16384"),
        ({"input": {"size": [16384, 16384]}}, "spec: input.size: 16384 x 16384 are more than"),
        ({"input": {"std": [0, 1, 1]}}, "spec: input.std: 0 is not at least 1e-06"),
        ({"input": {"mean": [127.5]}}, "spec: input.mean: "),
        ({"extras": [{"channels": 8, "hidden": 8, "stride": "x"}]}, "spec: extras[0].stride: "),
        ({"extras": [{"channels": 10**8, "hidden": 1}]}, "spec: extras[0].channels: 1e+08 is not from 1 to 8192"),
        ({"extras": [{"channels": 8, "hidden": 8}] * 99}, "spec: extras, taps: a network has at most 32 of each"),
        ({"extras": [{"channels": 8}]}, "spec: extras[0]: hidden is missing"),
        ({"backbone_options": {"alpha": 10**5}}, "spec: backbone_options.alpha: 100000 is not at most 16"),
        ({"anchors": {"options": {"min_scale": "x"}}}, "anchors: these options make no tensorflow layout"),
        ({"anchors": {"options": {"scale": 1}}}, "anchors: these options make no tensorflow layout"),
        (
            {"anchors": {"layout": "multiscale", "options": {"scales_per_octave": 10**6}}},
            "anchors: level 3 with 1000000 scales an octave makes no layout",
        ),
        ({"extras": 3}, "spec: extras: expected a list (keys and values each), found 3"),
        ({"max_log": float("nan")}, "spec: max_log: expected a number, found nan"),
        ({"pyramid": []}, "spec: pyramid: expected keys and values, found []"),
    ],
)
def test_a_forged_spec_is_one_line_before_anything_is_built(change, line):
    with pytest.raises(MobileSSDError, match=f"^{re.escape(line)}"):
        SSDSpec.from_dict(SPEC.to_dict() | change).anchors.per_cell(6, (300, 300))


def test_anchors_are_counted_before_they_are_laid():
    with pytest.raises(MobileSSDError, match="anchors: 300,000,000 are more than 10,000,000"):
        anchors_for(AnchorSpec(), [(10_000, 10_000)] + [(0, 0)] * 5, (300, 300))


def test_an_input_too_small_for_the_pyramid_or_a_width_of_0_is_one_clear_line():
    with pytest.raises(MobileSSDError, match="too small"):
        build(SPEC.with_input_size(16))
    with pytest.raises(MobileSSDError, match="alpha must be above 0"):
        build(SSDSpec(backbone_options={"alpha": 0}, taps=("conv11", "conv13")))


@pytest.mark.parametrize(
    "change, line",
    [
        ({"spec": {"num_classes": 10**9}}, "w: its card names 2 classes for 1000000000 columns"),
        ({"spec": SPEC.to_dict() | {"taps": 3}}, "w: its card says what no network is (spec: taps: expected a list "),
        ({"spec": []}, "w: its card cannot be read ("),
        ({"spec": None}, "w: its card cannot be read ("),
        ({"class_names": ["cat"]}, "w: its card names 1 classes for 2 columns"),
        ({"class_names": [3, 4]}, "w: its card says what no network is (class_names: expected a list (text each)"),
        ({"category_ids": [1, 2, 3]}, "w: its card has 3 ids for 2 classes"),
        ({"category_ids": [1]}, "w: its card has 1 ids for 2 classes"),
        ({"class_names": 3}, "w: its card cannot be read ("),
        ({"class_names": None}, "w: its card cannot be read ("),
        ({"score_threshold": "x"}, "w: its card cannot be read ("),
        ({"feature_maps": [[10**9, 1]] * 6}, "anchors: "),
        ({"feature_maps": [[1e999, 1]]}, "w: its card cannot be read ("),
        ({"format": 99}, "w: card format 99 is newer"),
        ({"format": None}, "w: its card cannot be read ("),
        ({"format": "2"}, "w: its card cannot be read ("),
        ({"interface": ["jetson"]}, "w: its card cannot be read (interface is no text)"),
        ({"training_images": "x"}, "w: its card cannot be read ("),
        (
            {"metrics": {}},
            "w: its card says what no network is (metrics: expected a list (keys and values each), found {})",
        ),
    ],
)
def test_a_forged_card_is_one_line(card, change, line):
    data = json.loads(card.to_json()) | change
    with pytest.raises(MobileSSDError, match=f"^{re.escape(line)}"):
        PostProcessor.of(Card.from_json(json.dumps(data), "w"), source="w")


def test_a_card_without_an_input_size_is_one_line(card):
    card.spec = {"input": 3}
    with pytest.raises(BadWeightsError, match="^card: its card has no input size$"):
        _ = card.input_size


@pytest.mark.parametrize("text", ["[]", "3", "{", "{}", "null", "[" * 100_000])
def test_a_card_that_is_none_is_one_line(text):
    with pytest.raises(BadWeightsError, match="^w: its card cannot be read"):
        Card.from_json(text, "w")


def test_a_card_of_a_run_that_found_nothing_and_one_with_more_keys(card):
    data = json.loads(card.to_json()) | {"score_threshold": float("nan"), "of_tomorrow": 1}
    assert Card.from_json(json.dumps(data)) == card
