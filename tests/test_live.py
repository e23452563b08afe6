"""Live: one network for several sources, their pace and numbers, and the command that shows, records or prints them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import children
import numpy as np
import pytest
from live_help import CameraServer, FakeDetector, save_video, wait_until

from detection.cli.main import main
from detection.detector import Detector
from detection.images.video import Video
from detection.live import app
from detection.live.capture import Captured
from detection.live.options import LiveOptions
from detection.live.overlay import draw_tracked, put_status, stale_image
from detection.live.pipeline import Engine, Feed, Pace, Result, Station, Timing, timed
from detection.live.source_names import name_sources
from detection.live.stats import Stats, percentile
from detection.live.streams import open_capture
from detection.weights.card import Card
from detection.weights.names import spec_for
from detection.weights.records import DEFAULT, find_record

MAPS = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
ROOT = Path(__file__).resolve().parents[1]


def captured(index=0, seconds=0.0, size=(48, 64)):
    return Captured(np.zeros((*size, 3), np.uint8), index, seconds, time.monotonic())


def result_of(frame):
    return Result(frame, FakeDetector()(frame.image), Timing(0.001, 0.02, 0.003))


@pytest.fixture
def camera():
    server = CameraServer(fps=50)
    yield server
    server.down()


def test_the_terminal_shows_the_boxes_that_are_drawn_and_listed(camera):
    """A tracker is given weaker ones as well."""
    from detection.live.app import _status
    from detection.live.channels import Channel
    from detection.live.options import LiveOptions

    with open_capture(name_sources([camera.url])[0]) as capture:
        channel = Channel(capture)
        frame = captured()
        both = FakeDetector()(frame.image)
        both = replace(both, boxes=both.boxes.repeat(2, 0), scores=np.array([0.9, 0.2]), class_ids=np.array([0, 1]))
        channel.note(0.5)(Result(frame, both, Timing(0, 0, 0)))
        line = _status(channel, False, LiveOptions())
    assert "dog 0.90" in line and "cat" not in line


# ---------------------------------------------------------------- one network for several sources


def run_all(captures, detector, steps, seconds=20, **options):
    """Runs captures to their end; `steps[i]` are those of source i."""
    feeds = [Feed(capture) for capture in captures]
    engine = Engine(feeds, timed(detector))
    stations = [Station(feed, step, **options) for feed, step in zip(feeds, steps)]
    for thread in (*stations, engine):
        thread.start()
    wait_until(lambda: not any(station.running for station in stations), seconds, "the end")
    engine.close()
    for capture in captures:
        capture.close()


def collector(into, seconds=0.0):
    def step(result):
        time.sleep(seconds)
        into.append(result)
        return result

    return step


def test_a_file_shows_every_frame_however_slow_the_network(tmp_path):
    capture = open_capture(name_sources([str(save_video(tmp_path / "film.avi"))])[0])
    results = []
    run_all([capture], FakeDetector(0.01), [[collector(results)]])
    assert [result.frame.index for result in results] == list(range(12))
    assert all(len(result.detections) == 1 and result.timing.network >= 0.01 for result in results)


def test_sources_take_turns_and_a_slow_output_slows_only_its_own(tmp_path):
    names = name_sources([str(save_video(tmp_path / f"{i}.avi", frames=n)) for i, n in enumerate((40, 40, 4))])
    captures = [open_capture(name) for name in names]
    fast, also_fast, slow = [], [], []
    ends = []
    steps = [[collector(fast)], [collector(also_fast)], [collector(slow, 0.2)]]
    for results in steps[:2]:
        results.append(lambda result: ends.append(time.monotonic()) or result)
    begin = time.monotonic()
    run_all(captures, FakeDetector(0.002), steps)
    assert [len(fast), len(also_fast), len(slow)] == [40, 40, 4]
    assert max(ends) - begin < 0.75 < time.monotonic() - begin, "the fast ones did not wait for the slow one"


def test_a_fault_in_one_source_leaves_the_others_running(tmp_path):
    captures = [open_capture(name) for name in name_sources([str(save_video(tmp_path / f"{i}.avi")) for i in "ab"])]

    def fault(result):
        raise ZeroDivisionError("a bug")

    results, done = [], []
    run_all(captures, FakeDetector(), [[fault], [collector(results)]], done=lambda: done.append(1))
    assert len(results) == 12 and len(done) == 2
    assert captures[0].state == "failed" and isinstance(captures[0].error, ZeroDivisionError)


def test_the_steps_of_the_detector_are_timed_and_give_its_very_boxes(trained):
    from detection import Detector
    from detection.images.decode import read_image

    detector = Detector(trained.weights, threads=1)
    image = read_image(trained.cat)
    detections, network, post = timed(detector)(image)
    assert np.array_equal(detections.boxes, detector(image).boxes) and len(detections)
    assert network > post > 0


# ---------------------------------------------------------------- pace and numbers


def test_a_file_plays_at_its_own_speed():
    slept, pace = [], Pace()
    for i in range(5):
        pace.hold(result_of(captured(i, i / 10)), slept.append)
    assert sum(slept) == pytest.approx(0.1 + 0.2 + 0.3 + 0.4, abs=0.05), "each waits for its own time (nobody slept)"
    begin, pace = time.monotonic(), Pace()
    for i in range(5):
        held = pace.hold(result_of(captured(i, i / 10)))
    assert 0.38 < time.monotonic() - begin < 0.8
    assert time.monotonic() - held.frame.arrived < 0.1, "held back on purpose is no delay"


def test_stats_tell_speed_delay_and_drops():
    stats = Stats()
    assert stats.fps == 0 and stats.percentiles("total") == (0, 0)
    for i in (0, 1, 2, 7, 8):
        frame = captured(i)
        time.sleep(0.02)
        stats.add(result_of(frame), ["dog"])
    numbers = stats.to_dict()
    assert 20 < stats.fps <= 50 and stats.dropped == 4 and stats.seen == {"dog": 5}
    assert 20 <= numbers["total"][0] < 60 and numbers["network"] == [20, 20] and numbers["post"] == [3, 3]
    assert "4 dropped" in stats.line() and " ".join(stats.table()[1].split()) == "network p50 20.0 ms p95 20.0 ms"


def test_the_speed_of_a_source_that_is_away_falls_to_zero(monkeypatch):
    stats = Stats()
    for i in range(5):
        stats.add(result_of(captured(i)))
        time.sleep(0.005)
    now = time.monotonic()
    monkeypatch.setattr("detection.live.stats.time.monotonic", lambda: now + 5)
    assert stats.fps == 0


def test_percentiles_are_values_that_occurred():
    values = [float(i) for i in range(1, 101)]
    assert percentile(values, 0.5) == 50 and percentile(values, 0.95) == 95 and percentile([7.0], 0.95) == 7


def test_numbers_are_written_on_a_copy():
    frame = captured(size=(240, 320))
    drawn = draw_tracked(frame.image, FakeDetector()(frame.image))
    put_status(drawn, ["23.8 fps", "31 ms"])
    assert not frame.image.any() and drawn[:30, :60].any() and drawn.shape == (240, 320, 3)
    stale = stale_image(drawn, "no frame")
    assert np.ptp(stale[100:].astype(int), axis=2).max() == 0, "grey, so that nobody takes it for now"


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (20, 30)])
def test_numbers_leave_out_images_too_small_for_them(size):
    put_status(np.zeros((*size, 3), np.uint8), ["24.0 fps  31 ms"] * 9)


# ---------------------------------------------------------------- the command


@pytest.fixture
def live(monkeypatch, capsys, tmp_path):
    """Runs `mobilessd live ARGS` with the fake detector and without a display; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("detection.cli.live.open_detector", lambda args, **_: FakeDetector())
    monkeypatch.setattr("detection.live.window.window_problem", lambda: "there is no display")
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(["live", *map(str, args)])
        return code, *capsys.readouterr()

    return run


def test_headless_it_records(live):
    save_video(Path("film.avi"))
    code, out, err = live("film.avi", "--headless", "--record", "out.mp4")
    assert code == 0 and err == ""
    assert "12 frames in" in out and "recorded 12 frames to out.mp4" in out
    frames = list(Video("out.mp4"))
    assert len(frames) == 12 and np.ptp(frames[0].image) > 100, "boxes are drawn"


def test_several_sources_record_to_files_of_their_own(live):
    save_video(Path("a.avi"))
    save_video(Path("b.avi"), frames=5)
    code, out, _ = live("front=a.avi", "b.avi", "--headless", "--record", "out.mp4")
    assert code == 0 and "front: 12 frames in" in out and "b.avi: 5 frames in" in out
    assert len(list(Video("out-front.mp4"))) == 12 and len(list(Video("out-b.avi.mp4"))) == 5


def test_headless_it_prints(live):
    save_video(Path("film.avi"))
    code, out, _ = live("film.avi", "--headless", "--stats", "--speed", "own")
    assert code == 0 and re.search(r"[0-9.]+ s .* fps, delay .* ms .*dog 0\.90", out)
    assert re.search(r"network  p50 +[0-9.]+ ms   p95 +[0-9.]+ ms", out)


def test_a_stream_ends_after_the_frames_asked_for(live, camera):
    code, out, _ = live(camera.url, "--headless", "--frames", 5, "--record", "out.avi")
    assert code == 0 and " 5 frames in" in out and list(Video("out.avi"))
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("capture", "pump", "network", "output"))]


def test_mistakes_are_one_line(live):
    save_video(Path("film.avi"))
    Path("broken.avi").write_bytes(b"RIFF")
    for args in (
        ["nowhere.mp4"],
        ["broken.avi"],
        ["97"],
        ["film.avi", "--record", "film.avi"],
        ["film.avi", "--record", "x.txt"],
        ["x=film.avi", "x=film.avi"],
        ["film.avi", "--window"],
        ["film.avi", "--camera-size", "big"],
    ):
        code, _, err = live("--headless", *args) if "--window" not in args else live(*args)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, args
    assert len(list(Video("film.avi"))) == 12


def test_a_source_that_breaks_later_is_reported_and_the_others_go_on(live, monkeypatch):
    save_video(Path("good.avi"))
    save_video(Path("bad.avi"), size=(30, 30))
    whole = FakeDetector.__call__

    def stumbles(self, image):
        if image.shape[0] == 30:
            raise ZeroDivisionError("a bug")
        return whole(self, image)

    monkeypatch.setattr(FakeDetector, "__call__", stumbles)
    code, out, err = live("good.avi", "bad.avi", "--headless")
    assert code == 1 and "good.avi: 12 frames" in out and "bad.avi" in err and "ZeroDivisionError" in err


class FakeWindow:
    shown: list = []

    def __init__(self, title):
        FakeWindow.shown = []

    def show(self, image):
        FakeWindow.shown.append(image)
        return len(FakeWindow.shown) < 4  # then q

    def idle(self):
        time.sleep(0.005)
        return True

    def close(self):
        pass


def test_q_ends_it(live, monkeypatch):
    monkeypatch.setattr("detection.live.window.window_problem", lambda: None)
    monkeypatch.setattr("detection.live.app.Window", FakeWindow)
    save_video(Path("film.avi"), fps=20, frames=40)
    code, out, _ = live("film.avi")
    assert code == 0 and len(FakeWindow.shown) == 4
    assert int(re.search(r"film.avi: (\d+) frames in", out)[1]) < 15


def test_a_lost_camera_is_shown_as_stale(live, monkeypatch, camera):
    monkeypatch.setattr("detection.live.window.window_problem", lambda: None)
    monkeypatch.setattr("detection.live.app.Window", FakeWindow)
    monkeypatch.setattr(FakeWindow, "show", lambda self, image: FakeWindow.shown.append(image) or True)
    threading.Timer(1.0, lambda: setattr(camera, "mode", "hang")).start()
    monkeypatch.setattr("detection.live.capture.STALE_AFTER", 0.3)

    begin = time.monotonic()
    monkeypatch.setattr(FakeWindow, "idle", lambda self: time.sleep(0.005) or time.monotonic() - begin < 2.5)
    code, _, _ = live(camera.url)
    last = FakeWindow.shown[-1].astype(int)
    assert code == 0 and (last[24:] == last[24:, :, :1]).all(), "grey: not silently frozen"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_playable_recording(camera, tmp_path, which):
    weights = find_record(DEFAULT).shipped
    command = [sys.executable, ROOT / "tools" / "live_demo.py", camera.url, "--headless", "--weights", weights]
    command += ["--record", tmp_path / "out.mp4", "--threads", 1]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()  # the detector is ready
    assert " fps" in process.stdout.readline()
    time.sleep(0.7)
    process.send_signal(which)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err and "recorded" in out, err
    assert list(Video(tmp_path / "out.mp4"))


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_signal_at_any_moment_of_the_waiting_ends_it():
    code = """if True:
        import signal
        from detection.cli.live import _until_signal
        for _ in range(200):
            with _until_signal() as stop:
                signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                while not stop.wait(0):
                    pass
    """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_live_with_an_exported_file_needs_no_torch(tmp_path):
    from detection.runtimes.openvino_model import converted
    from detection.weights.resolve import open_weights

    weights = converted(open_weights(find_record(DEFAULT).shipped))
    film = save_video(tmp_path / "film.avi", frames=5, size=(240, 320))
    code = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from detection.cli.main import main\n"
        f"sys.exit(main(['live', {str(film)!r}, '--headless', '--weights', {str(weights)!r}, '--threads', '1']))"
    )
    run = children.run([sys.executable, "-c", code], cwd=ROOT, timeout=120)
    assert run.returncode == 0 and "film.avi: 5 frames" in run.stdout, run.stderr


@pytest.mark.parametrize("options", [{"show": "page"}, {"show": "none"}])
def test_the_detector_that_was_given_stays_as_it_was(options):
    """The page's slider needs weaker boxes: of a detector of its own."""
    card = Card(spec_for("ssd_mobilenet_v1").to_dict(), ("a",), (1,), MAPS)
    given = Detector.of(card, SimpleNamespace(anchors=None), score=0.6)
    used, score, lowest = app._with_lower_score(given, LiveOptions(**options), False)
    assert given.settings.score == score == 0.6 and used.runtime is given.runtime
    assert used.settings.score == lowest == (0.1 if options["show"] == "page" else 0.6)
