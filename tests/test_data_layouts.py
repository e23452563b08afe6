"""The layouts that tools and platforms export: each is recognised by looking, and holds the same images, boxes and classes as
the same data in COCO's form. What is there and cannot be read is counted and named."""

import csv
import json

import numpy as np
import pytest
from data_sets import SIZE, coco, make_image, voc_xml

from detection.cli.main import main
from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.open import open_data, recognise
from detection.data.readers import FORMATS
from detection.data.repair import repair
from detection.errors import BadDataError

HEIGHT, WIDTH = SIZE
# split: {image: [(class, x1, y1, x2, y2)]}; the last image has no object
WORLD = {
    "train": {"a.jpg": [("cat", 8, 6, 40, 30), ("dog", 20, 12, 60, 54)], "b.jpg": [("cat", 0, 0, 80, 60)]},
    "valid": {"c.jpg": [("dog", 16, 15, 48, 45)]},
}
NAMES = ("cat", "dog")
CSV = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")


def images_in(folder, files):
    for name in files:
        make_image(folder / name, seed=ord(name[0]))


def rows(path, header, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def roboflow_voc(folder):
    for split, files in WORLD.items():
        images_in(folder / split, files)
        for name, objects in files.items():
            voc_xml(folder / split / name.replace(".jpg", ".xml"), [(*one, 0) for one in objects], filename=name)


def flat_voc(folder):
    for files in WORLD.values():
        images_in(folder, files)
        for name, objects in files.items():
            voc_xml(folder / name.replace(".jpg", ".xml"), [(*one, 0) for one in objects], filename=name)


def images_and_annotations(folder):
    for files in WORLD.values():
        images_in(folder / "images", files)
        for name, objects in files.items():
            voc_xml(folder / "annotations" / name.replace(".jpg", ".xml"), [(*one, 0) for one in objects])


def voc_with_lists(folder):
    for split, files in WORLD.items():
        images_in(folder / "JPEGImages", files)
        for name, objects in files.items():
            voc_xml(
                folder / "Annotations" / name.replace(".jpg", ".xml"), [(*one, 0) for one in objects], filename=name
            )
        stems = "\n".join(name.removesuffix(".jpg") for name in files)
        write(folder / "ImageSets/Main" / {"valid": "val.txt"}.get(split, f"{split}.txt"), stems)


def yolo(folder, images="images/{}", labels="labels/{}", above=""):
    """above: what Roboflow puts in front of its folders, though they lie beside data.yaml."""
    for split, files in WORLD.items():
        images_in(folder / images.format(split), files)
        for name, objects in files.items():
            lines = [
                f"{NAMES.index(k)} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}"
                for k, x1, y1, x2, y2 in objects
            ]
            write(folder / labels.format(split) / name.replace(".jpg", ".txt"), "\n".join(lines))
    places = f"train: {above}{images.format('train')}\nval: {above}{images.format('valid')}\n"
    write(folder / "data.yaml", f"{places}nc: 2\nnames: [cat, dog]\n")


def roboflow_yolo(folder):
    yolo(folder, "{}/images", "{}/labels", "../")


def coco_of(files):
    names = list(files)
    boxes = [(n, *one) for n, objects in files.items() for one in objects]
    return json.dumps(
        {
            "images": [{"id": k, "file_name": n, "height": HEIGHT, "width": WIDTH} for k, n in enumerate(names, 1)],
            "annotations": [
                {
                    "id": k,
                    "image_id": names.index(n) + 1,
                    "category_id": NAMES.index(kind) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
                for k, (n, kind, x1, y1, x2, y2) in enumerate(boxes, 1)
            ],
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
        }
    )


def official_coco(folder):
    for split, files in WORLD.items():
        split = {"valid": "val"}.get(split, split)
        images_in(folder / f"{split}2017", files)
        write(folder / f"annotations/instances_{split}2017.json", coco_of(files))


def roboflow_coco(folder):
    for split, files in WORLD.items():
        images_in(folder / split, files)
        write(folder / split / "_annotations.coco.json", coco_of(files))


def hf_line(name, objects, kinds):
    boxes = [[x1, y1, x2 - x1, y2 - y1] for _, x1, y1, x2, y2 in objects]
    return json.dumps({"file_name": name, "objects": {"bbox": boxes, "categories": [kinds(o[0]) for o in objects]}})


def hf_numbers(folder):
    card = "dataset_info:\n  features:\n  - name: objects\n    sequence:\n    - name: categories\n      dtype:\n"
    card += "        class_label:\n"
    write(
        folder / "README.md", f"---\n{card}          names:\n            '0': cat\n            '1': dog\n---\n# Pets\n"
    )
    for split, files in WORLD.items():
        images_in(folder / split, files)
        write(folder / split / "metadata.jsonl", "\n".join(hf_line(n, o, NAMES.index) for n, o in files.items()))


def hf_at_the_top(folder):
    lines = []
    for split, files in WORLD.items():
        images_in(folder / split, files)
        lines += [hf_line(f"{split}/{name}", objects, str) for name, objects in files.items()]
    write(folder / "metadata.jsonl", "\n".join(lines))


def open_images(folder, class_name=True, prefix="sub-"):
    header = ["ImageID", "XMin", "XMax", "YMin", "YMax", "LabelName", "IsGroupOf"] + ["ClassName"] * class_name
    for split, files in WORLD.items():
        split = {"valid": "validation"}.get(split, split)
        images_in(folder / split, files)
        lines = [
            [n[0], x1 / WIDTH, x2 / WIDTH, y1 / HEIGHT, y2 / HEIGHT, f"/m/{kind}", 0] + [kind] * class_name
            for n, objects in files.items()
            for kind, x1, y1, x2, y2 in objects
        ]
        rows(folder / f"{prefix}{split}-annotations-bbox.csv", header, lines)
        rows(folder / f"{split}-annotations-bbox.csv", header, [*lines, ["zz", *lines[0][1:]]])  # all that there are
    return folder


def open_images_official(folder):
    open_images(folder, class_name=False, prefix="sub-")
    write(folder / "class-descriptions-boxable.csv", "/m/cat,cat\n/m/dog,dog\n/m/011k07,Tortoise\n")


def cvat_xml(files, subset="", shapes=""):
    def box(kind, x1, y1, x2, y2):
        attribute = '<attribute name="q">1</attribute>'
        return f'<box label="{kind}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" occluded="0">{attribute}</box>'

    return "".join(
        f'<image id="{name}" name="{name}" {subset} width="{WIDTH}" height="{HEIGHT}">'
        f"{''.join(box(*one) for one in objects)}{shapes}</image>"
        for name, objects in files.items()
    )


def cvat(folder, shapes=""):
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    body = ""
    for split, files in WORLD.items():
        images_in(folder / "images" / split, files)
        body += cvat_xml(files, f'subset="{split}"', shapes)
    meta = f"<version>1.1</version><meta><project><labels>{labels}</labels></project></meta>"
    write(folder / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{body}</annotations>')


def darknet(folder):
    write(folder / "obj.names", "cat\ndog\n")
    write(
        folder / "obj.data",
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    for split, files in WORLD.items():
        images_in(folder / f"obj_{split}_data", files)
        write(folder / f"{split}.txt", "".join(f"data/obj_{split}_data/{name}\n" for name in files))
        for name, objects in files.items():
            lines = [
                f"{NAMES.index(kind)} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}"
                for kind, x1, y1, x2, y2 in objects
            ]
            write(folder / f"obj_{split}_data" / name.replace(".jpg", ".txt"), "\n".join(lines))


def labelme(folder, more=()):
    for split, files in WORLD.items():
        images_in(folder / split, files)
        for name, objects in files.items():
            shapes = [
                {
                    "label": kind,
                    "points": [[x1, y1], [x2, y2]],
                    "shape_type": "rectangle",
                    "group_id": None,
                    "flags": {},
                }
                for kind, x1, y1, x2, y2 in objects
            ]
            content = {
                "version": "5.5.0",
                "flags": {},
                "shapes": [*shapes, *more],
                "imagePath": name,
                "imageData": "x" * 99,
            }
            content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
            write(folder / split / name.replace(".jpg", ".json"), json.dumps(content))


def labelme_apart(folder):
    labelme(folder / "other")
    for split, files in WORLD.items():
        for name in files:
            (folder / "images").mkdir(exist_ok=True), (folder / "labels").mkdir(exist_ok=True)
            (folder / "other" / split / name).rename(folder / "images" / name)
            label = folder / "other" / split / name.replace(".jpg", ".json")
            label.rename(folder / "labels" / label.name)
            content = json.loads((folder / "labels" / label.name).read_text())
            write(folder / "labels" / label.name, json.dumps({**content, "imagePath": f"..\\images\\{name}"}))


def createml(folder):
    for split, files in WORLD.items():
        images_in(folder / split, files)
        content = [
            {
                "image": name,
                "annotations": [
                    {
                        "label": kind,
                        "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1},
                    }
                    for kind, x1, y1, x2, y2 in objects
                ],
            }
            for name, objects in files.items()
        ]
        write(folder / split / "_annotations.createml.json", json.dumps(content))


def table(files):
    return [
        [name, WIDTH, HEIGHT, kind, x1, y1, x2, y2]
        for name, objects in files.items()
        for kind, x1, y1, x2, y2 in objects
    ]


def roboflow_csv(folder):
    for split, files in WORLD.items():
        images_in(folder / split, files)
        rows(folder / split / "_annotations.csv", CSV, table(files))


def tutorials_csv(folder):
    for split, files in WORLD.items():
        images_in(folder / "images", files)
        rows(folder / f"{split}_labels.csv", CSV, table(files))


def fiftyone(folder):
    """What `export(dataset_type=COCODetectionDataset)` writes."""
    entries = [(n, *one) for files in WORLD.values() for n, objects in files.items() for one in objects]
    names = [name for files in WORLD.values() for name in files]
    boxes = [(names.index(n) + 1, NAMES.index(k) + 1, [x1, y1, x2 - x1, y2 - y1]) for n, k, x1, y1, x2, y2 in entries]
    file = coco(folder / "made", boxes, number=len(names), name="labels.json")
    content = json.loads(file.read_text())
    for image, name in zip(content["images"], names):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        make_image(folder / "data" / name)
        image["file_name"] = name
    write(folder / "labels.json", json.dumps(content))
    for path in sorted((folder / "made").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "made").rmdir()


def label_studio(folder, more=(), **annotation):
    """What Label Studio exports: addresses of uploads, and a prediction that people have looked at."""
    tasks = []
    for split, files in WORLD.items():
        images_in(folder / "images", files)
        for name, objects in files.items():
            results = [ls_result(kind, x1, y1, x2 - x1, y2 - y1) for kind, x1, y1, x2, y2 in objects]
            done = [{"id": 1, "result": results, **annotation}]
            guess = [{"result": [{**ls_result("cat", 1, 1, 5, 5), "score": 0.3}]}]
            data = {"image": f"/data/upload/1/0123abcd-{name}", "split": split}
            tasks.append({"id": len(tasks), "data": data, "annotations": done, "predictions": guess})
    tasks[0]["annotations"][0]["result"] += more
    write(folder / "project-1.json", json.dumps(tasks))


def ls_result(kind, x, y, w, h, **value):
    value = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": w / WIDTH * 100, "height": h / HEIGHT * 100, **value}
    sizes = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"type": "rectanglelabels", "value": {**value, "rectanglelabels": [kind]}, **sizes}


LAYOUTS = {
    "Label Studio": ("labelstudio", label_studio),
    "VOC, ImageSets": ("voc", voc_with_lists),
    "YOLO of Ultralytics": ("yolo", yolo),
    "YOLO of Roboflow": ("yolo", roboflow_yolo),
    "COCO": ("coco", official_coco),
    "COCO of Roboflow": ("coco", roboflow_coco),
    "VOC of Roboflow": ("voc", roboflow_voc),
    "VOC, XML beside the images": ("voc", flat_voc),
    "VOC, images/ and annotations/": ("voc", images_and_annotations),
    "Hugging Face, numbers": ("imagefolder", hf_numbers),
    "Hugging Face, one metadata.jsonl": ("imagefolder", hf_at_the_top),
    "Open Images, jetson's": ("openimages", open_images),
    "Open Images, official": ("openimages", open_images_official),
    "CVAT": ("cvat", cvat),
    "Darknet": ("darknet", darknet),
    "labelme": ("labelme", labelme),
    "labelme, labels/ apart": ("labelme", labelme_apart),
    "Create ML": ("createml", createml),
    "CSV of Roboflow": ("csv", roboflow_csv),
    "CSV of tutorials": ("csv", tutorials_csv),
    "COCO of FiftyOne": ("coco", fiftyone),
}
IN_ONE = ("VOC, XML beside the images", "VOC, images/ and annotations/", "labelme, labels/ apart", "COCO of FiftyOne")


def as_rows(data):
    """{image: sorted boxes with their classes}."""
    return {
        data.path(i).rsplit("/", 1)[1]: sorted(
            (data.class_names[label], *box.round(3).tolist())
            for label, box in zip(data.image(i).labels, data.image(i).boxes)
        )
        for i in range(len(data))
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_holds_what_the_same_data_in_coco_form_holds(tmp_path, name):
    format, make = LAYOUTS[name]
    make(tmp_path)
    layout = recognise(tmp_path)
    assert layout.format == format
    parts = {"all": {**WORLD["train"], **WORLD["valid"]}} if name in IN_ONE else WORLD
    for split, files in parts.items():
        role = {"valid": "val"}.get(split, split)
        data, faults = repair(open_data(tmp_path, role))
        assert data.class_names == NAMES and not faults, faults.lines()
        assert as_rows(data) == {image: sorted((k, *map(float, b)) for k, *b in o) for image, o in files.items()}
        assert (data.sizes == SIZE).all()


def test_all_splits_together_are_one_data_set(tmp_path):
    for name, (_, make) in LAYOUTS.items():
        if name in ("COCO", "COCO of Roboflow"):
            continue  # whose splits are files of their own, read one by one
        make(tmp_path / name.replace("/", ""))
        data, faults = repair(open_data(tmp_path / name.replace("/", ""), "all"))
        assert len(data) == 3 and data.num_boxes == 4 and not faults, name


# --- what is there and cannot be read


def test_results_of_label_studio_that_are_no_boxes_are_counted_and_turned_ones_become_the_box_around_them(tmp_path):
    brush = {**ls_result("cat", 0, 0, 1, 1), "type": "brushlabels"}
    text = {"type": "choices", "value": {"choices": ["sharp"]}}
    label_studio(tmp_path, [ls_result("dog", 40, 20, 10, 20, rotation=90), brush, text])
    data, faults = repair(open_data(tmp_path, "train"))
    assert data.image(0).boxes[2] == pytest.approx([20, 20, 40, 30])
    assert faults.counts == {"bad line": 1} and "is no box but 'brushlabels'" in faults.lines()[1]
    assert data.image(0).flags[-1] == IGNORE, "nothing else there is background"


def test_a_cancelled_annotation_of_label_studio_leaves_the_prediction(tmp_path):
    label_studio(tmp_path, was_cancelled=True)
    data, _ = repair(open_data(tmp_path, "train"))
    assert data.scores.tolist() == pytest.approx([0.3, 0.3])


def test_groups_of_open_images_are_crowds(tmp_path):
    open_images(tmp_path)
    file = tmp_path / "sub-train-annotations-bbox.csv"
    file.write_text(file.read_text().replace("/m/dog,0,", "/m/dog,1,"))
    assert open_data(tmp_path).flags.tolist() == [0, CROWD, 0]


def test_ids_of_open_images_that_nobody_names_are_said(tmp_path):
    open_images(tmp_path, class_name=False)
    data = open_data(tmp_path)
    assert data.class_names == ("/m/cat", "/m/dog") and data.faults.counts == {"no name": 2}


def test_a_line_of_a_table_that_is_broken_makes_its_image_doubtful(tmp_path):
    roboflow_csv(tmp_path)
    file = tmp_path / "train" / "_annotations.csv"
    file.write_text(file.read_text() + "b.jpg,80,60,cat,1,2,x,4\n,80,60,cat,1,2,3,4\nb.jpg,80,60,,1,2,3,4\n")
    make_image(tmp_path / "train" / "lonely.jpg", seed=9)
    data = open_data(tmp_path)
    assert data.faults.counts == {"bad line": 1, "no image": 1, "undeclared class": 1, "unannotated": 1}
    assert "_annotations.csv:5" in data.faults.examples["bad line"][0]
    assert [0, 0, 80, 60] in data.boxes[data.labels < 0].tolist()  # anywhere in it may be an object


@pytest.mark.parametrize(
    "shapes, box, counted",
    [
        ('<polygon label="cat" points="1,2;30,4;5,40.5"/>', [1, 2, 30, 40.5], {}),
        ('<mask label="cat" rle="1" left="3" top="4" width="10" height="20"/>', [3, 4, 13, 24], {}),
        ('<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"/>', [20, 15, 40, 25], {}),
        ('<box label="cat" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90"/>', [25, 5, 35, 25], {}),
        ('<tag label="cat"/>', None, {}),
        ('<points label="cat" points="1,2"/>', None, {"bad line": 3}),
        ('<box label="cat" xtl="no" ytl="1" xbr="2" ybr="2"/>', None, {"bad line": 3}),
    ],
)
def test_shapes_of_cvat_become_the_boxes_around_them(tmp_path, shapes, box, counted):
    cvat(tmp_path, shapes)
    data = open_data(tmp_path, "all")
    assert data.faults.counts == counted
    if box:
        assert np.isclose(data.boxes, box, atol=1e-3).all(1).sum() == 3


def test_a_video_of_cvat_says_what_to_export(tmp_path):
    write(tmp_path / "annotations.xml", '<annotations><version>1.1</version><track id="0" label="cat"/></annotations>')
    with pytest.raises(BadDataError, match=r"1 tracks of a video; export from CVAT as 'CVAT for images 1.1'"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    "shape, box, counted",
    [
        ({"points": [[1, 2], [30, 4], [5, 40]], "shape_type": "polygon"}, [1, 2, 30, 40], {}),
        ({"points": [[30, 20], [33, 24]], "shape_type": "circle"}, [25, 15, 35, 25], {}),
        ({"points": [[30, 20]], "shape_type": "point"}, None, {"bad line": 2}),
        ({"points": "none", "shape_type": "polygon"}, None, {"bad line": 2}),
    ],
)
def test_shapes_of_labelme_become_the_boxes_around_them(tmp_path, shape, box, counted):
    labelme(tmp_path, more=[{"label": "cat", **shape}])
    data = open_data(tmp_path)
    assert data.faults.counts == counted
    if box:
        assert np.isclose(data.boxes, box, atol=1e-3).all(1).sum() == 2


def test_parts_of_one_group_of_labelme_are_one_object(tmp_path):
    part = {"label": "cat", "shape_type": "rectangle", "group_id": 7}
    labelme(tmp_path, more=[{**part, "points": [[1, 2], [3, 4]]}, {**part, "points": [[10, 3], [20, 9]]}])
    assert np.isclose(open_data(tmp_path).boxes, [1, 2, 20, 9]).all(1).sum() == 2


def test_difficult_objects_of_labelme_keep_their_mark(tmp_path):
    labelme(tmp_path, more=[{"label": "cat", "points": [[1, 2], [9, 9]], "difficult": True}])
    assert (open_data(tmp_path).flags == DIFFICULT).sum() == 2


def test_numbers_of_hugging_face_without_names_are_said(tmp_path):
    hf_numbers(tmp_path)
    (tmp_path / "README.md").unlink()
    data = open_data(tmp_path, "all")
    assert data.class_names == ("0", "1") and data.faults.counts == {"no name": 2}


def test_lines_of_hugging_face_that_are_broken_are_counted(tmp_path):
    hf_numbers(tmp_path)
    file = tmp_path / "train" / "metadata.jsonl"
    objects = {"bbox": [[1, 2, 3, 4], [1, 2, 3], [4, 4, 4, 4]], "categories": [7, 0]}
    file.write_text(file.read_text() + "\n{oops\n" + json.dumps({"file_name": "b.jpg", "objects": objects}))
    data = open_data(tmp_path)
    assert data.faults.counts == {"bad line": 2, "undeclared class": 2}


def test_annotations_of_create_ml_without_coordinates_are_counted(tmp_path):
    createml(tmp_path)
    file = tmp_path / "train" / "_annotations.createml.json"
    content = json.loads(file.read_text())
    content[0]["annotations"].append({"label": "cat"})
    file.write_text(json.dumps([*content, {"annotations": []}, 7]))
    assert open_data(tmp_path).faults.counts == {"bad line": 3}


def test_darknets_classes_may_be_lost(tmp_path):
    darknet(tmp_path)
    (tmp_path / "obj.names").unlink()
    with pytest.raises(BadDataError, match=r"obj.data: its names: 'data/obj.names' does not exist"):
        open_data(tmp_path)


@pytest.mark.parametrize("file, text", [
    ("annotations.xml", "<annotations><image"), ("_annotations.createml.json", '[{"image": "a", "annotations": ['),
    ("train-annotations-bbox.csv", "ImageID,XMin,XMax,YMin,YMax\n"), ("_annotations.csv", ",".join(CSV)),
    ("metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": []}}'), ("a.json", '{"shapes": '),
])  # fmt: skip
def test_files_that_are_cut_short_are_one_line(tmp_path, capsys, file, text):
    write(tmp_path / file, text)
    assert main(["data", "check", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path) in error and len(error) <= 500


def test_the_list_of_what_is_looked_for_is_short(tmp_path):
    with pytest.raises(BadDataError) as refused:
        recognise(tmp_path)
    assert all(name.upper() in str(refused.value) for name in FORMATS)
    assert len(str(refused.value)) - len(str(tmp_path)) < 700
