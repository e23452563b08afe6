"""`mobilessd detect` as a person meets it: what it prints, what it leaves behind, how it ends."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from stages import OneView

from detection.boxes.detections import Detections
from detection.cli.main import main
from detection.images.preprocess import stretch
from detection.weights.records import DEFAULT, find_record

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("person", "dog")


class FakeDetector(OneView):
    """Finds a dog that covers the middle of every image, sure of itself as far as the image is bright."""

    def __init__(self):
        self.batches = []

    def prepare(self, images):
        return np.stack([stretch(image, (8, 8)) for image in images])

    def runtime(self, batch):
        self.batches.append(len(batch))
        return np.zeros((len(batch), 1, 4), np.float32), batch.mean((1, 2, 3), np.float32)[:, None] / 255

    def finish(self, encodings, logits, image_size):
        height, width = image_size
        box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
        return Detections(box, logits, np.array([1]), NAMES, (height, width), (1, 18))

    def __str__(self):
        return "fake weights with no runtime on cpu, float32, 1 thread"


@pytest.fixture
def detect(monkeypatch, capsys, tmp_path):
    """Runs `mobilessd detect ARGS` with the fake detector in a folder of its own; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("detection.cli.detect.open_detector", lambda args, **_: run.detector)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        run.detector = FakeDetector()
        code = main(["detect", *map(str, args)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def save(path, value=128, size=(30, 40)):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


def save_video(path, frames=5):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 50 * i, np.uint8))
    writer.release()
    return Path(path)


def drawn(folder="runs/detect"):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# ---------------------------------------------------------------- results


def test_a_image_is_drawn_and_told(detect):
    save("a.jpg", 200)
    code, out, err = detect("a.jpg", "--output", "drawn")
    assert code == 0 and err == ""
    first, line, last = out.splitlines()
    assert first == "fake weights with no runtime on cpu, float32, 1 thread"
    assert line == "a.jpg: dog 0.78"
    assert last.startswith("1 image, 1 object in") and last.endswith("drawn in drawn")
    image = cv2.imread("drawn/a.jpg")
    assert image.shape == (30, 40, 3) and np.abs(image.astype(int) - 200).max() > 50


def test_json_is_coco_results_with_ids_from_the_names(detect):
    from pycocotools.coco import COCO

    save("000000000139.jpg", 255), save("COCO_val2014_000000000042.jpg", 51)
    assert detect(".", "--json", "boxes.json", "--no-draw")[0] == 0
    results = json.loads(Path("boxes.json").read_text())
    assert [one["image_id"] for one in results] == [139, 42]
    assert results[0] == {
        "image_id": 139,
        "category_id": 18,
        "bbox": [10.0, 7.5, 20.0, 15.0],
        "score": 1.0,
        "category_name": "dog",
        "file_name": "000000000139.jpg",
    }
    truth = COCO()
    truth.dataset = {"images": [{"id": 139}, {"id": 42}], "categories": [{"id": 18}], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes("boxes.json").anns) == 2
    assert not Path("runs").exists()


@pytest.mark.parametrize("others", [["dog.jpg"], ["sub/0139.png"]])
def test_ids_are_running_numbers_where_names_do_not_serve(detect, others):
    save("139.jpg")
    for other in others:
        save(other)
    detect(".", "--recursive", "--json", "boxes.json")
    assert [one["image_id"] for one in json.loads(Path("boxes.json").read_text())] == [1, 2]


def test_csv_has_a_row_for_each_box(detect):
    save("a, b.jpg", 255)
    detect("a, b.jpg", "--csv", "boxes.csv")
    (row,) = csv.DictReader(Path("boxes.csv").read_text().splitlines())
    assert row["file"] == "a, b.jpg" and row["class"] == "dog" and row["category_id"] == "18"
    assert [float(row[corner]) for corner in ("x1", "y1", "x2", "y2")] == [10, 7.5, 30, 22.5]


def test_a_video_is_drawn_as_a_video_of_the_same_speed(detect):
    from detection.images.video import Video

    save_video("film.mp4")
    code, out, _ = detect("film.mp4", "--json", "boxes.json")
    assert code == 0 and "film.mp4: 5 frames: dog in 5" in out
    with Video("runs/detect/film.mp4") as video:
        assert video.fps == 12 and len(list(video)) == 5
    results = json.loads(Path("boxes.json").read_text())
    assert [(one["image_id"], one["frame"]) for one in results] == [(i + 1, i) for i in range(5)]
    assert results[3]["time"] == pytest.approx(3 / 12, abs=0.01)


def test_what_a_killed_drawing_left_is_made_playable_or_goes(detect):
    """As `live` does with its recordings: nothing hidden stays."""
    save_video("film.mp4")
    left = Path("runs/detect")
    left.mkdir(parents=True)
    save_video(left / "whole.avi.mp4").rename(left / ".film.mp4.64x48@12.000.0123abcd.part.mp4")
    (left / ".film.mp4.64x48@12.000.4567abcd.part.mp4").write_bytes(b"\0" * 100)
    code, _, err = detect("film.mp4")
    assert code == 0 and drawn() == ["film-recovered.mp4", "film.mp4"]
    assert "film-recovered.mp4: recovered from a recording that was killed" in err and "of which nothing plays" in err


def test_drawn_files_never_cover_each_other_or_their_sources(detect):
    for name in ("one/a.jpg", "two/a.jpg", "two/A.jpg", "two/a.png", "two/a.bmp"):
        save(name, 100)
    detect("one", "two", "--output", "drawn")
    assert len(drawn("drawn")) == 5
    before = Path("one/a.jpg").read_bytes()
    detect("one", "--output", "one")
    assert Path("one/a.jpg").read_bytes() == before and drawn("one") == ["a-2.jpg", "a.jpg"]


def test_subfolders_keep_their_place_and_a_second_run_its_names(detect):
    save("in/a.jpg"), save("in/sub/a.jpg"), save("in/sub/b.webp"), save("in/c.tiff")
    for _ in range(2):
        assert detect("in", "--recursive")[0] == 0
        assert drawn() == ["a.jpg", "c.jpg", "sub/a.jpg", "sub/b.webp"]


@pytest.mark.parametrize("draw, most", [([], 4), (["--no-draw"], 16)])
def test_many_images_go_through_the_network_in_batches_and_come_out_in_order(detect, draw, most):
    for i in range(33):
        save(f"in/{i:02d}.png", 6 * i)
    save_video("in/17a.mp4", 5)
    Path("in/20.png").write_text("no image")
    code, out, err = detect("in", *draw, "--csv", "boxes.csv")
    assert code == 0 and err == "warning: in/20.png: is no image but a text file\n"
    names = [Path(f"in/{i:02d}.png").name for i in range(33) if i != 20]
    lines = [line.partition(":")[0] for line in out.splitlines()[1:-1]]
    assert lines == [f"in/{name}" for name in sorted([*names, "17a.mp4"])]
    assert max(detect.detector.batches) == most and sum(detect.detector.batches) == 32 + 5
    rows = list(csv.DictReader(Path("boxes.csv").read_text().splitlines()))
    images = {Path(row["file"]).name: float(row["score"]) for row in rows if not row["frame"]}
    assert images == pytest.approx({name: 6 * int(name[:2]) / 255 for name in names}, abs=1e-4)
    if not draw:
        assert drawn() == sorted([*names, "17a.mp4"])


def test_a_few_images_go_one_by_one_as_a_single_one_does(detect):
    for i in range(5):
        save(f"in/{i}.png")
    detect("in", "--no-draw")
    assert detect.detector.batches == [1] * 5


def test_frames_of_an_uneven_video_keep_their_time(detect, monkeypatch):
    """Half a second of fast frames, then one that stands for a second, then a bright one."""
    from detection.images.video import Frame, Video

    save_video("film.mp4", 6)
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 1.4]
    frames = [Frame(i, time, np.full((48, 64, 3), 250 * (time > 1), np.uint8)) for i, time in enumerate(times)]
    with monkeypatch.context() as patch:
        patch.setattr(Video, "times", lambda self: times)
        patch.setattr(Video, "__iter__", lambda self: iter(frames))
        assert detect("film.mp4")[0] == 0
    with Video("runs/detect/film.mp4") as video:
        bright = [frame.time for frame in video if frame.image[:8].mean() > 150]
    assert bright[0] == pytest.approx(1.4, abs=0.15), "not at its place in an even row, at 0.5 s"


def test_a_drawn_video_plays_in_a_browser_or_it_is_said(detect):
    save_video("film.mp4")
    _, out, _ = detect("film.mp4")
    codec = int(cv2.VideoCapture("runs/detect/film.mp4").get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").lower()
    assert codec in (b"h264", b"avc1", b"vp09", b"vp90") or "browsers do not" in out


def test_dash_is_standard_output_and_words_go_beside_it(detect):
    save("a.jpg", 200)
    code, out, err = detect("a.jpg", "--json", "-", "--no-draw")
    assert code == 0 and json.loads(out)[0]["file_name"] == "a.jpg" and "a.jpg: dog 0.78" in err
    _, out, _ = detect("a.jpg", "--csv", "-", "--no-draw")
    assert out.splitlines()[0].startswith("file,frame") and len(out.splitlines()) == 2
    assert detect("a.jpg", "--json", "-", "--csv", "-")[0] == 2
    assert not Path("-").exists()


def test_a_camera_gives_one_image(detect, monkeypatch):
    def photograph(word):
        assert word == "0"
        return np.full((30, 40, 3), 200, np.uint8)

    monkeypatch.setattr("detection.cli.detect_job.photograph", photograph)
    code, out, _ = detect("0")
    assert code == 0 and "camera 0: dog 0.78" in out and drawn() == ["camera-0.jpg"]


@pytest.mark.skipif(os.path.exists("/dev/video97"), reason="that camera is here")
def test_an_absent_camera_is_one_line(detect):
    code, _, err = detect("97")
    assert code == 2 and "camera 97: the camera cannot be opened" in err and err.count("\n") == 1


# ---------------------------------------------------------------- what is wrong


def test_a_video_cut_short_is_exit_code_2_where_it_was_named(detect):
    Path("in").mkdir()
    writer = cv2.VideoWriter("in/film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    for image in np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8):
        writer.write(image)
    writer.release()
    data = Path("in/film.avi").read_bytes()
    Path("in/film.avi").write_bytes(data[: len(data) * 2 // 3])
    code, out, err = detect("in/film.avi", "--json", "boxes.json")
    frames = len(json.loads(Path("boxes.json").read_text()))
    assert code == 2 and 2 < frames < 12 and f"{frames} frames" in out
    assert err.splitlines()[0] == f"warning: in/film.avi: {frames} of 12 frames can be read, it is cut short"
    code, _, err = detect("in")
    assert code == 0 and "of 12 frames" in err


def test_a_bad_image_in_a_folder_is_reported_and_the_rest_go_on(detect):
    save("in/a.jpg"), save("in/c.jpg")
    Path("in/b.jpg").write_text("no image")
    Path("in/a.tif").write_bytes(b"II+\0\x08\0\0\0" + b"\xff" * 8)  # a BigTIFF whose directory lies nowhere
    code, out, err = detect("in", "--json", "boxes.json")
    assert code == 0
    assert err.splitlines() == [
        "warning: in/a.tif: is cut short or broken (its header is broken): fetch it again",
        "warning: in/b.jpg: is no image but a text file",
    ]
    assert "2 images, 2 objects, 2 that could not be read left out" in out
    assert [one["image_id"] for one in json.loads(Path("boxes.json").read_text())] == [1, 4]


def test_a_bad_image_named_itself_is_exit_code_2_after_the_rest(detect):
    save("a.jpg")
    Path("b.jpg").write_bytes(b"")
    code, out, err = detect("b.jpg", "a.jpg")
    assert code == 2 and "a.jpg: dog" in out
    assert err.splitlines() == [
        "warning: b.jpg: is empty (0 bytes): fetch it again",
        "error: 1 of the files named could not be read",
    ]
    code, out, err = detect("b.jpg")
    assert code == 2 and err == "error: b.jpg: is empty (0 bytes): fetch it again\n"


def test_a_folder_of_bad_images_is_exit_code_2(detect):
    for name in ("in/a.jpg", "in/b.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("no image")
    code, _, err = detect("in")
    assert (
        code == 2 and err.splitlines()[-1] == "error: none of the 2 files could be read" and len(err.splitlines()) == 3
    )


def test_what_cannot_be_written_is_said_before_the_work(detect):
    save("a.jpg")
    Path("file").write_text("x")
    for args in (["--output", "file"], ["--json", "."], ["--csv", "."]):
        code, out, err = detect("a.jpg", *args)
        assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("error: ")


def test_nothing_is_left_half_written(detect, monkeypatch):
    save("a.jpg")
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    code, _, err = detect("a.jpg")
    assert code == 2 and "No space left on device" in err
    assert drawn() == []


def test_a_bug_keeps_its_traceback(detect, monkeypatch):
    save("a.jpg")
    monkeypatch.setattr(FakeDetector, "runtime", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detect("a.jpg")


def test_an_interrupt_keeps_what_was_done(detect, monkeypatch):
    for i in range(3):
        save(f"in/{i}.jpg", i)

    def stop_at_second(self, batch, plain=FakeDetector.runtime):
        if batch.max() == 1:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(FakeDetector, "runtime", stop_at_second)
    code, _, err = detect("in", "--json", "boxes.json")
    assert code == 130 and "1 of 3 sources done" in err
    assert len(json.loads(Path("boxes.json").read_text())) == 1


# ---------------------------------------------------------------- the real thing, as a process


def tool(*args, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "detect.py"), *map(str, args)], capture_output=True, text=True, **options
    )


@pytest.fixture(scope="module")
def weights():
    return find_record(DEFAULT).shipped


def test_real_weights_find_the_cat(trained, tmp_path):
    photo, folder, weights = trained.cat, tmp_path / "drawn", trained.weights
    out = tool(photo, "--weights", weights, "--output", folder, "--classes", "cat,dog", "--score", "0.5")
    assert out.returncode == 0, out.stderr
    assert f"{photo.name}: cat 0." in out.stdout and "on cpu" in out.stdout
    assert [Path(name).stem for name in drawn(folder)] == [photo.stem]


def test_the_command_and_python_see_the_same(trained, tmp_path):
    from detection import Detector

    photo, weights = trained.other, trained.weights
    out = tool(
        photo, "--weights", weights, "--no-draw", "--json", tmp_path / "b.json", "--score", "0.2", "--threads", 1
    )
    assert out.returncode == 0, out.stderr
    expected = Detector(weights, score=0.2, threads=1)(photo).to_coco(1)
    told = json.loads((tmp_path / "b.json").read_text())
    assert [{key: one[key] for key in expected[0]} for one in told] == expected


def test_broken_images_leave_one_line_on_stderr(weights, tmp_path):
    for name, part in (("cut.jpg", slice(30_000)), ("cut.png", slice(30_000))):
        image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
        (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix, image)[1].tobytes()[part])
        out = tool(tmp_path / name, "--weights", weights)
        assert out.returncode == 2 and out.stderr.count("\n") == 1 and name in out.stderr, out.stderr


def test_an_unknown_class_offers_the_nearest(weights):
    out = tool(ROOT / "docs" / "images", "--weights", weights, "--classes", "dgo")
    assert out.returncode == 2 and out.stderr.count("\n") == 1 and "dog" in out.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_ends_a_process_cleanly(weights, tmp_path):
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8)  # that fills a file quickly
    for i in range(8_000):
        writer.write(noise[i % 8])
    writer.release()
    command = [
        sys.executable,
        str(ROOT / "tools" / "detect.py"),
        film,
        "--weights",
        weights,
        "--output",
        tmp_path / "o",
    ]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()  # the detector is ready
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob("o/.film*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err
    assert drawn(tmp_path / "o") == ["film.mp4"]
