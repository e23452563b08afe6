"""Tracks that stay with their objects, lines and zones that count exactly, and classes that appear."""

import json

import numpy as np
import pytest

from detection.boxes.detections import Detections
from detection.errors import MobileSSDError
from detection.live.capture import Captured
from detection.live.gate_spec import GateSpec, parse_gate
from detection.live.pipeline import Result, Timing
from detection.live.rules import Presence, Watch
from detection.live.zones import Gate

NAMES = ("person", "car")
SIZE = (480, 640)


def found(boxes, scores=None, classes=None, tracks=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9, np.float32) if scores is None else np.array(scores, np.float32)
    classes = np.zeros(len(boxes), np.int64) if classes is None else np.array(classes)
    tracks = None if tracks is None else np.array(tracks)
    return Detections(boxes, scores, classes, NAMES, SIZE, None, tracks)


def box_at(x, y, wide=60, tall=120):
    return [x - wide / 2, y - tall, x + wide / 2, y]


# ---------------------------------------------------------------- tracks


@pytest.fixture
def tracker():
    pytest.importorskip("scipy", reason="needs scipy")
    from detection.live.tracking import Tracker

    return Tracker(0.5)


def walk(tracker, ways, frames, fps=30.0, missing=lambda frame, who: False, score=lambda frame, who: 0.9):
    """Objects on their ways (functions of the frame number -> box); gives the numbers that each has had, in order."""
    rng, numbers = np.random.default_rng(0), [[] for _ in ways]
    for frame in range(frames):
        here = [who for who in range(len(ways)) if not missing(frame, who)]
        rng.shuffle(here)
        boxes = [np.array(ways[who](frame)) + rng.normal(0, 1, 4) for who in here]
        tracks = tracker.update(found(boxes, [score(frame, who) for who in here]), frame / fps).track_ids
        for who, track in zip(here, tracks):
            numbers[who].append(int(track))
    return numbers


def once(numbers):
    return [sorted(set(one) - {-1}) for one in numbers]


def test_objects_that_cross_keep_their_numbers(tracker):
    ways = [lambda t: box_at(50 + 5 * t, 300), lambda t: box_at(590 - 5 * t, 330), lambda t: box_at(320, 100 + 4 * t)]
    numbers = once(walk(tracker, ways, 90))
    assert all(len(one) == 1 for one in numbers) and len({one[0] for one in numbers}) == 3


@pytest.mark.parametrize("fps", [30.0, 12.0])
def test_numbers_stay_through_ten_missed_frames(tracker, fps):
    """Both are unseen for ten frames, one of them while they pass each other."""
    ways = [lambda t: box_at(50 + 4 * t, 300), lambda t: box_at(590 - 4 * t, 330)]
    numbers = walk(
        tracker, ways, 120, fps, missing=lambda t, who: (who == 0 and 60 <= t < 70) or (who == 1 and 25 <= t < 35)
    )
    assert [len(one) for one in numbers] == [110, 110]
    assert all(len(one) == 1 for one in once(numbers)) and once(numbers)[0] != once(numbers)[1]


def test_weak_boxes_continue_a_track_but_begin_none(tracker):
    ways = [lambda t: box_at(100 + 3 * t, 300), lambda t: box_at(500, 200)]
    numbers = walk(tracker, ways, 40, score=lambda t, who: 0.2 if who == 1 or 10 < t < 30 else 0.9)
    assert once(numbers) == [[1], []] and -1 not in numbers[0][2:]


def test_a_class_does_not_take_over_the_number_of_another(tracker):
    for frame in range(20):
        boxes = [box_at(100, 300), box_at(102, 302)]
        tracks = tracker.update(found(boxes, classes=[0, 1]), frame / 30).track_ids
    assert len(set(tracks)) == 2 and -1 not in tracks


def test_nothing_and_clocks_that_stand_still_are_no_trouble(tracker):
    for time in (0.0, 0.0, 1.0, 0.5, 2.0):
        assert len(tracker.update(found([]), time).track_ids) == 0
        assert tracker.update(found([box_at(100, 300)]), time).track_ids.shape == (1,)


def test_what_was_away_for_long_is_new(tracker):
    way = [lambda t: box_at(100, 300)]
    first = once(walk(tracker, way, 10))[0]
    for k in range(10):
        tracks = tracker.update(found([box_at(100, 300)]), 60 + k / 30).track_ids
    assert tracks[0] > first[0]


def test_a_month_of_tracks_does_not_fill_the_memory(tracker):
    for k in range(700):
        for j in range(3):
            tracker.update(found([box_at(100, 300)]), 10 * k + j / 30)
    assert tracker._next > 600 and sum(map(len, tracker._tracks.values())) < 5


@pytest.mark.parametrize("fps, jitter", [(30, 0.0), (25, 0.003), (12, 0.003), (7, 0.0)])
def test_it_numbers_as_roboflows_bytetrack_does(fps, jitter):
    """Whoever has the package `trackers` compares: a crowd with missed frames, weak boxes, pauses, two classes."""
    theirs = pytest.importorskip("trackers", reason="needs the package trackers")
    supervision = pytest.importorskip("supervision", reason="needs supervision")
    from detection.live.tracking import Tracker

    rng, ours, time = np.random.default_rng(fps), Tracker(0.5), 0.0
    other = [
        theirs.ByteTrackTracker(
            lost_track_buffer=60, frame_rate=30.0, track_activation_threshold=0.5, high_conf_det_threshold=0.5
        )
        for _ in NAMES
    ]
    places, speeds, classes = rng.uniform(50, 500, (8, 2)), rng.uniform(-6, 6, (8, 2)), rng.integers(0, 2, 8)
    same: dict[tuple[int, int], set[int]] = {}
    for _ in range(120):
        time += 1 / fps + rng.uniform(-jitter, jitter) + (0.4 if rng.random() < 0.02 else 0)
        places += speeds * 30 / fps
        here = rng.random(8) > 0.15
        boxes = [np.array(box_at(*place)) + rng.normal(0, 1.5, 4) for place in places[here]]
        scores, kinds = rng.uniform(0.2, 0.95, here.sum()), classes[here]
        frame = found(boxes, scores, kinds)
        tracks = ours.update(frame, time).track_ids
        for kind in range(2):
            which = np.flatnonzero(kinds == kind)
            given = supervision.Detections(
                xyxy=frame.boxes[which].astype(float), confidence=frame.scores[which], data={"index": which}
            )
            got = other[kind].update(given, timestamp=time)
            for index, number in zip(got.data.get("index", ()), got.tracker_id):
                assert (number < 0) == (tracks[index] < 0)
                if number >= 0:
                    same.setdefault((kind, int(number)), set()).add(int(tracks[index]))
    assert same and all(len(one) == 1 for one in same.values())
    assert len({*map(min, same.values())}) == len(same)


# ---------------------------------------------------------------- lines and zones


def gate(kind, *points):
    return Gate(GateSpec(kind, "gate", tuple(zip(points[::2], points[1::2]))))


def pass_by(gate, way, track=1, start=0.0):
    """A track along a way of (x, y); gives what it passed."""
    passed = []
    for k, (x, y) in enumerate(way):
        passed += [p.what for p in gate.update(found([box_at(x, y)], tracks=[track]), start + k / 30)]
    return passed


def straight(x1, y1, x2, y2, steps=30):
    return [(x1 + (x2 - x1) * k / steps, y1 + (y2 - y1) * k / steps) for k in range(steps + 1)]


def test_a_line_tells_directions():
    door = gate("line", 0.5, 0, 0.5, 1)  # downwards in the middle: its right-hand side is the image's left
    assert pass_by(door, straight(500, 300, 100, 300), 1) == ["in"]
    assert pass_by(door, straight(100, 300, 500, 300), 2) == ["out"]
    assert door.totals == {"in": 1, "out": 1} and door.counts == "1 in, 1 out"
    assert door.by_class == {("in", "person"): 1, ("out", "person"): 1}


def test_pixels_and_fractions_mean_the_same():
    for door in (gate("line", 0.5, 0, 0.5, 1), gate("line", 320, 0, 320, 480)):
        pass_by(door, straight(500, 300, 100, 300))
        assert door.points.tolist() == [[320, 0], [320, 480]] and door.totals["in"] == 1


def test_who_trembles_on_a_line_is_counted_once():
    door = gate("line", 320, 0, 320, 480)
    rng = np.random.default_rng(0)
    way = [(330 + 12 - k * 0.24 + rng.normal(0, 2), 300) for k in range(200)]
    assert pass_by(door, way) == ["in"]
    assert pass_by(door, [(320 + rng.normal(0, 2), 300) for _ in range(200)], 2) == []


def test_who_goes_around_the_end_does_not_cross():
    door = gate("line", 320, 0, 320, 240)
    assert (
        pass_by(door, straight(500, 100, 500, 400) + straight(500, 400, 100, 400) + straight(100, 400, 100, 100)) == []
    )
    assert pass_by(door, straight(100, 100, 500, 100), 2) == ["out"]


def test_a_crossing_while_unseen_counts():
    door = gate("line", 320, 0, 320, 480)
    assert pass_by(door, [p for p in straight(500, 300, 100, 300, 60) if not 280 < p[0] < 360]) == ["in"]


def test_counts_are_exact_for_many():
    door = gate("line", 0.2, 0.5, 0.8, 0.5)
    rng, inwards, outwards = np.random.default_rng(1), 0, 0
    for track in range(200):
        x, down = rng.uniform(150, 490), rng.random() < 0.5
        inwards, outwards = inwards + down, outwards + (not down)
        y1, y2 = (100, 400) if down else (400, 100)
        pass_by(door, straight(x, y1, x + rng.uniform(-20, 20), y2, int(rng.integers(3, 40))), track, track * 2.0)
    assert (door.totals["in"], door.totals["out"]) == (inwards, outwards)
    assert len(door._tracks) < 20, "tracks of long ago are forgotten"


def test_a_zone_knows_who_is_inside():
    room = gate("zone", 200, 200, 400, 200, 400, 400, 200, 400)
    assert pass_by(room, straight(100, 300, 300, 300), 1) == ["entered"] and room.inside == 1
    assert pass_by(room, [(300, 300)], 2, 1.0) == ["entered"] and room.inside == 2, "first seen in it"
    assert pass_by(room, straight(300, 300, 550, 300), 1, 1.1) == ["left"]
    assert room.inside == 0 and room.totals == {"entered": 2, "left": 1}, "the other has not been seen for a second"


def test_boxes_without_tracks_count_for_nothing():
    door = gate("line", 320, 0, 320, 480)
    for x in range(500, 100, -20):
        assert door.update(found([box_at(x, 300)], tracks=[-1]), 0.0) == []
        assert door.update(found([box_at(x, 300)]), 0.0) == []


def test_reading_lines_and_zones():
    assert parse_gate("line", "0.5,0,0.5,1", 1, []) == GateSpec("line", "line 1", ((0.5, 0), (0.5, 1)))
    spec = parse_gate("zone", "front/room=0,0, 10,0, 10,10", 2, ["front"])
    assert spec == GateSpec("zone", "room", ((0, 0), (10, 0), (10, 10)), "front")
    for kind, text in (
        ("line", "1,2,3"),
        ("line", "a,b,c,d"),
        ("zone", "0,0,1,1"),
        ("line", "1,1,1,1"),
        ("line", "x/0,0,1,1"),
        ("line", "nan,0,1,1"),
        ("line", ""),
    ):
        with pytest.raises(MobileSSDError) as caught:
            parse_gate(kind, text, 1, ["front"])
        assert "\n" not in str(caught.value) and f"--{kind}" in str(caught.value)


# ---------------------------------------------------------------- what appears


def test_one_frame_alone_is_no_appearance():
    presence = Presence("person")
    seen = [k in (3, 20, 22, 23) or 40 < k < 60 for k in range(260)]
    happened = [(k, what) for k, here in enumerate(seen) if (what := presence.update(int(here), k / 20))]
    assert happened == [(23, "appeared"), (160, "gone")]


def result(detections, seconds):
    return Result(Captured(np.zeros((*SIZE, 3), np.uint8), 0, seconds, 0.0), detections, Timing(0, 0, 0))


def test_a_watch_tells_everything_and_acts_on_what_was_asked_for(tracker):
    told, acted, on = [], [], []
    gates = [
        Gate(GateSpec("line", "door", ((320, 0), (320, 480)))),
        Gate(GateSpec("line", "far", ((0, 10), (640, 10)))),
    ]
    watch = Watch("front", 0.5, tracker, gates, ["car", "door"], told.append, lambda e, n: acted.append(n), on.append)
    for k in range(60):
        boxes, classes = [box_at(500 - 6 * k, 300)], [0]
        if k >= 30:
            boxes, classes = [*boxes, box_at(100, 200)], [0, 1]
        out = watch(result(found(boxes, classes=classes), k / 30))
    assert out.detections.track_ids is not None
    assert [event["event"] for event in told] == ["line", "appeared"] and acted == ["door", "car"] and on
    line, car = told
    assert (
        line["line"] == "door"
        and line["direction"] == "in"
        and line["class"] == "person"
        and line["counts"] == {"in": 1}
    )
    assert car["class"] == "car" and car["count"] == 1 and car["text"] == "car appeared"
    assert json.loads(json.dumps(told)) == told and all(event["at"].endswith("Z") for event in told)
    assert [one["text"] for one in watch.recent] == ["person #1 crossed door inwards", "car appeared"]
