"""Checkpoints of training scripts, however the network was wrapped, and label files beside weights in every form."""

import warnings

import pytest
import torch
import torchvision

from detection.cli.main import main
from detection.errors import BadWeightsError, MobileSSDWarning
from detection.weights.importers.labels import object_labels, parse_labels
from detection.weights.importers.layouts import _detector_in, import_backbone, import_state_dict
from detection.weights.importers.state_dicts import read_state_dict
from detection.weights.importers.table import import_detector
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    return make(weights=None, weights_backbone=None, num_classes=3).state_dict()


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def compiled_inside(state):
    return {name.replace("backbone.features", "backbone._orig_mod.features"): value for name, value in state.items()}


def other(state):
    return {name: value * 2 if value.is_floating_point() else value for name, value in state.items()}


WRAPPED = {
    "plain": lambda s: s,
    "torch.compile": lambda s: under("_orig_mod.", s),
    "DDP of compile": lambda s: under("module._orig_mod.", s),
    "compile of DDP": lambda s: under("_orig_mod.module.", s),
    "DataParallel twice": lambda s: under("module.module.", s),
    "a compiled backbone": compiled_inside,
    "FSDP": lambda s: under("_fsdp_wrapped_module.", s),
    "Fabric": lambda s: {"model": under("_forward_module._orig_mod.", s)},
    "Lightning": lambda s: {
        "state_dict": under("model.", s),
        "epoch": 1,
        "optimizer_states": [{"state": {0: {"exp_avg": s}}}],
    },
    "Lightning of DDP of compile": lambda s: {"state_dict": under("model.module._orig_mod.", s)},
    "Lightning with a loss": lambda s: {"state_dict": under("net.", s) | {"loss.weight": torch.ones(3)}},
    "any attribute": lambda s: {"state_dict": under("detector.ssd.", s)},
    "EMA alone": lambda s: {"model_ema": under("module.", s)},
    "ema": lambda s: {"ema": s, "updates": torch.tensor(9)},
    "timm's": lambda s: {"state_dict_ema": s, "epoch": 3},
    "ema, deeper": lambda s: {"ema": {"decay": 0.9, "shadow": under("module.", s)}},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(4)} | under("module.", s),
    "the network before its average": lambda s: {"model_ema": other(s), "model": s},
    "inside one another": lambda s: {"checkpoint": {"model_state_dict": {"net": under("module.model._orig_mod.", s)}}},
    "student and teacher": lambda s: under("teacher.", other(s)) | under("student.", s),
    "optimiser larger than the network": lambda s: {
        "model": s,
        "optimizer": {"state": under("a.", s) | under("b.", s)},
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_a_network_is_found_however_it_was_wrapped(how, state, tmp_path):
    torch.save(WRAPPED[how](state), tmp_path / "last.ckpt")
    found = _detector_in(read_state_dict(tmp_path / "last.ckpt"))
    assert found and found[0].name == "torchvision" and set(found[1]) >= set(state)
    name = "backbone.features.0.0.0.weight"
    assert torch.equal(found[1][name], state[name])


def test_it_is_imported_as_the_plain_one_is(state, tmp_path):
    networks = []
    for name, content in {"plain.pth": state, "lightning.ckpt": WRAPPED["Lightning of DDP of compile"](state)}.items():
        torch.save(content, tmp_path / name)
        networks.append(import_state_dict(tmp_path / name)[0].state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_safetensors_of_a_compiled_network_are_read_too(state, tmp_path):
    from safetensors.torch import save_file

    save_file(under("_orig_mod.", state), tmp_path / "model.safetensors")
    assert _detector_in(read_state_dict(tmp_path / "model.safetensors"))


def test_a_wrapped_classifier_gives_its_backbone_and_a_detector_none(state, tmp_path):
    classifier = torchvision.models.mobilenet_v2(width_mult=0.25).state_dict()
    torch.save({"state_dict": under("model.encoder.", classifier)}, tmp_path / "classifier.ckpt")
    found = import_backbone(tmp_path / "classifier.ckpt")
    assert found is not None and found.padding == "symmetric"
    torch.save({"state_dict": under("model.", state)}, tmp_path / "detector.ckpt")
    assert import_backbone(tmp_path / "detector.ckpt") is None


@pytest.mark.parametrize(
    "content, words", [({"epoch": 3}, "holds no tensors"), ([1], "holds a list"), ({"a": {"b": {}}}, "no tensors")]
)
def test_what_holds_no_network_is_one_line(content, words, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(BadWeightsError, match=words):
        read_state_dict(tmp_path / "a.pth")


# ---------------------------------------------------------------- label files

CATS = ["cat", "hot dog"]
FORMS = {
    "plain": "cat\nhot dog\n",
    "Windows' line ends": "cat\r\nhot dog\r\n",
    "Coral's": "0  cat\n1  hot dog\n",
    "colons": "0: cat\n1: hot dog",
    "from 1": "1 cat\n2 hot dog",
    "tabs": "0\tcat\n1\thot dog",
    "commas": "0,cat\n1,hot dog\n",
    "not sorted": "1 hot dog\n0 cat\n",
    "TensorFlow's": "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  name: \"hot dog\"\n  id: 2\n}\n",
    "with display names": 'item { name: "/m/01", id: 1, display_name: "cat" } item { id: 2 display_name: "hot dog" name: "x" }',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_label_files_of_every_form_give_the_names(form, encoding):
    assert parse_labels(FORMS[form].encode(encoding)) == CATS


def test_numbers_with_gaps_keep_their_places():
    assert parse_labels(b"0 person\n2 car\n3 bus") == ["person", "???", "car", "bus"]
    assert parse_labels(b'item { id: 1 name: "person" } item { id: 3 name: "car" }') == ["person", "???", "car"]
    doubled = "\n".join(f"{i}  {'car' if i in (2, 7) else f'thing {i}'}" for i in range(12))  # Frigate's truck is a car
    assert parse_labels(doubled.encode())[7] == "car"


@pytest.mark.parametrize(
    "names", [["1 euro", "2 euro"], ["5 cent", "10 cent", "1 euro"], ["3 doors", "5 doors"], ["7up", "cola"]]
)
def test_names_that_begin_with_numbers_are_names(names):
    assert parse_labels("\n".join(names).encode()) == names


@pytest.mark.parametrize(
    "first", ["background", "__background__", "BACKGROUND", "???", "N/A", "unlabeled", "no object"]
)
def test_a_first_line_of_background_is_no_class(first):
    assert object_labels([first, "cat", "dog"], 3) == ["cat", "dog"] == object_labels(["cat", "dog"], 3)


def test_no_class_is_taken_for_background():
    assert object_labels(["cat", "dog", "bird"], 3) is None and object_labels(["cat"], 3) is None


@pytest.mark.parametrize("name", ["labels.txt", "label_map.pbtxt"])
def test_a_label_file_that_does_not_fit_is_said_and_kept_in_the_card(name, state, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))
    torch.save(state, tmp_path / "m.pth")
    form = 'item {{ id: {} name: "{}" }}' if name.endswith("pbtxt") else "{} {}"
    (tmp_path / name).write_text("\n".join(form.format(i + 1, word) for i, word in enumerate(("cat", "dog", "bird"))))
    for _ in range(2):  # converted, and out of the cache
        with pytest.warns(MobileSSDWarning, match=f"m.pth: {name} names 3 classes, .* and the network has 2"):
            card = open_weights(tmp_path / "m.pth").card
        assert card.class_names == ("class 1", "class 2") and len(card.notes) == 1
    (tmp_path / name).write_text("\n".join(form.format(i + 1, word) for i, word in enumerate(("cat", "dog"))))
    assert open_weights(tmp_path / "m.pth").card.class_names == ("cat", "dog"), "a corrected label file counts at once"
    assert import_detector(tmp_path / "m.pth")[1].notes == ()


def test_the_commands_say_it_as_a_warning(state, tmp_path, capsys, recwarn):
    torch.save(state, tmp_path / "m.pth")
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\nfish\n")
    assert main(["info", str(tmp_path / "m.pth")]) == 0
    assert "note        labels.txt names 4 classes and the network has 2" in capsys.readouterr().out
    said = next(one for one in recwarn if one.category is MobileSSDWarning)
    line = warnings.formatwarning(said.message, said.category, said.filename, said.lineno)
    assert line.startswith(f"warning: {tmp_path}/m.pth: labels.txt names 4 classes") and line.count("\n") == 1
