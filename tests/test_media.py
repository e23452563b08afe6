"""Files, folders, patterns and lists become images and videos; videos become frames."""

import os

import cv2
import numpy as np
import pytest

from detection.errors import BadImageError
from detection.images.sources import Video, find_sources


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((12, 16, 3), 90, np.uint8))
    return path


def save_video(path, frames=10, fps=10.0, size=(48, 64), fourcc="mp4v"):
    """A video whose frame number is told by its brightness: 20, 40, 60, ... (or a GIF by Pillow)."""
    height, width = size
    images = [np.full((height, width, 3), 20 + 20 * i, np.uint8) for i in range(frames)]
    if path.suffix == ".gif":
        Image = pytest.importorskip("PIL.Image")
        first, *rest = map(Image.fromarray, images)
        first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps))
        return path
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def names(sources):
    return [str(source.relative) for source in sources]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPEG", "sub/d.webp", "sub/deep/e.bmp", ".hidden.jpg", ".thumbs/x.jpg"):
        save_image(tmp_path / name)
    save_video(tmp_path / "film.mp4", 3)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def test_a_folder_gives_its_images_and_videos_sorted_without_hidden_ones(folder):
    sources = find_sources([folder])
    assert names(sources) == ["C.JPEG", "a.png", "b.jpg", "film.mp4"]
    assert [source.video for source in sources] == [False, False, False, True]
    assert not any(source.named for source in sources)


def test_recursive_goes_below_and_keeps_the_paths_apart(folder):
    found = names(find_sources([folder], recursive=True))
    assert found == ["C.JPEG", "a.png", "b.jpg", "film.mp4", os.path.join("sub", "d.webp"), "sub/deep/e.bmp"]


def test_patterns(folder):
    assert names(find_sources([f"{folder}/*.jp*g"])) == ["b.jpg"]
    assert names(find_sources([f"{folder}/**/*.*p*"])) == ["a.png", "b.jpg", "film.mp4", "d.webp", "e.bmp"]
    with pytest.raises(BadImageError, match=r"\*.nef: no image or video matches"):
        find_sources([f"{folder}/*.nef"])


def test_a_file_with_brackets_in_its_name_is_a_file_and_no_pattern(tmp_path):
    path = save_image(tmp_path / "shot[1].jpg")
    assert [source.path for source in find_sources([path])] == [path]


def test_files_are_named_in_the_order_given_and_each_comes_once(folder):
    sources = find_sources([folder / "b.jpg", folder / "a.png", folder / "b.jpg", folder])
    assert names(sources)[:2] == ["b.jpg", "a.png"] and len(sources) == 4
    assert [source.named for source in sources] == [True, True, False, False]


def test_a_list_of_names(folder):
    listing = folder / "list.txt"
    listing.write_text("# my best\nb.jpg\n\nsub\n")
    assert names(find_sources([listing])) == ["b.jpg", "d.webp"]
    listing.write_text("b.jpg\nnowhere.jpg\n")
    with pytest.raises(BadImageError, match="list.txt, line 2: .*nowhere.jpg: no such file"):
        find_sources([listing])


@pytest.mark.parametrize("name", ["nowhere.jpg", "no/such/folder", "a\0b", "x" * 300, "two\nlines.jpg"])
def test_what_does_not_exist_is_one_clear_line(name, tmp_path):
    with pytest.raises(BadImageError) as caught:
        find_sources([tmp_path / name])
    assert "\n" not in str(caught.value) and (
        "no such file" in str(caught.value) or "cannot be read" in str(caught.value)
    )


def test_nothing_at_all_and_empty_folders(tmp_path):
    with pytest.raises(BadImageError, match="name files, folders"):
        find_sources([])
    with pytest.raises(BadImageError, match="no images or videos in this folder: name another"):
        find_sources([tmp_path])
    save_image(tmp_path / "below" / "a.jpg")
    with pytest.raises(BadImageError, match="add --recursive"):
        find_sources([tmp_path])
    with pytest.raises(BadImageError, match="is a stream"):
        find_sources(["rtsp://camera/1"])


def test_an_animated_gif_is_a_video_and_a_still_one_a_image(tmp_path):
    moving, still = save_video(tmp_path / "moving.gif", 4), save_video(tmp_path / "still.gif", 1)
    assert [source.video for source in find_sources([moving, still])] == [True, False]


@pytest.mark.parametrize("name,fourcc", [("film.mp4", "mp4v"), ("film.avi", "MJPG"), ("film.gif", "")])
def test_every_frame_comes_once_in_order_with_its_time(tmp_path, name, fourcc):
    with Video(save_video(tmp_path / name, 10, 10.0, fourcc=fourcc)) as video:
        assert video.fps == pytest.approx(10)
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(10)], abs=0.02)
    assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)
    assert [frame.image.mean() for frame in frames] == pytest.approx([20 + 20 * i for i in range(10)], abs=4)


def test_frames_are_rgb(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))
    writer.release()
    (frame,) = Video(path)
    assert frame.image[20, 20, 0] > 230 and frame.image[20, 20, 2] < 20


@pytest.mark.parametrize("content", [b"", b"text, no film", b"\0" * 5000])
def test_a_broken_video_is_one_clear_line(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match="film.mp4: (is empty|no frame can be read)") as caught:
        list(Video(path))
    assert "\n" not in str(caught.value)


def test_a_video_cut_short(tmp_path):
    whole = save_video(tmp_path / "film.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])  # an mp4's table of frames is at its end
    with pytest.raises(BadImageError, match="no frame can be read"):
        list(Video(cut))
    with pytest.raises(BadImageError, match="no such file"):
        Video(tmp_path / "nowhere.mp4")
