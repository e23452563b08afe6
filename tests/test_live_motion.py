"""`--motion`: what moves in a frame, when the network looks, what stays meanwhile, and what is decoded at all."""

import contextlib
import io
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from live_help import CameraServer, Reds

from detection.boxes.detections import Detections
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.live import app, motion_jpeg, reader, snapshots
from detection.live.motion import GIVEN, HOLD, LOOKS, Motion, Sieve, masks_of, reduced
from detection.live.options import LiveOptions
from detection.live.reader_messages import FRAME, CannotOpen
from detection.live.source_names import name_sources
from detection.live.standing import CONFIRMED, GIVEN_UP, MORE, Standing
from detection.live.stop import Stop
from detection.live.streams import open_capture

SIZE = (180, 320)
RNG = np.random.default_rng(3)
YARD = cv2.resize(RNG.integers(30, 130, (9, 16, 3), np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)


NOISE = [RNG.normal(0, 1, (*SIZE, 3)).astype(np.float32) for _ in range(16)]


def frame(x=None, gain=1.0, noise=6.0, y=60):
    """The yard as a camera sees it, with a red thing of 24 x 48 pixels at x."""
    image = YARD.astype(np.float32)
    if x is not None:
        image[y : y + 48, max(int(x), 0) : max(int(x) + 24, 0)] = (220, 30, 30)
    return np.clip(image * gain + noise * NOISE[RNG.integers(16)], 0, 255).astype(np.uint8)


def settled(masks=(), until=6.0):
    motion = Motion(masks)
    for k in range(int(until * 15)):
        motion.compare(frame(), k / 15)
    return motion


class TestMotion:
    def test_the_noise_of_a_camera_does_not_move_and_neither_does_its_exposure(self):
        motion = settled()
        for k in range(150):
            assert not motion.compare(frame(gain=1 + 0.1 * np.sin(k / 10)), 6 + k / 15)

    def test_what_comes_in_moves_at_once_and_where_it_is(self):
        motion = settled()
        (region,) = motion.compare(frame(x=-10), 6.0)
        assert region[0] <= 0 and region[2] >= 14 and region[1] <= 60 and region[3] >= 108 and region[2] < 100

    def test_motion_lasts_a_moment_longer_than_it_is_seen_and_what_stands_is_background_soon(self):
        motion = settled()
        assert motion.compare(frame(x=150), 6.0)
        for k in range(1, 300):
            if not motion.compare(frame(x=150), 6.0 + k / 15):
                break
        assert HOLD < k / 15 < 15

    def test_a_mask_hides_its_place_alone(self):
        mask = [(0.4, 0.0), (0.7, 0.0), (0.7, 1.0), (0.4, 1.0)]
        motion = settled([mask])
        assert not motion.compare(frame(x=160), 6.0)
        assert motion.compare(frame(x=20), 6.1)

    def test_another_size_of_frames_begins_anew(self):
        motion = settled()
        assert motion.compare(frame()[::2, ::2], 6.0) == [(0, 0, 160, 90)]

    def test_masks_are_rectangles_or_polygons_of_one_source_or_of_all(self):
        texts = ["yard/0.1,0.2,0.5,0.6", "tree=0,0,0.5,0,0.5,1"]
        assert masks_of(texts, "door", ["door", "yard"]) == [((0, 0), (0.5, 0), (0.5, 1))]
        assert masks_of(texts, "yard", ["door", "yard"])[0] == ((0.1, 0.2), (0.5, 0.2), (0.5, 0.6), (0.1, 0.6))
        for wrong in ("1,2", "roof/0,0,1,1", "0,0,1"):
            with pytest.raises(MobileSSDError, match="--motion-mask"):
                masks_of([wrong], "door", ["door"])


class TestSieve:
    def test_while_nothing_moves_few_frames_are_decoded_and_fewer_given_on(self):
        sieve = Sieve([], True)
        looked = given = 0
        for k in range(600):
            if sieve.wants(k / 30):
                keep, moved = sieve.keeps(reduced(frame()), SIZE, k / 30)
                if k >= 300:
                    looked, given = looked + 1, given + keep
                    assert moved == []
        assert looked <= 10 * LOOKS * 1.2 and given <= 10 * GIVEN * 1.2

    def test_all_are_given_on_while_something_moves_and_where_it_is_switched_off(self):
        sieve = Sieve([], True)
        sieve.keeps(reduced(frame()), SIZE, 0.0)
        assert all(sieve.keeps(reduced(frame(x=9 * k)), SIZE, k / 15)[1] for k in range(1, 30))
        sieve.on = False
        assert sieve.wants(0.0) and sieve.keeps(reduced(frame()), SIZE, 2.0) == (True, None)

    def test_jpegs_are_looked_at_small(self, monkeypatch):
        jpegs = [cv2.imencode(".jpg", frame())[1].tobytes() for _ in range(10)]
        monkeypatch.setattr(motion_jpeg, "_parts", lambda answer: (jpegs[k % 10] for k in range(90)))
        clock = iter(np.arange(0, 100, 1 / 15))
        monkeypatch.setattr(motion_jpeg.time, "monotonic", lambda: float(next(clock)))
        found = list(motion_jpeg.frames(None, Sieve([], True)))
        assert len(found) < 45 and found[0][2] is None and found[-1][2] == [] and found[-1][0].shape == (*SIZE, 3)


def boxes(*rows, score=0.9):
    array = np.array(rows, np.float32).reshape(-1, 4)
    scores = np.full(len(array), score, np.float32)
    return Detections(array, scores, np.zeros(len(array), np.int64), ("person",), SIZE)


HERE, THERE = (10, 10, 50, 100), (200, 20, 240, 110)


def confirmed(*rows):
    standing = Standing(every=10.0, score=0.3)
    for k in range(CONFIRMED):
        assert standing.wants([(0, 0, 320, 180)], SIZE, k / 10)
        standing.looked(boxes(*rows), k / 10)
    return standing


class TestStanding:
    def test_nothing_is_looked_at_while_nothing_moves_and_all_after_some_seconds(self):
        standing = confirmed(HERE)
        times = []
        for k in range(1, 41):
            if standing.wants([], SIZE, k / 2):
                times.append(k / 2)
                standing.looked(boxes(HERE), k / 2)
        assert times == [10.5] and len(standing.still()) == 1

    def test_what_stands_stays_where_something_moves_elsewhere(self):
        standing = confirmed(HERE, THERE)
        assert standing.wants([(180, 0, 320, 180)], SIZE, 1.0)
        assert standing.looked(boxes(), 1.0).boxes.tolist() == [list(HERE)]

    def test_what_was_seen_but_once_does_not_stay(self):
        standing = Standing(10.0, 0.3)
        standing.wants([(0, 0, 320, 180)], SIZE, 0.0)
        standing.looked(boxes(HERE), 0.0)
        assert standing.wants([], SIZE, 0.5)
        assert len(standing.looked(boxes(), 0.5)) == 0

    def test_what_a_look_misses_is_looked_for_again_before_it_goes(self):
        standing = confirmed(HERE)
        found = [len(standing.looked(boxes(), 11 + k / 2)) for k in range(9) if standing.wants([], SIZE, 11 + k / 2)]
        assert found == [1] * (GIVEN_UP - 1) + [0]

    def test_a_trembling_score_does_not_keep_the_network_busy(self):
        standing = confirmed(HERE)
        looks = [
            k
            for k in range(18)
            if standing.wants([], SIZE, 11 + k / 2) and standing.looked(boxes(*[HERE, THERE][: 1 + k % 2]), 11 + k / 2)
        ]
        assert len(looks) <= MORE + 1

    def test_the_best_come_first_and_numbers_of_boxes_stay_right(self):
        standing = confirmed(HERE, THERE)
        standing.wants([(180, 0, 320, 180)], SIZE, 1.0)
        found = standing.looked(boxes(THERE, score=0.5), 1.0)
        assert found.scores.tolist() == pytest.approx([0.9, 0.5]) and found.boxes[1].tolist() == list(THERE)
        standing.wants([(0, 0, 60, 180)], SIZE, 1.1)
        assert standing.looked(boxes(), 1.1).boxes.tolist() == [list(THERE)]


class Counting(Reds):
    looks = 0

    def __call__(self, image):
        self.looks += 1
        return super().__call__(image)


@pytest.fixture
def clip(tmp_path):
    """Six seconds of the yard; a red thing walks through it from second 3 to 5."""
    path = tmp_path / "yard.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 15, SIZE[::-1])
    for k in range(90):
        x = -24 + (k - 45) * 11 if 45 <= k < 75 else None
        writer.write(frame(x, noise=2.0)[..., ::-1].copy())
    writer.release()
    return path


def live(path, tmp_path, **more):
    detector, said = Counting(), []
    options = LiveOptions([str(path)], jsonl=str(tmp_path / "seen.jsonl"), **more)
    assert app.run(options, lambda: detector, Stop(), said.append) == 0
    rows = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    return detector.looks, [len(row["detections"]) for row in rows], said


def test_in_a_file_every_frame_is_given_and_the_network_sees_those_in_which_something_moves(clip, tmp_path):
    plain = live(clip, tmp_path)
    (tmp_path / "seen.jsonl").unlink()
    looks, found, said = live(clip, tmp_path, motion=True)
    assert plain[0] == 90 and looks < 75 and found == plain[1] and f"nothing moved in {90 - looks}" in said[-1]


def test_a_running_camera_is_switched_and_gives_few_frames_of_a_still_yard():
    camera = CameraServer(fps=20)
    camera._jpegs = [cv2.imencode(".jpg", YARD)[1].tobytes()]
    with open_capture(name_sources([f"yard={camera.url}"])[0]) as capture:
        frames = iter(capture)
        assert [next(frames).moved for _ in range(5)] == [None] * 5
        capture.motion = True
        still = next(frame for frame in frames if frame.moved == ())
        then = [next(frames) for _ in range(2)]
        assert then[-1].arrived - still.arrived > 1.5 / GIVEN and then[-1].index == still.index + 2
        capture.motion = False
        assert next(frame for frame in frames if frame.moved is None)
    camera.down()


def test_snapshots_are_sifted_too(monkeypatch):
    now, left = [0.0], [40]

    def open_web(*_, **__):
        left[0] -= 1
        if left[0] < 0:
            raise OSError("gone")
        return contextlib.closing(io.BytesIO(cv2.imencode(".png", YARD)[1].tobytes()))

    def polled(on):
        left[0], sent = 40, []
        with pytest.raises(CannotOpen, match="no snapshot: gone"):
            snapshots.poll("http://camera/", Sieve([], on), lambda kind, data, frame=None: sent.append((kind, frame)))
        return [frame.moved for kind, frame in sent if kind == FRAME]

    monkeypatch.setattr("detection.images.web.open_web", open_web)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(snapshots, "time", clock)
    assert polled(False) == [None] * 40
    sifted = polled(True)
    assert sifted[0] and sifted[-1] == [] and len(sifted) < 25


def test_the_words_are_checked(capsys):
    for words in (["--motion-look", "0"], ["--motion", "--motion-mask", "1,2"]):
        assert main(["live", "nowhere=/dev/video99", "--headless", *words]) == 2
        assert "--motion" in capsys.readouterr().err


class TestDecoding:
    def test_what_hardware_cannot_open_is_decoded_without(self, monkeypatch):
        asked = []

        class Capture:
            def __init__(self, address, api, options):
                asked.append(cv2.CAP_PROP_HW_ACCELERATION in options)

            def isOpened(self):
                return not asked[-1]

        monkeypatch.setattr(cv2, "VideoCapture", Capture)
        monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "")  # which is for that process alone
        monkeypatch.setattr(reader, "DECODERS", ("/",))
        assert reader._open("rtsp://10.0.0.7/main", None).isOpened() and asked == [True, False]
        reader._open("rtsp://10.0.0.7/main", None, hardware=False)
        monkeypatch.setattr(reader, "DECODERS", ("/nowhere",))
        reader._open("rtsp://10.0.0.7/main", None)
        assert asked == [True, False, False, False]
