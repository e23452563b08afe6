"""Every way to hold an image, of every kind, gives the boxes that its pixels give; what is no image is one line."""

import io
import os
import warnings
from pathlib import Path

import bulk_help as bulk
import cv2
import numpy as np
import pytest

from detection import Detector
from detection.errors import BadImageError, MobileSSDError
from detection.images.inputs import pixels_of

torch = pytest.importorskip("torch", reason="needs torch")
Image = pytest.importorskip("PIL.Image", reason="needs pillow")

ACROSS = np.linspace(0, 255, 60, dtype=np.uint8)
RGB = np.stack([np.tile(ACROSS, (40, 1)), np.tile(ACROSS[:40, None], (1, 60)), np.full((40, 60), 90, np.uint8)], 2)
RGB[10:30, 20:45] = 230, 30, 200
GREY = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
ALPHA = np.tile(ACROSS, (40, 1))
RGBA = np.dstack([RGB, ALPHA])


def white(rgb):
    alpha = ALPHA[..., None].astype(int)
    return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


# What a kind of image is, in the words of each library, and the pixels that it must become.
KINDS = {
    "RGB": (RGB, "RGB", RGB),
    "grey": (GREY, "L", np.dstack([GREY] * 3)),
    "RGBA": (RGBA, "RGBA", white(RGB)),
    "grey and alpha": (np.dstack([GREY, ALPHA]), "LA", white(np.dstack([GREY] * 3))),
    "grey of 16 bits": (GREY.astype(np.uint16) << 8, "I;16", np.dstack([GREY] * 3)),
    "RGB of 16 bits": (RGB.astype(np.uint16) * 257, None, RGB),
}


def file_of(array):
    """A PNG."""
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[array.ndim if array.ndim == 2 else array.shape[2]]
    return cv2.imencode(".png", array if order is None else cv2.cvtColor(array, order))[1].tobytes()


def pillow(array, mode):
    return Image.fromarray(array) if mode is None or array.ndim == 2 else Image.fromarray(array, mode)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(array).transpose(2, 0, 1)))


def as_float(array):
    return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)


def ways_of(array, mode, folder):
    """name -> (one image, its colour order), of every way in which this kind can be held."""
    ways = {"array": (array, "rgb"), "float array": (as_float(array), "rgb"), "int64": (array.astype(np.int64), "rgb")}
    ways |= {"tensor": (tensor(array), "rgb"), "float tensor": (tensor(as_float(array)), "rgb")}
    ways |= {"half tensor": (tensor(as_float(array)).bfloat16(), "rgb"), "not contiguous": (array[::-1][::-1], "rgb")}
    if array.dtype == np.uint16:
        del ways["int64"]
    if array.ndim == 3 and array.shape[2] in (3, 4):
        order = [2, 1, 0, 3][: array.shape[2]]
        ways |= {"bgr": (array[..., order], "bgr"), "bgr tensor": (tensor(array[..., order]), "bgr")}
        ways |= {"tensor, channels last": (torch.from_numpy(array.copy()), "rgb")}
    if mode is not None:
        ways |= {"Pillow": (pillow(array, mode), "rgb")}
    if array.ndim == 2 or array.shape[2] > 2:
        data = file_of(array)
        (folder / "one.png").write_bytes(data)
        ways |= {"bytes": (data, "rgb"), "bytearray": (bytearray(data), "rgb"), "memoryview": (memoryview(data), "rgb")}
        ways |= {"BytesIO": (io.BytesIO(data), "rgb"), "path": (str(folder / "one.png"), "rgb")}
        ways |= {"Path": (folder / "one.png", "rgb"), "file://": (f"file://{folder}/one.png", "rgb")}
        ways |= {
            "path, bgr is for arrays": (folder / "one.png", "bgr"),
            "opened": ((folder / "one.png").open("rb"), "rgb"),
        }
    return ways


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(bulk.tiny_weights(tmp_path_factory.mktemp("tiny")), threads=1, score=0.01)


def same(found, expected, near=0.0):
    if near:  # of a float image a number may be rounded the other way
        return found.image_size == expected.image_size and np.abs(found.scores[:5] - expected.scores[:5]).max() < near
    return found == expected and len(found) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_hold_an_image_gives_the_boxes_of_its_pixels(kind, detector, tmp_path):
    array, mode, pixels = KINDS[kind]
    expected, wrong = detector(pixels), {}
    for way, (image, color) in ways_of(array, mode, tmp_path).items():
        near = 0.03 if "float" in way or "half" in way else 0
        if not same(found := detector(image, color=color), expected, near):
            wrong[way] = str(found)
    assert not wrong, f"expected {expected}"


def one_by_one(names):
    yield from names


@pytest.mark.parametrize(
    "several", ["list", "tuple", "generator", "mixed", "folder", "pattern", "list file", "batch", "tensors"]
)
@pytest.mark.parametrize("how", ["call", "stream"])
def test_every_way_to_give_several_is_their_detections_in_order(several, how, detector, tmp_path):
    images = [np.roll(RGB, 7 * i, axis=1) for i in range(19)]  # more than the network sees at once
    names = [tmp_path / f"{i:02d}.png" for i in range(19)]
    for name, image in zip(names, images):
        name.write_bytes(file_of(image))
    (tmp_path / "all.txt").write_text("\n".join(name.name for name in names))
    given = {
        "list": images,
        "tuple": tuple(map(str, names)),
        "generator": one_by_one(names),
        "mixed": [Image.fromarray(image) if i % 2 else image for i, image in enumerate(images)],
        "folder": tmp_path,
        "pattern": str(tmp_path / "*.png"),
        "list file": tmp_path / "all.txt",
        "batch": np.stack(images),
        "tensors": torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()),
    }[several]
    found = detector(given) if how == "call" else list(detector.stream(given))
    expected = [detector(image) for image in images]
    assert len(found) == 19 and all(map(near, found, expected)) and len(found[0]) > 3
    if several in ("generator", "folder", "list file"):
        assert [Path(one.path).name for one in found] == [name.name for name in names]


def near(found, expected):
    """Batches may differ from single images in the last bits."""
    return found.names == expected.names and np.allclose(found.boxes, expected.boxes, atol=1e-2)


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (60, 40))
    for i in range(frames):
        writer.write(np.roll(RGB, 5 * i, axis=1)[..., ::-1].copy())
    writer.release()


def test_of_a_video_every_frame_is_looked_at_with_its_number_and_time(detector, tmp_path):
    write_video(tmp_path / "film.avi", 5)
    found = list(detector.stream(tmp_path / "film.avi"))
    assert [one.origin.frame for one in found] == [0, 1, 2, 3, 4] and found[2].origin.time == pytest.approx(0.2)
    assert found[3].image.shape == (40, 60, 3) and repr(found[3]).startswith(
        f"<{len(found[3])} detections in film.avi, frame 3"
    )
    listed = detector(tmp_path / "film.avi")
    assert listed == found and listed[3].path.endswith("film.avi")
    with pytest.raises(MobileSSDError, match="was not kept"):
        listed[3].plot()


NO_IMAGES = {
    "None": (None, "the image is None: cv2.imread and VideoCapture.read give that"),
    "empty": (RGB[:0, :0], r"empty \(0 x 0 x 3\): check the corners of the crop"),
    "no column": (RGB[:, 5:5], r"empty \(40 x 0 x 3\)"),
    "empty tensor": (torch.zeros(3, 0, 5), "empty"),
    "empty Pillow": (Image.new("RGB", (0, 5)), r"empty \(5 x 0 pixels\)"),
    "no bytes": (b"", "is empty"),
    "other bytes": (b"hello", "is no image but a text file"),
    "a camera's number": (0, "not int; a camera is watched with"),
    "float": (0.5, "not float"),
    "dict": ({"image": RGB}, "not dict"),
    "object": (object(), "not object"),
    "channels first": (RGB.transpose(2, 0, 1), r"not one of uint8 3 x 40 x 60: give .* image.transpose"),
    "five channels": (np.zeros((9, 9, 5), np.uint8), "1 to 4 channels"),
    "five dimensions": (np.zeros((1, 1, 9, 9, 3), np.uint8), "1 to 4 channels"),
    "a line": (np.zeros(9, np.uint8), "1 to 4 channels"),
    "floats to 255": (RGB.astype(np.float32), "from 0 to 1, not 0 to 255: divide by 255"),
    "not a number": (np.full((5, 5), np.nan), "from 0 to 1, not nan"),
    "negative": (RGB.astype(np.int32) - 9, "from 0 to 255, not -9"),
    "too large": (RGB.astype(np.int32) * 9, "from 0 to 255, not 0 to 2295"),
    "texts": (np.full((5, 5), "x"), "is no image"),
    "complex": (np.zeros((5, 5), complex), "is no image"),
    "Pillow without range": (Image.new("F", (5, 5)), "convert it"),
    "text file": (io.StringIO("x"), "open it with mode 'rb'"),
    "nothing of this name": ("nowhere.jpg", "nowhere.jpg: no such file"),
    "empty name": ("", "no such file"),
    "pattern of nothing": ("nowhere/*.jpg", "no image or video matches"),
}


@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_no_image_is_one_line(what, detector):
    value, words = NO_IMAGES[what]
    for give in (detector, lambda value: list(detector.stream(value)), lambda value: detector([RGB, value])):
        with pytest.raises(BadImageError, match=words) as error:
            give(value)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_of_a_video_cut_short_the_frames_there_are_come_and_the_rest_is_a_warning(detector, tmp_path):
    write_video(tmp_path / "film.avi", 40)
    whole = (tmp_path / "film.avi").read_bytes()
    (tmp_path / "film.avi").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="film.avi: .* of .* frames can be read"):
        found = detector(tmp_path / "film.avi", score=0.8)
    assert 5 < len(found) < 40


def test_lists_in_lists_are_one_line(detector):
    with pytest.raises(BadImageError, match="not a list in a list: give one list of all images"):
        detector([[RGB, RGB], [RGB]])


def test_a_video_named_as_a_photograph_or_broken_is_one_line(detector, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film" * 50)
    with pytest.raises(BadImageError, match="film.mp4: no frame can be read"):
        detector(tmp_path / "film.mp4")


def test_what_cannot_be_read_in_a_folder_is_a_warning_and_left_out(detector, tmp_path):
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(file_of(RGB))
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "d.mp4").write_bytes(b"no film" * 50)
    with pytest.warns(UserWarning, match="left out: ") as said:
        found = detector(tmp_path)
    assert [Path(one.path).name for one in found] == ["a.png", "c.png"]
    assert {str(one.message).split(":")[1].split("/")[-1] for one in said} == {"b.png", "d.mp4"}
    with pytest.raises(BadImageError, match="b.png: is no image"), warnings.catch_warnings():
        warnings.simplefilter("error")
        detector([tmp_path / "a.png", tmp_path / "b.png"])


def test_a_pillow_image_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert np.array_equal(pixels_of(image), pixels_of(tmp_path / "turned.png"))
        assert pixels_of(image).shape == (60, 40, 3)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "HSV", "RGBX", "PA"])
def test_pillow_images_of_rarer_modes_are_read(mode):
    image = Image.fromarray(RGB).convert("RGBA" if mode == "PA" else mode)
    image = image.convert("P").convert("PA") if mode == "PA" else image
    assert np.abs(pixels_of(image).astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


def test_an_array_is_taken_as_it_lies_in_memory():
    assert pixels_of(RGB) is RGB and np.shares_memory(pixels_of(RGB, "bgr"), RGB)


# ---------------------------------------------------------------- rules of a call


def test_rules_of_a_call_hold_for_it_alone(detector):
    usual = detector(RGB)
    assert len(detector(RGB, score=0.9)) < len(usual) and detector(RGB, max_detections=2) == usual[:2]
    assert set(detector(RGB, classes=["B"]).names) == {"b"} == set(detector(RGB, classes=1).names)
    assert detector(RGB, iou=1.0) != usual and detector(RGB, iou=0.6) == usual
    assert all(len(one) == 1 for one in detector.stream([RGB, RGB], max_detections=1))
    assert detector(RGB) == usual


@pytest.mark.parametrize(
    "rules, words",
    [
        ({"score": float("nan")}, "score is a number from 0 to 1, not nan"),
        ({"score": 1.5}, "score is a number from 0 to 1, not 1.5"),
        ({"score": -0.1}, "score is a number from 0 to 1"),
        ({"score": "high"}, "score is a number from 0 to 1"),
        ({"iou": 2}, "iou is a number from 0 to 1, not 2"),
        ({"max_detections": 0}, "max_detections is a whole number from 1, not 0"),
        ({"max_detections": 2.5}, "max_detections is a whole number from 1, not 2.5"),
        ({"classes": ["zzz"]}, "no class 'zzz'; the classes are a, b, c"),
        ({"classes": 3}, "no class 3; the classes are a, b, c"),
        ({"classes": [None]}, "no class None"),
        ({"classes": []}, "no classes named"),
        ({"conf": 0.5}, "has no option 'conf'; that is score here"),
        ({"scores": 0.5}, "has no option 'scores'; nearest: score"),
        ({"color": "gbr"}, "color is rgb or bgr, not 'gbr'"),
    ],
)
def test_a_rule_out_of_range_is_one_line_at_once(rules, words, detector):
    for give in (lambda: detector(RGB, **rules), lambda: detector([RGB], **rules)):
        with pytest.raises(MobileSSDError, match=words):
            give()
    if "conf" not in rules and "scores" not in rules:
        with pytest.raises(MobileSSDError, match=words):
            detector.stream([RGB], **rules)
    if "color" not in rules:
        with pytest.raises(MobileSSDError, match=words):
            Detector(detector.source, threads=1, **rules)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_are_a_whole_number(threads):
    with pytest.raises(MobileSSDError, match="threads is a whole number from 1"):
        Detector(threads=threads)


def test_options_have_the_names_of_the_command_and_older_ones_stay(detector):
    options = {"threads": 1, "score": 0.01}
    assert Detector(weights=detector.source, **options)(RGB) == Detector(name_or_path=detector.source, **options)(RGB)
    assert Detector(detector.source, max_det=2, **options).settings.max_detections == 2
    with pytest.raises(MobileSSDError, match="Detector has no option 'model'; that is weights here"):
        Detector(model=detector.source)
    with pytest.raises(MobileSSDError, match="batch is a whole number from 1, not 0"):
        detector.stream([RGB], batch=0)


# ---------------------------------------------------------------- any length


class Counted(np.ndarray):
    alive = 0

    def __array_finalize__(self, other):
        Counted.alive += 1

    def __del__(self):
        Counted.alive -= 1


def test_a_generator_of_any_length_is_read_as_it_goes(detector):
    read = []

    def images():
        for i in range(400):
            read.append(i)
            yield RGB.copy().view(Counted)

    most = 0
    for number, _ in enumerate(detector.stream(images(), score=0.8)):
        most = max(most, Counted.alive)
        assert read[-1] - number < 100
    assert number == 399 and most < 150, "images of what was found already are gone"
    del _
    assert len(detector(images(), score=0.8)) == 400 and Counted.alive < 5, "and a list of detections keeps none"


def test_a_stream_that_is_dropped_ends(detector):
    read = []
    stream = detector.stream(read.append(i) or RGB for i in range(10_000))
    next(stream)
    del stream
    assert len(read) < 200


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux' /proc")
def test_memory_stays_flat_over_a_long_stream(detector):
    """benchmarks/python_stream.py does it with 10,000 photographs."""
    begin, large = None, np.repeat(np.repeat(RGB, 8, 0), 8, 1)
    for number, _ in enumerate(detector.stream((large.copy() for _ in range(900)), score=0.8)):
        if number == 300:
            begin = resident()
    assert resident() < 1.05 * begin
