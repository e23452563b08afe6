"""What was found, in files: each format to the letter, also for images in which nothing is and names that are no text."""

import json
import os

import numpy as np
import pytest

from detection.boxes.detections import Detections
from detection.images.sources import Source
from detection.outputs import Record
from detection.outputs.coco_json import CocoJson, ImageIds
from detection.outputs.csv_table import LIVE_COLUMNS, CsvTable, LiveCsv, csv_line
from detection.outputs.json_lines import LiveJsonLines
from detection.outputs.json_lines import encode as jsonl
from detection.outputs.json_lines import errors_in as jsonl_errors


def found(tracks=None):
    boxes = np.array([[1, 2, 30.256, 40], [0, 0, 5, 5.5]], np.float32)
    scores, classes = np.array([0.9, 0.5], np.float32), np.array([1, 0])
    return Detections(boxes, scores, classes, ("person", "dog"), (60, 80), (1, 18), tracks)


NOTHING = found()[[]]
BOXES = ["dog,18,0.9,1.0,2.0,30.26,40.0", "person,1,0.5,0.0,0.0,5.0,5.5"]


def test_coco_json_and_csv_of_a_run(tmp_path):
    outputs = [CocoJson(tmp_path / "a.json"), CsvTable(tmp_path / "a.csv")]
    for output in outputs:
        output.add(Record("a, b.jpg", found(), image_id=7))
        output.add(Record("c.jpg", NOTHING, image_id=8))
        output.add(Record("film.mp4", found()[:1], image_id=9, frame=3, time=0.12345))
        assert not list(tmp_path.glob(output.path.name)), "nothing is there before it is whole"
        output.close()
    rows = json.loads((tmp_path / "a.json").read_text())
    assert rows[0] == {
        "image_id": 7,
        "category_id": 18,
        "bbox": [1.0, 2.0, 29.256, 38.0],
        "score": 0.9,
        "category_name": "dog",
        "file_name": "a, b.jpg",
    }
    assert len(rows) == 3 and rows[2]["frame"] == 3 and rows[2]["time"] == 0.123
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "file,frame,time,image_id,class,category_id,score,x1,y1,x2,y2",
        *(f'"a, b.jpg",,,7,{box}' for box in BOXES),
        f"film.mp4,3,0.123,9,{BOXES[0]}",
    ]


def test_names_that_are_no_text_lose_no_file(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    for output in (CocoJson(tmp_path / "a.json"), CsvTable(tmp_path / "a.csv")):
        output.add(Record(name, found(), image_id=1))
        output.close()
    assert json.loads((tmp_path / "a.json").read_text())[0]["file_name"] == name
    assert "caf\\udce9.jpg" in (tmp_path / "a.csv").read_text()
    assert json.loads(jsonl([Record(name, found())]))["file"] == "caf\\udce9.jpg"


def test_lines_of_a_live_source():
    lines: list[str] = []
    outputs = [LiveCsv(lines.append), LiveJsonLines(lines.append)]
    records = [Record("cam", found(np.array([4, -1])), frame=2, time=1.0009, at="2026-01-01T00:00:00.000Z")]
    records.append(Record("cam", NOTHING, frame=3, time=1.1, at="2026-01-01T00:00:00.100Z"))
    for output in outputs:
        for record in records:
            output.add(record)
        output.close()
    assert csv_line(LIVE_COLUMNS) == "source,frame,time,at,class,category_id,score,x1,y1,x2,y2,track_id"
    assert lines[:2] == [f"cam,2,1.001,2026-01-01T00:00:00.000Z,{box},{track}" for box, track in zip(BOXES, ("4", ""))]
    first, second = map(json.loads, lines[2:])
    assert list(first) == ["source", "frame", "time", "at", "image_size", "detections"]
    assert first["detections"][0]["track_id"] == 4 and second["detections"] == []


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_shards_hold_every_image_and_what_is_wrong_with_it(kind):
    records = [Record("a.jpg", found()), Record("b.jpg", None, "is empty"), Record("c.jpg", NOTHING)]
    wanted = {"a.jpg": "", "b.jpg": "is empty", "c.jpg": ""}
    if kind == "jsonl":
        assert jsonl_errors(jsonl(records)) == wanted
    else:
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        from detection.outputs import parquet

        assert parquet.errors_in(parquet.encode(records)) == wanted


def test_image_ids_are_the_numbers_in_the_names_where_all_have_one():
    numbered = [Source("x/000000000139.jpg"), Source("COCO_val2014_000000000042.jpg")]
    ids = ImageIds(numbered)
    assert [ids.next(source) for source in numbered] == [139, 42]
    other = [*numbered, Source("dog.jpg")]
    ids = ImageIds(other)
    assert [ids.next(source) for source in other] == [1, 2, 3]
    film = Source("7.mp4")
    ids = ImageIds([film])
    assert [ids.next(film) for _ in range(3)] == [1, 2, 3]
