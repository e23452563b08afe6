"""The readers: COCO, VOC and YOLO come out in the same form, recognised by looking."""

import json

import numpy as np
import pytest
from data_sets import SIZE, coco, make_image, voc, voc_xml, yolo
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes.class_names import COCO_80
from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.open import open_data, open_pair, recognise
from detection.data.readers.json_stream import stream
from detection.data.writers.coco import to_coco
from detection.errors import BadDataError

# --- real data sets


def test_blood_cells_are_a_voc_folder_with_their_published_splits(shared):
    data, val = open_pair(shared / "data" / "bccd")  # the data set lies one level down
    assert (len(data), len(val)) == (205, 87)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    everything = open_data(shared / "data" / "bccd" / "BCCD", "all")
    assert len(everything) == 364
    assert everything.class_counts().tolist() == [361, 4155, 372]
    assert not len(data.faults)


def test_coco_pool_keeps_official_ids_and_crowds(shared):
    data = open_data(shared / "data" / "coco_pool")
    raw = json.loads((shared / "data" / "coco_pool" / "instances.json").read_text())
    assert len(data) == 2370 and data.num_boxes == len(raw["annotations"])
    assert dict(zip(data.category_ids, data.class_names)) == COCO_80
    assert ((data.flags & CROWD) != 0).sum() == sum(a["iscrowd"] for a in raw["annotations"])
    first = raw["annotations"][0]
    index = int(np.flatnonzero(data.image_ids == first["image_id"])[0])
    x, y, w, h = first["bbox"]
    assert np.abs(data.image(index).boxes - [x, y, x + w, y + h]).max(1).min() < 1e-4
    assert (np.diff(data.starts) == 0).sum() == len({i["id"] for i in raw["images"]}) - len(
        {a["image_id"] for a in raw["annotations"]}
    )


def test_voc_2012_has_its_twenty_classes_in_vocs_order_and_difficult_flags(shared):
    data = open_data(shared / "data" / "voc2012_full108")
    assert len(data) == 108 and data.num_boxes == 284 and len(data.class_names) == 20
    assert data.class_names[0] == "aeroplane" and data.class_names[-1] == "tvmonitor"
    assert ((data.flags & DIFFICULT) != 0).sum() == 38
    assert data.class_counts().sum() == 284 - 38
    assert (data.boxes >= 0).all()


def test_voc_in_cocos_classes_knows_which_classes_are_not_annotated(shared):
    animals = open_data(shared / "data" / "voc2012_animals", class_names=list(COCO_80.values()))
    assert len(animals.unknown_classes) == 75
    assert not set(animals.unknown_classes) & {"cat", "dog", "horse", "sheep", "cow"}
    full = open_data(shared / "data" / "voc2012_full108", class_names=list(COCO_80.values()))
    assert full.class_counts()[list(COCO_80.values()).index("airplane")] > 0  # by meaning: aeroplane


# --- COCO


def test_coco_boxes_flags_scores_and_background_images(tmp_path):
    file = coco(
        tmp_path,
        [
            (2, 2, [10, 5, 20, 30]),
            (1, 1, [0, 0, 8, 9], {"iscrowd": 1, "area": 50}),
            (2, 1, [1, 2, 3, 4], {"score": 0.25}),
            (2, 1, [30, 20, 5, 5], {"ignore": 1}),
        ],
        number=3,
    )
    data = open_data(file)
    assert data.image(1).boxes.tolist() == [[10, 5, 30, 35], [1, 2, 4, 6], [30, 20, 35, 25]]
    assert data.image(1).labels.tolist() == [1, 0, 0]
    assert data.image(1).scores.tolist() == [1, 0.25, 1]
    assert data.image(0).flags.tolist() == [CROWD] and data.image(0).areas.tolist() == [50]
    assert data.image(1).flags.tolist() == [0, 0, IGNORE]
    assert data.image(2).boxes.shape == (0, 4)  # no objects: an image like any other
    assert data.class_counts().tolist() == [1, 1]


def test_coco_official_layout_and_its_splits(tmp_path):
    for split in ("train2017", "val2017"):
        file = coco(tmp_path, [(1, 1, [0, 0, 5, 5])], name=f"{split}.json")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        file.rename(tmp_path / "annotations" / f"instances_{split}.json")
        (tmp_path / "images").rename(tmp_path / split)
        (tmp_path / "annotations" / f"captions_{split}.json").write_text("{}")
    train, val = open_pair(tmp_path)
    assert train.path(0).endswith("train2017/1.png") and val.path(0).endswith("val2017/1.png")
    assert open_data(tmp_path, "val").path(0) == val.path(0)
    with pytest.raises(BadDataError, match="no split 'test'; it has train2017, val2017"):
        open_data(tmp_path, "test")


def test_coco_as_roboflow_writes_it(tmp_path):
    for split in ("train", "valid"):
        file = coco(tmp_path / split, [(1, 2, [0, 0, 5, 5])], categories=("cat", "dog"), name="_annotations.coco.json")
        for image in (tmp_path / split / "images").iterdir():
            image.rename(tmp_path / split / image.name)
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 0, "name": "pets"}] + [
            {**category, "supercategory": "pets"} for category in content["categories"]
        ]
        file.write_text(json.dumps(content))
    train, val = open_pair(tmp_path)
    assert train.class_names == ("cat", "dog")  # the parent that nothing belongs to is no class
    assert train.path(0).endswith("train/1.png") and val.path(0).endswith("valid/1.png")


def test_coco_faults_are_counted_not_fatal(tmp_path):
    file = coco(tmp_path, [(1, 1, [0, 0, 5, 5]), (9, 1, [0, 0, 5, 5]), (1, 7, [0, 0, 5, 5]), (1, 1, [1, 2])])
    data = open_data(file)
    assert data.faults.counts == {"bad line": 1, "no image": 1, "undeclared class": 1}
    assert data.labels.tolist() == [0, -1, -1] and data.flags.tolist() == [0, IGNORE, IGNORE]
    assert data.boxes[1:].tolist() == [[0, 0, 5, 5], [0, 0, SIZE[1], SIZE[0]]]  # where 7 is; and all of the image
    assert "category_id 7" in data.faults.examples["undeclared class"][0]


@pytest.mark.parametrize(
    "content, words",
    [
        ("[]", "needs an object"),
        ('{"images": [', "ends too early, in line 1, column 13"),
        ('{"images":\n [{"id": 1, "file_na', "not JSON: .* in line 2, column 13"),
        ('{"annotations": []}', "missing images, categories"),
        ('{"images": [{"file_name": "a"}]}', "an image without id"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}]}', "missing annotations, categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "lists no images"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}', "declares no classes"),
        (
            '{"categories": [{"id": 1}], "images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}],'
            '"annotations": []}',
            "two images have the id 1",
        ),
    ],
)
def test_broken_json_is_one_clear_line(tmp_path, content, words):
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(BadDataError, match=words) as caught:
        open_data(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.recursive(st.integers() | st.text(max_size=8) | st.floats(allow_nan=False), st.lists, max_leaves=5))
        | st.integers(-(10**9), 10**9)
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
        max_size=5,
    ),
    st.integers(1, 7),
)
def test_the_streaming_json_reader_sees_what_json_sees(tmp_path_factory, content, block):
    from detection.data.readers import json_stream

    file = tmp_path_factory.mktemp("stream") / "x.json"
    file.write_text(json.dumps(content, indent=1))
    ordinary, json_stream.BLOCK = json_stream.BLOCK, block  # a window of a few characters: every edge is met
    try:
        seen = {}
        for key, value in stream(file):
            if isinstance(content[key], list):
                seen.setdefault(key, []).append(value)
            else:
                seen[key] = value
    finally:
        json_stream.BLOCK = ordinary
    assert seen == {key: value for key, value in content.items() if value != []}


def test_to_coco_and_back_is_the_same_data(tmp_path, shared):
    data = open_data(shared / "data" / "voc2012_full108").subset(range(20))
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(to_coco(data)))
    again = open_data(file, images=shared / "data" / "voc2012_full108" / "JPEGImages")
    assert again.class_names == data.class_names and list(again.paths) == list(data.paths)
    assert np.abs(again.boxes - data.boxes).max() < 2e-3
    assert (again.labels == data.labels).all() and ((again.flags != 0) == (data.flags != 0)).all()


# --- VOC


def test_voc_pixels_count_from_one_only_where_voc_says_so(tmp_path):
    objects = {"a": [("cat", 1, 1, 80, 60, 0)]}
    theirs = open_data(voc(tmp_path / "voc", objects, database="The VOC2012 Database"))
    assert theirs.boxes.tolist() == [[0, 0, 80, 60]]
    ours = open_data(voc(tmp_path / "own", objects))
    assert ours.boxes.tolist() == [[1, 1, 80, 60]]
    zero = open_data(voc(tmp_path / "zero", {"a": [("cat", 0, 0, 80, 60, 0)]}, database="The VOC2012 Database"))
    assert zero.boxes.tolist() == [[0, 0, 80, 60]]  # never -1 by our own doing


def test_voc_splits_difficult_and_images_without_objects(tmp_path):
    folder = voc(
        tmp_path,
        {"a": [("cat", 1, 2, 30, 40, 1), ("dog", 1, 2, 30, 40, 0)], "b": [], "c": [("bird", 5, 5, 9, 9, 0)]},
        splits={"train": ["a", "b", "d"], "val": ["c"], "cat_train": ["a  1", "b -1"]},
    )
    make_image(folder / "JPEGImages" / "d.png")  # listed, no XML: nothing in it; and not even a .jpg
    data, val = open_pair(folder)
    assert data.class_names == val.class_names == ("bird", "cat", "dog")
    assert [len(data.image(i).boxes) for i in range(3)] == [2, 0, 0]
    assert data.path(2).endswith("d.png")
    assert data.image(0).flags.tolist() == [DIFFICULT, 0] and data.class_counts().tolist() == [0, 0, 1]
    assert recognise(folder).splits == ("train", "val")
    assert len(open_data(folder, "all")) == 3  # every annotated image


def test_voc_odd_files_are_counted(tmp_path):
    folder = voc(tmp_path, {"a": [("cat", 1, 2, 30, 40, 0)], "b": [("cat", "x", 2, 30, 40, 0)]})
    (folder / "Annotations" / "c.xml").write_text("<annotation><object>")
    voc_xml(folder / "Annotations" / "d.xml", [("cat", 1, 1, 9, 9, 0)], filename="other name.jpg")
    make_image(folder / "JPEGImages" / "other name.jpg")
    data = open_data(folder)
    assert data.faults.counts == {"bad line": 1, "unread annotation": 1} and len(data) == 3
    assert data.path(2).endswith("other name.jpg") and data.flags.tolist() == [0, IGNORE, 0]


# --- YOLO


def test_yolo_boxes_outlines_scores_and_splits(tmp_path):
    file = yolo(
        tmp_path,
        {
            "train": {"a": ["0 0.5 0.5 0.5 0.5", "1 0.25 0.5 0.5 1 0.75", "1 .1 .1 .4 .1 .4 .6"], "b": None},
            "val": {"c": ["0 .5 .5 1 1"]},
        },
    )
    height, width = SIZE
    train, val = open_pair(file)
    scale = np.array([width, height, width, height])
    want = np.array([[0.25, 0.25, 0.75, 0.75], [0, 0, 0.5, 1], [0.1, 0.1, 0.4, 0.6]]) * scale
    assert np.abs(train.image(0).boxes - want).max() < 1e-4
    assert train.image(0).scores.tolist() == [1, 0.75, 1] and train.image(0).labels.tolist() == [0, 1, 1]
    assert train.image(1).boxes.shape == (0, 4) and train.sizes.tolist() == [[height, width]] * 2
    assert len(val) == 1 and recognise(tmp_path).format == "yolo"


def test_yolo_faults_and_other_ways_to_name_images(tmp_path):
    file = yolo(
        tmp_path,
        {"train": {"a": ["0 0.5 0.5", "7 .5 .5 .1 .1", "0.5 .5 .5 .1 .1", "0 .5 .5 .1 .1", ""]}},
        config="train: ../images/train\nval: list.txt\n",  # Roboflow's path; and a list of files
    )
    (tmp_path / "list.txt").write_text("./images/train/a.png\n")
    train, val = open_pair(file)
    assert train.faults.counts == {"bad line": 2, "undeclared class": 1}
    assert "a.txt:1" in train.faults.examples["bad line"][0] and train.labels.tolist() == [-1, 0, -1]
    assert train.flags.tolist() == [IGNORE, 0, IGNORE]
    assert val.path(0).endswith("images/train/a.png")


def test_yolo_folder_with_classes_txt_as_labelimg_writes_it(tmp_path):
    make_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    data = open_data(tmp_path)
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [1] and len(data) == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("train: images\n", "names"),
        ("names: {1: a, 2: b}\ntrain: images\n", "0..1, without gaps"),
        ("names: [a]\ntrain: nowhere\n", "nowhere does not exist"),
        ("names: [a\n", "no valid YAML"),
    ],
)
def test_yolo_wrong_data_files_are_one_clear_line(tmp_path, text, words):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    (tmp_path / "images").mkdir()
    with pytest.raises(BadDataError, match=words) as caught:
        open_data(file)
    assert "\n" not in str(caught.value)


# --- recognising


def test_what_is_not_recognised_says_what_was_looked_for(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(BadDataError, match="Looked for COCO.*VOC.*YOLO"):
        open_data(tmp_path)
    with pytest.raises(BadDataError, match="Looked for VOC"):
        open_data(tmp_path, format="voc")
    with pytest.raises(BadDataError, match="no such file or folder"):
        open_data(tmp_path / "nowhere")
    voc(tmp_path / "VOC2007", {"a": [("cat", 1, 1, 9, 9, 0)]})
    assert len(open_data(tmp_path)) == 1
    voc(tmp_path / "VOC2012", {"a": [("cat", 1, 1, 9, 9, 0)]})
    with pytest.raises(BadDataError, match="several data sets, give one: .*VOC2007.*VOC2012"):
        open_data(tmp_path)
