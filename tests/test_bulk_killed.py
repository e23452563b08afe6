"""Bulk detection that is killed at any moment: started again it goes on, and ends as if it had been left alone."""

import json
import os
import sys
from pathlib import Path

import bulk_child
import bulk_help as bulk
import children
import pytest

from detection.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
pytest.importorskip("pyarrow", reason="needs pyarrow")

IMAGES = 30


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = bulk.save_images(tmp_path_factory.mktemp("images"), IMAGES - 1)
    (folder / "sub").mkdir()
    (folder / "sub" / "broken.jpg").write_bytes((folder / "000.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def whole(weights, images, tmp_path_factory):
    """The folder of a run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "shards"
    assert main(["detect", *map(str, (images, "--weights", weights, "--shards", folder)), *bulk_child.OPTIONS]) == 0
    return folder


def killed(*args):
    script = Path(__file__).with_name("bulk_child.py")
    done = children.run([sys.executable, script, *map(str, args)])
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_that_is_killed_again_and_again_ends_as_if_left_alone(weights, images, whole, tmp_path):
    found = killed(images, weights, tmp_path / "out", 3)
    assert found["ends"] == [-9] * 3 and found["end"] == 0, "and torch was not imported, which would be 100"
    assert found["left"][0] == 1, "killed before the second shard got its name"
    assert found["left"] == sorted(set(found["left"])) and found["left"][-1] < IMAGES // 3
    assert bulk.shards_of(tmp_path / "out") == bulk.shards_of(whole)
    assert {file.name for file in (tmp_path / "out").glob(".*")} == {".lock"}, "nothing half-written is left"
    rows = bulk.rows_of(tmp_path / "out")
    names = [row["file"] for row in rows]
    assert len(names) == IMAGES and names == sorted(str(file) for file in images.rglob("*.jpg"))
    assert [row["file"] for row in rows if row["error"]] == [str(images / "sub" / "broken.jpg")]
    assert all(row["detections"] for row in rows if not row["error"])


def test_the_same_at_an_address(weights, images, whole):
    import fsspec

    for _ in bulk.moto_server():
        store = fsspec.filesystem("s3")
        store.put(str(images), "bucket/images", recursive=True)
        found = killed("s3://bucket/images", weights, "s3://bucket/out", 1)
        assert found["ends"] == [-9] and found["end"] == 0 and 0 < found["left"][0] < IMAGES // 3
        assert len(store.ls("bucket/out", refresh=True)) == IMAGES // 3 + 1
        store.get("bucket/out", str(whole.parent / "copy"), recursive=True)
    theirs, ours = bulk.rows_of(whole.parent / "copy"), bulk.rows_of(whole)
    assert [row["file"] for row in theirs] == [
        f"s3://bucket/images/{Path(row['file']).relative_to(images)}" for row in ours
    ]
    assert [row | {"file": ""} for row in theirs] == [row | {"file": ""} for row in ours]
