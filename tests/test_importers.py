"""State dicts of pytorch-ssd and jetson-inference become networks of ours; what files say that are none."""

import itertools
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from detection.errors import BadWeightsError, MobileSSDError
from detection.ssd.network import anchors_of
from detection.weights.importers.qfgaohao import import_qfgaohao_state, kind_of, state_of
from detection.weights.importers.state_dicts import read_state_dict
from detection.weights.importers.torchvision import import_torchvision_state
from detection.weights.names import load

pytestmark = pytest.mark.usefixtures("one_thread")


def conv(state, name, out, into, kernel=1, bias=True):
    state[f"{name}.weight"] = torch.randn(out, into, kernel, kernel) * (2 / (into * kernel**2)) ** 0.5
    if bias:
        state[f"{name}.bias"] = torch.randn(out) * 0.1


def norm(state, name, channels):
    state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels) * 0.1
    state[f"{name}.running_mean"], state[f"{name}.running_var"] = (
        torch.randn(channels) * 0.1,
        torch.rand(channels) + 0.5,
    )
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def heads(state, channels, columns, add):
    for name, numbers in (("classification_headers", columns), ("regression_headers", 4)):
        for i, into in enumerate(channels):
            add(f"{name}.{i}", into, 6 * numbers, i == len(channels) - 1)


def mb1(lite, columns):
    """A file as mb1-ssd or mb1-ssd-lite has it."""
    state = {}
    conv(state, "base_net.0.0", 32, 3, 3, bias=False)
    norm(state, "base_net.0.1", 32)
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for i, (into, out) in enumerate(zip(widths, widths[1:]), start=1):
        conv(state, f"base_net.{i}.0", into, 1, 3, bias=False)
        norm(state, f"base_net.{i}.1", into)
        conv(state, f"base_net.{i}.3", out, into, bias=False)
        norm(state, f"base_net.{i}.4", out)
    for i, (into, hidden, out) in enumerate(((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256))):
        conv(state, f"extras.{i}.0", hidden, into)
        if lite:
            conv(state, f"extras.{i}.2.0", hidden, 1, 3)
            conv(state, f"extras.{i}.2.2", out, hidden)
        else:
            conv(state, f"extras.{i}.2", out, hidden, 3)

    def head(name, into, out, last):
        if lite and not last:
            conv(state, f"{name}.0", into, 1, 3)
            conv(state, f"{name}.2", out, into)
        else:
            conv(state, name, out, into, 1 if lite else 3)

    heads(state, (512, 1024, 512, 256, 256, 256), columns, head)
    return state


def inverted(state, name, into, hidden, out, expand=True):
    at = 0
    if expand:
        conv(state, f"{name}.0", hidden, into, bias=False)
        norm(state, f"{name}.1", hidden)
        at = 3
    conv(state, f"{name}.{at}", hidden, 1, 3, bias=False)
    norm(state, f"{name}.{at + 1}", hidden)
    conv(state, f"{name}.{at + 3}", out, hidden, bias=False)
    norm(state, f"{name}.{at + 4}", out)


V2_WIDTHS = [32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
V2_EXTRAS = ((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 64))


def mb2(columns):
    """A file as mb2-ssd-lite has it."""
    state = {}
    conv(state, "base_net.0.0", 32, 3, 3, bias=False)
    norm(state, "base_net.0.1", 32)
    for i, (into, out) in enumerate(zip(V2_WIDTHS, V2_WIDTHS[1:]), start=1):
        inverted(state, f"base_net.{i}.conv", into, into * (1 if i == 1 else 6), out, expand=i > 1)
    conv(state, "base_net.18.0", 1280, 320, bias=False)
    norm(state, "base_net.18.1", 1280)
    for i, (into, hidden, out) in enumerate(V2_EXTRAS):
        inverted(state, f"extras.{i}.conv", into, hidden, out)

    def head(name, into, out, last):
        if last:
            conv(state, name, out, into)
        else:
            conv(state, f"{name}.0", into, 1, 3)
            norm(state, f"{name}.1", into)
            conv(state, f"{name}.3", out, into)

    heads(state, (576, 1280, 512, 256, 256, 64), columns, head)
    return state


VGG = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
VGG_POOLS = {4: False, 9: False, 16: True, 23: False}  # their places, and whether the pool rounds up


def vgg16(columns):
    """A file as vgg16-ssd has it (vision/ssd/vgg_ssd.py): conv4_3 goes to its head through a batch norm."""
    state, into = {}, 3
    for at, out in VGG.items():
        conv(state, f"base_net.{at}", out, into, 3)
        into = out
    conv(state, "base_net.31", 1024, 512, 3)
    conv(state, "base_net.33", 1024, 1024)
    norm(state, "source_layer_add_ons.0", 512)
    for i, (into, hidden, out) in enumerate(((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256))):
        conv(state, f"extras.{i}.0", hidden, into)
        conv(state, f"extras.{i}.2", out, hidden, 3)
    for name, numbers in (("classification_headers", columns), ("regression_headers", 4)):
        for i, (into, cell) in enumerate(zip((512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4))):
            conv(state, f"{name}.{i}", cell * numbers, into, 3)
    return state


class Oracle:
    """pytorch-ssd's forward pass, straight from the keys of its state dict."""

    def __init__(self, state, act):
        self.state, self.act = state, act

    def conv(self, name, x, stride=1):
        weight = self.state[f"{name}.weight"]
        groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[2] // 2, groups=groups)

    def norm(self, name, x):
        s = self.state
        return F.batch_norm(
            x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"]
        )

    def inverted(self, name, x, stride, stop=99):
        y, at = x, 0
        for last in (False,) * (f"{name}.6.weight" in self.state) + (False, True):
            strided = self.state[f"{name}.{at}.weight"].shape[1] == 1
            y = self.norm(f"{name}.{at + 1}", self.conv(f"{name}.{at}", y, stride if strided else 1))
            y = y if last else self.act(y)
            at += 3
            if at >= stop:
                return y
        return x + y if stride == 1 and x.shape == y.shape else y

    def head(self, name, x):
        """Each part that the file has: a plain convolution, or 0 (depthwise), 1 (norm), 2 or 3 (1x1)."""
        if f"{name}.weight" in self.state:
            return self.conv(name, x)
        x = self.conv(f"{name}.0", x)
        if f"{name}.1.running_mean" in self.state:
            return self.conv(f"{name}.3", self.act(self.norm(f"{name}.1", x)))
        return self.conv(f"{name}.2", self.act(x))

    def maps(self, x):
        found = []
        if "base_net.0.weight" in self.state:
            return self.vgg(x, found)
        stem = self.act(self.norm("base_net.0.1", self.conv("base_net.0.0", x, 2)))
        return self.v2(stem, found) if "base_net.18.0.weight" in self.state else self.v1(stem, found)

    def v1(self, x, found):
        for i in range(1, 14):
            x = self.act(self.norm(f"base_net.{i}.1", self.conv(f"base_net.{i}.0", x, 2 if i in (2, 4, 6, 12) else 1)))
            x = self.act(self.norm(f"base_net.{i}.4", self.conv(f"base_net.{i}.3", x)))
            if i in (11, 13):
                found.append(x)
        for i in range(4):
            x = self.act(self.conv(f"extras.{i}.0", x))
            if f"extras.{i}.2.weight" in self.state:
                x = self.act(self.conv(f"extras.{i}.2", x, 2))
            else:  # nothing behind the last convolution
                x = self.conv(f"extras.{i}.2.2", self.act(self.conv(f"extras.{i}.2.0", x, 2)))
            found.append(x)
        return found

    def vgg(self, x, found):
        for at in range(30):
            if at in VGG:
                x = self.act(self.conv(f"base_net.{at}", x))
            if at in VGG_POOLS:
                x = F.max_pool2d(x, 2, ceil_mode=VGG_POOLS[at])
            if at == 22:
                found.append(self.norm("source_layer_add_ons.0", x))
        dilated = self.state["base_net.31.weight"], self.state["base_net.31.bias"]
        x = self.act(F.conv2d(F.max_pool2d(x, 3, 1, 1), *dilated, padding=6, dilation=6))
        x = self.act(self.conv("base_net.33", x))
        found.append(x)
        for i, (stride, padding) in enumerate(((2, 1), (2, 1), (1, 0), (1, 0))):
            last = self.state[f"extras.{i}.2.weight"], self.state[f"extras.{i}.2.bias"]
            x = self.act(F.conv2d(self.act(self.conv(f"extras.{i}.0", x)), *last, stride, padding))
            found.append(x)
        return found

    def v2(self, x, found):
        for i in range(1, 18):
            stride = 2 if i in (2, 4, 7, 14) else 1
            if i == 14:
                found.append(self.inverted("base_net.14.conv", x, stride, stop=3))
            x = self.inverted(f"base_net.{i}.conv", x, stride)
        x = self.act(self.norm("base_net.18.1", self.conv("base_net.18.0", x)))
        found.append(x)
        for i in range(4):
            x = self.inverted(f"extras.{i}.conv", x, 2)
            found.append(x)
        return found

    def __call__(self, x, columns):
        boxes, scores = [], []
        for i, feature in enumerate(self.maps(x)):
            for name, numbers, rows in (("regression_headers", 4, boxes), ("classification_headers", columns, scores)):
                out = self.head(f"{name}.{i}", feature)
                rows.append(out.permute(0, 2, 3, 1).reshape(len(x), -1, numbers))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


KINDS = {
    "mb1-ssd": (lambda columns: mb1(False, columns), torch.relu, 202, 9_468_996),
    "mb1-ssd-lite": (lambda columns: mb1(True, columns), torch.relu, 230, 4_312_388),
    "mb2-ssd-lite": (mb2, F.relu6, 478, 3_388_228),
    "vgg16-ssd": (vgg16, torch.relu, 75, 26_285_998),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_ssd_files_compute_what_they_compute_there(kind):
    torch.manual_seed(0)
    make, act, entries, params = KINDS[kind]
    state = make(21)
    assert len(state) == entries
    ssd, card = import_qfgaohao_state(state)
    assert sum(p.numel() for p in ssd.parameters()) == params
    assert card.class_names[:2] == ("aeroplane", "bicycle") and len(card.class_names) == 20
    means, number = ((123.0, 117.0, 104.0), 8732) if kind == "vgg16-ssd" else ((127.0,) * 3, 3000)
    stds = (1.0,) * 3 if kind == "vgg16-ssd" else (128.0,) * 3
    assert ssd.spec.scores == "softmax" and ssd.spec.input.mean == means and ssd.spec.input.std == stds
    x = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        boxes, scores = Oracle(state, act)(x, 21)
        ours, logits = ssd(x)
    assert ours.shape == boxes.shape == (1, number, 4) and len(anchors_of(ssd)) == number
    assert (ours - boxes).abs().max() < 1e-4 * boxes.abs().max()
    assert (logits - scores).abs().max() < 1e-4 * scores.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_back_gives_the_same_file_to_the_bit(kind):
    state = KINDS[kind][0](4)
    ssd, _ = import_qfgaohao_state(state)
    back = state_of(ssd)
    assert kind_of(ssd.spec, "here") == kind
    assert back.keys() == state.keys()  # the counters of norms too, which start again
    assert all(torch.equal(back[name], state[name]) for name in state if not name.endswith("num_batches_tracked"))
    again, _ = import_qfgaohao_state(back)
    assert all(torch.equal(a, b) for a, b in zip(ssd.state_dict().values(), again.state_dict().values()))


def test_the_priors_of_vgg16_ssd_are_theirs():
    """vision/utils/box_utils.py, generate_ssd_priors, with the numbers of vision/ssd/config/vgg_ssd_config.py."""
    edges, wanted = (30, 60, 111, 162, 213, 264, 315), []
    levels = zip((38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), edges, edges[1:], (1, 2, 2, 2, 1, 1))
    for cells, shrinkage, low, high, ratios in levels:
        for j, i in itertools.product(range(cells), repeat=2):
            centre = (i + 0.5) / (300 / shrinkage), (j + 0.5) / (300 / shrinkage)
            wanted += [(*centre, side / 300, side / 300) for side in (low, math.sqrt(low * high))]
            for ratio in map(math.sqrt, (2, 3)[:ratios]):
                wanted += [
                    (*centre, low / 300 * ratio, low / 300 / ratio),
                    (*centre, low / 300 / ratio, low / 300 * ratio),
                ]
    ssd, _ = import_qfgaohao_state(vgg16(4))
    assert torch.equal(torch.from_numpy(anchors_of(ssd)), torch.tensor(wanted).clamp(0, 1))


def test_class_count_comes_from_the_tensors_and_names_from_labels_txt(tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in mb2(4).items()}, tmp_path / "mb2-ssd-lite-Epoch-9.pth")
    (tmp_path / "labels.txt").write_text("BACKGROUND\nfork\nknife\nspoon\n")
    ssd, card = load(tmp_path / "mb2-ssd-lite-Epoch-9.pth")
    assert ssd.spec.num_classes == 3 and card.class_names == ("fork", "knife", "spoon")
    (tmp_path / "labels.txt").write_text("BACKGROUND\nred\ngreen\nblue\n")
    assert load(tmp_path / "mb2-ssd-lite-Epoch-9.pth")[1].class_names == ("red", "green", "blue")


def test_a_width_that_nobody_uses_is_refused():
    state = mb2(4)
    with pytest.raises(BadWeightsError, match="no known kind"):
        import_qfgaohao_state(state | {"base_net.0.0.weight": torch.zeros(33, 3, 3, 3)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("extras.1.conv.4.running_var"), r"extras.1.conv.4.running_var is missing"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "extra.weight have no place"),
        (lambda s: s.update({"regression_headers.2.3.bias": torch.zeros(8)}), r"has shape \[8\] where .* has \[24\]"),
    ],
)
def test_a_tensor_missing_left_over_or_of_another_shape_is_named(change, words):
    state = mb2(4)
    change(state)
    with pytest.raises(BadWeightsError, match=words) as error:
        import_qfgaohao_state(state, "my.pth")
    assert "my.pth" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mb2-ssd-lite", "base_net.0.0.weight"),
        ("mb2-ssd-lite", "classification_headers.0.3.weight"),
        ("mb1-ssd", "classification_headers.0.weight"),
        ("vgg16-ssd", "classification_headers.0.weight"),
    ],
)
def test_a_number_in_the_place_of_a_tensor_that_tells_the_network_is_named(kind, name):
    state = KINDS[kind][0](4)
    assert name in state
    with pytest.raises(BadWeightsError, match=f"my.pth: {name} is a single number"):
        import_qfgaohao_state(state | {name: torch.zeros(())}, "my.pth")


def test_a_number_in_the_place_of_torchvision_s_head_is_named():
    name = "head.classification_head.module_list.0.1.weight"
    with pytest.raises(BadWeightsError, match=f"my.pth: {name} is a single number"):
        import_torchvision_state({name: torch.zeros(())}, "my.pth")


class Harmful:
    """A pickle that touches a file when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, save):
    mark = tmp_path / "it-ran"
    save({"base_net.0.0.weight": torch.zeros(2), "extra": Harmful(mark)}, tmp_path / "bad.pth")
    for opening in (read_state_dict, load):
        with pytest.raises(MobileSSDError, match="bad.pth: .*refused and nothing of it ran") as error:
            opening(tmp_path / "bad.pth")
        assert "\n" not in str(error.value)
    assert not mark.exists()


def test_files_that_hold_no_detector(tmp_path):
    def said(name):
        with pytest.raises(BadWeightsError) as error:
            load(tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)
        return str(error.value)

    torch.save(mb2(4), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    assert "cut short" in said("cut.pth")
    (tmp_path / "text.pth").write_text("weights\n")
    assert "fetch it again" in said("text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list, not a state dict" in said("list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    assert "holds no tensors" in said("empty.pth")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "no SSD of torchvision or pytorch-ssd" in said("other.pth") and "layer.weight" in said("other.pth")


def test_without_h5py_a_file_of_keras_says_which_extra_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr("detection.errors.installed", lambda module: module != "h5py")
    (tmp_path / "mobilenet.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(MobileSSDError, match=r'mobilenet\.h5: Keras needs h5py: pip install "mobilessd\[keras\]"'):
        load(tmp_path / "mobilenet.h5")
