"""The cache is ours: what does not read in it is made anew and said once; where it lies is said in one line, if nowhere."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detection import Detector
from detection.cli.main import main
from detection.errors import MobileSSDError, MobileSSDWarning
from detection.files import home
from detection.runtimes.resize import at_size
from detection.ssd.network import anchor_grids, build, feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.names import spec_for
from detection.weights.resolve import open_weights

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    ssd = build(spec_for("ssdlite_mobilenet_v2", alpha=0.35, input_size=96, num_classes=2))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    maps, grids = feature_maps(ssd), anchor_grids(ssd)
    card = Card(
        spec=ssd.spec.to_dict(), class_names=("a", "b"), category_ids=(1, 2), feature_maps=maps, anchor_grids=grids
    )
    save_checkpoint(path, ssd, card)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "part"), [("openvino/*.xml", 0.0), ("openvino/*.xml", 0.5), ("openvino/*.bin", 0.0)]
)
def test_a_converted_file_that_does_not_read_is_made_anew(checkpoint, cache, pattern, part):
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    before = Detector(checkpoint, runtime="openvino", score=0.0)(image)
    for blob in cache.glob("openvino/compiled/*"):
        blob.unlink()
    (file,) = cache.glob(pattern)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.warns(MobileSSDWarning, match="does not read, so it is made anew") as said:
        after = Detector(checkpoint, runtime="openvino", score=0.0)(image)
    assert len(said) == 1 and (after.boxes == before.boxes).all() and (after.scores == before.scores).all()
    assert Detector(checkpoint, runtime="openvino", score=0.0)(image) == after


def test_weights_at_another_size_that_do_not_read_are_made_anew(checkpoint, cache):
    weights = open_weights(checkpoint)
    path = at_size(weights, 128).path
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.warns(MobileSSDWarning, match="does not read, so it is made anew"):
        assert at_size(weights, 128).card.input_size == (128, 128)


def test_without_a_home_folder_there_is_one_line(monkeypatch, capsys):
    for name in ("MOBILESSD_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an entry
    with pytest.raises(MobileSSDError, match=r"no home folder for the cache \(HOME is not set\): set MOBILESSD_HOME"):
        home()


def test_a_user_who_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("MOBILESSD_HOME", "~nosuchuser/cache")
    with pytest.raises(MobileSSDError, match="MOBILESSD_HOME=~nosuchuser/cache: there is no such user"):
        home()
    for words in (
        ["info", "~nosuchuser/x"],
        ["detect", "a.jpg", "--weights", "~nosuchuser/x"],
        ["info", "~nosuchuser/x.pb"],
    ):
        assert main(words) == 2
        assert "~nosuchuser" in capsys.readouterr().err or words[0] == "detect"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX file modes")
def test_two_users_of_a_group_can_share_the_cache(checkpoint, tmp_path):
    """What one writes under the umask 002 the other may write over."""
    script = (
        f"import os; os.umask(0o002); from detection import Detector; Detector({str(checkpoint)!r}, runtime='openvino')"
    )
    script += "(__import__('numpy').zeros((9, 9, 3), 'uint8'))"
    environment = os.environ | {"MOBILESSD_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    written = list((tmp_path / "home").rglob("*"))
    assert any(path.suffix == ".xml" for path in written)
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o060 == 0o060 for path in written), written
