"""What live tells others: events, webhooks, commands, clips, and lists of what is seen; from a generated clip."""

import base64
import csv
import http.server
import json
import re
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_help import FakeDetector, Reds, needs_tracking, save_video, wait_until

from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.images.video import Video
from detection.live.clips import Clips
from detection.live.events import Command, Lines, Webhook, new_event
from detection.live.pipeline import Result, Timing

EVENT = new_event("line", "front", 1.5, "dog #1 crossed door", **{"class": "dog"})


# ---------------------------------------------------------------- webhook and command


class Receiver:
    """A web server that keeps what is posted to it; `status` is what it answers. asks: for a password, in such words;
    shown: what it got of them."""

    def __init__(self):
        self.status, self.got = 200, []
        self.asks, self.shown = None, []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                shown = self.headers["Authorization"]
                receiver.shown += [shown] if shown else []
                if receiver.asks and (not shown or shown.split()[0] != receiver.asks.split()[0]):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", receiver.asks)
                    self.end_headers()
                    return
                if receiver.status == 200:
                    receiver.got.append(json.loads(data))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_a_webhook_gets_events_in_order_and_through_an_outage(receiver):
    said = []
    receiver.status = 503
    hook = Webhook(receiver.url, said.append, pauses=(0.2, 0.2, 0.2))
    hook(EVENT | {"n": 0})
    time.sleep(0.3)
    receiver.status = 200
    for n in (1, 2):
        hook(EVENT | {"n": n})
    wait_until(lambda: len(receiver.got) == 3, 5, "delivery")
    hook.close()
    assert [event["n"] for event in receiver.got] == [0, 1, 2] and receiver.got[0]["text"] == EVENT["text"]
    assert said == [] and hook.lost == 0


def test_a_webhook_that_is_away_is_said_once_and_holds_up_nobody():
    said = []
    hook = Webhook("http://127.0.0.1:9/", said.append, pauses=(0.01,))
    begin = time.monotonic()
    for n in range(3000):
        hook(EVENT | {"n": n})
    assert time.monotonic() - begin < 1
    wait_until(lambda: said, 5)
    hook.close()
    assert len(said) == 1 and "cannot be reached" in said[0] and hook.lost > 1000


def test_a_webhook_that_refuses_is_not_asked_again(receiver):
    said = []
    receiver.status = 400
    hook = Webhook(receiver.url, said.append, pauses=(30,))
    hook(EVENT)
    wait_until(lambda: said, 5)
    hook.close()
    assert "answers 400" in said[0]
    with pytest.raises(MobileSSDError, match="--webhook"):
        Webhook("ftp://x", said.append)


@pytest.mark.parametrize("kind", ["basic", "digest"])
def test_a_webhooks_user_and_password_are_shown_and_never_looked_up(receiver, kind, monkeypatch):
    looked_up, look_up = [], socket.getaddrinfo

    def noting(host, *more, **named):
        looked_up.append(host)
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", noting)
    receiver.asks = 'Digest realm="cam", nonce="abc", qop="auth"' if kind == "digest" else 'Basic realm="cam"'
    said = []
    hook = Webhook(receiver.url.replace("http://", "http://bob:p%40ss@"), said.append, pauses=(0.1,))
    hook(EVENT)
    wait_until(lambda: receiver.got, 5, "delivery")
    hook.close()
    assert said == [] and set(looked_up) == {"127.0.0.1"}
    if kind == "basic":
        assert receiver.shown == ["Basic " + base64.b64encode(b"bob:p@ss").decode()], "at once"
    else:
        assert receiver.shown[-1].startswith('Digest username="bob"')


@pytest.mark.parametrize("address", ["http://", "http://bob:secret@", "http://host:x/", "http://[", "https://h:99999/"])
def test_a_webhook_that_is_no_address_is_one_line_without_its_password(address):
    with pytest.raises(MobileSSDError, match="--webhook") as caught:
        Webhook(address, print)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_command_gets_the_event(tmp_path):
    said, out = [], tmp_path / "out"
    code = f"import os, sys; open({str(out)!r}, 'w').write(os.environ['MOBILESSD_CLASS'] + sys.stdin.read())"
    Command(f'{sys.executable} -c "{code}"', said.append)(EVENT)
    wait_until(lambda: out.exists() and out.read_text().endswith("}"), 10, "the command")
    text = out.read_text()
    assert text.startswith("dog") and json.loads(text[3:]) == EVENT and not said


def test_commands_do_not_pile_up_and_their_failure_is_said():
    said = []
    command = Command(f'{sys.executable} -c "import time; time.sleep(1)"', said.append)
    for _ in range(6):
        command(EVENT)
    assert sum("left out" in line for line in said) == 2
    Command(f"{sys.executable} -c 1/0", said.append)(EVENT)
    wait_until(lambda: any("ZeroDivisionError" in line for line in said), 10)
    for wrong in ("no-such-program", "", "a 'b"):
        with pytest.raises(MobileSSDError, match="--run"):
            Command(wrong, said.append)


@pytest.mark.parametrize("words", ["echo a | cat", "echo a > file", "echo $HOME", "echo a; echo b", "echo a &"])
def test_what_only_a_shell_understands_is_refused_with_the_way_out(words):
    with pytest.raises(MobileSSDError, match="no shell runs it.*sh -c"):
        Command(words, print)


def test_a_shell_is_a_program_and_words_may_be_any():
    Command("sh -c 'echo $MOBILESSD_TEXT | cat > /dev/null'", print)
    Command("echo 'costs $5 & more' <b>", print)


# ---------------------------------------------------------------- lines


def test_lines_are_added_to_a_file(tmp_path):
    for _ in range(2):
        lines = Lines(str(tmp_path / "x.csv"), print, head="a,b")
        lines.write("1,2")
        lines.close()
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,2\n1,2\n"
    with pytest.raises(MobileSSDError, match="cannot be written"):
        Lines(str(tmp_path), print)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once():
    said = []
    lines = Lines("/dev/full", said.append)
    for _ in range(3):
        lines.write("x")
    assert said == ["/dev/full: cannot be written: No space left on device; lines are lost until it can"]
    lines.close()
    assert said[1:] == ["/dev/full: 3 lines could not be written and are lost"]


# ---------------------------------------------------------------- clips


@pytest.fixture
def file_limit():
    """How large a file may grow, in bytes: what the system answers is as real as that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_list_goes_on_when_the_disk_has_room_again(tmp_path, file_limit):
    said, path = [], tmp_path / "events.jsonl"
    lines = Lines(str(path), said.append)
    lines.write_json({"number": 1})
    file_limit(path.stat().st_size + 5)  # a part of the next line has room
    for number in (2, 3, 4):
        lines.write_json({"number": number})
    assert path.read_bytes() == b'{"number": 1}\n', "no torn line, not for a moment"
    file_limit(1 << 20)
    for number in (5, 6):
        lines.write_json({"number": number})
    lines.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 5, 6]
    assert [line.removeprefix(f"{path}: ") for line in said] == [
        "cannot be written: File too large; lines are lost until it can",
        "is written again; 3 lines were lost",
        "3 lines could not be written and are lost",
    ]


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b'{"a": 1}\n{"a": 2}\n', b'{"a": 1}\n{"a": 2}\n'),
        (b'{"a": 1}\n{"a": 2', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a": 2}', b'{"a": 1}\n{"a": 2}\n'),
        (b'{"a', b""),
        (b"a,b\n1,2", b"a,b\n1,2\n"),
        (b"", b""),
    ],
)
def test_a_line_that_a_kill_has_torn_is_cut_off_when_the_list_goes_on(tmp_path, before, kept):
    path = tmp_path / "events.jsonl"
    path.write_bytes(before)
    lines = Lines(str(path), print)
    lines.write("new")
    lines.close()
    assert path.read_bytes() == kept + b"new\n"


def seen(index, seconds, boxes=True):
    image = np.full((48, 64, 3), 40, np.uint8)
    cv2.putText(image, str(index), (2, 30), 0, 0.8, (255, 255, 255))
    from detection.live.capture import Captured

    found = FakeDetector()(image)
    return Result(Captured(image, index, seconds, 0.0), found if boxes else found[:0], Timing(0, 0, 0))


def test_a_clip_begins_before_and_ends_after(tmp_path):
    said = []
    clips = Clips(tmp_path / "clips", "front", 0.5, lambda: 10.0, said.append, before=1.0, after=0.5)
    for index in range(100):
        if index == 50:
            clips.start("fire hydrant", 5.0)
        if 50 < index < 55:
            clips.extend(index / 10)
        clips(seen(index, index / 10))
    clips.close()
    (path,) = (tmp_path / "clips").iterdir()
    assert said == [f"clip: {path}"] and re.fullmatch(r"\d{8}-\d{6}-front-fire-hydrant\.mp4", path.name)
    assert len(list(Video(path))) == pytest.approx(10 + 5 + 5, abs=2)


def test_clips_stay_small_in_memory_and_do_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("detection.live.clips.LONGEST", 1.0)
    clips = Clips(tmp_path, "front", 0.5, lambda: 10.0, lambda line: None, before=0.5, after=0.5)
    clips.start("dog", 0.0)
    for index in range(60):
        clips(seen(index, index / 10))
        clips.extend(index / 10)
    assert len(clips._kept) <= 6
    clips.close()
    assert len(list(Video(next(iter(tmp_path.iterdir()))))) <= 13


# ---------------------------------------------------------------- the command, on a generated clip


@pytest.fixture
def live(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("detection.cli.live.open_detector", lambda args, **_: Reds())
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(["live", "--headless", *map(str, args)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def crossing(tmp_path):
    """A clip: two go right on lanes of their own, one goes left between them; each is unseen for ten frames."""
    lanes = ((70, 4.0, 0, 20), (190, 3.0, 0, 40), (130, -4.0, 320, 50))
    writer = cv2.VideoWriter("walk.avi", cv2.VideoWriter_fourcc(*"MJPG"), 20, (320, 240))
    for k in range(110):
        image = np.full((240, 320, 3), 90, np.uint8)
        for y, speed, start, hidden in lanes:
            x = int(start + speed * k)
            if not hidden <= k < hidden + 10:
                cv2.rectangle(image, (x - 12, y - 40), (x + 12, y), (20, 20, 230), -1)
        writer.write(image)
    writer.release()
    return "walk.avi"


@needs_tracking
def test_counts_over_a_line_are_exact_on_a_clip(live, crossing, tmp_path):
    code, out, err = live(
        crossing, "--line", "door=0.5,0,0.5,1", "--zone", "room=0,0,0.4,0,0.4,1,0,1", "--events", "e.jsonl",
        "--jsonl", "seen.jsonl", "--csv", "seen.csv", "--record", "out.avi",
    )  # fmt: skip
    assert code == 0 and err == ""
    events = [json.loads(line) for line in Path("e.jsonl").read_text().splitlines()]
    lines = [event for event in events if event["event"] == "line"]
    assert sorted(event["direction"] for event in lines) == ["in", "out", "out"]
    assert lines[-1]["counts"] == {"in": 1, "out": 2} and len({event["track_id"] for event in lines}) == 3
    zones = [event["event"] for event in events if event.get("zone") == "room"]
    assert sorted(zones) == ["entered", "entered", "entered", "left", "left"]
    assert "dog #1 crossed door outwards" in out
    seen = [json.loads(line) for line in Path("seen.jsonl").read_text().splitlines()]
    assert [one["frame"] for one in seen] == list(range(110)) and seen[0]["image_size"] == [240, 320]
    numbers = {found["track_id"] for one in seen for found in one["detections"]} - {-1}
    assert len(numbers) == 3, "each keeps its number while it is unseen, and past the others"
    rows = list(csv.DictReader(Path("seen.csv").read_text().splitlines()))
    assert len(rows) == sum(len(one["detections"]) for one in seen)
    assert {row["track_id"] for row in rows} - {""} == {str(n) for n in numbers} and rows[0]["class"] == "dog"
    assert len(list(Video("out.avi"))) == 110


def test_on_a_class_a_command_runs_and_a_clip_is_kept(live, crossing, tmp_path):
    code = "open('ran', 'a').write('x')"
    result, out, _ = live(
        crossing,
        "--on",
        "dog",
        "--clips",
        "clips",
        "--before",
        1,
        "--after",
        1,
        "--run",
        f'{sys.executable} -c "{code}"',
    )
    assert result == 0 and "dog appeared" in out and "clip: clips" in out
    wait_until(lambda: Path("ran").exists(), 10, "the command")
    assert Path("ran").read_text() == "x"
    (clip,) = Path("clips").iterdir()
    assert len(list(Video(clip))) > 90, "it lasts as long as a dog is there"


def test_standard_output_for_programs_is_nothing_but_lines(live):
    save_video(Path("film.avi"))
    code, out, err = live("film.avi", "--jsonl", "-")
    assert (
        code == 0 and len(out.splitlines()) == 12 and all(json.loads(line)["frame"] >= 0 for line in out.splitlines())
    )
    assert "reds" in err and "12 frames" in err
    code, out, _ = live("film.avi", "--csv", "-")
    assert out.splitlines() == ["source,frame,time,at,class,category_id,score,x1,y1,x2,y2,track_id"]


def test_mistakes_are_one_line(live):
    save_video(Path("film.avi"))
    for args in (
        ["--line", "1,2,3"],
        ["--zone", "0,0,1,1"],
        ["--line", "other/0,0,1,1"],
        ["--on", "unicorn"],
        ["--clips", "clips"],
        ["--on", "dog", "--run", "no-such-program"],
        ["--webhook", "nowhere"],
        ["--jsonl", "."],
        ["--before", "1000"],
    ):
        code, _, err = live("film.avi", *args)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (args, err)
