"""Videos that are cut short or damaged are read as far as they can be, with right numbers and times, and it is said."""

import random
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from detection.images.container import cut_short
from detection.images.frame_times import FrameTimes
from detection.images.video import Video

FFMPEG = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the program ffmpeg, to make the video")


def save_video(path, frames=60, fps=10.0, fourcc="MJPG"):
    """Noise that changes slowly, so that every frame has bytes of its own."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (frames, 12, 16, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, (64, 48))
    assert writer.isOpened()
    for image in noise:
        writer.write(cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST))
    writer.release()
    return path


def made_by_ffmpeg(path, *options, seconds=6):
    source = ["-f", "lavfi", "-i", f"testsrc=duration={seconds}:size=64x48:rate=10"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *options, path], check=True)
    return path


def cut(path, part=0.4):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def damaged(path, start=0.5, part=0.05):
    data = bytearray(path.read_bytes())
    where, length = int(len(data) * start), int(len(data) * part)
    data[where : where + length] = random.Random(0).randbytes(length)
    path.write_bytes(data)
    return path


def read(path):
    with Video(path) as video:
        return list(video), video


@pytest.mark.parametrize("name", ["film.avi", "film.mkv"])
def test_a_video_cut_short_is_said_with_both_numbers(tmp_path, name):
    path = cut(save_video(tmp_path / name))
    assert cut_short(path)
    frames, video = read(path)
    assert 10 < len(frames) < 30 and [frame.index for frame in frames] == list(range(len(frames)))
    assert video.problem == f"{len(frames)} of 60 frames can be read, it is cut short" and video.broken


@FFMPEG
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.flv", "a.wmv", "a.webm"])
def test_a_video_of_another_container_cut_short(tmp_path, name):
    options = ["-movflags", "+faststart"] if name.endswith(("mp4", "mov")) else []
    path = cut(made_by_ffmpeg(tmp_path / name, *options), 0.6)
    frames, video = read(path)
    assert 10 < len(frames) < 60 and f"{len(frames)} " in video.problem and video.problem.endswith("cut short")
    assert video.broken


def test_an_animated_gif_cut_short(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    first, *rest = map(Image.fromarray, noise)
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=100)
    assert read(tmp_path / "a.gif")[1].problem == ""
    frames, video = read(cut(tmp_path / "a.gif", 0.6))
    assert 3 < len(frames) < 12 and video.problem == f"{len(frames)} frames can be read, it is cut short"


@pytest.mark.parametrize("name, fourcc", [("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.mp4", "mp4v"), ("a.webm", "VP80")])
def test_a_whole_video_has_no_problem(tmp_path, name, fourcc):
    path = save_video(tmp_path / name, fourcc=fourcc)
    frames, video = read(path)
    assert cut_short(path) is False and len(frames) == 60 and video.problem == "" and video.even_rate() == 10


@FFMPEG
def test_a_video_trimmed_without_recoding_is_whole(tmp_path):
    """An edit list leaves out the beginning of an MP4 whose frames are all there: as phones trim."""
    whole = made_by_ffmpeg(tmp_path / "a.mp4", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "30")
    path = tmp_path / "trimmed.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-ss", "1.5", "-i", whole, "-c", "copy", path], check=True)
    frames, video = read(path)
    assert len(frames) < video.count and video.problem == ""


def test_behind_a_damaged_spot_reading_goes_on_with_the_right_numbers(tmp_path):
    path = damaged(save_video(tmp_path / "film.mp4", fourcc="mp4v"))
    frames, video = read(path)
    assert len(frames) < 60 and frames[-1].index == 59, "as many are missing as the numbers leave out"
    assert frames[-1].time == pytest.approx(5.9, abs=0.05)
    assert video.problem == f"{len(frames)} of 60 frames can be read, it is damaged" and video.broken


@FFMPEG
@pytest.mark.parametrize("name", ["a.ts", "a.webm", "a.flv"])
def test_frames_that_vanish_without_an_error_leave_a_gap(tmp_path, name):
    path = damaged(made_by_ffmpeg(tmp_path / name, "-g", "10", seconds=12), part=0.1)
    frames, video = read(path)
    assert len(frames) < 118 and frames[-1].index == pytest.approx(119, abs=1)
    assert video.problem.startswith(f"{len(frames)} of about 1") and not video.broken


@FFMPEG
def test_a_damaged_end_is_said(tmp_path):
    frames, video = read(damaged(made_by_ffmpeg(tmp_path / "a.mkv", "-g", "10"), 0.7, 0.3))
    assert (
        len(frames) < 60
        and video.problem == f"{len(frames)} of about 60 frames can be read, its end is damaged or its sound goes on"
    )


def test_a_frame_behind_a_gap_has_the_number_that_its_file_gives_it():
    """The decoder skipped two of six uneven frames; their packets are in the file."""
    packets = [0.0, 0.1, 0.2, 1.0, 1.1, 3.0]
    times = FrameTimes(fps=2.0, count=6, known=lambda: packets)
    assert [times.next(said)[0] for said in (0.0, 0.1, 1.1, 3.0)] == [0, 1, 4, 5]
    even = FrameTimes(fps=10.0, count=0)
    assert [even.next(said)[0] for said in (0.0, 0.1, 0.2, 0.6, 0.7)] == [0, 1, 2, 6, 7]


def test_frames_that_come_late_behind_a_damaged_spot_are_left_out():
    """As decoders of H.264 give them out: an old one, a new one, in turns."""
    times = FrameTimes(fps=10.0, count=30)
    said = [0.0, 0.1, 0.2, 0.3, 1.8, 0.4, 1.9, 0.5, 2.0, 2.1]
    places = [times.next(one) for one in said]
    assert [place and place[0] for place in places] == [0, 1, 2, 3, 18, None, 19, None, 20, 21]
    assert times.time == pytest.approx(2.1)
    anew = FrameTimes(fps=10.0, count=0)  # a gap, and then another recording
    places = [anew.next(one) for one in (0.0, 0.1, 5.0, *np.arange(200) / 10)]
    assert places.count(None) <= 16 and anew.time > 23
    begins = FrameTimes(fps=10.0, count=30)
    begins.again()
    assert [begins.next(one)[0] for one in (0.9, 1.0)] == [9, 10], "the first frames are lost"


def test_time_never_runs_backwards():
    times = FrameTimes(fps=10.0, count=0)
    said = [0.0, 0.1, 0.1, 0.3, float("nan"), 0.5]
    assert [times.next(one)[1] for one in said] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    two = FrameTimes(fps=10.0, count=0)  # two recordings in one file
    said = [*np.arange(20) / 10, *np.arange(20) / 10]
    assert [two.next(one)[1] for one in said] == pytest.approx(np.arange(40) / 10)
    broken = FrameTimes(fps=10.0, count=30)
    assert [broken.next(one)[1] for one in (0.0, 0.1, 1e9, 1e9 + 0.1)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_the_end_of_a_file_ends_it():
    times = FrameTimes(fps=10.0, count=10)
    for number in range(10):
        times.next(number / 10)
    assert sum(times.again() for _ in range(10_000)) < 1000 and times.problem(None, False) == ("", True)
