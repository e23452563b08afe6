"""Data sets as strangers have them: each is read rightly, or a line counts and names what is not.

Each case is a data set and what is right: its boxes in pixels (of images of 80 x 60), and the faults that are said. `data check`,
training and evaluation see the same.
"""

import json
import os
import re

import numpy as np
import pytest
from data_sets import SIZE, coco, make_image, voc_xml, yolo

from detection.cli.main import main
from detection.data.check import check
from detection.data.dataset import IGNORE
from detection.data.open import open_data
from detection.errors import BadDataError
from detection.evaluate.truth import ground_truth, open_evaluation

HEIGHT, WIDTH = SIZE
ROW, BOX = "0 .5 .5 .5 .5", [20, 15, 60, 45]  # the same box, YOLO's and in pixels
XYWH = [20, 15, 40, 30]
POSE = ROW + " .4 .4 2 .6 .6 1 0 0 0"
VOC_OBJECT = ("cat", 20, 15, 60, 45, 0)
SAID = {}  # no fault
UTF_8 = '<?xml version="1.0" encoding="utf-8"?>'


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def one_yolo(folder, text=ROW, suffix=".txt", names="[cat, dog]", more=""):
    make_image(folder / "images/a.png")
    if text is not None:
        write(folder / f"labels/a{suffix}", text)
    return write(folder / "data.yaml", f"train: images\nnames: {names}\n{more}")


def one_voc(folder, change=lambda text: text, encode=str.encode, name="Annotations/a.xml"):
    make_image(folder / "JPEGImages/a.jpg")
    voc_xml(folder / "a.xml", [VOC_OBJECT])
    text = (folder / "a.xml").read_text()
    (folder / "a.xml").unlink()
    write(folder / name, encode(change(text)))
    return folder


def one_coco(folder, change=lambda content: None, **fields):
    file = coco(folder, [(1, 1, XYWH)], number=1)

    def both(content):
        content["annotations"][0].update(fields)
        change(content)

    return edit(file, both)


# --- YOLO


def labels_beside_images(folder):
    file = one_yolo(folder)
    make_image(folder / "images/sub/b.png", seed=2)
    write(folder / "images/sub/b.txt", ROW)
    return file


def labelimg(folder):
    write(make_image(folder / "images/a.png").with_suffix(".txt"), ROW)
    write(folder / "images/classes.txt", "cat\ndog\n")
    return folder / "images"


def loop_of_links(folder):
    file = one_yolo(folder)
    os.symlink(".", folder / "images/loop")
    return file


def linked_images(folder):
    one_yolo(folder / "elsewhere")
    os.symlink("elsewhere/images", folder / "images")
    return write(folder / "data.yaml", "train: images\nnames: [cat]\n")


def list_of_another_machine(folder):
    one_yolo(folder)
    make_image(folder / "images/b.png", seed=2), write(folder / "labels/b.txt", ROW)
    write(folder / "train.txt", "\ufeff./images/a.png\r\nC:\\data\\set\\images\\b.png\r\n")
    return write(
        folder / "data.yaml", "path: /home/somebody/set\ntrain: D:\\set\\train.txt\nnames: {'0': cat, '1': dog}\n"
    )


def files_that_nobody_reads(folder):
    file = one_yolo(folder)
    make_image(folder / "images/b.jpg", seed=2).rename(folder / "images/b.jfif")  # which is a JPEG
    write(folder / "labels/b.txt", ROW)
    write(folder / "images/c.HEIC", b"\0\0\0\x18ftypheic"), write(folder / "labels/c.txt", ROW)
    write(folder / "labels/lost.txt", ROW)
    (
        write(folder / "images/README.txt", "hello"),
        write(folder / "labels.cache", "x"),
        write(folder / "labels/train.txt", "x"),
    )
    return file


def of_another_kind(folder):
    file = one_yolo(folder)
    make_image(folder / "images/b.png", seed=2), write(folder / "images/b.json", "{}")
    return file


YOLO = {
    "labels beside images": (labels_beside_images, [BOX, BOX], SAID),
    "labelImg's folder called images": (labelimg, [BOX], SAID),
    "a loop of links": (loop_of_links, [BOX], SAID),
    "a link to the images": (linked_images, [BOX], SAID),
    "labels in capitals": (lambda f: one_yolo(f, suffix=".TXT"), [BOX], SAID),
    "UTF-16": (lambda f: one_yolo(f, ROW.encode("utf-16")), [BOX], SAID),
    "UTF-16 without a mark": (lambda f: one_yolo(f, ROW.encode("utf-16-le")), [BOX], SAID),
    "poses": (lambda f: one_yolo(f, POSE, more="kpt_shape: [3, 3]\n"), [BOX], SAID),
    "poses that nobody announced": (lambda f: one_yolo(f, POSE), [BOX], SAID),
    "poses of an even length": (lambda f: one_yolo(f, f"{ROW} .4 .4 .6 .6", more="kpt_shape: [2, 2]\n"), [BOX], SAID),
    "outlines": (lambda f: one_yolo(f, "0 .25 .25 .75 .25 .75 .75 .25 .75"), [BOX], SAID),
    "an empty label file": (lambda f: (one_yolo(f, ""), one_yolo(f / "x"))[1], [BOX], SAID),
    "classes in capitals": (
        lambda f: labelimg(f).joinpath("classes.txt").rename(f / "images/Classes.TXT").parent,
        [BOX],
        SAID,
    ),
    "names in a text": (lambda f: one_yolo(f, names="cat, dog"), [BOX], SAID),
    "names in a file": (lambda f: (write(f / "my.names", "cat\ndog\n"), one_yolo(f, names="my.names"))[1], [BOX], SAID),
    "a list of another machine": (list_of_another_machine, [BOX, BOX], SAID),
    "files that nobody reads": (
        files_that_nobody_reads,
        [BOX, BOX],
        {"unread": ("c.HEIC: a HEIC", "lost.txt: belongs")},
    ),
    "annotations of another kind": (of_another_kind, [BOX], {"unread annotation": ("b.json: no .txt of YOLO",)}),
}

# --- VOC


def xml_beside_images(folder):
    voc_xml(folder / "a.xml", [VOC_OBJECT])
    make_image(folder / "a.jpg")
    return folder


def roboflows_folders(folder):
    for seed, split in enumerate(("train", "valid")):
        voc_xml(folder / split / f"{split}.xml", [VOC_OBJECT])
        make_image(folder / split / f"{split}.jpg", seed=seed)
    return folder


def alone_and_unread(folder):
    one_voc(folder)
    make_image(folder / "JPEGImages/b.jpg", seed=2)
    voc_xml(folder / "Annotations/lost.xml", [VOC_OBJECT])
    write(folder / "Annotations/html.xml", "<html><body/></html>"), make_image(folder / "JPEGImages/html.jpg", seed=3)
    write(folder / "Annotations/cut.xml", "<annotation><obj"), make_image(folder / "JPEGImages/cut.jpg", seed=4)
    return folder


def renamed_image(folder):
    one_voc(folder)
    make_image(folder / "JPEGImages/sub/a.png")
    (folder / "JPEGImages/a.jpg").unlink()
    return folder


def no_bndbox(text):
    outline = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(20, 15), (60, 20), (40, 45)], 1))
    return re.sub("<bndbox>.*</bndbox>", f"<polygon>{outline}</polygon>", text)


def in_namespace(text):
    return text.replace("<annotation>", '<v:annotation xmlns:v="urn:x">').replace("</annotation>", "</v:annotation>")


VOC = {
    "a namespace": (lambda f: one_voc(f, in_namespace), [BOX], SAID),
    "a default namespace": (lambda f: one_voc(f, lambda t: t.replace("<annotation>", '<annotation xmlns="urn:x">')), [BOX], SAID),
    "no size": (lambda f: one_voc(f, lambda t: re.sub("<size>.*</size>", "", t)), [BOX], SAID),
    "size 0": (lambda f: one_voc(f, lambda t: t.replace(">80<", ">0<")), [BOX], SAID),
    "size 1": (lambda f: one_voc(f, lambda t: t.replace(">80<", ">1<").replace(">60</height", ">1</height")), [BOX],
               {"size wrong": ("annotated 1 x 1, is 80 x 60",)}),
    "sizes exchanged": (lambda f: one_voc(f, lambda t: t.replace("<width>80", "<width>60").replace("<height>60", "<height>80")),
                        [BOX], {"size wrong": ("annotated 60 x 80",), "fits either way": ()}),
    "numbers with a comma": (lambda f: one_voc(f, lambda t: t.replace(">15<", ">15,0<")), [BOX], SAID),
    "reversed corners": (lambda f: one_voc(f, lambda t: t.replace(">20<", ">6e1<").replace(">60</xmax", ">20</xmax")), [BOX],
                         {"reversed": ()}),
    "an outline": (lambda f: one_voc(f, no_bndbox), [BOX], SAID),
    "UTF-16": (lambda f: one_voc(f, encode=lambda t: t.encode("utf-16")), [BOX], SAID),
    "GBK": (lambda f: one_voc(f, lambda t: f'<?xml version="1.0" encoding="gbk"?>{t}'.replace("cat", "猫"),
                              lambda t: t.encode("gbk")), [BOX], SAID),
    "Latin-1, said to be UTF-8": (lambda f: one_voc(f, lambda t: UTF_8 + t.replace("cat", "Löwe"),
                                                  lambda t: t.encode("latin-1")), [BOX], {"encoding": ("a.xml",)}),
    "XML in capitals": (lambda f: one_voc(f, name="annotations/a.XML"), [BOX], SAID),
    "XML beside images": (xml_beside_images, [BOX], SAID),
    "a folder for each split": (roboflows_folders, [BOX], SAID),
    "an image in another place": (renamed_image, [BOX], SAID),
    "alone and unread": (alone_and_unread, [BOX], {"missing": ("lost.jpg",), "unread annotation": ("<html>", "cut.xml"),
                                                   "unannotated": ("b.jpg",)}),
}  # fmt: skip

# --- COCO


def nested_names(folder):
    file = one_coco(folder, lambda c: c["images"][0].update(file_name="D:\\set\\deep\\1.PNG"))
    os.makedirs(folder / "images/deep")
    os.rename(folder / "images/1.png", folder / "images/deep/1.png")
    return file


def accents(folder):
    """NFC in the annotation, NFD on the disk; and another image as a web page's address writes it."""
    file = coco(folder, [(1, 1, XYWH), (2, 1, XYWH)])
    os.rename(folder / "images/1.png", folder / "images/Le\u0301o.png")
    os.rename(folder / "images/2.png", folder / "images/a b.png")
    names = "L\u00e9o.png", "upload/a%20b.png"
    return edit(file, lambda c: [image.update(file_name=name) for image, name in zip(c["images"], names)])


def two_of_one_file(folder):
    file = coco(folder, [(1, 1, XYWH), (2, 1, XYWH)])
    (folder / "images/2.png").unlink()
    return edit(file, lambda c: c["images"][1].update(file_name="other/1.png"))


def unlisted(folder):
    file = one_coco(folder)
    make_image(folder / "images/x.png", seed=9)
    write(folder / "images/y.avif", b"\0\0\0\x18ftypavif")
    return file


RUNS = {"size": [HEIGHT, WIDTH], "counts": []}
RUNS["counts"] = [20 * 60 + 15] + [30, 30] * 39 + [30]  # 40 columns of 30 from (20, 15)
OUTLINE = [[20, 15, 60, 15, 60, 45], [20, 20, 30, 45, 25, 30]]

COCO = {
    "outlines without boxes": (lambda f: one_coco(f, bbox=None, segmentation=OUTLINE), [BOX], SAID),
    "masks without boxes": (lambda f: one_coco(f, bbox=[], segmentation=RUNS), [BOX], SAID),
    "a box of text": (lambda f: one_coco(f, bbox="[20, 15, 40, 30]"), [BOX], SAID),
    "numbers of text": (lambda f: one_coco(f, bbox=["20", "15.0", " 40", "3e1"], category_id="1"), [BOX], SAID),
    "no sizes": (lambda f: one_coco(f, lambda c: c["images"][0].update(width=None, height=None)), [BOX], SAID),
    "one id for two annotations": (lambda f: edit(coco(f, [(1, 1, XYWH), (2, 1, XYWH)]),
                                                  lambda c: c["annotations"][1].update(id=1)), [BOX, BOX], SAID),
    "names of another system": (nested_names, [BOX], SAID),
    "accents and addresses": (accents, [BOX, BOX], SAID),
    "UTF-16": (lambda f: write(f / "utf16.json", one_coco(f).read_text().encode("utf-16")), [BOX], SAID),
    "an ending of one's own": (lambda f: one_coco(f).rename(f / "truth.gt"), [BOX], SAID),
    "two images, one file": (two_of_one_file, [BOX], {"same file": ("other/1.png",), "missing": ()}),
    "images that are not listed": (unlisted, [BOX], {"unannotated": ("x.png",), "unread": ("y.avif: an AVIF image",)}),
}  # fmt: skip

CASES = {
    f"{kind}: {name}": case
    for kind, of in {"yolo": YOLO, "voc": VOC, "coco": COCO}.items()
    for name, case in of.items()
}


@pytest.mark.parametrize("make, boxes, said", CASES.values(), ids=CASES)
def test_boxes_are_right_and_what_is_lost_is_said(tmp_path, make, boxes, said):
    path = make(tmp_path)
    report = check(open_data(path), content=False)
    data, faults = report.data, report.summary.faults
    assert np.abs(data.boxes[data.targets] - boxes).max() < 0.01 and not data.labels[data.targets].any()
    assert faults.counts.keys() == said.keys()
    for kind, words in said.items():
        assert faults[kind] == max(len(words), 1)
        assert all(word in " ".join(faults.examples[kind]) for word in words)
    truth = ground_truth(open_evaluation(path))
    corners = truth.boxes[~truth.crowd] + np.pad(truth.boxes[~truth.crowd, :2], ((0, 0), (2, 0)))
    readable = np.array([os.path.exists(path) for path in truth.paths])[truth.image[~truth.crowd]]
    assert np.abs(corners[readable] - boxes).max() < 0.01


def test_a_folder_of_two_formats_is_the_same_for_training_and_evaluation(tmp_path):
    """VOC beside a COCO file that somebody converted of it."""
    one_voc(tmp_path)
    coco(tmp_path, [(1, 2, XYWH)])
    assert open_data(tmp_path).source == open_evaluation(tmp_path).source == "voc"


# --- what is annotated and cannot be read is no background

DOUBTFUL = {
    "a broken line": (lambda f: one_yolo(f, f"{ROW}\n1 .5 .5"), "bad line", None),
    "a class that is not declared": (
        lambda f: one_yolo(f, f"{ROW}\n7 .25 .25 .5 .5"),
        "undeclared class",
        [0, 0, 40, 30],
    ),
    "pixels": (lambda f: one_yolo(f, f"{ROW}\n1 40 30 20 10"), "bad line", None),
    "no number": (lambda f: one_yolo(f, f"{ROW}\n1 nan .5 .5 .5"), "not finite", None),
    "an object without a box": (
        lambda f: one_voc(f, lambda t: t.replace("</annotation>", "<object><name>cat</name></object></annotation>")),
        "bad line",
        None,
    ),
    "an object without a name": (
        lambda f: one_voc(f, lambda t: t.replace("</annotation>", t[t.index("<object>") :].replace("cat", ""))),
        "undeclared class",
        BOX,
    ),
    "a box of three numbers": (
        lambda f: one_coco(f, lambda c: c["annotations"].append({**c["annotations"][0], "bbox": [1, 2, 3]})),
        "bad line",
        None,
    ),
    "a class that is null": (
        lambda f: one_coco(f, lambda c: c["annotations"].append({**c["annotations"][0], "category_id": None})),
        "undeclared class",
        BOX,
    ),
}


@pytest.mark.parametrize("make, kind, region", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_nobody_can_read_is_neither_object_nor_background(tmp_path, make, kind, region):
    """Where it is, if that can be read; else nothing in the image is background. Evaluation counts no false alarm there."""
    path = make(tmp_path)
    data = check(open_data(path), content=False).data
    assert data.boxes[data.targets].tolist() == [BOX] and data.faults[kind] == 1
    ignored = data.flags == IGNORE
    assert data.boxes[ignored].tolist() == [region or [0, 0, WIDTH, HEIGHT]] and data.labels[ignored].tolist() == [-1]
    truth = ground_truth(open_evaluation(path))
    assert truth.category[truth.crowd].tolist() == list(range(len(truth.category_ids)))


def test_an_image_with_a_broken_annotation_is_left_out(tmp_path):
    file = one_yolo(tmp_path)
    make_image(tmp_path / "images/b.png", seed=2), write(tmp_path / "labels/b.txt", b"\x00\x01\x02\xff")
    data = open_data(file)
    assert len(data) == 1 and data.faults.counts == {"unread annotation": 1}
    assert "b.txt: no text" in data.faults.examples["unread annotation"][0]


def test_an_image_without_a_label_file_is_counted(tmp_path, capsys):
    file = yolo(tmp_path, {"train": {"a": [ROW], "b": None, "c": []}})
    assert main(["data", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert (
        "2 images without objects" in out and "1 images have no annotation file: kept as images without objects" in out
    )
    assert "images/train/b.png" in out


# --- which frame the boxes are in: what fits decides


@pytest.mark.parametrize(
    "xywh, kinds, right",
    [
        ([70, 5, 8, 30], {"exif turned": 1}, [60 - 35, 70, 60 - 5, 78]),  # fits only as stored: 80 x 60
        ([5, 70, 30, 8], {"size wrong": 1}, [5, 70, 35, 78]),  # fits only as shown: 60 x 80
        ([5, 10, 30, 20], {"exif turned": 1, "fits either way": 1}, [60 - 30, 5, 60 - 10, 35]),
    ],
)
@pytest.mark.parametrize("sized", [True, False])
def test_whether_exif_turned_the_boxes_is_decided_by_what_fits(tmp_path, xywh, kinds, right, sized):
    def unsized(content):
        if not sized:
            content["images"][0].update(width=None, height=None)

    file = one_coco(tmp_path, lambda c: (c["images"][0].update(file_name="1.jpg"), unsized(c)), bbox=xywh)
    (tmp_path / "images/1.png").unlink()
    make_image(tmp_path / "images/1.jpg", orientation=6)  # shown as 60 x 80
    data = check(open_data(file), content=False).data
    if not sized:  # without a size, boxes are taken as shown unless they fit as stored only
        turned = kinds == {"exif turned": 1}
        kinds, right = (
            ({"exif turned": 1}, right) if turned else ({}, [*xywh[:2], xywh[0] + xywh[2], xywh[1] + xywh[3]])
        )
    assert data.boxes.tolist() == [right] and data.faults.counts == kinds
    assert ground_truth(open_evaluation(file)).sizes.tolist() == [[80, 60]]


def test_images_that_fit_either_way_go_with_the_others(tmp_path):
    """Exchanged sizes without EXIF: where some boxes fit the annotated size only, the images themselves were turned since."""
    clear, unclear = [5, 62, 10, 10], [5, 5, 10, 10]
    turned = lambda content: [image.update(width=HEIGHT, height=WIDTH) for image in content["images"]]  # noqa: E731
    kept = check(open_data(edit(coco(tmp_path / "a", [(1, 1, unclear), (2, 1, [65, 5, 10, 10])]), turned))).data
    assert len(kept) == 2 and kept.faults.counts == {"size wrong": 2, "fits either way": 1}
    with pytest.raises(BadDataError, match="2 images have another size and shape than the annotation says"):
        check(open_data(edit(coco(tmp_path / "b", [(1, 1, unclear), (2, 1, clear)]), turned)))


# --- the first fault stands in the error


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda f: one_yolo(f, "0 .5 .5"), r"no box to learn from in 1 images .*a.txt:1: '0 .5 .5'"),
        (
            lambda f: (one_yolo(f), (f / "images/a.png").rename(f / "images/a.heic"))[0],
            "no images in its split 'train'.*a.heic",
        ),
        (lambda f: one_yolo(f, b"\x00\x01\xff"), "no image that can be used .*a.txt: no text"),
        (lambda f: one_voc(f, lambda t: t[:200]), "no images that are annotated that can be used .*a.xml: no XML"),
        (
            lambda f: one_voc(f, lambda t: t.replace("bndbox", "box")),
            "no object in any XML file, .*has no bndbox of four numbers",
        ),
        (lambda f: one_coco(f, bbox={"x": 1}), r"no box to learn from .*annotations\[0\] has .*bbox"),
        (
            lambda f: write(one_yolo(f, None).parent / "labels2/a.txt", ROW).parents[1],
            "no box to learn from .*no annotation",
        ),
    ],
)
def test_the_first_fault_stands_in_the_error(tmp_path, capsys, make, words):
    path = make(tmp_path)
    assert main(["data", "check", str(path)]) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.startswith("error: ") and error.count("\n") == 1
