"""Lines and zones that are kept in a file and changed while it runs: what they may be, the file, editors, the HTTP side."""

import argparse
import json
import shlex
import threading
import time

import numpy as np
import pytest
from live_help import Reds, needs_tracking, save_video, wait_until
from test_live_page import Page
from test_live_tracking import SIZE, box_at, found, pass_by, result, straight

from detection.boxes.drawing import fit_text
from detection.cli import live as live_command
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.live.gate_book import ChangedMeanwhile, GateBook, Numbered, Reread
from detection.live.gate_file import GateFile, NotWritten, format_gates, parse_gates
from detection.live.gate_spec import MOST_GATES, GateSpec, checked, parse_gate
from detection.live.overlay import _inwards, draw_gates
from detection.live.rules import Watch
from detection.live.zones import Gate

DOOR = GateSpec("line", "door", ((0.5, 0.0), (0.5, 1.0)), "front")
DESK = GateSpec("zone", "desk", ((0.0, 0.5), (0.4, 0.5), (0.4, 1.0)), "front")

# ---------------------------------------------------------------- what may be one

NAN = float("nan")
TRIANGLE = ((0, 0), (1, 0), (0, 1))
WRONG = [
    (GateSpec("zone", "desk", ((0, 0), (1, 1))), "2 points"),
    (GateSpec("zone", "desk", tuple((k / 101, k * k % 7 / 7) for k in range(101))), "101 points"),
    (GateSpec("zone", "desk", ((0, 0), (0.5, 0.5), (1, 1))), "covers nothing"),
    (GateSpec("zone", "desk", ((0, 0), (NAN, 0), (0, 1))), "nan"),
    (GateSpec("zone", "desk", ((0, 0), (1e9, 0), (0, 1))), "1e+09"),
    (GateSpec("line", "door", TRIANGLE), "3 points"),
    (GateSpec("line", "door", ((0.5, 0.5), (0.5, 0.5))), "begins where it ends"),
    (GateSpec("circle", "door", TRIANGLE), "neither"),
    (GateSpec("zone", "<b>desk</b>", TRIANGLE), "plain text"),
    (GateSpec("zone", "a=b", TRIANGLE), "plain text"),
    (GateSpec("zone", "a,b", TRIANGLE), "plain text"),
    (GateSpec("zone", "a\nb", TRIANGLE), "plain text"),
    (GateSpec("zone", "\u202eabc", TRIANGLE), "plain text"),
    (GateSpec("zone", "-desk", TRIANGLE), "plain text"),
    (GateSpec("zone", " ", TRIANGLE), "needs a name"),
    (GateSpec("zone", "d" * 41, TRIANGLE), "longer"),
]


@pytest.mark.parametrize("spec, words", WRONG)
def test_what_can_be_no_line_or_zone_is_one_line(spec, words):
    with pytest.raises(MobileSSDError) as caught:
        checked(spec)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_names_of_all_languages_are_good_and_blanks_around_them_go():
    assert checked(GateSpec("zone", "  Tür links (2) ", TRIANGLE)).name == "Tür links (2)"
    assert checked(GateSpec("zone", "हिन्दी", TRIANGLE)).name == "हिन्दी"


def test_options_give_the_same_lines_and_zones_again():
    specs = [
        DOOR,
        DESK,
        GateSpec("line", "Ann's way", ((0.1234, 0.2), (0.3, 0.9)), "camera 0"),
        GateSpec("zone", "all", ((10, 20), (640, 0), (333.5, 480))),
        GateSpec("zone", "lobby", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), "10.0.0.7/main"),
    ]
    sources = ["front", "camera 0", "10.0.0.7/main"]
    parser = argparse.ArgumentParser()
    live_command.add_arguments(parser)
    args = parser.parse_args(shlex.split(GateBook(sources, specs).options()))
    lines = [parse_gate("line", text, 1, sources) for text in args.lines]
    zones = [parse_gate("zone", text, 1, sources) for text in args.zones]
    assert {*lines, *zones} == set(specs)


# ---------------------------------------------------------------- the file


def test_a_file_gives_back_what_was_written(tmp_path):
    specs = [DOOR, DESK, GateSpec("zone", 'Füße "x"', ((0, 0), (640, 0), (0, 480.25)))]
    specs[2] = GateSpec("zone", "Füße", specs[2].points)
    file = GateFile(tmp_path / "watch.yaml")
    file.write(specs)
    assert GateFile(tmp_path / "watch.yaml").read() == specs and not file.changed()
    assert format_gates([]).endswith("lines: []\nzones: []\n") and parse_gates(format_gates([]).encode(), "w") == []


def test_a_file_by_hand_needs_neither_name_nor_source():
    (spec,) = parse_gates(b"zones:\n- points: [[0, 0], [1, 0], [1, 1]]\n", "watch.yaml")
    assert spec == GateSpec("zone", "zone 1", ((0, 0), (1, 0), (1, 1)))


@pytest.mark.parametrize(
    "data, words",
    [
        (b"zone:\n- points: []\n", "did you mean 'zones'"),
        (b"zones:\n- {name: desk, points: [[0, 0], [1, 1]]}\n", "2 points"),
        (b"zones:\n- {name: desk, points: [[0, 0], [.nan, 1], [1, 1]]}\n", "nan"),
        (b"zones:\n- {name: desk, points: [[0, 0, 3], [1, 1], [0, 1]]}\n", "zones[0].points"),
        (b"zones:\n- {name: desk}\n", "points is missing"),
        (b"zones:\n- {name: <script>, points: [[0, 0], [1, 0], [0, 1]]}\n", "plain text"),
        (b"zones: desk\n", "zones"),
        (b"zones: [[[\n", "no valid YAML"),
        (b"zones: " + b"[" * 5_000, "nested"),
        (b"lines:\n" + b"- {name: door, points: [[0, 0], [1, 1]]}\n" * 2, "already"),
        (b"lines:\n" + b"".join(b"- {points: [[0, 0], [1, %d]]}\n" % k for k in range(MOST_GATES + 1)), "more than"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_one_line_with_its_name(data, words):
    with pytest.raises(MobileSSDError) as caught:
        parse_gates(data, "watch.yaml")
    text = str(caught.value)
    assert text.startswith("watch.yaml") and words in text and "\n" not in text and len(text) < 250


def test_a_million_points_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "watch.yaml"
    path.write_bytes(b"zones:\n- points: [" + b"[0.1, 0.2], " * 1_000_000 + b"]\n")
    begin = time.monotonic()
    with pytest.raises(MobileSSDError, match="larger than 256 KB"):
        GateFile(path).read()
    assert time.monotonic() - begin < 1


# ---------------------------------------------------------------- editors


def test_a_change_is_in_the_file_at_once(tmp_path):
    file = GateFile(tmp_path / "watch.yaml")
    book = GateBook(["front"], [], file)
    one = book.add(DOOR)
    assert GateFile(file.path).read() == [DOOR]
    moved = book.change(one.number, one.version, points=((0.1, 0), (0.1, 1)))
    named = book.change(one.number, moved.version, name="gate")
    assert GateFile(file.path).read() == [named.spec] and named.spec.name == "gate" and named.spec.points[0] == (0.1, 0)
    book.remove(one.number, named.version)
    assert GateFile(file.path).read() == []
    assert book.restore(one.number).spec == named.spec and GateFile(file.path).read() == [named.spec]


def test_two_editors_of_one_line_do_not_undo_each_other():
    book = GateBook(["front"], [DOOR, DESK])
    door, desk = book.all()
    book.change(door.number, door.version, name="gate")
    for late in (
        lambda: book.change(door.number, door.version, name="exit"),
        lambda: book.remove(door.number, door.version),
    ):
        with pytest.raises(ChangedMeanwhile, match="'gate'"):
            late()
    book.change(desk.number, desk.version, name="table")  # what another has in hand is free
    book.remove(desk.number, desk.version + 1)
    with pytest.raises(ChangedMeanwhile, match="removed"):
        book.change(desk.number, desk.version + 1, name="desk")
    assert [spec.name for spec in book.specs] == ["gate"]


def test_many_editors_at_once_lose_nothing(tmp_path):
    book = GateBook(["front"], [], GateFile(tmp_path / "watch.yaml"))

    def draw():
        for _ in range(10):
            book.add(GateSpec("zone", "", TRIANGLE, "front"))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {spec.name for spec in GateFile(tmp_path / "watch.yaml").read()}
    assert names == {f"zone {k}" for k in range(1, 41)} and len({one.number for one in book.all()}) == 40


def test_what_cannot_be_written_is_refused_and_nothing_changes(tmp_path):
    (tmp_path / "not-a-folder").write_text("")
    book = GateBook(["front"], [DOOR], GateFile(tmp_path / "not-a-folder" / "watch.yaml"))
    with pytest.raises(MobileSSDError, match="watch.yaml"):
        book.add(DESK)
    assert book.specs == [DOOR]


def test_names_are_given_once_and_only_to_sources_of_this_run():
    book = GateBook(["front"], [DOOR])
    with pytest.raises(MobileSSDError, match="already"):
        book.add(GateSpec("zone", "door", TRIANGLE, "front"))
    with pytest.raises(MobileSSDError, match="no source 'yard'"):
        book.add(GateSpec("zone", "desk", TRIANGLE, "yard"))
    for _ in range(MOST_GATES - 1):
        book.add(GateSpec("zone", "", TRIANGLE, "front"))
    with pytest.raises(MobileSSDError, match="more than 100"):
        book.add(GateSpec("zone", "", TRIANGLE, "front"))


def test_what_others_write_into_the_file_is_taken_over(tmp_path):
    path, told, said = tmp_path / "watch.yaml", [], []
    book = GateBook(["front"], [], GateFile(path))
    book.on_change = lambda: told.append([spec.name for spec in book.specs])
    door = book.add(DOOR)
    path.write_text(format_gates([DOOR, DESK]))
    reread = Reread(book, said.append)
    reread(10.0)
    reread(10.5)
    assert told == [["door"], ["door", "desk"]] and said == [f"{path}: read anew"] and book.all()[0] == door
    path.write_text("zones: nonsense\n")
    reread(12.0)
    reread(14.0)
    assert len(said) == 2 and "stay as they were" in said[1], "said once"
    with pytest.raises(MobileSSDError, match="zones"):
        book.add(GateSpec("zone", "more", TRIANGLE, "front"))
    assert path.read_text() == "zones: nonsense\n", "the work of another is not written over"
    path.write_text(format_gates([DESK]))
    assert book.add(GateSpec("zone", "more", TRIANGLE, "front")) and [s.name for s in book.specs] == ["desk", "more"]


def test_a_file_keeps_what_is_for_sources_that_are_not_here(tmp_path):
    file = GateFile(tmp_path / "watch.yaml")
    yard = GateSpec("zone", "grass", TRIANGLE, "yard")
    file.write([yard, DOOR])
    book = GateBook(["front"], file.read(), file)
    assert [one.spec for one in book.all()] == [DOOR] and "grass" not in book.options()
    book.add(DESK)
    assert GateFile(file.path).read() == [DOOR, yard, DESK]


# ---------------------------------------------------------------- counting goes on


def test_what_is_moved_keeps_its_counts_and_nobody_passes_by_that():
    room = Gate(GateSpec("zone", "room", ((0, 0), (0.5, 0), (0.5, 1), (0, 1))))
    assert pass_by(room, straight(500, 300, 100, 300)) == ["entered"]
    room.spec = GateSpec("zone", "hall", ((0.6, 0), (1, 0), (1, 1), (0.6, 1)))
    assert pass_by(room, [(100, 300)] * 3, start=1.1) == [] and room.inside == 0
    assert pass_by(room, straight(100, 300, 500, 300), start=1.2) == ["entered"]
    assert room.name == "hall" and room.totals == {"entered": 2}
    door = Gate(DOOR)
    pass_by(door, [(400, 300)] * 3)
    door.spec = GateSpec("line", "door", ((0.8, 0.0), (0.8, 1.0)))
    assert pass_by(door, [(400, 300)] * 3, start=0.2) == []
    assert pass_by(door, straight(400, 300, 600, 300), start=0.3) == ["out"]


@needs_tracking
def test_a_watch_takes_over_lines_and_zones_while_it_runs():
    from detection.live.tracking import Tracker

    watch = Watch("front", 0.5, new_tracker=lambda: Tracker(0.5))
    frames = [result(found([box_at(500 - 6 * k, 300)]), k / 30) for k in range(120)]
    for frame in frames[:5]:
        watch(frame)
    watch.set_gates([Numbered(1, 1, DOOR)])
    for frame in frames[5:60]:
        watch(frame)
    assert [event["text"] for event in watch.recent] == ["person #1 crossed door inwards"]
    assert watch.recent[0]["source"] == "front"
    watch.set_gates([])
    watch.set_gates([Numbered(1, 2, DOOR)])
    assert watch.gates[0].counts == "1 in, 0 out", "what is brought back has its counts"
    assert watch.gates[0].to_dict(SIZE)["points"] == [[320, 0], [320, 480]]


# ---------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return save_video(tmp_path_factory.mktemp("film") / "film.avi", frames=30, fps=30)


@pytest.fixture
def page(film, tmp_path):
    page = Page([f"front={film}"], loop=True, watch=str(tmp_path / "watch.yaml"))
    yield page
    page.close()


def send(page, method, path, body=None, **headers):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return page.json(path, data, method=method, Content_Type="application/json", **headers)


ZONE = {"kind": "zone", "source": "front", "points": [[0, 1], [0.8, 0], [0.8, 1]]}


@needs_tracking
def test_other_programs_can_draw_as_well(page, tmp_path):
    status, one = send(page, "POST", "/api/watch", ZONE | {"name": "desk"})
    assert status == 201 and one["version"] == 1 and one["points"][1] == [0.8, 0]
    status, two = send(page, "PUT", f"/api/watch/{one['id']}", {"version": 1, "name": "table"})
    assert status == 200 and two["name"] == "table" and two["version"] == 2
    status, late = send(page, "PUT", f"/api/watch/{one['id']}", {"version": 1, "name": "chair"})
    assert status == 409 and "somebody else" in late["error"]
    listed = page.json("/api/watch")[1]
    assert listed["gates"] == [two] and listed["file"] == "watch.yaml" and listed["problem"] is None
    assert listed["options"] == "--zone front/table=0,1,0.8,0,0.8,1"
    assert "table" in (tmp_path / "watch.yaml").read_text()
    wait_until(lambda: "#" in str(page.json("/api/status")[1]["front"]["events"]), 10, "somebody in the zone")
    assert send(page, "DELETE", f"/api/watch/{one['id']}?version=2")[0] == 200
    assert page.json("/api/watch")[1]["gates"] == []
    assert send(page, "POST", f"/api/watch/{one['id']}/restore")[1]["name"] == "table"
    assert send(page, "POST", f"/api/watch/{one['id']}/restore")[0] == 409


@pytest.mark.parametrize(
    "body, status, words",
    [
        (ZONE | {"points": [[0, 0], [1, 1]]}, 400, "2 points"),
        (b'{"kind": "zone", "source": "front", "points": [[0, 0], [NaN, 1], [1, 1]]}', 400, "0 to 1"),
        (ZONE | {"points": [[0, 0], [7, 0], [0, 7]]}, 400, "0 to 1"),
        (ZONE | {"points": [[0, 0]] * 1_000_000}, 413, "64 KB"),
        (ZONE | {"name": "<img src=x onerror=alert(1)>"}, 400, "plain text"),
        (ZONE | {"source": "yard"}, 400, "yard"),
        (ZONE | {"colour": "red"}, 400, "colour"),
        (ZONE | {"points": "all"}, 400, "points"),
        ({"kind": "zone"}, 400, "missing"),
        ([], 400, "keys and values"),
        (b"{", 400, "no JSON"),
        (b"[" * 60_000, 400, "no JSON"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_one_line(page, body, status, words):
    code, answer = send(page, "POST", "/api/watch", body)
    assert code == status and words in answer["error"] and "\n" not in answer["error"] and len(answer["error"]) < 250
    assert page.json("/api/watch")[1]["gates"] == []


def test_changes_are_json_of_this_origin_with_its_token(film):
    page = Page([f"front={film}"], loop=True, host="0.0.0.0")
    body, path = json.dumps(ZONE).encode(), "/api/watch"
    key = {"Authorization": f"Bearer {page.token}"}
    assert page.json(path, body, Content_Type="application/json")[0] == 401
    assert page.json(path, body, Content_Type="text/plain", **key)[0] == 415, "what a form of another page could send"
    for method, where in (("POST", path), ("PUT", path + "/1"), ("DELETE", path + "/1?version=1"), ("GET", path)):
        other = {"Origin": "http://evil.example", "Content_Type": "application/json"}
        assert page.json(where, body if method in ("POST", "PUT") else None, method=method, **other, **key)[0] == 403
    assert page.json(path, body, Content_Type="application/json", **key)[0] == 201
    assert page.json(path + "/1", method="DELETE", **key)[0] == 400, "which version?"
    page.close()


def test_without_a_tracker_it_is_said_how_to_get_one(page, monkeypatch):
    monkeypatch.setattr("detection.errors.installed", lambda module: module != "scipy")
    status, answer = send(page, "POST", "/api/watch", ZONE)
    assert status == 501 and 'pip install "mobilessd[track]"' in answer["error"]
    assert page.json("/api/watch")[1]["problem"] == answer["error"]


# ---------------------------------------------------------------- the command


@pytest.fixture
def live(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("detection.cli.live.open_detector", lambda args, **_: Reds())
    monkeypatch.chdir(tmp_path)
    save_video(tmp_path / "film.avi")

    def run(*args):
        return main(["live", "film.avi", "--headless", *args]), *capsys.readouterr()

    return run


@needs_tracking
def test_the_file_comes_before_the_options(live, tmp_path):
    options = ["--watch", "w.yaml", "--line", "door=0.5,0,0.5,1"]
    assert live(*options)[0] == 0
    assert [spec.name for spec in GateFile("w.yaml").read()] == ["door"], "the options are the file's beginning"
    GateFile("w.yaml").write([DESK, GateSpec("zone", "here", TRIANGLE)])
    code, out, _ = live(*options)
    assert code == 0 and "its lines and zones count, not --line" in out
    assert "1 of 2 lines and zones are for sources that are not here: front" in out
    assert [spec.name for spec in GateFile("w.yaml").read()] == ["desk", "here"]


def test_a_file_that_is_not_there_or_wrong_is_one_line(live, tmp_path):
    (tmp_path / "bad.yaml").write_text("zones:\n- points: 3\n")
    for args in (["--watch", "none.yaml"], ["--watch", "bad.yaml"], ["--watch", "."]):
        code, _, err = live(*args)
        assert code == 2 and err.startswith(f"error: {args[1]}") and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten, match=r"watch\.yaml: cannot be written"):
        GateFile(tmp_path / "file" / "watch.yaml").write([DOOR])


def test_the_arrow_shows_where_in_is():
    for x1, y1, x2, y2 in ((320, 0, 320, 480), (600, 200, 40, 260), (0, 400, 640, 100)):
        points = np.array([[x1, y1], [x2, y2]], float)
        middle, way = points.mean(0), _inwards(points)
        assert pass_by(
            Gate(GateSpec("line", "a", tuple(map(tuple, points)))), straight(*middle - 90 * way, *middle + 90 * way)
        ) == ["in"]


def test_labels_of_drawn_frames_stay_inside_the_image():
    for points in (((0.0, 0.0), (0.02, 0.0), (0.0, 0.02)), ((0.98, 0.98), (1.0, 0.98), (1.0, 1.0))):
        gate = Gate(GateSpec("zone", "a corner of the room", points))
        canvas = np.zeros((240, 320, 3), np.uint8)
        draw_gates(canvas, [gate])
        (wide, tall), _ = fit_text(f"{gate.name}: {gate.counts}", 10, 320)
        plate = (canvas != 0).any(2)
        assert plate.sum(1).max() >= wide and (plate.sum(1) > wide // 2).sum() >= tall, (
            "the whole of it is on the image"
        )
