"""Views of moving images: chosen by the time that a frame has, or one tile a frame in turn."""

import bulk_help as bulk
import numpy as np
import pytest
from live_help import save_video

from detection import Detector
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.export.graphs import write_onnx
from detection.images.decode import read_image
from detection.live import view_time
from detection.live.view_time import PAUSE, WINDOW, AutoViews, InTurn, Room, choices
from detection.weights.checkpoint import load_checkpoint

IMAGE = np.zeros((90, 120, 3), np.uint8)


class Clocked:
    """A detector whose views take time only by a clock of its own: so much for each pass, at its cost."""

    input_size = (300, 300)

    def __init__(self, monkeypatch, once=0.003, fixed=False):
        self.now, self.once, self.fixed, self.text = [0.0], [once], fixed, "1"
        monkeypatch.setattr(view_time.time, "perf_counter", lambda: self.now[0])
        monkeypatch.setattr(view_time, "timed", lambda detector: detector.detect)

    def with_views(self, text):
        if self.fixed and "," in text:
            raise MobileSSDError("an exported file has one input size")
        other = Clocked.__new__(Clocked)
        other.__dict__ |= self.__dict__ | {"text": text}
        return other

    def detect(self, image):
        cost = {"1": 1, "300,428": 3, "300,512": 4, "300,428,600": 7, "1+2x2": 5, "1+3x3": 10}[self.text]
        self.now[0] += (took := cost * self.once[0])
        return self.text, took, 0.0


def watched(detector, rate=30.0):
    said = []
    return AutoViews(detector, lambda: rate, said.append), said


def test_as_many_views_as_a_frame_has_time_for(monkeypatch):
    for once, views in ((0.003, "300,428,600"), (0.005, "300,512"), (0.008, "300,428"), (0.02, "1")):
        auto, said = watched(Clocked(monkeypatch, once))
        assert auto(IMAGE)[0] == views and len(said) == 1 and f"views {views}: " in said[0] and "33 ms" in said[0]


def test_a_file_of_one_size_is_looked_at_in_tiles(monkeypatch):
    detector = Clocked(monkeypatch, fixed=True)
    assert [one.text for one in choices(detector)] == ["1", "1+2x2", "1+3x3"]
    assert watched(detector)[0](IMAGE)[0] == "1+2x2"


def test_when_the_load_changes_the_views_do_and_it_is_said(monkeypatch):
    detector = Clocked(monkeypatch, 0.003)
    auto, said = watched(detector)
    auto(IMAGE)
    detector.once[0] = 0.01  # three times slower: 300,428,600 take 70 ms
    for _ in range(3 * WINDOW):
        auto(IMAGE)
    assert auto.views == "300,428" and len(said) == 3 and "took too long" in said[-1]
    detector.once[0] = 0.002
    for _ in range(PAUSE + 4 * WINDOW):
        auto(IMAGE)
    assert auto.views == "300,428,600" and "time for more" in said[-1]


def test_with_a_steady_load_nothing_changes_and_nothing_is_said(monkeypatch):
    auto, said = watched(Clocked(monkeypatch, 0.005))
    for _ in range(20 * WINDOW):
        auto(IMAGE)
    assert len(said) == 1


def test_without_views_it_is_said_once_for_how_many_there_would_be_time(monkeypatch):
    said = []
    for once in (0.003, 0.02):
        room = Room(Clocked(monkeypatch, once).detect, lambda: 30.0, said.append)
        for _ in range(3 * WINDOW):
            room(IMAGE)
    assert said == ["there is time for 8 views of each frame: --views auto takes it for smaller objects"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights")).with_suffix(".safetensors")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return read_image(next(bulk.save_images(tmp_path_factory.mktemp("images"), 1).glob("*")))


def test_after_a_round_of_turns_all_tiles_have_been_seen(weights, image):
    detector = Detector(weights, score=0.01)
    turns = InTurn(detector, "2x2")
    found = [turns(image)[0] for _ in range(5)]
    wanted = detector(image, tiles="2x2")
    for one in found[3:]:
        assert one.scores == pytest.approx(wanted.scores, abs=1e-5) and one.boxes == pytest.approx(
            wanted.boxes, abs=1e-3
        )
    assert len(found[0]) and not np.array_equal(found[0].boxes, wanted.boxes)


def test_another_size_of_frames_begins_anew(weights, image):
    turns = InTurn(Detector(weights, score=0.01), "2x2")
    for _ in range(4):
        turns(image)
    half = np.ascontiguousarray(image[: image.shape[0] // 2])
    assert np.array_equal(turns(half)[0].boxes, InTurn(Detector(weights, score=0.01), "2x2")(half)[0].boxes)


def test_auto_opens_real_networks_and_finds_what_the_views_find(weights, image):
    detector = Detector(weights, score=0.01)
    said = []
    auto = AutoViews(detector, lambda: 0.01, said.append)
    found = auto(image)[0]
    assert auto.views.count(",") == 2 and np.array_equal(found.boxes, detector(image, views=auto.views).boxes)
    exported = Detector(weights.with_suffix(".xml"), score=0.01)
    assert choices(exported)[1].text == "96,136", "OpenVINO's form takes other sizes"
    network, card = load_checkpoint(weights)
    write_onnx(network, weights.with_suffix(".onnx"), card)
    assert choices(Detector(weights.with_suffix(".onnx")))[1].text == "1+2x2"


def test_turns_without_tiles_are_one_line(weights):
    with pytest.raises(MobileSSDError, match="there are no tiles that could take turns; as in turn:2x2"):
        InTurn(Detector(weights), "300,512")


@pytest.mark.parametrize(
    "words", [["--views", "turn:2y2"], ["--views", "auto", "--tiles", "2x2"], ["--views", "turn:"]]
)
def test_what_live_cannot_do_is_one_line(words, capsys):
    assert main(["live", "0", "--headless", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "views" in err


@pytest.mark.parametrize("views", ["auto", "turn:2x2"])
def test_an_image_has_no_time_and_no_turns(weights, views):
    with pytest.raises(MobileSSDError, match="for moving images, with `mobilessd live`"):
        Detector(weights, views=views)


@pytest.mark.parametrize("views", ["auto", "turn:2x2"])
def test_live_runs_with_them(weights, tmp_path, views, capsys):
    film = str(save_video(tmp_path / "film.avi"))
    words = ["live", film, "--headless", "--weights", str(weights), "--score", "0.01", "--views", views]
    assert main([*words, "--jsonl", str(tmp_path / "seen.jsonl")]) == 0
    assert len((tmp_path / "seen.jsonl").read_text().splitlines()) == 12
    assert ("views " in capsys.readouterr().out) == (views == "auto")
