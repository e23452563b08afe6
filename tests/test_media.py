"""Files, folders, patterns and lists become images and videos; videos become frames."""

import os
import re

import cv2
import numpy as np
import pytest

from detection.errors import BadImageError, MobileSSDError
from detection.images.decode import read_image
from detection.images.sources import find_sources
from detection.images.video import Video


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_list_may_begin_with_a_mark_as_windows_writes_it(folder, encoding):
    save_image(folder / "Größe.jpg")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (folder / "list.txt").write_bytes((mark + "Größe.jpg\r\nb.jpg\r\n").encode(encoding))
    assert names(find_sources([folder / "list.txt"])) == ["Größe.jpg", "b.jpg"]


def test_a_list_of_an_old_windows_program(folder):
    save_image(folder / "Größe.jpg")
    (folder / "list.txt").write_bytes("Größe.jpg\r\nb.jpg\r\n".encode("cp1252"))
    assert names(find_sources([folder / "list.txt"])) == ["Größe.jpg", "b.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_found_in_folders_and_lists(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(name, "wb") as file:
        file.write(b"x")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    (found,), (listed,) = find_sources([tmp_path]), find_sources([tmp_path / "list.txt"])
    assert os.fsencode(found.name) == os.fsencode(listed.name) == name


def test_lines_of_a_list_end_where_lines_end(tmp_path):
    """Also where a name holds what other programs take for the end of a line."""
    save_image(tmp_path / "a\x0bb\u2028c.jpg")
    (tmp_path / "list.txt").write_text("a\x0bb\u2028c.jpg\n", encoding="utf-8")
    assert names(find_sources([tmp_path / "list.txt"])) == ["a\x0bb\u2028c.jpg"]


def test_lines_of_a_list_that_exist_nowhere_are_seen_at_once_or_when_they_are_read(folder):
    (folder / "list.txt").write_text("nowhere.jpg\nb.jpg\n")
    assert names(find_sources([folder / "list.txt"], check_lists=False)) == ["nowhere.jpg", "b.jpg"]
    with pytest.raises(BadImageError, match="line 1: .*nowhere.jpg: no such file"):
        find_sources([folder / "list.txt"])


def test_a_link_is_a_name_of_its_own_and_links_to_folders_are_followed_once(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save_image(other / "deep" / "f.jpg")
    (folder / "link.jpg").symlink_to(folder / "b.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "elsewhere").symlink_to(folder / "sub")
    (folder / "aside").symlink_to(other)
    (folder / "sub" / "loop").symlink_to(folder)
    (other / "back").symlink_to(folder)
    here = ["C.JPEG", "a.png", "b.jpg", "film.mp4", "gone.jpg", "link.jpg", "sub/d.webp", "sub/deep/e.bmp"]
    assert names(find_sources([folder], recursive=True)) == [*here, "aside/deep/f.jpg"]
    both = find_sources([folder / "sub", folder / "elsewhere"])
    assert names(both) == ["d.webp"], "one file by two ways is one image"


def test_shards_follow_links_as_well(folder, tmp_path_factory):
    from detection.bulk.listing import list_images

    other = tmp_path_factory.mktemp("other")
    save_image(other / "f.jpg")
    (folder / "aside").symlink_to(other)
    (folder / "sub" / "loop").symlink_to(folder)
    found = [os.path.relpath(name, folder) for name in list_images([folder], recursive=True).names]
    assert found == ["C.JPEG", "a.png", "aside/f.jpg", "b.jpg", "sub/d.webp", "sub/deep/e.bmp"]


def test_a_step_up_is_taken_where_the_file_system_takes_it(folder, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other") / "deep"
    other.mkdir()
    save_image(other.parent / "b.jpg")
    (folder / "link").symlink_to(other)
    monkeypatch.chdir(folder)
    found = find_sources(["sub/../b.jpg", "link/../b.jpg"])
    assert [source.name for source in found] == ["b.jpg", "link/../b.jpg"]
    assert os.path.samefile(found[1].name, other.parent / "b.jpg")


def test_names_are_as_they_were_given(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [source.name for source in find_sources(["."])] == names(find_sources(["."]))
    assert [source.name for source in find_sources(["./sub//", "./b.jpg"])] == ["sub/d.webp", "b.jpg"]
    assert [str(source.relative) for source in find_sources(["./sub/"], recursive=True)] == ["d.webp", "deep/e.bmp"]


def test_addresses_are_listed_like_folders():
    files = pytest.importorskip("fsspec", reason="needs fsspec").filesystem("memory")
    for name in ("b.jpg", "a.PNG", ".hidden.jpg", "film.mp4", "notes.md", "sub/c.webp", ".thumbs/d.jpg"):
        files.pipe_file(f"/media/{name}", b"x")
    assert names(find_sources(["memory://media"])) == ["a.PNG", "b.jpg", "film.mp4"]
    deep = find_sources(["memory://media"], recursive=True)
    assert names(deep) == ["a.PNG", "b.jpg", "film.mp4", "sub/c.webp"] and deep[2].video
    assert deep[3].name == "memory:///media/sub/c.webp" and not deep[3].named
    assert find_sources(["memory://media/b.jpg"])[0].named
    with pytest.raises(BadImageError, match="film.mp4: a video is not read from an address but http"):
        Video(deep[2].name)


@pytest.fixture
def web():
    """A web server on this machine: the address of what it serves. /cam is a camera, /private wants a password."""
    import base64
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.partition("?")[0]
            allowed = f"Basic {base64.b64encode(b'bob:hunter2').decode()}"
            if path == "/private.png" and self.headers.get("Authorization") != allowed:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            elif path in ("/image", "/private.png", "/a b.png", "/a%20b.png"):
                self.send_response(200)
                self.send_header("Content-Type", "image/png")
                self.end_headers()
                self.wfile.write(cv2.imencode(".png", np.full((12, 16, 3), 90, np.uint8))[1].tobytes())
                return
            elif path.startswith("/cam"):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            else:
                self.send_response(404)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_that_never_ends_is_no_image(web):
    with pytest.raises(BadImageError, match=r"/cam/video: is a stream: watch it with `mobilessd live"):
        find_sources([f"http://{web}/cam/video"])
    assert names(find_sources([f"http://{web}/image?id=3", f"http://{web}/snapshot.jpg"])) == ["image", "snapshot.jpg"]


def test_an_image_of_the_web_needs_no_further_package(web):
    for path in (f"{web}/image?id=3", f"bob:hunter2@{web}/private.png", f"{web}/a b.png"):
        assert read_image(f"http://{path}").shape == (12, 16, 3)
    with pytest.raises(BadImageError, match="no such file: check the address"):
        read_image(f"http://{web}/nowhere.jpg")
    with pytest.raises(BadImageError, match="is a stream"):
        read_image(f"http://{web}/cam.jpg")


def test_no_message_about_an_address_tells_a_password(web, monkeypatch):
    monkeypatch.setattr("detection.images.addresses.PAUSE", 0)
    secrets = f"http://bob:hunter3@{web}/private.png?token=abcd1234"
    for address in (
        secrets,
        secrets.replace("private", "nowhere"),
        "http://bob:hunter3@127.0.0.1:9/a.jpg?pwd=abcd1234",
    ):
        with pytest.raises(MobileSSDError) as caught:
            read_image(address)
        assert not {"bob", "hunter3", "abcd1234"} & set(re.findall(r"\w+", str(caught.value))), caught.value
    (source,) = find_sources([secrets])
    assert source.shown == f"http://{web}/private.png?token=***" and str(source.relative) == "private.png"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nobody keeps root out")
def test_a_folder_that_may_not_be_read_says_so(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o000)
    with pytest.raises(BadImageError, match="shut: cannot be read: Permission denied"):
        find_sources([tmp_path / "shut"])


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


@pytest.mark.parametrize("ending", "TS asf vob h264 264 hevc mxf f4v m2ts mkv".split())
def test_what_recorders_write_is_a_video(tmp_path, ending):
    (tmp_path / f"clip.{ending}").write_bytes(b"x")
    (source,) = find_sources([tmp_path])
    assert source.video


@pytest.mark.parametrize("name, fourcc", [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v"), ("a.webm", "VP80")])
def test_a_video_without_an_ending_that_was_named_is_one(tmp_path, name, fourcc):
    save_video(tmp_path / name, 3, fourcc=fourcc).rename(tmp_path / "clip.dat")
    (source,) = find_sources([tmp_path / "clip.dat"])
    assert source.video and len(list(Video(source.name))) == 3


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
