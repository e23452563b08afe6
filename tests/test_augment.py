"""Augmentation: boxes stay with their labels and inside; each crop draws from the distribution of its source."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.errors import BadDataError, MissingPackageError, MobileSSDError
from detection.images.preprocess import stretch
from detection.train.input.augment import PRESETS, Augmentation, augment, mixup, mosaic, place
from detection.train.input.crops import CROPS
from detection.train.input.photometric import (
    DISTORTIONS,
    adjust_contrast,
    adjust_saturation,
    corrupt,
    liu_distort,
    shift_hsv,
)
from detection.train.input.sample import cut, flip, flip_vertical, make_sample
from detection.train.input.transforms import albumentations

RULES = sorted(CROPS)

PHOTO = str(Path(__file__).resolve().parents[1] / "docs" / "images" / "grace_hopper.jpg")


@st.composite
def images(draw, least=0):
    """An image, its boxes (whole or fractional pixels) and a seed. Each box's label is its number."""
    height, width = draw(st.integers(20, 120)), draw(st.integers(20, 120))
    number = draw(st.integers(least, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    corners = np.sort(rng.random((number, 2, 2)), axis=1) * [width, height]
    boxes = np.concatenate([corners[:, 0], np.maximum(corners[:, 1], corners[:, 0] + 1)], 1)
    boxes = np.minimum(boxes, [width, height, width, height])
    boxes = np.round(boxes) if draw(st.booleans()) else boxes
    boxes = boxes[(boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)]
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return make_sample(image, boxes, np.arange(len(boxes))), rng


# --- properties


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=150, deadline=None)
@given(images())
def test_a_crop_keeps_at_least_one_box_or_leaves_the_image_alone(rule, drawn):
    sample, rng = drawn
    height, width = sample.size
    crop = CROPS[rule](sample.boxes, sample.size, rng, False)
    if crop is None:
        return
    x1, y1, x2, y2 = crop.window
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert not len(sample.boxes) or crop.keeps(sample.boxes).any()


@pytest.mark.parametrize("preset", sorted(PRESETS))
@settings(max_examples=60, deadline=None)
@given(images())
def test_boxes_stay_inside_and_with_their_labels(preset, drawn):
    """A label is a box's number: its box in the sample must be where the window and the flip put that very box."""
    sample, rng = drawn
    out = augment(sample, PRESETS[preset], rng, (64, 96))
    assert out.image.shape == (64, 96, 3) and out.image.dtype == np.uint8
    assert len(out.boxes) == len(out.labels) == len(out.scores) == len(out.ignore)
    assert len(set(out.labels.tolist())) == len(out.labels)
    assert out.boxes.dtype == np.float32 and (out.boxes >= 0).all()
    assert (out.boxes[:, [0, 2]] <= 96).all() and (out.boxes[:, [1, 3]] <= 64).all()
    assert (out.boxes[:, 2:] - out.boxes[:, :2] >= 1).all()


@settings(max_examples=100, deadline=None)
@given(images(least=1), st.sampled_from(RULES), st.floats(0, 1))
def test_the_marked_pixels_of_a_box_are_found_under_its_box(drawn, rule, expand):
    """The box is painted white; after expand, crop, stretch and flip it must lie where the white is."""
    sample, rng = drawn
    boxes = np.round(sample.boxes)[:1] + [[0, 0, 1, 1]]
    boxes = np.minimum(boxes, [sample.size[1], sample.size[0]] * 2)
    if (boxes[:, 2:] - boxes[:, :2] < 8).any():
        return
    image = np.zeros_like(sample.image)
    x1, y1, x2, y2 = boxes[0].astype(int)
    image[y1:y2, x1:x2] = 255
    out = place(make_sample(image, boxes, [0]), Augmentation(crop=rule, expand=expand, fill=(0, 0, 0)), rng, (100, 100))
    painted = out.image[..., 0] > 127
    if len(out.boxes) and painted.any():
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        # half a source pixel of blur at the edge, which is up to 100 / 6 pixels here (a third of 20 stretched to 100)
        blur = 1 + max(100 / (sample.size[0] * 0.3), 100 / (sample.size[1] * 0.3)) / 2
        assert np.abs(out.boxes[0] - found).max() <= blur


@settings(max_examples=50, deadline=None)
@given(images())
def test_flipping_twice_changes_nothing(drawn):
    sample, _ = drawn
    once, twice = flip(sample), flip(flip(sample))
    assert (twice.image == sample.image).all() and np.abs(twice.boxes - sample.boxes).max(initial=0) < 1e-4
    assert (once.image[:, ::-1] == sample.image).all() and (once.labels == sample.labels).all()


@settings(max_examples=50, deadline=None)
@given(images(), st.sampled_from(sorted(PRESETS)))
def test_the_same_generator_gives_the_same_sample_and_the_image_is_not_written_to(drawn, preset):
    sample, rng = drawn
    before, seed = sample.image.copy(), int(rng.integers(99))
    sample.image.flags.writeable = False
    config = PRESETS[preset]
    one, two = (augment(sample, config, np.random.default_rng(seed), (32, 32)) for _ in range(2))
    assert (one.image == two.image).all() and (one.boxes == two.boxes).all() and (sample.image == before).all()


# --- geometry


def test_the_window_of_the_whole_image_is_the_stretch_of_detection():
    image = cv2.imread(PHOTO)
    sample = make_sample(image, [[10, 20, 300, 400]], [0])
    height, width = image.shape[:2]
    out = cut(sample, (0, 0, width, height), (300, 320))
    assert (out.image == stretch(image, (300, 320))).all()
    assert np.allclose(out.boxes, [[10 * 320 / width, 20 * 300 / height, 300 * 320 / width, 400 * 300 / height]])


def test_zooming_out_equals_drawing_the_canvas():
    """The one warp against the plain way: a large filled canvas, cropped and resized."""
    image = cv2.imread(PHOTO)[:200, :300]
    window = (-120, -40, 430, 260)  # xyxy: the image with 120 to the left, 40 above, 130 right, 60 below
    canvas = np.full((300, 550, 3), (123, 117, 104), np.uint8)
    canvas[40:240, 120:420] = image
    ours = cut(make_sample(image, [[0, 0, 300, 200]], [0]), window, (160, 160))
    theirs = cv2.resize(canvas, (160, 160), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours.image.astype(int) - theirs).mean() < 1.0
    assert np.allclose(ours.boxes, [[120 * 160 / 550, 40 * 160 / 300, 420 * 160 / 550, 240 * 160 / 300]], atol=1e-3)


def test_ignore_regions_go_along_and_do_not_decide_the_crop():
    rng = np.random.default_rng(0)
    image = np.zeros((100, 100, 3), np.uint8)
    sample = make_sample(image, [[40, 40, 60, 60], [0, 0, 100, 100]], [0, -1], ignore=[False, True])
    for _ in range(50):
        out = place(sample, Augmentation(crop="torchvision"), rng, (50, 50))
        assert out.ignore.tolist() == [False, True]  # the object is always there, and the region is never lost
        assert np.allclose(out.boxes[1], [0, 0, 50, 50])
    background = sample.select(sample.ignore)
    assert len(place(background, Augmentation(crop="torchvision"), rng, (50, 50)).boxes) == 1


# --- colour


def test_colour_changes_equal_torchvisions():
    torch = pytest.importorskip("torch")
    from torchvision.transforms import functional as F

    image = cv2.cvtColor(cv2.imread(PHOTO), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    pairs = [
        (adjust_contrast(image, 0.6), F.adjust_contrast(tensor, 0.6)),
        (adjust_contrast(image, 1.4), F.adjust_contrast(tensor, 1.4)),
        (adjust_saturation(image, 0.5), F.adjust_saturation(tensor, 0.5)),
        (adjust_saturation(image, 1.5), F.adjust_saturation(tensor, 1.5)),
        (shift_hsv(image, 0.05 * 180, 1.0), F.adjust_hue(tensor, 0.05)),
        (shift_hsv(image, -0.04 * 180, 1.0), F.adjust_hue(tensor, -0.04)),
    ]
    for ours, theirs in pairs:
        difference = np.abs(ours.astype(int) - theirs.permute(1, 2, 0).numpy().astype(int))
        assert difference.mean() < 1.5 and np.percentile(difference, 99) <= 8  # 8-bit HSV has 2 degrees a step


def test_colour_changes_equal_albumentations():
    pytest.importorskip("albumentations")
    from albumentations.augmentations.pixel import functional as A

    image = cv2.cvtColor(cv2.imread(PHOTO), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA)
    pairs = [
        (adjust_contrast(image, 0.7), A.adjust_contrast_torchvision(image, 0.7)),
        (adjust_saturation(image, 1.3), A.adjust_saturation_torchvision(image, 1.3)),
        (shift_hsv(image, 9, 1.0), A.adjust_hue_torchvision(image, 0.05)),
        (shift_hsv(image, -12, 1.0), A.shift_hsv(image, -12, 0, 0)),
    ]
    for ours, theirs in pairs:
        assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 1.0


@pytest.mark.parametrize("name", sorted(DISTORTIONS))
def test_distortions_change_most_images_and_keep_their_form(name):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    changed = 0
    for seed in range(100):
        out = DISTORTIONS[name](image, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8
        changed += (out != image).any()
    assert 85 < changed <= 100  # each of four or five parts with p .5: about one in 20 stays


def test_liu_brightness_stays_within_its_range():
    grey = np.full((8, 8, 3), 128, np.uint8)
    means = [liu_distort(grey, np.random.default_rng(seed)).mean() for seed in range(400)]
    assert min(means) >= (128 - 33) * 0.5 - 1 and max(means) <= (128 + 33) * 1.5 + 1
    assert min(means) < 70 and max(means) > 190


def test_corruptions_are_albumentations_and_seeded():
    assert pytest.importorskip("albumentations").__version__.startswith("2.0.")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    one, two, other = (corrupt(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == two).all() and (one != other).any() and one.dtype == np.uint8


def test_the_agpl_successor_of_albumentations_is_refused(monkeypatch):
    pytest.importorskip("albumentations")
    from importlib import metadata

    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"albumentations": ["albumentationsx"]})
    albumentations.cache_clear()
    try:
        with pytest.raises(MissingPackageError, match="not the MIT 2.0.x"):
            albumentations()
    finally:
        albumentations.cache_clear()


# --- turned, and albumentations by name


def test_top_and_bottom_exchanged_twice_is_the_identity_and_the_box_stays_on_its_object():
    image = np.zeros((60, 80, 3), np.uint8)
    image[5:15, 20:50] = 255
    sample = make_sample(image, [[20, 5, 50, 15]], [0])
    out = place(sample, Augmentation(crop="none", flip=0.0, flip_vertical=1.0), np.random.default_rng(0), (60, 80))
    assert out.boxes.tolist() == [[20, 45, 50, 55]] and (out.image[45:55, 20:50] == 255).all()
    assert (flip_vertical(out).image == image).all() and flip_vertical(out).boxes.tolist() == [[20, 5, 50, 15]]


@pytest.mark.parametrize("seed", range(5))
def test_a_rotated_box_holds_its_rotated_object(seed):
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 30:70] = 255
    config = Augmentation(crop="none", flip=0.0, rotate=45, fill=(0, 0, 0))
    out = augment(make_sample(image, [[30, 40, 70, 60]], [7]), config, np.random.default_rng(seed), (100, 100))
    rows, columns = np.nonzero(out.image[..., 0] > 128)
    assert out.labels.tolist() == [7]
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert out.boxes[0] == pytest.approx(expected, abs=2)


def test_transforms_take_labels_scores_and_ignore_regions_along_and_keep_the_size():
    config = Augmentation(crop="none", flip=0.0, transforms=({"Crop": {"x_max": 50, "y_max": 100, "p": 1}},))
    boxes = [[60, 10, 90, 40], [10, 10, 40, 60], [20, 20, 49, 90], [46, 0, 90, 90]]
    sample = make_sample(np.zeros((100, 100, 3), np.uint8), boxes, [0, 1, -1, 3], [1, 0.5, 1, 1], [0, 0, 1, 0])
    out = augment(sample, config, np.random.default_rng(0), (100, 100))
    assert out.image.shape == (100, 100, 3), "half of the image, stretched back to the whole"
    assert out.labels.tolist() == [1, -1] and out.scores.tolist() == [0.5, 1] and out.ignore.tolist() == [False, True]
    left = np.array([[20, 10, 80, 60], [40, 20, 98, 90]])
    assert out.boxes == pytest.approx(left, abs=1e-4), "one is outside, one has a tenth left or less"


@settings(max_examples=20, deadline=None)
@given(images())
def test_transforms_are_a_function_of_the_generator_and_leave_boxes_inside(drawn):
    sample, rng = drawn
    config = Augmentation(flip_vertical=0.5, rotate=30, transforms=("RandomRotate90", "Blur", {"Affine": {"p": 1}}))
    seed = int(rng.integers(2**31))
    out, again = (augment(sample, config, np.random.default_rng(seed), (64, 96)) for _ in range(2))
    assert (out.image == again.image).all() and (out.boxes == again.boxes).all()
    assert out.image.shape == (64, 96, 3) and len(set(out.labels.tolist())) == len(out.labels)
    assert (out.boxes >= 0).all() and (out.boxes <= [96, 64, 96, 64]).all()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["Blurr"], r"transforms\[0\]: 'Blurr' is no transform of albumentations 2.0.* did you mean 'Blur'\?"),
        ([{"Rotate": {"limt": 3}}], r"transforms\[0\]: Rotate has no argument 'limt'; did you mean 'limit'\?"),
        ([{"Rotate": {"limit": "far"}}], r"transforms\[0\]: Rotate: limit.*: Input should be a valid tuple"),
        (["RandomCrop"], r"transforms\[0\]: RandomCrop: height: Field required"),
        (["RandomCrop3D"], "'RandomCrop3D' is no transform .* for images with boxes"),
        ([{"OneOf": {"transforms": ["Blurr"]}}], r"transforms\[0\].OneOf\[0\]: 'Blurr' is no transform"),
        ([{"OneOf": {"p": 0.5}}], "OneOf needs transforms: a list"),
        ([{"Blur": {}, "Rotate": {}}], "write a name, or one name with its arguments"),
        (["Normalize"], "Normalize gives float32 .* leave it out"),
        (["FDA"], "FDA requires .*fda_metadata"),
        (["Blur"] * 101, "101 are more than 100"),
    ],
)
def test_what_albumentations_cannot_do_is_one_line(entries, said):
    with pytest.raises(MobileSSDError, match=said) as caught:
        Augmentation(transforms=tuple(entries))
    assert "\n" not in str(caught.value)


def test_a_transform_that_the_input_is_too_small_for_is_one_line():
    config = Augmentation(crop="none", transforms=({"RandomCrop": {"height": 200, "width": 200, "p": 1}},))
    with pytest.raises(BadDataError, match="Crop size .* with an input of 96x64"):
        augment(make_sample(np.zeros((64, 96, 3), np.uint8), [], []), config, np.random.default_rng(0), (64, 96))


# --- several images


def _solid(colour, label, boxes=((10, 10, 90, 90),), **fields):
    return make_sample(np.full((100, 100, 3), colour, np.uint8), boxes, [label] * len(boxes), **fields)


def test_mixup_blends_images_and_weighs_scores():
    out = mixup(_solid(200, 1), _solid(100, 2, scores=[0.5]), 0.25)
    assert (out.image == 125).all() and out.labels.tolist() == [1, 2]
    assert out.scores.tolist() == [0.25, 0.375]


def test_mosaic_puts_each_box_into_its_quarter():
    colours = [10, 80, 150, 220]
    samples = [_solid(c, i, unknown=np.arange(4) == i) for i, c in enumerate(colours)]
    config = Augmentation(crop="none", flip=0.0)
    for seed in range(10):
        out = mosaic(samples, config, np.random.default_rng(seed), (200, 300))
        assert sorted(out.labels.tolist()) == [0, 1, 2, 3] and out.unknown.all()
        for box, label in zip(out.boxes.astype(int), out.labels):
            x1, y1, x2, y2 = box
            assert (out.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] == colours[label]).all()


def test_partners_come_from_the_generator_and_without_any_nothing_is_mixed():
    sample, other = _solid(50, 1), _solid(250, 2)
    config = Augmentation(crop="none", flip=0, mixup=1.0)
    assert augment(sample, config, np.random.default_rng(0), (50, 50)).labels.tolist() == [1]
    out = augment(sample, config, np.random.default_rng(0), (50, 50), lambda rng: other)
    assert out.labels.tolist() == [1, 2] and 50 < out.image.mean() < 250


def test_unknown_names_and_wrong_probabilities_are_refused():
    with pytest.raises(MobileSSDError, match="crop: 'tensorflow' is none of tf, liu"):
        Augmentation(crop="tensorflow")
    with pytest.raises(MobileSSDError, match="mixup: 1.5 is no probability"):
        Augmentation(mixup=1.5)


def test_tiny_boxes_are_dropped_at_the_end():
    sample = make_sample(np.zeros((1000, 1000, 3), np.uint8), [[0, 0, 5, 500], [0, 0, 50, 50]], [0, 1])
    assert augment(sample, PRESETS["none"], np.random.default_rng(0), (100, 100)).labels.tolist() == [1]


def test_a_core_augments_hundreds_of_images_a_second():
    """Decoding apart. Measured far above this; the bound only catches an accident on a busy machine."""
    image = cv2.imread(PHOTO)
    image = cv2.resize(image, (384, 288), interpolation=cv2.INTER_AREA)
    sample = make_sample(image, [[60, 50, 200, 180], [250, 30, 300, 90], [5, 200, 25, 236]], [0, 1, 2])
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        start = time.process_time()
        for seed in range(150):
            augment(sample, PRESETS["liu"], np.random.default_rng(seed), (300, 300))
        assert 150 / (time.process_time() - start) > 200
    finally:
        cv2.setNumThreads(threads)
