"""Files that are refused, each in one line that names the file: truncated, empty, no image, or far too large."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.image_files import load_image, read_header
from detection.errors import BadImageError
from detection.images.decode import decode_image, on_white, read_image
from detection.images.video import Video


def make_image(height=48, width=64):
    """Noise: a file of it is large, so that a part of it is missing wherever it is cut."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image, kind, *options):
    ok, data = cv2.imencode(kind, image, list(options))
    assert ok
    return data.tobytes()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def refused(data, tmp_path, name="photo.jpg"):
    """The message with which a file of this content is refused: one line, with the file's name."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("options", [(), (2, 1), (4, 4)], ids=["plain", "progressive", "restarts"])
@pytest.mark.parametrize("part", [0.35, 0.7, 0.99])
def test_a_truncated_jpeg_is_refused_and_not_filled_with_grey(tmp_path, options, part):
    data = encode(make_image(64, 64), ".jpg", *options)
    assert "cut short" in refused(data[: int(len(data) * part)], tmp_path)


def test_a_thumbnail_inside_does_not_hide_that_a_jpeg_is_truncated(tmp_path):
    body = b"Exif\0\0" + encode(make_image(6, 8), ".jpg")
    plain = encode(make_image(64, 64), ".jpg")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert decode_image(data).shape == (64, 64, 3)
    assert "cut short" in refused(data[: len(data) * 3 // 4], tmp_path)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    plain = encode(make_image(), ".jpg")
    for more in (b"\0" * 50, plain[: len(plain) // 2], b"some maker's note"):
        assert np.array_equal(decode_image(plain + more), decode_image(plain))


@pytest.mark.parametrize("kind", [".png", ".webp", ".bmp", ".tiff", ".gif"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_other_kinds_cut_short_are_refused(tmp_path, kind, part):
    data = encode(make_image(40, 50), kind)
    refused(data[: int(len(data) * part)], tmp_path, "photo" + kind)


SIGNATURES = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM", b"II*\0"]


@pytest.mark.parametrize("start", SIGNATURES)
def test_a_signature_alone_is_refused(tmp_path, start):
    for rest in (b"", b"\0" * 30, b"\xff" * 30, b"\xff\xd9" * 3):
        refused(start + rest, tmp_path)


def test_what_is_no_image_is_told_what_it_is(tmp_path):
    assert "is empty" in refused(b"", tmp_path)
    assert "a text file" in refused(b"hello, I am text\n", tmp_path)
    assert "a web page" in refused(b"<!DOCTYPE html><html>404</html>", tmp_path)
    assert "git lfs pull" in refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0", tmp_path)
    assert "HEIC" in refused(b"\0\0\0\x18ftypheic" + bytes(20), tmp_path)
    assert "no JPEG, PNG" in refused(bytes(range(200)), tmp_path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(BadImageError, match="nowhere.jpg: no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(BadImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(BadImageError, match="cannot be read"):
        read_image("a\0b.jpg")
    with pytest.raises(BadImageError) as caught:
        read_image(tmp_path / "two\nlines.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadImageError, match="no regular file"):
        read_image(tmp_path / "pipe.jpg")


def huge_png(width, height):
    """A PNG of a few kilobytes that says it is huge; its data is a real, endless row of zeros, cheap to unfold."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9)) + chunk(b"IEND", b"")


def huge_headers():
    side = 30_000
    jpeg = bytearray(encode(make_image(), ".jpg"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
    bmp = bytearray(encode(make_image(), ".bmp"))
    struct.pack_into("<ii", bmp, 18, side, -side)
    gif = bytearray(encode(make_image(), ".gif"))
    struct.pack_into("<HH", gif, 6, side, side)
    tiff = struct.pack("<4sIHHHIIHHIII", b"II*\0", 8, 2, 256, 4, 1, side, 257, 4, 1, side, 0)
    big = struct.pack("<4sHHQQ", b"II+\0", 8, 0, 16, 2) + struct.pack("<HHQQHHQQ", 256, 4, 1, side, 257, 4, 1, side)
    webp = b"RIFF\x12\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + 2 * (side - 1).to_bytes(3, "little")
    kinds = {"png": huge_png(side, side), "jpeg": bytes(jpeg), "bmp": bytes(bmp), "gif": bytes(gif), "tiff": tiff}
    return kinds | {"bigtiff": big, "webp": webp}


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "tiff", "bigtiff", "webp"])
def test_thirty_thousand_pixels_square_are_refused_from_the_header(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded an image that should have been refused"))
    message = refused(huge_headers()[kind], tmp_path)
    assert "30000 x 30000 pixels" in message and "100 megapixels" in message


def test_the_limit_can_be_chosen():
    assert decode_image(encode(make_image(), ".png"), max_pixels=48 * 64).shape == (48, 64, 3)
    with pytest.raises(BadImageError, match="64 x 48 pixels, more than 0.003 megapixels"):
        decode_image(encode(make_image(), ".png"), "small.png", max_pixels=3000)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"]), st.data())
def test_damaged_files_give_a_image_or_one_clear_line_and_nothing_else(noise, kind, data):
    good = bytearray(encode(make_image(), kind))
    where = data.draw(st.integers(0, len(good)))
    good[where : where + len(noise)] = noise
    try:
        image = decode_image(bytes(good), max_pixels=1_000_000)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    except BadImageError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------- headers that strangers wrote

# The first directory of a BigTIFF of 16 bytes lies at an offset that is no index.
BIG_TIFFS = [order + b"\xff" * 8 for order in (b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")]


@pytest.mark.parametrize("data", BIG_TIFFS, ids=["little", "big"])
def test_a_directory_that_lies_nowhere_is_a_broken_image(tmp_path, data):
    assert "broken" in refused(data, tmp_path, "scan.tif")
    with pytest.raises(BadImageError, match="broken"):
        read_header(tmp_path / "scan.tif")


@pytest.mark.parametrize("exif", BIG_TIFFS, ids=["little", "big"])
def test_a_good_jpeg_with_such_an_exif_is_read(tmp_path, exif):
    body, plain = b"Exif\0\0" + exif, encode(make_image(), ".jpg")
    (tmp_path / "a.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:])
    assert read_image(tmp_path / "a.jpg").shape == (48, 64, 3)
    assert read_header(tmp_path / "a.jpg").orientation == 1


def test_a_size_below_nothing_is_a_broken_image_to_data_sets_too(tmp_path):
    (tmp_path / "a.bmp").write_bytes(b"BM" + b"\xff" * 60)
    with pytest.raises(BadImageError, match="-1 x 1 pixels"):
        read_header(tmp_path / "a.bmp")


def test_of_a_size_that_stands_twice_the_first_counts_as_for_the_decoder():
    entries = [(256, 9, 1, 30_000), (257, 9, 1, 30_000), (256, 4, 1, 10), (257, 4, 1, 10)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIi", *entry) for entry in entries)
    with pytest.raises(BadImageError, match="30000 x 30000 pixels, more than 100 megapixels"):
        decode_image(b"II*\0" + struct.pack("<I", 8) + directory + b"\0" * 4, "a.tif")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("of a decoder"), cv2.error("out of memory")])
def test_whatever_a_decoder_raises_is_a_bad_image(monkeypatch, tmp_path, error):
    def raises(*_):
        raise error

    path = tmp_path / "a.jpg"
    path.write_bytes(encode(make_image(100, 100), ".jpg"))
    monkeypatch.setattr(cv2, "imdecode", raises)
    with pytest.raises(BadImageError, match="a broken JPEG"):
        read_image(path)
    with pytest.raises(BadImageError, match="a broken JPEG"):
        load_image(path, (32, 32))


def test_a_pipe_among_images_is_told_from_an_image_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for read in (read_image, read_header, lambda path: load_image(path, (32, 32))):
        with pytest.raises(BadImageError, match="no regular file"):
            read(tmp_path / "a.jpg")


def test_a_large_jpeg_is_refused_in_training_too(tmp_path):
    data = bytearray(encode(make_image(), ".jpg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 16_000, 16_000)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(BadImageError, match="16000 x 16000 pixels, more than 100 megapixels"):
        load_image(tmp_path / "a.jpg", (300, 300))


def test_a_video_of_256_megapixels_is_refused_before_a_frame_is_decoded(tmp_path):
    data = bytearray(encode(make_image(), ".jpg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 16_000, 16_000)
    comment = b"\xff\xfe" + struct.pack(">H", 65_000) + bytes(64_998)  # FFmpeg believes no size in a frame of few bytes
    (tmp_path / "a.mjpeg").write_bytes((data[:2] + 40 * comment + data[2:]) * 3)
    with pytest.raises(BadImageError, match="a.mjpeg: has 16000 x 16000 pixels, more than 100 megapixels"):
        Video(tmp_path / "a.mjpeg")


def test_transparent_images_are_the_same_in_strips(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (150, 20, 4), dtype=np.uint8)
    found = decode_image(encode(rgba, ".png"))
    assert (found == on_white(rgba[..., [2, 1, 0, 3]])).all()
