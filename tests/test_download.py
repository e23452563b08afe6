"""A published file comes whole or not at all: tested against a server that misbehaves in every way."""

import hashlib
import socket
import threading
import time

import pytest
from misbehaving_server import CONTENT, isolate, leftovers, one_line, record, running, whole

from detection.errors import BadWeightsError, MobileSSDError
from detection.weights.download import transfer
from detection.weights.download.fetch import fetch, folder_of
from detection.weights.download.published import PublishedFile
from detection.weights.download.transfer import DownloadError


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path / "home", monkeypatch)


@pytest.fixture
def server():
    with running() as server:
        yield server


@pytest.fixture
def no_network(monkeypatch):
    """From here on, whoever opens a socket fails the test."""

    def opened(*args, **kwargs):
        raise AssertionError("a socket was opened")

    def forbid():
        monkeypatch.setattr(socket.socket, "__init__", opened)
        monkeypatch.setattr(socket, "getaddrinfo", opened)

    return forbid


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
    assert whole(fetch(PublishedFile("thing.test", "a.pth", (server.url("a.pth"),), start)))


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
