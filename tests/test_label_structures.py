"""Labels and recipes of any structure (hypothesis): read, or refused in one line. Bytes are the business of tests/fuzz.py."""

import csv
import io
import json
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import yaml
from data_sets import make_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.data.check import check
from detection.data.open import open_data
from detection.errors import MobileSSDError, printable
from detection.evaluate.truth import ground_truth, open_evaluation
from detection.train.recipes import load_config

SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = st.one_of(st.integers(-2, 70), st.integers(), st.floats(), st.sampled_from([0, 1, 60, 40, 1e308, 2**63]))
TEXTS = st.one_of(st.sampled_from(["cat", "a.png", "../a.png", "", "1", "nan"]), st.text(max_size=8))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
BOXES = st.lists(NUMBERS, min_size=4, max_size=4)


def rows(**columns):
    """A list of dictionaries with some of these keys, each mostly as it should be; or anything."""
    row = st.fixed_dictionaries({}, optional={key: st.one_of(value, value, VALUES) for key, value in columns.items()})
    return st.one_of(st.lists(row, max_size=4), st.lists(row, max_size=4), VALUES)


COCO = st.fixed_dictionaries(
    {
        "images": rows(id=st.integers(1, 3), file_name=TEXTS, width=NUMBERS, height=NUMBERS),
        "annotations": rows(image_id=st.integers(1, 3), category_id=st.integers(1, 2), bbox=BOXES, segmentation=VALUES),
        "categories": rows(id=st.integers(1, 2), name=TEXTS),
    }
)
CREATE_ML = rows(
    image=TEXTS,
    annotations=rows(
        label=TEXTS, coordinates=st.fixed_dictionaries(dict.fromkeys(("x", "y", "width", "height"), NUMBERS))
    ),
)
LABELME = st.fixed_dictionaries(
    {
        "version": st.just("5.0"),
        "shapes": rows(label=TEXTS, points=st.lists(st.lists(NUMBERS, max_size=3), max_size=4)),
    },
    optional={"imagePath": TEXTS, "imageWidth": NUMBERS, "imageHeight": NUMBERS, "imageData": st.none()},
)
JSON_LINES = rows(
    file_name=TEXTS, objects=st.fixed_dictionaries({"bbox": st.lists(BOXES, max_size=3), "categories": VALUES})
)


def survives(name, text, *readers):
    """A file of this name beside an image goes through these readers."""
    with tempfile.TemporaryDirectory() as folder:
        make_image(Path(folder) / "a.png")
        path = Path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        for read in readers:
            try:
                read(path)
            except MobileSSDError as error:
                assert printable(str(error)) == str(error) and len(str(error)) <= 500


def to_check(path):
    check(open_data(path, "all"), content=False).text()


def to_folder(path):
    to_check(path.parent)


def to_evaluation(path):
    ground_truth(open_evaluation(path))


@SOME
@given(COCO)
def test_coco_of_any_structure(tree):
    survives("instances.json", json.dumps(tree), to_check, to_evaluation)


@SOME
@given(CREATE_ML)
def test_create_ml_of_any_structure(tree):
    survives("_annotations.createml.json", json.dumps(tree), to_folder)


@SOME
@given(LABELME)
def test_labelme_of_any_structure(tree):
    survives("a.json", json.dumps(tree), to_folder)


@SOME
@given(JSON_LINES)
def test_lines_of_hugging_face_of_any_structure(tree):
    survives("metadata.jsonl", "\n".join(map(json.dumps, tree if isinstance(tree, list) else [tree])), to_folder)


@SOME
@given(st.lists(st.lists(st.one_of(TEXTS, NUMBERS.map(str)), min_size=6, max_size=9), max_size=4), st.booleans())
def test_tables_of_any_structure(lines, open_images):
    header = ["ImageID", "XMin", "XMax", "YMin", "YMax", "LabelName", "IsGroupOf", "ClassName"]
    if not open_images:
        header = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    text = io.StringIO()
    csv.writer(text).writerows([header, *lines])
    survives("train-annotations-bbox.csv" if open_images else "_annotations.csv", text.getvalue(), to_folder)


@st.composite
def elements(draw, depth=0):
    """XML with the tags of VOC and CVAT in any order, with any texts."""
    tags = (
        "object",
        "name",
        "bndbox",
        "xmin",
        "ymin",
        "xmax",
        "ymax",
        "size",
        "width",
        "image",
        "box",
        "polygon",
        "points",
    )
    said = draw(
        st.dictionaries(st.sampled_from(("name", "label", "xtl", "ytl", "xbr", "ybr", "points", "width")), TEXTS)
    )
    words = "".join(f" {key}={quoteattr(_plain(value))}" for key, value in said.items())
    inner = "".join(draw(st.lists(elements(depth + 1), max_size=3))) if depth < 3 else ""
    tag = draw(st.sampled_from(tags))
    return f"<{tag}{words}>{escape(_plain(str(draw(st.one_of(TEXTS, NUMBERS)))))}{inner}</{tag}>"


def _plain(text):
    return "".join(letter for letter in text if letter.isprintable() and not "\ud800" <= letter <= "\udfff")


@SOME
@given(st.lists(elements(), max_size=3), st.booleans())
def test_xml_of_any_structure(parts, cvat):
    tag = "annotations" if cvat else "annotation"
    survives("annotations.xml" if cvat else "a.xml", f"<{tag}>{''.join(parts)}</{tag}>", to_folder)


@SOME
@given(st.dictionaries(st.sampled_from(["path", "train", "val", "names", "nc", "kpt_shape", "x"]), VALUES))
def test_data_yaml_of_any_structure(tree):
    survives("data.yaml", yaml.safe_dump(tree, allow_unicode=True), to_check)


KEYS = ["model", "options", "batch", "epochs", "input_sizes", "optimizer", "schedule", "workers", "loss", "x"]


@SOME
@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_recipes_of_any_structure(tree):
    survives("recipe.yaml", yaml.safe_dump(tree, allow_unicode=True), load_config)
