"""What a source of bulk detection may be: the same images by folder, pattern and list, each once, in order."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from detection.bulk.listing import list_images
from detection.errors import MobileSSDError, MobileSSDWarning
from detection.images import addresses


def test_folders_patterns_and_lists_mean_the_same_images_each_once_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.jpg", "in/a.PNG", "in/sub/c.webp", "in/.hidden.jpg", "in/notes.md", "in/film.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    flat = ["in/a.PNG", "in/b.jpg"]
    assert list_images(["in"]).names == flat and list_images(["in"]).videos == 1
    assert list_images(["in", "./in/", "in/b.jpg"]).names == flat
    assert list_images(["in/b.jpg"]).named == {"in/b.jpg"} and not list_images(["in"]).named
    deep = [*flat, "in/sub/c.webp"]
    assert list_images(["in"], recursive=True).names == deep == list_images(["in/**"]).names
    Path("in/list.txt").write_text(
        "# a comment\n\nsub\nb.jpg\n../in/[ab].*\nfilm.mp4\nnot there.gif\ns3://bucket/a.jpg\n"
    )
    assert list_images(["in/list.txt"]).names == sorted([*deep, "in/not there.gif", "s3://bucket/a.jpg"])
    assert list_images([(tmp_path / "in").as_uri()]).names == [str(tmp_path / name) for name in flat]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("*.jpg", "no image or video matches"),
        ("deep", "add --recursive"),
        ("empty", "name another folder"),
        ("film.mp4", "is a video: leave --shards out"),
        ("films", "holds only videos"),
        ("bad.txt", "bad.txt, line 2: nowhere/: no such file or folder"),
        ("blank.txt", "without a single image"),
        ("rtsp://camera/1", "no file system reads this"),
        ("memory://nowhere", "no such folder|no images in this folder"),
        ("memory://deep", "add --recursive"),
    ],
)
def test_a_source_that_means_nothing_is_one_line(tmp_path, monkeypatch, source, words):
    if source.startswith(("rtsp", "memory")):
        fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
        fsspec.filesystem("memory").pipe_file("/deep/er/a.jpg", b"x")
    monkeypatch.chdir(tmp_path)
    for name in ("deep/er/a.jpg", "empty/a.md", "film.mp4", "films/film.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    Path("bad.txt").write_text("a.jpg\nnowhere/\n")
    Path("blank.txt").write_text("# nothing\n")
    with pytest.raises(MobileSSDError, match=words) as error:
        list_images([source])
    assert "\n" not in str(error.value)


def test_a_million_names_are_listed_without_a_look_at_any(tmp_path, monkeypatch):
    """Ten thousand stand for them: what is counted is how often the file system is asked."""
    for i in range(100):
        (tmp_path / f"{i}.jpg").touch()
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"../gone/{i:05d}.jpg\n" for i in range(10_000)))
    asked = []
    for name in ("stat", "lstat"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *more, plain=plain, **options: asked.append(path) or plain(path))
    assert len(list_images([tmp_path]).names) == 100 and len(list_images([f"{tmp_path}/*.jpg"]).names) == 100
    names = list_images([listing]).names
    assert len(names) == 10_000 and names[7] == str(tmp_path.parent / "gone" / "00007.jpg")
    assert len(asked) < 100


@pytest.fixture
def mute_store(monkeypatch):
    """An S3 store that takes connections and never says a word; gives how many came."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    import s3fs

    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take():
            with contextlib.suppress(OSError):
                while True:
                    came.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        settings = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
        settings["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield came
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    s3fs.S3FileSystem.clear_instance_cache()
    for connection in came:
        connection.close()


def test_a_mute_store_is_said_and_given_up(mute_store, monkeypatch):
    monkeypatch.setattr(addresses, "SILENCE", 0.3)
    monkeypatch.setattr(addresses, "S3_TIMEOUTS", addresses.S3_TIMEOUTS | {"read_timeout": 0.2})
    began = time.monotonic()
    with pytest.warns(MobileSSDWarning, match="^s3://bucket: no answer for 0.3 s; still waiting$"):
        with pytest.raises(MobileSSDError, match="s3://bucket/a.jpg: cannot be reached") as error:
            addresses.fetch("s3://bucket/a.jpg")
        assert "\n" not in str(error.value)
    assert time.monotonic() - began < 20 and len(mute_store) <= 6, "s3fs's own tries, and no others around them"
    limits = addresses.S3_TIMEOUTS
    assert 5 * (limits["connect_timeout"] + limits["read_timeout"]) < 90
