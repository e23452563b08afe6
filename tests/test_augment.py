"""Augmentation: boxes stay with their labels and inside; each crop draws from the distribution of its source."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.core.boxes import area, intersection_matrix, iou_matrix
from detection.core.errors import MobileSSDError
from detection.core.preprocess import stretch
from detection.data.augment import PRESETS, Augmentation, augment, mixup, mosaic, place, stretch_only
from detection.data.crops import CROPS, liu_crop, mmdet_crop, tf_crop, torchvision_crop
from detection.data.photometric import DISTORTIONS, adjust_contrast, adjust_saturation, corrupt, liu_distort, shift_hsv
from detection.data.sample import cut, flip, make_sample

RULES = sorted(CROPS)


@st.composite
def pictures(draw, least=0):
    """A picture, its boxes (whole or fractional pixels) and a seed. Each box's label is its number."""
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
@given(pictures())
def test_a_crop_keeps_at_least_one_box_or_leaves_the_picture_alone(rule, drawn):
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
@given(pictures())
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
@given(pictures(least=1), st.sampled_from(RULES), st.floats(0, 1))
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
@given(pictures())
def test_flipping_twice_changes_nothing(drawn):
    sample, _ = drawn
    once, twice = flip(sample), flip(flip(sample))
    assert (twice.image == sample.image).all() and np.abs(twice.boxes - sample.boxes).max(initial=0) < 1e-4
    assert (once.image[:, ::-1] == sample.image).all() and (once.labels == sample.labels).all()


@settings(max_examples=50, deadline=None)
@given(pictures(), st.sampled_from(sorted(PRESETS)))
def test_the_same_generator_gives_the_same_sample_and_the_picture_is_not_written_to(drawn, preset):
    sample, rng = drawn
    before, seed = sample.image.copy(), int(rng.integers(99))
    sample.image.flags.writeable = False
    config = PRESETS[preset]
    one, two = (augment(sample, config, np.random.default_rng(seed), (32, 32)) for _ in range(2))
    assert (one.image == two.image).all() and (one.boxes == two.boxes).all() and (sample.image == before).all()


# --- geometry


def test_the_window_of_the_whole_picture_is_the_stretch_of_detection(shared):
    image = cv2.imread(str(shared / "data" / "photos" / "yolox_dog.jpg"))
    sample = make_sample(image, [[10, 20, 300, 400]], [0])
    height, width = image.shape[:2]
    out = stretch_only(sample, (300, 320))
    assert (out.image == stretch(image, (300, 320))).all()
    assert np.allclose(out.boxes, [[10 * 320 / width, 20 * 300 / height, 300 * 320 / width, 400 * 300 / height]])


def test_zooming_out_equals_drawing_the_canvas(shared):
    """The one warp against the plain way: a large filled canvas, cropped and resized."""
    image = cv2.imread(str(shared / "data" / "photos" / "yolox_dog.jpg"))[:200, :300]
    window = (-120, -40, 430, 260)  # xyxy: the picture with 120 to the left, 40 above, 130 right, 60 below
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


# --- what each source's rule says about the windows

SIZE = (240, 320)
BOXES = np.array([[60, 50, 200, 180], [250, 30, 300, 90], [5, 200, 25, 236]], np.float32)
HUGE = np.array([[6, 4, 314, 236]], np.float32)  # 50 tries nearly always find a window of overlap .9


def draws(rule, boxes, number, allow_empty=True, size=SIZE):
    rng = np.random.default_rng(7)
    return [rule(boxes, size, rng, allow_empty) for _ in range(number)]


def windows_of(crops):
    return np.array([c.window for c in crops if c is not None], np.float32)


def distance(one, two) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    both = np.sort(np.concatenate([one, two]))
    shares = [np.searchsorted(np.sort(sample), both, "right") / len(sample) for sample in (one, two)]
    return np.abs(shares[0] - shares[1]).max()


def alike(ours, theirs, boxes=BOXES):
    """Two sets of windows have the same distribution of area, aspect, place and overlap.

    The limit is the distance that two samples of one distribution exceed once in 10,000 times.
    """
    limit = 2.22 * np.sqrt(1 / len(ours) + 1 / len(theirs))
    for measure in (
        lambda w: area(w) / (SIZE[0] * SIZE[1]),
        lambda w: (w[:, 2] - w[:, 0]) / (w[:, 3] - w[:, 1]),
        lambda w: w[:, 0],
        lambda w: w[:, 1],
        lambda w: iou_matrix(w, boxes).max(1),
        lambda w: (intersection_matrix(w, boxes) / area(boxes)).max(1),
    ):
        assert distance(measure(ours), measure(theirs)) < limit


def tf_reference(boxes, size, rng):
    """sample_distorted_bounding_box_op.cc and preprocessor.ssd_random_crop, a try at a time, as the kernel does it."""
    height, width = size
    option = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)[rng.integers(7)]
    if rng.random() <= 0.15:
        return None
    for _ in range(100):
        aspect = rng.uniform(0.5, 2)
        low, high = round(np.sqrt(0.1 * width * height / aspect)), round(np.sqrt(width * height / aspect))
        if round(high * aspect) > width:
            high = int((width + 0.5 - 1e-7) / aspect)
            high -= round(high * aspect) > width
        high = min(high, height)
        h = low + (int(rng.integers(high - low + 1)) if low < high else 0)
        w = round(h * aspect)
        if w * h < 0.1 * width * height:
            h += 1
            w = round(h * aspect)
        if w * h > width * height or w * h < 0.1 * width * height or w > width or h > height:
            continue
        y = int(rng.integers(height - h)) if h < height else 0
        x = int(rng.integers(width - w)) if w < width else 0
        window = np.array([[x, y, x + w, y + h]], np.float32)
        covered = intersection_matrix(window, boxes)[0] / area(boxes)
        if (covered >= option).any():
            return option, window[0]
    return option, None


def test_tf_windows_have_the_distribution_of_the_kernel():
    crops = draws(tf_crop, BOXES, 5000)
    rng = np.random.default_rng(1)
    reference = [tf_reference(BOXES, SIZE, rng) for _ in range(5000)]
    theirs = np.array([r[1] for r in reference if r and r[1] is not None])
    alike(windows_of(crops), theirs)
    left_alone = sum(c is None for c in crops) / 5000
    assert abs(left_alone - (5000 - len(theirs)) / 5000) < 0.03
    for option in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):  # and so for each option by itself
        mine = windows_of([c for c in crops if c and c.coverage == option])
        other = np.array([r[1] for r in reference if r and r[0] == option and r[1] is not None])
        assert distance(area(mine), area(other)) < 0.12 and abs(len(mine) - len(other)) < 130


def test_tf_covers_an_object_as_its_option_asks_and_keeps_boxes_by_coverage():
    for crop in filter(None, draws(tf_crop, BOXES, 2000, allow_empty=False)):
        window = np.array([crop.window], np.float32)
        covered = (intersection_matrix(window, BOXES) / area(BOXES))[0]
        assert covered.max() >= crop.coverage - 1e-6
        assert (crop.keeps(BOXES) == ((covered >= crop.coverage - 1e-4) & (covered > 0))).all()
        width, height = window[0, 2:] - window[0, :2]
        assert width * height >= 0.1 * SIZE[0] * SIZE[1] * 0.99 and 0.45 < width / height < 2.1


def test_tf_leaves_fifteen_percent_alone_and_crops_background_pictures_too():
    everything_fits = np.array([[150, 110, 170, 130]], np.float32)
    crops = draws(tf_crop, everything_fits, 4000)
    assert abs(np.mean([c is None for c in crops]) - 0.15) < 0.02
    counts = [sum(c is not None and c.coverage == t for c in crops) for t in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
    assert np.abs(np.array(counts) / sum(counts) - 1 / 7).max() < 0.025
    background = windows_of(draws(tf_crop, np.zeros((0, 4), np.float32), 1500))
    assert len(background) > 500 and area(background).min() >= 0.1 * SIZE[0] * SIZE[1] * 0.99


def test_tf_with_objects_only_where_the_source_has_them_empty():
    """Option 0 may lose every object; only then do the two settings differ."""
    corner = np.array([[0, 0, 20, 20]], np.float32)
    free = draws(tf_crop, corner, 1000, allow_empty=True)
    assert any(c is not None and not c.keeps(corner).any() for c in free)
    kept = draws(tf_crop, corner, 1000, allow_empty=False)
    assert all(c is None or c.keeps(corner).any() for c in kept)


def liu_reference(boxes, size, rng):
    """sampler.cpp's GenerateBatchSamples with the samplers of ssd_coco.py, a try at a time."""
    height, width = size
    candidates = [np.array([0, 0, width, height], np.float32)]
    for least in (0.1, 0.3, 0.5, 0.7, 0.9, None):
        for _ in range(50):
            scale = rng.uniform(0.3, 1)
            aspect = min(max(rng.uniform(0.5, 2), scale**2), 1 / scale**2)
            w, h = scale * np.sqrt(aspect), scale / np.sqrt(aspect)
            x, y = int(rng.uniform(0, max(1 - w, 0)) * width), int(rng.uniform(0, max(1 - h, 0)) * height)
            window = np.array([x, y, x + int(w * width), y + int(h * height)], np.float32)  # CropImage's whole pixels
            if least is None or iou_matrix(window[None], boxes).max() >= least:
                candidates.append(window)
                break
    return candidates[rng.integers(len(candidates))]


@pytest.mark.parametrize("boxes", [BOXES, HUGE])
def test_liu_windows_have_the_distribution_of_caffe(boxes):
    whole = np.array([0, 0, SIZE[1], SIZE[0]], np.float32)
    ours = np.array([whole if c is None else c.window for c in draws(liu_crop, boxes, 4000)], np.float32)
    rng = np.random.default_rng(1)
    theirs = np.array([liu_reference(boxes, SIZE, rng) for _ in range(800)])
    alike(ours, theirs, boxes)


def test_liu_honours_every_overlap_also_a_half():
    """Of seven equally likely results one is the whole picture and five overlap by .1, .3, .5, .7, .9 at least. A crop
    whose test never rejects (a known mistake of ports) has far fewer high overlaps."""
    crops = draws(liu_crop, HUGE, 4000)
    assert abs(np.mean([c is None for c in crops]) - 1 / 7) < 0.02
    overlap = iou_matrix(windows_of(crops), HUGE)[:, 0]
    share = {t: (overlap >= t).sum() / 4000 for t in (0.1, 0.3, 0.5, 0.7, 0.9)}
    assert share[0.9] > 1 / 7 - 0.02 and share[0.7] > 2 / 7 - 0.02 and share[0.5] > 3 / 7 - 0.02
    assert share[0.3] > 4 / 7 - 0.02 and share[0.1] > 5 / 7 - 0.02
    assert share[0.9] < 1 / 7 + 0.1  # and not everything does


def test_torchvision_windows_have_the_distribution_of_torchvisions_own():
    torch = pytest.importorskip("torch")
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    transform = v2.RandomIoUCrop()
    image = tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor(BOXES), format="XYXY", canvas_size=SIZE)
    torch.manual_seed(0)
    found = [transform.make_params([image, boxes]) for _ in range(400)]
    theirs = np.array(
        [[p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]] for p in found if p], np.float32
    )
    crops = draws(torchvision_crop, BOXES, 3000)
    alike(windows_of(crops), theirs)
    assert abs(len(windows_of(crops)) / 3000 - len(theirs) / 400) < 0.08
    for crop, params in zip(crops, found):
        assert crop is None or crop.keeps(BOXES).any()
        assert not params or params["is_within_crop_area"].any()


def test_mmdet_asks_the_overlap_of_every_box():
    both = np.array([[60, 50, 200, 180], [70, 60, 210, 190]], np.float32)
    lowest = iou_matrix(windows_of(draws(mmdet_crop, both, 3000)), both).min(1)
    # options .1 .3 .5 .7 .9 are equally likely, but an option that 50 tries cannot meet is drawn anew
    assert (lowest >= 0.1).mean() > 5 / 6 - 0.1 and (lowest >= 0.5).mean() > 0.35
    assert windows_of(draws(mmdet_crop, np.zeros((0, 4), np.float32), 100)).shape[0] > 50


# --- colour


def test_colour_changes_equal_torchvisions(shared):
    torch = pytest.importorskip("torch")
    from torchvision.transforms import functional as F

    image = cv2.cvtColor(cv2.imread(str(shared / "data" / "photos" / "yolox_dog.jpg")), cv2.COLOR_BGR2RGB)
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


def test_colour_changes_equal_albumentations(shared):
    pytest.importorskip("albumentations")
    from albumentations.augmentations.pixel import functional as A

    image = cv2.cvtColor(cv2.imread(str(shared / "data" / "photos" / "coral_parrot.jpg")), cv2.COLOR_BGR2RGB)
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
def test_distortions_change_most_pictures_and_keep_their_form(name):
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
    albumentations = pytest.importorskip("albumentations")
    assert albumentations.__version__.startswith("2.0.")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    one, two, other = (corrupt(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == two).all() and (one != other).any() and one.dtype == np.uint8


# --- several pictures


def _solid(colour, label, boxes=((10, 10, 90, 90),), **fields):
    return make_sample(np.full((100, 100, 3), colour, np.uint8), boxes, [label] * len(boxes), **fields)


def test_mixup_blends_pictures_and_weighs_scores():
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


def test_a_core_augments_hundreds_of_pictures_a_second(shared):
    """Decoding apart. Measured far above this; the bound only catches an accident on a busy machine."""
    image = cv2.imread(str(shared / "data" / "photos" / "yolox_dog.jpg"))
    image = cv2.resize(image, (384, 288), interpolation=cv2.INTER_AREA)
    sample = make_sample(image, np.clip(BOXES, 0, 288), [0, 1, 2])
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        start = time.process_time()
        for seed in range(150):
            augment(sample, PRESETS["liu"], np.random.default_rng(seed), (300, 300))
        assert 150 / (time.process_time() - start) > 200
    finally:
        cv2.setNumThreads(threads)
