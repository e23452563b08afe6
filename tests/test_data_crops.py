"""The random crops: each draws its windows from the distribution of its source, and rejects what its source rejects."""

import numpy as np
import pytest

from detection.boxes.geometry import area, intersection_matrix, iou_matrix
from detection.train.input.crops import liu_crop, mmdet_crop, tf_crop, torchvision_crop

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


def test_tf_leaves_fifteen_percent_alone_and_crops_background_images_too():
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
    """Of seven equally likely results one is the whole image and five overlap by .1, .3, .5, .7, .9 at least. A crop
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
