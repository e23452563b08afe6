"""One data set for check, train and eval: what each format says, repaired once, is what all three see."""

import contextlib
import io
import json

import numpy as np
import pytest
from data_sets import SIZE, coco, make_image, voc, voc_xml, yolo

from detection.cli.main import main
from detection.data.check import check
from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.open import open_data, open_pair
from detection.data.repair import repair
from detection.errors import BadDataError
from detection.evaluate.coco import NAMES, evaluate
from detection.evaluate.results import Results, read_results, write_results
from detection.evaluate.truth import ground_truth, open_evaluation, read_truth

HEIGHT, WIDTH = SIZE
BOX = [10, 5, 30, 20]


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def converted(path, tmp_path, *options):
    """What `data convert` writes of a data set."""
    out = tmp_path / "converted.json"
    assert main(["data", "convert", str(path), "--to", "coco", "--output", str(out), *options]) == 0
    return json.loads(out.read_text())


# --- frames: EXIF, images resized after annotation


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("factor", [1, 2])
def test_boxes_of_the_stored_frame_are_brought_into_that_of_the_decoded_image(tmp_path, orientation, factor):
    """Turned by EXIF and, with factor 2, halved after annotation as well: evaluation and training see the same box."""
    file = coco(tmp_path, [(1, 1, BOX, {"area": 400})], number=1)
    (tmp_path / "images" / "1.png").unlink()
    make_image(tmp_path / "images" / "1.jpg", (HEIGHT // factor, WIDTH // factor), orientation=orientation)
    truth = read_truth(file)
    trained = check(open_data(file), content=False).data
    x, y, w, h = truth.boxes[0] * factor
    assert truth.sizes.tolist() == [[WIDTH // factor, HEIGHT // factor]] == trained.sizes.tolist()
    assert [w, h] == [20, 30]
    assert x == (5 if orientation in (5, 8) else HEIGHT - 25) and y == (10 if orientation in (5, 6) else WIDTH - 40)
    assert truth.area.tolist() == [400 / factor**2]
    assert np.allclose(trained.boxes[0] * factor, [x, y, x + w, y + h])
    assert trained.faults["exif turned"] == 1 and trained.faults["resized"] == factor - 1


def test_halved_images_take_boxes_and_areas_along_in_every_format(tmp_path, capsys):
    half = (HEIGHT // 2, WIDTH // 2)
    file = coco(tmp_path / "coco", [(1, 1, BOX, {"area": 400})], number=1)
    make_image(tmp_path / "coco/images/1.png", half)
    folder = voc(tmp_path / "voc", {"a": [("cat", 10, 5, 40, 25, 0)]})
    make_image(folder / "JPEGImages/a.jpg", half)
    for path, area in ((file, 100), (folder, 150)):
        truth = ground_truth(open_evaluation(path))
        assert truth.boxes.tolist() == [[5, 2.5, 15, 10]] and truth.area.tolist() == [area]
        assert main(["eval", "--data", str(path), "--self-test", "--quiet"]) == 0
        printed = capsys.readouterr()
        assert (
            "were resized after annotation: boxes scaled to the image, as" in printed.err and "AP  1.000" in printed.out
        )


def test_an_image_of_another_shape_is_left_out_with_its_results(tmp_path, capsys):
    file = coco(tmp_path, [(1, 1, BOX), (2, 1, BOX)])
    whole = read_truth(file)
    found = tmp_path / "found.json"
    write_results(found, Results(whole.image, whole.category, whole.boxes, np.ones(2)), whole)
    make_image(tmp_path / "images" / "2.png", (100, 40))
    truth = read_truth(file)
    assert truth.image_ids == (1,) and len(read_results(found, truth)) == 1
    assert main(["eval", "--annotations", str(file), "--results", str(found), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "AP  1.000" in printed.out and "1 images have another size and shape than the annotation says" in printed.err


# --- what evaluation needs, to the last digit


def test_the_numbers_are_those_of_pycocotools_on_the_file_itself(tmp_path):
    """Boxes of many digits, areas of segmentations, crowds, ids in any order, boxes half a pixel beyond the edge."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    g = np.random.default_rng(4)
    boxes = np.concatenate([g.uniform(0, 40, (60, 2)), g.uniform(3, 19, (60, 2))], 1)
    boxes[:3, 0] = WIDTH + 0.4 - boxes[:3, 2]
    rows = [
        (
            int(g.integers(1, 6)),
            int(g.integers(1, 3)),
            b.tolist(),
            {"area": float(b[2] * b[3] * 0.7), "iscrowd": int(k < 4)},
        )
        for k, b in enumerate(boxes)
    ]
    file = coco(tmp_path, rows, number=5)
    edit(file, lambda content: content["images"].reverse())
    found = [
        {"image_id": i, "category_id": c, "bbox": (np.array(b) + g.normal(0, 1, 4)).tolist(), "score": float(g.integers(9) / 9)}
        for i, c, b, _ in rows * 3
    ]  # fmt: skip
    for one in found:
        one["bbox"][2:] = np.abs(one["bbox"][2:]).tolist()
    (tmp_path / "found.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(file))
        run = COCOeval(theirs, theirs.loadRes(str(tmp_path / "found.json")), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    truth = read_truth(file)
    ours = evaluate(truth, read_results(tmp_path / "found.json", truth)).twelve()
    assert np.array_equal([ours[name] for name in NAMES], np.where(run.stats == -1, np.nan, run.stats), equal_nan=True)


@pytest.mark.parametrize(
    "image_ids, annotated",
    [
        ([2, 1], [2, 1]),
        (["b", "a"], ["b", "a"]),
        (["000007", "8"], [7, "8"]),
        ([7, 8], ["7", 8.0]),
        ([7, "x"], [7.0, "x"]),
        ([2**70, -3], [2**70, "-3"]),
    ],
)
def test_ids_of_images_and_classes_of_any_kind(tmp_path, image_ids, annotated):
    """Numbers, texts, and both for the same image; check, train and eval agree, and results find them again."""
    file = coco(tmp_path, [(1, 1, BOX), (2, 2, [1, 2, 3, 4])])

    def change(content):
        for image, annotation, identity, other in zip(content["images"], content["annotations"], image_ids, annotated):
            image["id"], annotation["image_id"] = identity, other
        for category, identity in zip(content["categories"], ("k1", 5)):
            category["id"] = identity
        content["annotations"][0]["category_id"], content["annotations"][1]["category_id"] = "k1", "5"

    edit(file, change)
    data = open_data(file)
    assert data.image_ids.tolist() == image_ids and data.labels.tolist() == [1, 0] and not data.faults
    assert check(data).summary.boxes == 2
    truth = read_truth(file)
    assert set(truth.image_ids) == set(image_ids) and truth.category_ids == (5, "k1")
    rows = [{"image_id": i, "category_id": "k1", "bbox": BOX, "score": 1} for i in annotated]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    found = read_results(tmp_path / "found.json", truth)
    assert [truth.image_ids[i] for i in found.image] == image_ids
    write_results(tmp_path / "again.json", found, truth)
    assert [row["image_id"] for row in json.loads((tmp_path / "again.json").read_text())] == image_ids
    assert [image["id"] for image in converted(file, tmp_path)["images"]] == image_ids


def test_crowds_difficult_objects_and_ignored_regions_are_one_rule(tmp_path):
    """Neither targets of training nor objects to find; a flag that is written as text counts for what it says."""
    flags = [{"iscrowd": 1}, {"ignore": 1}, {"difficult": 1}, {"iscrowd": "1"}, {"iscrowd": "0", "ignore": False}, {}]
    file = coco(tmp_path, [(1, 1, [1 + 10 * k, 5, 9, 9], extra) for k, extra in enumerate(flags)], number=1)
    data = open_data(file)
    assert data.flags.tolist() == [CROWD, IGNORE, DIFFICULT, CROWD, 0, 0]
    assert read_truth(file).crowd.tolist() == [True, True, True, True, False, False]
    assert check(data).summary.boxes == 2
    again = open_data(_written(converted(file, tmp_path), file.with_name("again.json")))
    assert again.flags.tolist() == data.flags.tolist()


def _written(content, path):
    path.write_text(json.dumps(content))
    return path


def test_areas_and_scores_that_are_no_numbers_leave_the_box_alone(tmp_path):
    extras = [{"area": None}, {"area": ""}, {"area": [600]}, {"area": "n"}, {"area": -5}, {"score": None}, {"area": 77}]
    file = coco(tmp_path, [(1, 1, [1 + 2 * k, 5, 30, 20], extra) for k, extra in enumerate(extras)], number=1)
    data = check(open_data(file)).data
    assert data.num_boxes == 7 and data.areas.tolist() == [600] * 6 + [77] and (data.scores == 1).all()
    assert data.faults.counts == {"bad number": 3}
    assert read_truth(file).area.tolist() == [600] * 6 + [77]


def test_what_was_lost_stands_in_the_error(tmp_path):
    file = coco(tmp_path, [(1, 1, [1, 2]), (9, 1, BOX), (1, 1, [200, 200, 5, 5])])
    for command in (["data", "check", str(file)], ["eval", "--self-test", "--annotations", str(file)]):
        with pytest.raises(BadDataError) as caught:
            repair(open_data(file), for_evaluation=command[0] == "eval")
        for words in ("cannot be understood", "not listed", "lie wholly outside", "image_id 9", "annotations[0]"):
            assert words in str(caught.value)
        assert main(command) == 2


def test_images_are_found_by_the_same_rule(tmp_path):
    """Names with folders that are not there, of another system, and with another extension; a folder further up."""
    file = coco(tmp_path / "set", [(1, 1, BOX), (2, 1, BOX)])
    make_image(tmp_path / "set/images/2.webp")
    (tmp_path / "set/images/2.png").unlink()
    edit(
        file, lambda c: [c["images"][0].update(file_name="val2017\\1.png"), c["images"][1].update(file_name="x/2.jpg")]
    )
    paths = [str(tmp_path / "set/images" / name) for name in ("1.png", "2.webp")]
    assert list(open_data(file).paths) == list(read_truth(file).paths) == paths
    below = tmp_path / "set/labels2/gt.json"
    below.parent.mkdir()
    file.rename(below)
    assert list(open_data(below).paths) == paths


# --- one name for two classes


def test_a_coco_class_that_is_there_twice_is_one_class(tmp_path, capsys):
    file = coco(tmp_path, [(1, 1, BOX), (2, 2, BOX), (1, 3, [1, 2, 3, 4])], categories=("Thing", "thing", "other"))
    train, val = open_pair(file, val=str(file))
    for data in (train, val, open_evaluation(file)):
        assert data.class_names == ("Thing", "other") and data.labels.tolist() == [0, 1, 0]
        assert data.category_ids == (1, 3) and data.faults["same name"] == 1
    assert main(["data", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "Thing 2, other 1" in out and "'thing' (id 2) and 'Thing' (id 1)" in out
    truth = read_truth(file)
    rows = [{"image_id": 2, "category_id": 2, "bbox": BOX, "score": 1}]  # results may use either id
    (tmp_path / "found.json").write_text(json.dumps(rows))
    assert read_results(tmp_path / "found.json", truth).category.tolist() == [0]
    assert main(["eval", "--annotations", str(file), "--self-test"]) == 0
    assert "have the same name as another: read as one class" in capsys.readouterr().err
    written = converted(file, tmp_path)
    assert [category["name"] for category in written["categories"]] == ["Thing", "other"]
    assert [one["category_id"] for one in written["annotations"]] == [1, 3, 1]


def test_a_yolo_or_voc_class_that_is_there_twice_is_one_class(tmp_path):
    lines = {"train": {"a": ["0 .5 .5 .2 .2", "1 .3 .3 .2 .2", "2 .6 .6 .2 .2"]}, "val": {"b": ["1 .5 .5 .2 .2"]}}
    train, val = open_pair(yolo(tmp_path / "yaml", lines, names=("hard hat", "Hard-Hat", "cat")))
    assert train.class_names == val.class_names == ("hard hat", "cat")
    assert train.labels.tolist() == [0, 0, 1] and val.labels.tolist() == [0] and train.faults["same name"] == 1
    make_image(tmp_path / "txt" / "a.png")
    (tmp_path / "txt/a.txt").write_text("1 .5 .5 .2 .2\n2 .5 .5 .1 .1\n")
    (tmp_path / "txt/classes.txt").write_text("cat\ncat\ndog\n")
    data = open_data(tmp_path / "txt")
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 1] and data.faults["same name"] == 1
    folder = voc(tmp_path / "voc", {"a": [("cat", 1, 2, 30, 40, 0), ("Cat", 1, 2, 20, 30, 0), ("dog", 3, 4, 9, 9, 0)]})
    data = open_data(folder)
    assert data.class_names == ("Cat", "dog") and data.labels.tolist() == [0, 0, 1] and data.faults["same name"] == 1
    synonyms = open_data(voc(tmp_path / "both", {"a": [("sofa", 1, 2, 30, 40, 0), ("couch", 1, 2, 20, 30, 0)]}))
    assert synonyms.class_names == ("couch", "sofa")  # who has both tells them apart


def test_one_class_number_with_two_names_is_refused(tmp_path, capsys):
    file = coco(tmp_path, [(1, 1, BOX)])
    edit(file, lambda content: content["categories"][1].update(id=1))
    for command in (["data", "check", str(file)], ["eval", "--annotations", str(file), "--self-test"]):
        assert main(command) == 2
        assert "category id 1 stands twice, as 'cat' and 'dog'" in capsys.readouterr().err
    edit(file, lambda content: content["categories"][1].update(name="cat"))
    assert open_data(file).class_names == ("cat",) and open_data(file).faults["same name"] == 1
    text = yolo(tmp_path / "yolo", {"train": {"a": ["0 .5 .5 .2 .2"]}})
    text.write_text("train: images/train\nnames: {0: cat, 0: dog}\n")
    for path in (text, text.parent):
        assert main(["data", "check", str(path)]) == 2
        assert "key 0 stands twice" in capsys.readouterr().err


def test_a_class_asked_for_twice_is_refused(tmp_path, capsys):
    file = coco(tmp_path, [(1, 1, BOX)])
    assert main(["data", "check", str(file), "--classes", "cat,Cat"]) == 2
    assert "class 'Cat' is asked for twice" in capsys.readouterr().err


# --- eval and convert read every format


def test_eval_scores_voc_and_yolo_data(tmp_path, capsys):
    objects = {"a": [("cat", 1, 2, 30, 40, 0), ("dog", 5, 5, 60, 50, 1)], "b": [("dog", 3, 4, 9, 9, 0)]}
    folder = voc(tmp_path / "voc", objects, splits={"train": ["b"], "val": ["a"], "test": ["b"]})
    lines = {"train": {"x": ["0 .5 .5 .2 .2"]}, "valid": {"a": ["0 .5 .5 .2 .2"], "b": ["1 .3 .3 .2 .2"]}}
    config = "train: images/train\nval: images/valid\n"
    file = yolo(tmp_path / "yolo", lines, config=config)
    out = tmp_path / "numbers.json"
    for options, images, words in (
        (["--data", folder], 1, "voc (val)"),
        (["--data", folder, "--split", "test"], 1, "test"),
        (["--data", folder, "--split", "all"], 2, "all"),
        (["--data", folder, "--format", "voc", "--image-ids", tmp_path / "ids.txt"], 1, "ids.txt"),
        (["--data", file], 2, "data.yaml (val)"),
        (["--data", file, "--split", "train", "--format", "yolo"], 1, "train"),
    ):
        (tmp_path / "ids.txt").write_text("0")
        assert main(["eval", *map(str, options), "--self-test", "--json", str(out)]) == 0
        assert f"split {words}" in capsys.readouterr().out.replace("(ids.txt)", "ids.txt").replace(
            "split voc (val) ", "split "
        )
        assert json.loads(out.read_text())["images"] == images
    assert ground_truth(open_evaluation(folder)).crowd.tolist() == [False, True]  # difficult: neither right nor wrong
    for options, words in (
        (["--data", folder, "--annotations", folder], "--data is given twice"),
        (["--data", folder, "--split", "night"], "no split 'night'; it has train, val, test"),
    ):
        assert main(["eval", *map(str, options), "--self-test"]) == 2
        assert words in capsys.readouterr().err


def test_convert_writes_what_stands_in_memory_after_repair(tmp_path, capsys):
    rows = [
        (1, 1, BOX, {"score": 0.5, "area": 311}),
        (1, 2, [40, 30, -10, 5]),
        (2, 1, [70, 5, 30, 10], {"ignore": 1}),
        (2, 9, BOX),
        (3, 1, BOX),
    ]
    file = coco(tmp_path, rows, number=3)
    (tmp_path / "images/3.png").unlink()
    written = converted(file, tmp_path)
    assert written["images"] == [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    assert [one["bbox"] for one in written["annotations"]] == [BOX, [30, 30, 10, 5], [70, 5, 10, 10], BOX, BOX]
    assert [one["area"] for one in written["annotations"]] == [311, 50, 100, 600, 600]
    assert [one["category_id"] for one in written["annotations"]] == [
        1,
        2,
        1,
        1,
        2,
    ]  # what is of no class is ignored in each
    assert [(one["iscrowd"], one.get("ignore", 0), one["score"]) for one in written["annotations"]] == [
        (0, 0, 0.5),
        (0, 0, 1),
        (1, 1, 1),
        (1, 1, 1),
        (1, 1, 1),
    ]
    assert written["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    out = capsys.readouterr().out
    for words in ("2 images, 3 boxes, 2 classes", "corners swapped", "clipped", "category_id 9", "images are missing"):
        assert words in out
    again = open_data(tmp_path / "converted.json", images=tmp_path / "images")
    assert not again.faults and again.exact.tolist() == repair(open_data(file))[0].in_every_class().exact.tolist()


def test_convert_keeps_what_evaluation_of_voc_and_yolo_sees(tmp_path):
    objects = {"a": [("cat", 1, 2, 30, 40, 0), ("dog", 5, 5, 60, 50, 1)], "b": [("dog", 3, 4, 9, 9, 0)]}
    folder = voc(tmp_path / "voc", objects, splits={"train": ["b"], "val": ["a"]}, database="The VOC2012 Database")
    voc_xml(folder / "Annotations" / "c.xml", [], size=SIZE)
    make_image(folder / "JPEGImages" / "c.jpg")
    file = yolo(tmp_path / "yolo", {"train": {"a": ["0 .51 .52 .23 .24"]}, "val": {"a": ["1 .3 .3 .2 .2"], "b": None}})
    for path, options, images in (
        (folder, ("--split", "val"), folder / "JPEGImages"),
        (file, (), tmp_path / "yolo/images"),
    ):
        written = converted(path, tmp_path, *options)
        names = [image["file_name"] for image in written["images"]]
        assert len(set(names)) == len(names) and all((images / name).is_file() for name in names)
        theirs = ground_truth(open_evaluation(path, options[-1] if options else "all"))
        ours = read_truth(tmp_path / "converted.json", images)
        for name in ("image_ids", "category_ids", "category_names"):
            assert getattr(ours, name) == getattr(theirs, name)
        for name in ("sizes", "image", "category", "boxes", "area", "crowd"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert [p.name for p in tmp_path.glob(".*")] == []  # nothing half-written


def test_an_existing_file_stays_where_nothing_can_be_converted(tmp_path, capsys):
    file, out = coco(tmp_path, []), tmp_path / "out.json"
    out.write_text("mine")
    assert main(["data", "convert", str(file), "--to", "coco", "--output", str(out)]) == 2
    assert out.read_text() == "mine" and "no box to learn from" in capsys.readouterr().err
