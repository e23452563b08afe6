"""`mobilessd detect --shards`: every image once, the Detector's own numbers, and what may not go together in one line."""

import json
import os
import sys
from pathlib import Path

import bulk_help as bulk
import children
import numpy as np
import pytest

from detection import Detector
from detection.bulk import folder, progress
from detection.cli.main import main
from detection.errors import BadImageError, MobileSSDWarning
from detection.images import addresses


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def detect(weights, tmp_path, monkeypatch, capsys):
    """Runs `mobilessd detect ARGS` beside ten images in `in`; gives (exit code, stdout, stderr)."""
    bulk.save_images(tmp_path / "in", 10)
    monkeypatch.chdir(tmp_path)

    def run(*args, kind="jsonl", weights=weights, **more):
        options = {"shards": "out", "shard-size": 4, "shard-format": kind, "weights": weights, "score": 0.01} | more
        words = [word for name, value in options.items() if value for word in (f"--{name.replace('_', '-')}", value)]
        code = main(["detect", *map(str, [*args, *words])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_image_has_a_row_with_the_detectors_own_numbers(detect, weights, kind):
    pytest.importorskip("pyarrow", reason="needs pyarrow") if kind == "parquet" else None
    code, out, err = detect("in", kind=kind)
    assert code == 0 and err == ""
    assert "10 images in 3 shards" in out and "images/s" in out and out.endswith("; in out\n")
    rows = bulk.rows_of(Path("out"))
    assert list(bulk.shards_of(Path("out"))) == [f"part-00000{i}.{kind}" for i in range(3)]
    assert [row["file"] for row in rows] == [f"in/{i:03d}.jpg" for i in range(10)]
    found = Detector(weights, score=0.01)([row["file"] for row in rows])
    for row, expected in zip(rows, found):
        assert (row["height"], row["width"]) == expected.image_size and row["error"] is None
        assert np.array_equal(bulk.boxes_of(row), np.concatenate([expected.scores[:, None], expected.boxes], 1))
        assert [one["name"] for one in row["detections"]] == expected.names
        assert [one["category_id"] for one in row["detections"]] == [(1, 2, 7)[i] for i in expected.class_ids]


def test_the_parquet_schema_is_the_documented_one(detect):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    detect("in", kind="parquet", classes="b", score=0.999)  # nothing is found: the columns are there all the same
    columns = {field.name: str(field.type) for field in parquet.read_schema("out/part-000000.parquet")}
    name = "dictionary<values=string, indices=int32, ordered=0>"
    numbers = "class_id: int32, category_id: int32, score: float, x1: float, y1: float, x2: float, y2: float"
    assert columns == {
        "file": "string",
        "width": "int32",
        "height": "int32",
        "detections": f"list<element: struct<name: {name}, {numbers}>>",
        "error": "string",
    }
    assert [row["detections"] for row in bulk.rows_of(Path("out"))] == [[]] * 10


def test_views_are_those_of_the_detector_and_stand_in_the_manifest(detect, weights):
    assert detect("in", tiles="2x2")[0] == 0
    rows = bulk.rows_of(Path("out"))
    found = Detector(weights, score=0.01, tiles="2x2")([row["file"] for row in rows])
    for row, expected in zip(rows, found):
        assert bulk.boxes_of(row)[:, 1:] == pytest.approx(expected.boxes, abs=1e-3)
    settings = json.loads(Path("out/_manifest.json").read_text())["settings"]
    assert settings["views"] == "1+2x2" and settings["merge"] == "vote"
    assert "was begun with views 1+2x2 and not none" in detect("in")[2]


def test_a_manifest_says_what_the_shards_were_made_with(detect):
    detect("in", classes="c,a")
    manifest = json.loads(Path("out/_manifest.json").read_text())
    assert manifest["weights"]["name"] == "tiny.xml" and len(manifest["weights"]["sha256"]) == 64
    assert manifest["settings"]["classes"] == ["a", "c"] and manifest["settings"]["runtime"] == "openvino"
    assert manifest["shards"] == {"format": "jsonl", "size": 4, "count": 3} and manifest["images"]["count"] == 10
    assert manifest["class_names"] == ["a", "b", "c"] and manifest["category_ids"] == [1, 2, 7]


def test_broken_images_stand_in_the_shard_and_the_run_goes_on(detect):
    Path("in/0001.jpg").write_text("no image")
    Path("in/0000.tif").write_bytes(b"II+\0\x08\0\0\0" + b"\xff" * 8)  # a BigTIFF whose directory lies nowhere
    Path("list.txt").write_text("in\nnothere.jpg\n")
    code, out, err = detect("list.txt")
    assert code == 0 and "13 images" in out and "3 that could not be read (see the column error)" in out
    lines = [
        "in/0000.tif: is cut short or broken (its header is broken): fetch it again",
        "in/0001.jpg: is no image but a text file",
        "nothere.jpg: no such file: check the path",
    ]
    assert sorted(err.splitlines()) == [f"warning: {line}" for line in lines]
    bad = [row for row in bulk.rows_of(Path("out")) if row["error"]]
    assert [f"{row['file']}: {row['error']}" for row in bad] == lines
    assert all(row["detections"] == [] and row["width"] is None for row in bad)


def test_exit_code_2_is_for_files_named_and_for_nothing_but_broken_ones_also_when_they_are_done(detect):
    Path("bad.jpg").write_text("no image")
    for _ in range(2):
        code, _, err = detect("in", "bad.jpg")
        assert code == 2 and err.splitlines()[-1] == "error: 1 of the files named could not be read"
    Path("list.txt").write_text("bad.jpg\nmissing.png\n")
    for _ in range(2):
        code, _, err = detect("list.txt", shards="other")
        assert code == 2 and err.splitlines()[-1] == "error: none of the 2 images could be read"


# ---------------------------------------------------------------- addresses


def test_images_and_shards_may_lie_at_addresses(detect):
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
    files = fsspec.filesystem("memory")
    files.put("in/", "/bulk/in/", recursive=True)
    files.pipe_file("/bulk/list.txt", b"in/00[0-4].jpg\nin/00[5-9].jpg\n")
    detect("in")
    ours = [row | {"file": ""} for row in bulk.rows_of(Path("out"))]
    for number, source in enumerate(["memory://bulk/in", "memory://bulk/in/*.jpg", "memory://bulk/list.txt"]):
        place = f"memory://bulk/out{number}"
        assert detect(source, shards=place)[0] == 0
        there = sorted(name.rpartition("/")[2] for name in files.ls(f"/bulk/out{number}", detail=False))
        assert there == ["_manifest.json", *(f"part-00000{i}.jsonl" for i in range(3))]
        text = b"".join(files.cat_file(f"/bulk/out{number}/{name}") for name in there[1:])
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["file"] for row in rows] == [f"memory:///bulk/in/{i:03d}.jpg" for i in range(10)]
        assert [row | {"file": ""} for row in rows] == ours
        assert "nothing to do: all 10 images" in detect(source, shards=place)[1]


def test_a_store_that_does_not_answer_ends_the_run_and_makes_no_image_a_broken_one(detect, monkeypatch):
    class Store:
        asked = 0

        def cat_file(self, path):
            Store.asked += 1
            raise {"gone.jpg": FileNotFoundError, "secret.jpg": PermissionError}.get(path, TimeoutError)("no answer")

    monkeypatch.setattr(addresses, "file_system", lambda address: (Store(), address.rpartition("/")[2]))
    monkeypatch.setattr(addresses, "PAUSE", 0)
    for name, words in (("gone", "no such file"), ("secret", "may not be read")):
        with pytest.raises(BadImageError, match=words):
            addresses.fetch(f"s3://bucket/{name}.jpg")
    assert Store.asked == 2
    code, _, err = detect("in", "s3://bucket/a.jpg")
    assert code == 2 and Store.asked == 2 + 1  # what reads s3:// tries again by itself
    assert err == (
        "error: s3://bucket/a.jpg: cannot be reached (TimeoutError: no answer); check the network, the address and the keys\n"
    )
    assert len(bulk.rows_of(Path("out"))) in (4, 8), "whole shards before it are kept"


# ---------------------------------------------------------------- stopped, and started again


def test_ctrl_c_keeps_whole_shards_and_says_how_to_go_on(detect, monkeypatch):
    write, written = folder.LocalFolder.write, []

    def stop_at_third(self, name, data):
        written.append(name)
        if len(written) == 3:  # the manifest, a shard, and
            raise KeyboardInterrupt
        write(self, name, data)

    monkeypatch.setattr(folder.LocalFolder, "write", stop_at_third)
    code, out, err = detect("in")
    assert code == 130 and "4 images" in out
    assert err == "interrupted: 4 of 10 images are in out; the same command goes on from there\n"
    assert "10 images in 3 shards (jsonl); 1 there already" in detect("in")[1]
    detect("in", shards="whole")
    assert bulk.shards_of(Path("out")) == bulk.shards_of(Path("whole"))
    before = bulk.shards_of(Path("out"))
    assert "nothing to do: all 10 images are in out" in detect("in")[1] and bulk.shards_of(Path("out")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": 0.5}, "was begun with score 0.01 and not 0.5: give the same options, or another folder"),
        ({"classes": "b,a"}, "was begun with classes none and not a,b"),
        ({"iou": 0.5, "max-det": 7}, "was begun with iou 0.6 and not 0.5, max_detections 100 and not 7"),
        ({"shard-size": 5}, "was begun with shard size 4 and not 5, shard count 3 and not 2"),
        ({"shard-format": "parquet"}, "was begun with shard format jsonl and not parquet"),
        ({"merge": "nms"}, "was begun with merge vote and not nms"),
        ({"views": "1+mirror"}, "was begun with views none and not 1\\+mirror"),
        ({"batch": 3}, "was begun with batch 16 and not 3"),
        ({"runtime": "onnxruntime"}, "does not run .xml files|is not installed|runtime openvino and not onnxruntime"),
    ],
)
def test_going_on_with_other_settings_is_refused(detect, change, words):
    import re

    detect("in")
    code, _, err = detect("in", **change)
    assert code == 2 and err.count("\n") == 1 and re.search(words, err), err


def test_a_folder_that_an_older_version_began_is_gone_on_with(detect):
    """Its manifest calls the images pictures."""
    detect("in")
    before = bulk.shards_of(Path("out"))
    path = Path("out/_manifest.json")
    manifest = json.loads(path.read_text())
    manifest = {{"images": "pictures"}.get(key, key): value for key, value in manifest.items()}
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    Path("out/part-000001.jsonl").unlink()
    code, out, err = detect("in")
    assert code == 0 and "2 there already" in out and bulk.shards_of(Path("out")) == before
    bulk.save_images(Path("in"), 1, start=10)
    assert "was begun with 10 images and not 11" in detect("in")[2]


def test_going_on_with_other_images_or_weights_is_refused(detect, weights, tmp_path):
    detect("in")
    bulk.save_images(Path("in"), 1, start=10)
    code, _, err = detect("in")
    assert code == 2 and err.startswith(
        "error: out: was begun with 10 images and not 11, other images: name the same images (a list file keeps"
    )
    Path("in/010.jpg").unlink()
    other = tmp_path / "other.xml"
    other.write_bytes(weights.read_bytes())
    data = bytearray(weights.with_suffix(".bin").read_bytes())
    data[100] ^= 1
    other.with_suffix(".bin").write_bytes(data)  # the network is the same, one number is not
    code, _, err = detect("in", weights=other)
    assert code == 2 and err == "error: out: was begun with other weights: name the same --weights, or another folder\n"
    other.with_suffix(".bin").write_bytes(weights.with_suffix(".bin").read_bytes())
    assert detect("in", weights=other)[0] == 0, "the name alone does not matter"


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "gone from the manifest, and cut"])
def test_a_shard_that_is_not_what_was_written_is_made_anew(detect, damage):
    detect("in")
    before, path = bulk.shards_of(Path("out")), Path("out/part-000001.jsonl")
    note = json.loads(Path("out/_manifest.json").read_text())["finished"][path.name]
    assert note[0] == path.stat().st_size
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if "manifest" in damage:
        content = json.loads(Path("out/_manifest.json").read_text())
        del content["finished"]
        Path("out/_manifest.json").write_text(json.dumps(content))
    path.write_bytes({"emptied": b"", "flipped": bytes(data)}.get(damage, bytes(path.read_bytes()[:100])))
    with pytest.warns(MobileSSDWarning, match="part-000001.jsonl: emptied, cut short or damaged since: made anew"):
        code, out, _ = detect("in")
    assert code == 0 and "10 images in 3 shards (jsonl); 2 there already" in out
    assert bulk.shards_of(Path("out")) == before
    assert json.loads(Path("out/_manifest.json").read_text())["finished"][path.name] == note


def test_a_folder_without_notes_of_its_shards_goes_on_as_it_is(detect):
    detect("in")
    content = json.loads(Path("out/_manifest.json").read_text())
    notes = content.pop("finished")
    Path("out/_manifest.json").write_text(json.dumps(content))
    assert "nothing to do" in detect("in")[1]
    assert json.loads(Path("out/_manifest.json").read_text())["finished"] == notes


def test_a_link_in_the_place_of_the_lock_is_not_followed(detect):
    Path("precious").write_text("content")
    Path("out").mkdir()
    Path("out/.lock").symlink_to("../precious")
    code, _, err = detect("in")
    assert code == 2 and err == "error: out/.lock: is a link, where a file of our own is wanted: remove it\n"
    assert Path("precious").read_text() == "content"


def test_relative_names_mean_the_folder_they_were_given_in(detect, tmp_path, monkeypatch):
    detect("in")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bulk.save_images(Path("in"), 10)
    code, _, err = detect("in", shards="../out")
    assert code == 2 and "other images" in err


def test_a_folder_is_not_shared_between_runs_nor_taken_from_others(detect):
    with folder.LocalFolder(Path("out")).alone():
        code, _, err = detect("in")
    assert code == 2 and err == "error: out: another run is at work in this folder: wait for it, or stop it\n"
    Path("foreign").mkdir()
    Path("foreign/part-000000.jsonl").write_text("{}\n")
    assert (
        detect("in", shards="foreign")[2] == "error: foreign: holds shards but no _manifest.json: name another folder\n"
    )
    Path("torn").mkdir()
    Path("torn/_manifest.json").write_text('{"weights": ')
    assert detect("in", shards="torn")[2] == "error: torn/_manifest.json: is broken: name another folder\n"
    assert detect("in", shards="in/000.jpg")[2] == "error: in/000.jpg: is a file: name a folder for the shards\n"


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--engine", "ray"], "--engine needs --shards OUT"),
        (["--shard-size", "5"], "--shard-size needs --shards OUT"),
        (["--shards", "out", "--json", "a.json"], "--json holds the boxes of all images in memory"),
        (["--shards", "out", "--output", "drawn"], "nothing is drawn with --shards"),
        (["--shards", "out", "--workers", "2"], "--workers is the number of Ray workers: add --engine ray"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(detect, capsys, args, words):
    assert main(["detect", "in", *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "more", "words"),
    [
        ("pyarrow", {"shard-format": None}, "--shard-format parquet (jsonl does without) needs pyarrow: pip install"),
        ("fsspec", {"shards": "s3://bucket/out"}, "the address s3://bucket/out needs fsspec: pip install"),
        ("ray", {"engine": "ray"}, '--engine ray needs ray: pip install "mobilessd[ray]"'),
    ],
)
def test_what_is_not_installed_is_one_line_with_the_extra_that_brings_it(detect, monkeypatch, missing, more, words):
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = detect("in", **more)
    assert code == 2 and words in err and err.count("\n") == 1
    assert not Path("out").exists()


def test_a_local_run_imports_neither_torch_nor_what_it_does_not_use(weights, tmp_path):
    bulk.save_images(tmp_path / "in", 3)
    heavy = {"torch", "ray", "fsspec", "pyarrow", "pandas"}
    code = f"import sys; from detection.cli.main import main; print(main(sys.argv[1:]), {heavy} & set(sys.modules))"
    args = ["detect", tmp_path / "in", "--weights", weights, "--shards", tmp_path / "out", "--shard-format", "jsonl"]
    root = Path(__file__).resolve().parents[1]
    done = children.run([sys.executable, "-c", code, *map(str, args)], cwd=root)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


def test_progress_says_how_many_how_fast_and_how_long_still(monkeypatch):
    import io

    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    said = io.StringIO()
    with progress.Progress(10_000, 1_000, said, every=60) as bar:
        for _ in range(4):
            now[0] += 30
            bar(1_500)
    assert said.getvalue().splitlines() == [
        "4,000 of 10,000 images, 50.0 images/s, 2 min left",
        "7,000 of 10,000 images, 50.0 images/s, 60 s left",
    ]
    assert [progress.in_time(s) for s in (40, 700, 11_640, 190_000)] == ["40 s", "12 min", "3 h 14 min", "2 d 4 h"]


def test_weights_travel_to_a_worker_and_lie_there_once(weights, tmp_path, monkeypatch):
    from detection.bulk.ray_pool import Content
    from detection.weights.resolve import open_weights

    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    content = Content.of(open_weights(weights))
    path = Path(content.lay_down())
    assert path.read_bytes() == weights.read_bytes() and path.parent.parent == tmp_path / "bulk"
    assert path.with_suffix(".bin").read_bytes() == weights.with_suffix(".bin").read_bytes()
    stamp = os.stat(path).st_mtime_ns
    assert content.lay_down() == str(path) and os.stat(path).st_mtime_ns == stamp
