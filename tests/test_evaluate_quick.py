"""Leaving out of pycocotools' evaluation what is known beforehand changes nothing, to the last bit."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools", reason="needs pycocotools")


def a_data_set(seed, images=7, classes=3, objects=14, detections=120):
    """Ground truth and results as pycocotools' dictionaries: crowds, equal scores, more than 100 of a class, boxes
    without area, pairs that overlap by exactly a threshold, images with only one side."""
    rng = np.random.default_rng(seed)

    def row(number, **more):
        x, y, w, h = rng.integers(0, 40, 2).tolist() + rng.integers(0, 30, 2).tolist()
        image, category = int(rng.integers(images)) + 1, int(rng.integers(classes) ** 2 // classes) + 1
        scale = float(rng.choice([1, 1, 5]))  # small, medium and large
        box = [x * scale, y * scale, w * scale, h * scale]
        return dict(id=number + 1, image_id=image, category_id=category, bbox=box, area=box[2] * box[3], **more)

    truth = [row(n, iscrowd=int(rng.random() < 0.15)) for n in range(objects)]
    found = [row(n, iscrowd=0, score=float(rng.integers(1, 20)) / 20) for n in range(detections)]
    for one in found[: detections // 2] if truth else ():
        model = truth[int(rng.integers(len(truth)))]
        shift = float(rng.choice([0, 0.5, 1, 1 / 3])) * model["bbox"][2]
        box = [model["bbox"][0] + shift, *model["bbox"][1:]]
        one.update(image_id=model["image_id"], category_id=model["category_id"], bbox=box, area=box[2] * box[3])
    rest = {"images": [{"id": i + 1} for i in range(images)], "info": {}}
    rest["categories"] = [{"id": c + 1, "name": str(c)} for c in range(classes)]
    return {**rest, "annotations": truth}, {**rest, "annotations": found}


def evaluated(kind, truth, found):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for data in (truth, found):
            side = COCO()
            side.dataset = {**data, "annotations": [dict(one) for one in data["annotations"]]}
            side.createIndex()
            sides.append(side)
        run = kind(*sides, "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return run


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 14, 60]), st.sampled_from([0, 3, 120, 900]))
def test_the_same_matches_curves_and_numbers(seed, objects, detections):
    from pycocotools.cocoeval import COCOeval

    from detection.evaluate.fast_coco import QuickEval

    data = a_data_set(seed, objects=objects, detections=detections)
    plain, quick = evaluated(COCOeval, *data), evaluated(QuickEval, *data)
    assert len(plain.evalImgs) == len(quick.evalImgs)
    for one, other in zip(plain.evalImgs, quick.evalImgs):
        assert (one is None) == (other is None)
        for key in one or ():
            assert np.array_equal(np.asarray(one[key]), np.asarray(other[key])), key
    for key in ("precision", "recall", "scores"):
        assert np.array_equal(plain.eval[key], quick.eval[key]), key
    assert np.array_equal(plain.stats, quick.stats)
