"""Pictures of every kind become upright uint8 RGB; what is broken is refused in one line that names the file."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.core.errors import BadPictureError
from detection.core.picture_header import gif_is_animated, read_header
from detection.core.preprocess import MAX_PIXELS, decode_image, read_image, stretch


def picture(height=48, width=64):
    """A smooth RGB picture whose four corners differ, so that every wrong turn and every colour swap shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = 255 * x / (width - 1), 255 * y / (height - 1), 40 + 0 * x
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def encode(image, kind, *options):
    """`image` in RGB, RGBA or grey as the bytes of a file, by OpenCV."""
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    ok, data = cv2.imencode(kind, np.ascontiguousarray(image), list(options))
    assert ok
    return data.tobytes()


def by_pillow(image, kind, mode=None, **options):
    Image = pytest.importorskip("PIL.Image", reason="needs Pillow to write this kind of file")
    file = io.BytesIO()
    pil = Image.fromarray(image)
    (pil.convert(mode) if mode else pil).save(file, kind, **options)
    return file.getvalue()


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return float(np.abs(a.astype(int) - b).mean())


def exif(orientation, order="<"):
    """Exif by hand: a TIFF header and one directory with one entry, the orientation (tag 274, a 16-bit number)."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def turned(image, orientation):
    """What Exif 2.3 says each orientation means, written another way than the code under test does it."""
    return {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: np.rot90(image[:, ::-1], 1),
        8: np.rot90(image, 1),
    }[orientation]


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize("kind", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_kinds_come_back_as_they_were_in_rgb(kind):
    if kind == ".ppm":
        with pytest.raises(BadPictureError, match="no JPEG, PNG"):
            decode_image(encode(picture(), kind) + b"\0")
    else:
        assert difference(decode_image(encode(picture(), kind)), picture()) == 0


@pytest.mark.parametrize(
    "kind,options", [(".jpg", (1, 95)), (".jpg", (1, 95, 2, 1)), (".jpg", (1, 95, 4, 1)), (".webp", (64, 95))]
)
def test_lossy_kinds_come_back_nearly_as_they_were(kind, options):
    assert difference(decode_image(encode(picture(), kind, *options)), picture()) < 3


def test_a_jpeg_is_decoded_to_the_very_bits_of_opencv():
    data = encode(np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8), ".jpg")
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_image(data), expected)


@pytest.mark.parametrize("kind", [".png", ".jpg", ".bmp", ".tiff"])
def test_grey_becomes_three_equal_channels(kind):
    grey = picture()[..., 0]
    image = decode_image(encode(grey, kind))
    assert difference(image, np.dstack([grey] * 3)) < 1


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    assert difference(decode_image(encode(picture().astype(np.uint16) * 257, kind)), picture()) == 0


@pytest.mark.parametrize("kind,depth", [(".png", np.uint8), (".png", np.uint16), (".webp", np.uint8)])
def test_transparency_shows_a_white_page(kind, depth):
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, 16:] = 128
    alpha[:, 32:] = 255
    rgba = np.dstack([picture(), alpha]).astype(depth) * (257 if depth == np.uint16 else 1)
    options = (64, 101) if kind == ".webp" else ()  # 101: lossless
    image = decode_image(encode(rgba, kind, *options))
    assert (image[:, :16] == 255).all()
    half = (picture()[:, 16:32].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(image[:, 16:32] - half).max() <= 1
    assert difference(image[:, 32:], picture()[:, 32:]) == 0


def test_grey_with_alpha_and_palettes_work():
    grey_alpha = np.dstack([picture(), np.full((48, 64), 255, np.uint8)])
    assert decode_image(by_pillow(grey_alpha, "PNG", "LA")).shape == (48, 64, 3)
    flat = np.zeros((20, 30, 3), np.uint8)
    flat[:, 10:] = (200, 30, 90)
    assert difference(decode_image(by_pillow(flat, "PNG", "P")), decode_image(by_pillow(flat, "PNG"))) < 30
    assert decode_image(by_pillow(flat, "GIF")).shape == (20, 30, 3)


def test_a_palette_with_a_transparent_entry_shows_white_there():
    rows = b"".join(b"\0" + bytes([0] * 5 + [1] * 5) for _ in range(8))
    head = struct.pack(">IIBBBBB", 10, 8, 8, 3, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])), chunk(b"tRNS", b"\0")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    image = decode_image(data)
    assert image[0, 0].tolist() == [255, 255, 255] and image[0, 9].tolist() == [40, 50, 60]


def test_cmyk_jpeg_becomes_rgb():
    assert difference(decode_image(by_pillow(picture(), "JPEG", "CMYK", quality=95)), picture()) < 6


def test_an_animated_gif_is_told_from_a_still_one():
    Image = pytest.importorskip("PIL.Image")
    frames = [Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)) for i in range(4)]
    for count in (1, 4):
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:count], duration=100)
        assert gif_is_animated(file.getvalue()) == (count > 1)
        assert decode_image(file.getvalue()).shape == (20, 30, 3)


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_exif_orientation_of_a_jpeg(orientation, order):
    body = b"Exif\0\0" + exif(orientation, order)
    plain = encode(picture(), ".jpg", 1, 95)
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert read_header(data).orientation == orientation
    assert difference(decode_image(data), turned(picture(), orientation)) < 3
    assert np.array_equal(decode_image(data), turned(decode_image(plain), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
def test_exif_orientation_of_png_and_webp(orientation, alpha):
    image = np.dstack([picture(), np.full((48, 64), 255, np.uint8)]) if alpha else picture()
    png = encode(image, ".png")
    data = png[:33] + chunk(b"eXIf", exif(orientation)) + png[33:]
    assert difference(decode_image(data), turned(picture(), orientation)) == 0

    stream = encode(image, ".webp", 64, 101)
    stream = stream[stream.index(b"VP8L") :]
    note = exif(orientation)
    body = b"VP8X" + struct.pack("<IB", 10, 0x08 | 0x10 * alpha) + bytes([0, 0, 0, 63, 0, 0, 47, 0, 0])
    body += stream + b"EXIF" + struct.pack("<I", len(note)) + note
    webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    assert difference(decode_image(webp), turned(picture(), orientation)) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff(orientation):
    from PIL import Image

    tags = Image.Exif()
    tags[274] = orientation
    assert difference(decode_image(by_pillow(picture(), "TIFF", exif=tags)), turned(picture(), orientation)) == 0


@pytest.mark.parametrize(
    "note", [b"", b"II*\0", b"XX*\0" + bytes(20), exif(0), exif(9), exif(77), b"II*\0" + b"\xff" * 40]
)
def test_a_broken_exif_note_does_not_break_the_picture(note):
    body = b"Exif\0\0" + note
    plain = encode(picture(), ".jpg")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert np.array_equal(decode_image(data), decode_image(plain))


# ---------------------------------------------------------------- what is refused


def refused(data, tmp_path, name="photo.jpg"):
    """The message with which a file of this content is refused: one line, with the file's name."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(BadPictureError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("options", [(), (2, 1), (4, 4)], ids=["plain", "progressive", "restarts"])
@pytest.mark.parametrize("part", [0.35, 0.7, 0.99])
def test_a_truncated_jpeg_is_refused_and_not_filled_with_grey(tmp_path, options, part):
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), ".jpg", *options)
    assert "cut short" in refused(data[: int(len(data) * part)], tmp_path)


def test_a_thumbnail_inside_does_not_hide_that_a_jpeg_is_truncated(tmp_path):
    body = b"Exif\0\0" + exif(1) + encode(picture(6, 8), ".jpg")
    plain = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), ".jpg")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert decode_image(data).shape == (64, 64, 3)
    assert "cut short" in refused(data[: len(data) * 3 // 4], tmp_path)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    plain = encode(picture(), ".jpg")
    for more in (b"\0" * 50, plain[: len(plain) // 2], b"some maker's note"):
        assert np.array_equal(decode_image(plain + more), decode_image(plain))


@pytest.mark.parametrize("kind", [".png", ".webp", ".bmp", ".tiff", ".gif"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_other_kinds_cut_short_are_refused(tmp_path, kind, part):
    data = encode(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), kind)
    refused(data[: int(len(data) * part)], tmp_path, "photo" + kind)


@pytest.mark.parametrize(
    "start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM", b"II*\0"]
)
def test_a_signature_alone_is_refused(tmp_path, start):
    for rest in (b"", b"\0" * 30, b"\xff" * 30, b"\xff\xd9" * 3):
        refused(start + rest, tmp_path)


def test_what_is_no_picture_is_told_what_it_is(tmp_path):
    assert "is empty" in refused(b"", tmp_path)
    assert "a text file" in refused(b"hello, I am text\n", tmp_path)
    assert "a web page" in refused(b"<!DOCTYPE html><html>404</html>", tmp_path)
    assert "git lfs pull" in refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0", tmp_path)
    assert "HEIC" in refused(b"\0\0\0\x18ftypheic" + bytes(20), tmp_path)
    assert "no JPEG, PNG" in refused(bytes(range(200)), tmp_path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(BadPictureError, match="nowhere.jpg: no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(BadPictureError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(BadPictureError, match="cannot be read"):
        read_image("a\0b.jpg")
    with pytest.raises(BadPictureError) as caught:
        read_image(tmp_path / "two\nlines.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadPictureError, match="no regular file"):
        read_image(tmp_path / "pipe.jpg")


def huge_png(width, height):
    """A PNG of a few kilobytes that says it is huge; its data is a real, endless row of zeros, cheap to unfold."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9)) + chunk(b"IEND", b"")


def huge_headers():
    side = 30_000
    jpeg = bytearray(encode(picture(), ".jpg"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
    bmp = bytearray(encode(picture(), ".bmp"))
    struct.pack_into("<ii", bmp, 18, side, -side)
    gif = bytearray(encode(picture(), ".gif"))
    struct.pack_into("<HH", gif, 6, side, side)
    tiff = struct.pack("<4sIHHHIIHHIII", b"II*\0", 8, 2, 256, 4, 1, side, 257, 4, 1, side, 0)
    big = struct.pack("<4sHHQQ", b"II+\0", 8, 0, 16, 2) + struct.pack("<HHQQHHQQ", 256, 4, 1, side, 257, 4, 1, side)
    webp = b"RIFF\x12\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + 2 * (side - 1).to_bytes(3, "little")
    kinds = {"png": huge_png(side, side), "jpeg": bytes(jpeg), "bmp": bytes(bmp), "gif": bytes(gif), "tiff": tiff}
    return kinds | {"bigtiff": big, "webp": webp}


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "tiff", "bigtiff", "webp"])
def test_thirty_thousand_pixels_square_are_refused_from_the_header(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded a picture that should have been refused"))
    message = refused(huge_headers()[kind], tmp_path)
    assert "30000 x 30000 pixels" in message and "100 megapixels" in message


def test_the_limit_can_be_chosen():
    data = encode(picture(), ".png")
    assert decode_image(data, max_pixels=48 * 64).shape == (48, 64, 3)
    with pytest.raises(BadPictureError, match="64 x 48 pixels, more than 0.003 megapixels"):
        decode_image(data, "small.png", max_pixels=3000)
    assert MAX_PIXELS == 100_000_000


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"]), st.data())
def test_damaged_files_give_a_picture_or_one_clear_line_and_nothing_else(noise, kind, data):
    good = bytearray(encode(picture(), kind))
    where = data.draw(st.integers(0, len(good)))
    good[where : where + len(noise)] = noise
    try:
        image = decode_image(bytes(good), max_pixels=1_000_000)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    except BadPictureError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------- stretch


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 90)] * 4)
def test_any_picture_stretches_to_any_size(height, width, new_height, new_width):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    result = stretch(image, (new_height, new_width))
    assert result.shape == (new_height, new_width, 3) and result.dtype == np.uint8
    assert np.array_equal(image, before)
    # stretching works channel by channel, so the colour order commutes with it, to the bit
    assert np.array_equal(stretch(image[..., ::-1], (new_height, new_width)), result[..., ::-1])


def test_stretch_keeps_the_whole_picture_and_not_its_aspect():
    image = picture(40, 200)
    result = stretch(image, (300, 300)).astype(int)
    assert result[0, 0, 0] == 0 and result[0, -1, 0] == 255 and result[-1, 0, 1] == 255
    assert abs(result[150, 150, 0] - 127) <= 2 and abs(result[150, 150, 1] - 127) <= 4


def test_real_pictures_read_as_opencv_reads_them(shared):
    for path in sorted((shared / "data" / "photos").rglob("*.jpg"))[:10]:
        image = read_image(path)
        assert np.array_equal(image, cv2.imread(str(path))[..., ::-1])
