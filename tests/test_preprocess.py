"""Images of every kind become upright uint8 RGB, and stretch to any size."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.images.decode import decode_image, read_image
from detection.images.header import gif_is_animated, read_header
from detection.images.preprocess import halved, halvings, stretch


def make_image(height=48, width=64):
    """A smooth RGB image whose four corners differ, so that every wrong turn and every colour swap shows."""
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
        7: np.rot90(image[:, ::-1], -1),
        8: np.rot90(image, 1),
    }[orientation]


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize("kind", [".png", ".bmp", ".tiff"])
def test_lossless_kinds_come_back_as_they_were_in_rgb(kind):
    assert difference(decode_image(encode(make_image(), kind)), make_image()) == 0


LOSSY = [(".jpg", (1, 95)), (".jpg", (1, 95, 2, 1)), (".jpg", (1, 95, 4, 1)), (".webp", (64, 95))]


@pytest.mark.parametrize("kind,options", LOSSY, ids=["jpeg", "progressive", "restarts", "webp"])
def test_lossy_kinds_come_back_nearly_as_they_were(kind, options):
    assert difference(decode_image(encode(make_image(), kind, *options)), make_image()) < 3


def test_a_jpeg_is_decoded_to_the_very_bits_of_opencv():
    data = encode(np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8), ".jpg")
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_image(data), expected)


@pytest.mark.parametrize("kind", [".png", ".jpg", ".bmp", ".tiff"])
def test_grey_becomes_three_equal_channels(kind):
    grey = make_image()[..., 0]
    image = decode_image(encode(grey, kind))
    assert difference(image, np.dstack([grey] * 3)) < 1


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    assert difference(decode_image(encode(make_image().astype(np.uint16) * 257, kind)), make_image()) == 0


@pytest.mark.parametrize("kind,depth", [(".png", np.uint8), (".png", np.uint16), (".webp", np.uint8)])
def test_transparency_shows_a_white_page(kind, depth):
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, 16:] = 128
    alpha[:, 32:] = 255
    rgba = np.dstack([make_image(), alpha]).astype(depth) * (257 if depth == np.uint16 else 1)
    options = (64, 101) if kind == ".webp" else ()  # 101: lossless
    image = decode_image(encode(rgba, kind, *options))
    assert (image[:, :16] == 255).all()
    half = (make_image()[:, 16:32].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(image[:, 16:32] - half).max() <= 1
    assert difference(image[:, 32:], make_image()[:, 32:]) == 0


def test_grey_with_alpha_and_palettes_work():
    grey_alpha = np.dstack([make_image(), np.full((48, 64), 255, np.uint8)])
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
    assert difference(decode_image(by_pillow(make_image(), "JPEG", "CMYK", quality=95)), make_image()) < 6


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
    plain = encode(make_image(), ".jpg", 1, 95)
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert read_header(data).orientation == orientation
    assert difference(decode_image(data), turned(make_image(), orientation)) < 3
    assert np.array_equal(decode_image(data), turned(decode_image(plain), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
def test_exif_orientation_of_png_and_webp(orientation, alpha):
    image = np.dstack([make_image(), np.full((48, 64), 255, np.uint8)]) if alpha else make_image()
    png = encode(image, ".png")
    data = png[:33] + chunk(b"eXIf", exif(orientation)) + png[33:]
    assert difference(decode_image(data), turned(make_image(), orientation)) == 0

    stream = encode(image, ".webp", 64, 101)
    stream = stream[stream.index(b"VP8L") :]
    note = exif(orientation)
    body = b"VP8X" + struct.pack("<IB", 10, 0x08 | 0x10 * alpha) + bytes([0, 0, 0, 63, 0, 0, 47, 0, 0])
    body += stream + b"EXIF" + struct.pack("<I", len(note)) + note
    webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    assert difference(decode_image(webp), turned(make_image(), orientation)) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff(orientation):
    from PIL import Image

    tags = Image.Exif()
    tags[274] = orientation
    assert difference(decode_image(by_pillow(make_image(), "TIFF", exif=tags)), turned(make_image(), orientation)) == 0


BROKEN_NOTES = [b"", b"II*\0", b"XX*\0" + bytes(20), exif(0), exif(9), exif(77), b"II*\0" + b"\xff" * 40]


@pytest.mark.parametrize("note", BROKEN_NOTES)
def test_a_broken_exif_note_does_not_break_the_image(note):
    body = b"Exif\0\0" + note
    plain = encode(make_image(), ".jpg")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert np.array_equal(decode_image(data), decode_image(plain))


# ---------------------------------------------------------------- stretch


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 90)] * 4)
def test_any_image_stretches_to_any_size(height, width, new_height, new_width):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    result = stretch(image, (new_height, new_width))
    assert result.shape == (new_height, new_width, 3) and result.dtype == np.uint8
    assert np.array_equal(image, before)
    # stretching works channel by channel, so the colour order commutes with it, to the bit
    assert np.array_equal(stretch(image[..., ::-1], (new_height, new_width)), result[..., ::-1])


def test_stretch_keeps_the_whole_image_and_not_its_aspect():
    image = make_image(40, 200)
    result = stretch(image, (300, 300)).astype(int)
    assert result[0, 0, 0] == 0 and result[0, -1, 0] == 255 and result[-1, 0, 1] == 255
    assert abs(result[150, 150, 0] - 127) <= 2 and abs(result[150, 150, 1] - 127) <= 4


def test_large_images_are_averaged_two_by_two_first():
    """1080p and COCO are not touched; no side falls below the input's; a mean of blocks, channel by channel."""
    assert [halvings(size, (300, 300)) for size in ((1080, 1920), (1999, 1999), (2160, 3840), (3000, 4000))] == [
        0,
        0,
        1,
        2,
    ]
    assert [halvings(size, (300, 300)) for size in ((599, 8000), (1000, 8000), (6000, 8000), (1, 3000))] == [0, 1, 3, 0]
    assert halvings((3000, 4000), (640, 640)) == 2 and halvings((3000, 4000), (800, 800)) == 1
    image = np.random.default_rng(0).integers(0, 256, (701, 2001, 3), np.uint8)
    blocks = image[:700, :2000].reshape(350, 2, 1000, 2, 3).mean((1, 3))
    small = halved(image, (300, 300))
    assert small.shape == (350, 1000, 3) and np.abs(small - blocks).max() <= 0.5
    result = stretch(image, (300, 300))
    assert np.array_equal(result, cv2.resize(small, (300, 300), interpolation=cv2.INTER_LINEAR))
    assert np.array_equal(stretch(image[..., ::-1], (300, 300)), result[..., ::-1])
    noise = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), np.uint8)
    assert stretch(noise, (300, 300)).std() < 20 < 40 < noise[::10, ::10].std()  # that is what the averaging is for


def test_real_images_read_as_opencv_reads_them(trained):
    paths = sorted(trained.photos.rglob("*.jpg"))[:10]
    assert paths
    for path in paths:
        image = read_image(path)
        assert np.array_equal(image, cv2.imread(str(path))[..., ::-1])
