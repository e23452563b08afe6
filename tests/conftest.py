"""Fixtures shared by all tests: real images and published weights, where they are at hand."""

import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

# One thread each, and none that spins while it waits: the networks of the tests are small, and two threads that wait for
# each other on a busy machine are ten times slower than one. Set before any library is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

with contextlib.suppress(ImportError):  # a busy machine is no fault: what takes how long is not hypothesis' to judge
    import hypothesis

    hypothesis.settings.register_profile(
        "any-speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("any-speed")

# A shell has what it starts in the background ignore Ctrl-C, and programs hand that on to those that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images, labels and published weights; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("MOBILESSD_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs images and weights in {folder} (set MOBILESSD_SHARED), which is not here")
    return folder


@dataclass(frozen=True)
class Trained:
    """Trained weights; a folder of photographs, and two of them, with what is in them."""

    weights: Path
    photos: Path
    cat: Path
    other: Path
    other_class: str


@pytest.fixture(scope="session", params=["bundled", "published"])
def trained(request, tmp_path_factory) -> Trained:
    """The bundled weights on photographs that come with packages and with the repository; and, where it is at hand,
    TensorFlow's own file on real images."""
    if request.param == "published":
        shared = request.getfixturevalue("shared")
        photos, weights = shared / "data" / "photos", shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"
        return Trained(weights, photos, photos / "coral_cat_720p.jpg", photos / "coral_hot_dog.jpg", "hot dog")
    skimage = pytest.importorskip("skimage", reason="needs scikit-image's photographs")
    from detection.weights.records import DEFAULT, find_record

    photos, data = tmp_path_factory.mktemp("photos"), Path(skimage.__file__).parent / "data"
    images = Path(__file__).resolve().parents[1] / "docs" / "images"
    for file in (
        data / "chelsea.png",
        data / "astronaut.png",
        data / "coffee.png",
        data / "rocket.jpg",
        *images.iterdir(),
    ):
        shutil.copy(file, photos)
    record = find_record(DEFAULT)
    assert record and record.shipped
    return Trained(record.shipped, photos, photos / "chelsea.png", photos / "astronaut.png", "person")


@pytest.fixture(scope="session")
def made_v1(tmp_path_factory) -> Path:
    """An SSD MobileNet V1 of 90 classes in uint8, small and of random weights, as TensorFlow writes it."""
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema of .tflite files")
    pytest.importorskip("torch", reason="needs torch")
    from frozen_files import write_tflite
    from frozen_networks import noise, ssd_v1

    net = ssd_v1()
    return write_tflite(net, tmp_path_factory.mktemp("made") / "ssd_v1.tflite", "uint8", noise(net))


@pytest.fixture(scope="session")
def world(tmp_path_factory, made_v1) -> Path:
    """A folder with small files of every kind that commands take; to be copied before it is written to."""
    pytest.importorskip("onnx", reason="needs onnx")
    import docs_world

    folder = docs_world.make(tmp_path_factory.mktemp("docs") / "world")
    for name in ("detect.tflite", "old.tflite"):
        shutil.copy(made_v1, folder / name)
    docs_world.teacher(folder / "teacher.onnx")
    return folder


@pytest.fixture
def one_thread():
    """On small images two threads that wait for each other are slower, by far where the machine is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module", params=["made", "published"])
def v1_file(request) -> Path:
    """An SSD MobileNet V1 of 90 classes in uint8: the made one, and where it is at hand TensorFlow's own."""
    if request.param == "made":
        return request.getfixturevalue("made_v1")
    return request.getfixturevalue("shared") / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch, request):
    """Every test run has a cache of its own, so that no test depends on what a person downloaded before."""
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path_factory.getbasetemp() / "mobilessd-home"))
