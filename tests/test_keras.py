"""Keras' MobileNets as backbones: the same features from every form of file; files of other networks and forged ones."""

import pytest
import torch
from keras_files import FORMS, GOLDEN, layers_of, write
from made_numbers import image, probes

from detection.cli.main import main
from detection.errors import BadWeightsError
from detection.ssd.network import build
from detection.weights.backbone import load_backbone, read_backbone
from detection.weights.names import spec_for

h5py = pytest.importorskip("h5py", reason="needs h5py")
pytestmark = pytest.mark.usefixtures("one_thread")
OURS = {"MobileNet": "mobilenet_v1", "MobileNetV2": "mobilenet_v2"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", GOLDEN)
def test_a_backbone_computes_what_keras_computed(tmp_path, network, form):
    write(tmp_path / "weights.h5", layers_of(network), form)
    found = read_backbone(tmp_path / "weights.h5")
    assert found.backbone.name == OURS[network] and found.padding == "same" and found.input.mean == (127.5,) * 3
    with torch.no_grad():
        features = found.backbone.eval()(torch.from_numpy(image()))[-1]
    assert probes(features) == pytest.approx(GOLDEN[network], abs=1e-4)


def test_a_detector_begins_with_it_without_a_difference_of_rules(tmp_path):
    write(tmp_path / "mobilenet_v2.h5", layers_of("MobileNetV2"), FORMS[0])
    ssd = build(spec_for("ssdlite_mobilenet_v2", num_classes=3))
    report = load_backbone(ssd, tmp_path / "mobilenet_v2.h5")
    assert not report.missing and not report.mismatched and not report.notes


def refused(path):
    with pytest.raises(BadWeightsError) as error:
        read_backbone(path)
    assert "\n" not in str(error.value) and path.name in str(error.value)
    return str(error.value)


def test_what_is_no_such_network_or_is_incomplete_is_one_line(tmp_path, capsys):
    layers = dict(layers_of("MobileNet"))
    write(tmp_path / "other.h5", [("conv1", layers["conv1"])], FORMS[0])
    assert "of no MobileNet or MobileNetV2" in refused(tmp_path / "other.h5")
    without = [(name, parts) for name, parts in layers.items() if name != "conv_pw_7_bn"]
    write(tmp_path / "part.h5", without, FORMS[0])
    assert "conv_pw_7" in refused(tmp_path / "part.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "part.h5").read_bytes()[:100_000])
    assert "cut short or damaged" in refused(tmp_path / "cut.h5")
    write(tmp_path / "whole.h5", layers.items(), FORMS[0])
    assert main(["info", str(tmp_path / "whole.h5")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a classifier, no detector" in said


def test_numbers_of_other_files_are_not_read_nor_more_than_there_are(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(4 * 864))
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("conv1/conv1/kernel", (3, 3, 3, 32), "f4", external=[(str(secret), 0, 4 * 864)])
    assert "lies in another file" in refused(tmp_path / "external.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:  # nothing is stored of it
        file.create_dataset("conv1/conv1/kernel", (3, 3, 1 << 20, 1 << 10), "f4", chunks=(3, 3, 64, 64))
    assert "more numbers than its" in refused(tmp_path / "huge.h5")
    write(tmp_path / "whole.h5", layers_of("MobileNet"), FORMS[0])
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        for name, _ in layers_of("MobileNet"):
            file[name] = h5py.ExternalLink("whole.h5", name)
    assert "of no MobileNet" in refused(tmp_path / "linked.h5")
