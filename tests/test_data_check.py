"""The data check: every fault that spoils a training is found, named with file and box, and cannot reach the loss."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from data_sets import SIZE, coco, make_image, voc, yolo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detection.cli.main import main
from detection.data.build import build
from detection.data.check import check, clean
from detection.data.coverage import best_overlap, coverage
from detection.data.dataset import IGNORE
from detection.data.faults import KINDS, Faults
from detection.data.frames import turn_boxes
from detection.data.image_files import load_image, read_header
from detection.data.open import open_data, open_pair
from detection.data.overlap import image_hashes, same_files, shared_images
from detection.data.repair import clean_boxes, read_headers, repair
from detection.errors import BadDataError
from detection.images.decode import read_image
from detection.images.preprocess import halved

HEIGHT, WIDTH = SIZE


# --- boxes


def test_every_faulty_box_is_counted_named_and_kept_from_the_loss(tmp_path):
    good = [10, 10, 20, 20]
    faulty = {
        "degenerate": [5, 5, 0, 10],
        "outside": [WIDTH + 10, 5, 10, 10],
        "clipped": [WIDTH - 10, 5, 30, 10],
        "reversed": [30, 30, -20, 10],
        "not finite": [float("nan"), 1, 2, 3],
    }
    file = coco(tmp_path, [(1, 1, good), (2, 2, good), *[(1, 1, box) for box in faulty.values()], (1, 9, good)])
    data, report = clean(open_data(file))
    assert report.summary.faults.counts == {**dict.fromkeys(faulty, 1), "undeclared class": 1}
    for kind in faulty:
        assert "images/1.png" in report.summary.faults.examples[kind][0] and kind in KINDS
    assert data.image(0).boxes[:3].tolist() == [[10, 10, 30, 30], [WIDTH - 10, 5, WIDTH, 15], [10, 30, 30, 40]]
    assert data.flags.tolist() == [
        0,
        0,
        0,
        IGNORE,
        IGNORE,
        0,
    ]  # where 9 is, and all of the image, as NaN may be anywhere
    text = report.text()
    assert "boxes have no width or no height: dropped" in text and "category_id 9" in text and "6 findings" in text


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.floats(width=32)),
    st.booleans(),
)
def test_whatever_the_boxes_are_what_remains_is_sound(boxes, known_size):
    owners = np.arange(len(boxes)) % 2
    data = build(["a"], ["x.jpg", "y.jpg"], owners, boxes, owners * 0, sizes=[[50, 70]] * 2 if known_size else None)
    done = clean_boxes(data)
    assert np.isfinite(done.boxes).all()
    assert (done.boxes[:, 2:] > done.boxes[:, :2]).all() and (done.boxes >= 0).all()
    if known_size:
        assert (done.boxes <= [70, 50, 70, 50]).all()
    again = clean_boxes(done)
    assert (again.boxes == done.boxes).all() and again.num_boxes == done.num_boxes  # nothing is left to do


def test_soft_labels_and_ignore_regions_survive_cleaning():
    data = build(
        ["a"],
        ["x.jpg"],
        [0, 0, 0],
        [[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9]],
        [0, 0, -1],
        scores=[0.25, 1.5, 1],
        flags=[0, 0, IGNORE],
    )
    done = clean_boxes(data)
    assert done.scores.tolist() == [0.25, 1, 1] and done.faults["bad score"] == 1
    assert done.flags.tolist() == [0, 0, IGNORE] and done.targets.tolist() == [True, True, False]


# --- images


def test_missing_broken_and_contradicting_images_are_left_out(tmp_path):
    file = coco(tmp_path, [(i, 1, [10, 10, 20, 20]) for i in range(1, 7)], number=6)
    images = tmp_path / "images"
    (images / "1.png").unlink()
    (images / "2.png").write_bytes(b"no image")
    (images / "3.png").write_bytes(b"")
    (images / "4.png").write_bytes((images / "4.png").read_bytes()[:300])
    make_image(images / "5.png", size=(100, 40))
    data, report = clean(open_data(file))
    assert report.summary.faults.counts == {"missing": 1, "unreadable": 3, "size contradicts": 1}
    assert [os.path.basename(path) for path in data.paths] == ["6.png"]
    text = report.text()
    assert "1.png" in text and "annotated 80 x 60, is 40 x 100" in text and "empty (0 bytes)" in text


def test_a_broken_inside_is_found_only_by_decoding(tmp_path):
    file = coco(tmp_path, [(1, 1, [10, 10, 20, 20])], number=2)
    path = tmp_path / "images" / "2.png"
    content = bytearray(path.read_bytes())
    content[200:2000] = bytes(1800)
    path.write_bytes(content)
    data = open_data(file)
    assert not check(data).summary.faults["unreadable"]
    assert check(data, decode=True).summary.faults["unreadable"] == 1


def test_resized_images_take_their_boxes_along(tmp_path):
    file = coco(tmp_path, [(1, 1, [10, 10, 20, 20])], number=1)
    make_image(tmp_path / "images" / "1.png", size=(HEIGHT // 2, WIDTH // 2))
    data, report = clean(open_data(file))
    assert data.boxes.tolist() == [[5, 5, 15, 15]] and data.sizes.tolist() == [[30, 40]]
    assert report.summary.faults.counts == {"resized": 1}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_boxes_when_the_annotation_did_not_know_of_it(tmp_path, orientation):
    """A white box in a black image: after reading upright it must lie under the turned box."""
    from PIL import Image

    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[5:20, 10:50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg")
    header = read_header(tmp_path / "a.jpg")
    assert (header.height, header.width) == upright.shape[:2]
    x1, y1, x2, y2 = turn_boxes(np.array([[10, 5, 50, 20]], np.float32), SIZE, orientation)[0].astype(int)
    assert upright[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 200
    assert upright[:, :x1].max(initial=0) < 60 and upright[y2:].max(initial=0) < 60
    data = build(["a"], [tmp_path / "a.jpg"], [0], [[10, 5, 50, 20]], [0], sizes=[SIZE])
    fixed, faults = repair(data)
    if orientation >= 5:  # the annotated size tells that EXIF was ignored
        assert faults.counts == {"exif turned": 1, "fits either way": 1} and fixed.boxes[0].tolist() == [x1, y1, x2, y2]
        assert fixed.sizes.tolist() == [[WIDTH, HEIGHT]]
    else:
        assert not faults.counts and fixed.boxes[0].tolist() == [10, 5, 50, 20]


def test_headers_agree_with_the_decoder_on_real_images(shared):
    data = open_data(shared / "data" / "voc2012_full108")
    headers = read_headers(data)
    assert not len(headers.faults)
    for i in range(0, 108, 9):
        assert read_image(data.path(i)).shape[:2] == tuple(headers.sizes[i])


def test_large_photographs_are_decoded_at_the_size_that_detection_averages_them_to(tmp_path):
    rough = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), cv2.resize(rough, (4003, 3001), interpolation=cv2.INTER_CUBIC))
    whole = read_image(path)
    for side, times in ((300, 2), (900, 1), (1600, 0)):
        loaded, averaged = load_image(path, (side, side)), halved(whole, (side, side))
        assert loaded.shape == averaged.shape == (3001 >> times, 4003 >> times, 3)
        assert np.abs(loaded.astype(int) - averaged).mean() < 3
    turned = make_image(tmp_path / "turned.jpg", size=(3001, 4003), orientation=6)
    assert load_image(turned, (300, 300)).shape == (1000, 750, 3) == halved(read_image(turned), (300, 300)).shape
    small = make_image(tmp_path / "small.jpg", size=(1999, 20))
    assert (load_image(small, (4, 4)) == read_image(small)).all()


# --- the report


def test_real_data_sets_are_sound(shared):
    train, val = open_pair(shared / "data" / "bccd")
    report = check(train, val)
    assert report.summary.boxes == 2805 - report.summary.faults["degenerate"]
    assert not report.shared and report.val_summary.images == 87
    pool = check(open_data(shared / "data" / "coco_pool"))
    raw = json.loads((shared / "data" / "coco_pool" / "instances.json").read_text())
    assert pool.summary.crowd == sum(entry["iscrowd"] for entry in raw["annotations"])
    assert not pool.summary.faults["missing"] and not pool.summary.faults["size contradicts"]


def test_val_images_in_train_are_found_by_path_id_and_content(tmp_path):
    boxes = [(i, 1, [10, 10, 20, 20]) for i in range(1, 5)]
    train = open_data(coco(tmp_path / "train", boxes, number=4))
    val_file = coco(tmp_path / "val", boxes, number=4)
    images = tmp_path / "val" / "images"
    for i in range(2, 5):
        make_image(images / f"{i}.png", seed=100 + i)  # other content; ids 1 to 4 are the same, as are sizes
    (images / "1.png").unlink()
    os.link(train.path(0), images / "1.png")
    content = json.loads(val_file.read_text())
    for image, entry in zip(content["images"], content["annotations"]):
        image["id"] = entry["image_id"] = image["id"] if image["id"] == 2 else image["id"] + 1000
    shutil.copy(train.path(3), images / "4.png")
    content["images"][2]["file_name"] = str(tmp_path / "train" / "images" / "3.png")
    val_file.write_text(json.dumps(content))
    val = open_data(val_file)
    found = {how: [os.path.basename(f) for f in files] for how, files in shared_images(train, val).items()}
    assert found == {"same file": ["3.png"], "same id, name and size": ["2.png"], "same content": ["1.png", "4.png"]}
    report = check(train, val)
    assert report.val_summary.faults.counts == {"unannotated": 1}  # val's own 3.png
    assert report.faults == 5 and "validation images are in training" in report.text()
    same = check(train, train)
    assert same.shared == {"same file": list(train.paths)}


def test_copies_inside_a_data_set_are_named(tmp_path):
    paths = [make_image(tmp_path / f"{i}.png", seed=i % 3) for i in range(5)] + [tmp_path / "missing.png"]
    assert same_files([str(p) for p in paths]) == [[0, 3], [1, 4]]
    data = build(["a"], paths[:5], [0], [[0, 0, 9, 9]], [0])
    report = check(data)
    assert len(report.summary.duplicates) == 2 and "2 images are copies of others" in report.text()
    assert len(image_hashes(data)) == 5 and len(set(image_hashes(data))) == 3


def test_rare_and_unknown_classes_are_named(tmp_path):
    counts = {"common": 50, "rare": 9, "never": 0, "elsewhere": 0}
    labels = np.repeat(range(4), list(counts.values()))
    corners = np.arange(len(labels))[:, None] * [1, 0, 1, 0] + [0, 0, 9, 9]
    path = make_image(tmp_path / "a.png")
    report = check(build(list(counts), [path], labels * 0, corners, labels, unknown_classes=["elsewhere"]))
    assert report.summary.class_counts == counts and report.summary.rare == {"rare": 9, "never": 0}
    assert "fewer than 10 boxes: rare (9), never (0)" in report.text()
    assert "not annotated here, so never background: elsewhere" in report.text()


def test_nothing_to_learn_from_is_one_clear_line(tmp_path):
    empty = build(["a"], [], [], [], [], origin="empty.json")
    with pytest.raises(BadDataError, match="empty.json: holds no images"):
        check(empty)
    gone = build(["a"], [tmp_path / "gone.jpg"], [0], [[0, 0, 5, 5]], [0], origin="gone.json")
    with pytest.raises(BadDataError, match="no image that can be used .*gone.jpg"):
        check(gone)
    background = build(["a"], [make_image(tmp_path / "b.png")], [], [], [], origin="b.json")
    with pytest.raises(BadDataError, match="no box to learn from in 1 images"):
        check(background)
    with pytest.raises(BadDataError, match="no classes"):
        check(build([], [tmp_path / "b.png"], [], [], []))
    one = build(["a"], [tmp_path / "b.png"], [0], [[0, 0, 5, 5]], [0], origin="one")
    with pytest.raises(BadDataError, match="no class in common with one"):
        check(one, build(["z"], [tmp_path / "b.png"], [0], [[0, 0, 5, 5]], [0]))
    assert check(one, build(["A"], [tmp_path / "b.png"], [0], [[0, 0, 5, 5]], [0])).val_summary.boxes == 1


def test_faults_keep_few_examples_and_all_counts():
    faults = Faults()
    faults.add_all("outside", 1000, (f"file {i}" for i in range(1000)))
    faults.add("missing", "x")
    total = faults.merged(faults)
    assert total["outside"] == 2000 and len(total.examples["outside"]) == 10 and len(total) == 2002
    assert "and 1,997 more" in "\n".join(total.lines())


# --- anchors


def _grid(side: float, cells: int) -> np.ndarray:
    centres = (np.arange(cells) + 0.5) / cells
    cx, cy = np.meshgrid(centres, centres)
    return np.stack([cx.ravel(), cy.ravel(), np.full(cells**2, side), np.full(cells**2, side)], 1).astype(np.float32)


def test_coverage_is_the_best_overlap_of_each_box_with_the_real_anchors():
    anchors = _grid(0.2, 10)
    boxes = np.array([[0.05, 0.05, 0.25, 0.25], [0.0, 0.0, 0.1, 0.1], [0.4, 0.4, 0.6, 0.6]], np.float32)
    best = best_overlap(boxes, anchors)
    assert best[0] == pytest.approx(1, abs=1e-5) and best[1] == pytest.approx(0.25, abs=1e-4)
    assert best[2] == pytest.approx(0.15**2 / (2 * 0.04 - 0.15**2), abs=1e-4)  # half a cell off the grid, both ways


def test_coverage_tells_small_objects_from_badly_placed_ones():
    sizes = [[300, 300]] * 2
    small = [[12 * i, 50, 12 * i + 10, 60] for i in range(20)]
    fine = [[60 * i, 100, 60 * i + 60, 160] for i in range(5)]
    data = build(["tiny", "fit"], ["a", "b"], [0] * 20 + [1] * 5, small + fine, [0] * 20 + [1] * 5, sizes=sizes)
    result = coverage(data, _grid(0.2, 50), (300, 300))
    assert {row.name: row.reached for row in result.by_class} == {"tiny": 0, "fit": 1}
    assert [(row.name, row.boxes) for row in result.by_size] == [("8 to 16", 20), ("32 to 64", 5)]
    assert result.total.reached == 0.2 and "stride 8" in " ".join(result.advice)
    coarse = coverage(data.keep_boxes(data.labels == 1), _grid(0.2, 2), (300, 300))
    assert coarse.total.reached < 1 and coarse.total.reached_centred == 1 and "denser" in " ".join(coarse.advice)
    json.dumps(result.to_dict())
    assert "have no anchor" in result.lines()[0]


# --- the command


def test_the_command_reports_in_text_and_json(tmp_path, capsys):
    folder = voc(
        tmp_path / "set",
        {"a": [("cat", 1, 2, 30, 40, 0), ("cat", 5, 5, 5, 9, 0)], "b": [("dog", 1, 2, 30, 40, 0)]},
        splits={"train": ["a"], "val": ["b"]},
    )
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "1 images" in out and "boxes have no width or no height" in out and "a.jpg" in out
    assert "no validation image is in training" in out
    assert main(["data", "check", str(folder), "--val", "train", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["train"]["faults"]["degenerate"]["count"] == 1
    assert list(report["shared_images"]) == ["same file"]
    file = yolo(tmp_path / "yolo", {"train": {"a": ["0 .5 .5 .2 .2"]}})
    assert main(["data", "check", str(file), "--no-val", "--decode"]) == 0
    assert "nothing wrong was found" in capsys.readouterr().out


def test_the_command_complains_in_one_line(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
