"""The error split by hand-made cases, one for each kind of error, and its properties; the bootstrap."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import made_up

from detection.evaluate.bootstrap import _mean_ap, paired_bootstrap
from detection.evaluate.coco import evaluate
from detection.evaluate.errors import KINDS, split_errors
from detection.evaluate.matches import match
from detection.evaluate.results import Results, no_results, perfect_results
from detection.evaluate.truth import GroundTruth

OBJECT = [10.0, 10.0, 40.0, 40.0]
NEAR = [30.0, 10.0, 40.0, 40.0]  # IoU 1/3 with OBJECT
FAR = [150.0, 150.0, 30.0, 30.0]
A, B = 0, 1


def scene(*objects, crowd=()):
    """One image of 200 x 200 with (category, box) objects; categories A and B."""
    boxes = np.array([box for _, box in objects], np.float64).reshape(-1, 4)
    return GroundTruth(
        path="scene.json",
        image_ids=(1,),
        file_names=("",),
        sizes=np.full((1, 2), 200),
        category_ids=(1, 2),
        category_names=("a", "b"),
        image=np.zeros(len(objects), np.int64),
        category=np.array([category for category, _ in objects], np.int64),
        boxes=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        crowd=np.isin(np.arange(len(objects)), crowd),
    )


def found(*detections):
    """(category, box, score) detections in that image."""
    return Results(
        np.zeros(len(detections), np.int64),
        np.array([one[0] for one in detections], np.int64),
        np.array([one[1] for one in detections], np.float64).reshape(-1, 4),
        np.array([one[2] for one in detections], np.float64),
    )


def check(truth, results, ap50, **expected):
    """The AP50 as it is, and for each kind that occurs (times, AP50 lost); all others 0 and 0."""
    split = split_errors(truth, results)
    assert split.AP50 == pytest.approx(ap50)
    for kind in KINDS:
        times, lost = expected.get(kind, (0, 0.0))
        assert (split.counts[kind], split.lost[kind]) == (times, pytest.approx(lost)), kind


def test_nothing_wrong():
    check(scene((A, OBJECT)), found((A, OBJECT, 0.9)), 1)


def test_classification_the_wrong_name():
    """The object counts as found once the name is right, so it is not missed; the class b has no object here."""
    check(scene((A, OBJECT)), found((B, OBJECT, 0.9)), 0, classification=(1, 1.0))


def test_localisation_badly_placed():
    check(scene((A, OBJECT)), found((A, NEAR, 0.9)), 0, localisation=(1, 1.0))


def test_both_wrong_name_and_badly_placed():
    """It cannot be put right, only removed: then class b, whose own object is found, loses its false alarm."""
    truth = scene((A, OBJECT), (B, FAR))
    check(truth, found((B, NEAR, 0.9), (B, FAR, 0.5)), 0.25, both=(1, 0.25), missed=(1, 0.25 + 0.5 - 0.25))


def test_duplicate_found_twice():
    """Second best first would cost nothing in AP: here the duplicate stands before another object's detection."""
    truth = scene((A, OBJECT), (A, FAR))
    results = found((A, OBJECT, 0.9), (A, OBJECT, 0.8), (A, FAR, 0.7))
    ap50 = (51 + 50 * 2 / 3) / 101
    check(truth, results, ap50, duplicate=(1, 1 - ap50))


def test_background_where_nothing_is():
    check(scene((A, OBJECT)), found((A, FAR, 0.9), (A, OBJECT, 0.8)), 0.5, background=(1, 0.5))


def test_background_in_a_image_without_objects():
    split = split_errors(scene(), found((A, FAR, 0.9)))
    assert split.counts["background"] == 1 and np.isnan(split.AP50)


def test_missed_not_found_at_all():
    check(scene((A, OBJECT), (A, FAR)), found((A, OBJECT, 0.9)), 51 / 101, missed=(1, 50 / 101))
    check(scene((A, OBJECT)), no_results(), 0, missed=(1, 1.0))


def test_crowds_are_no_errors():
    check(scene((A, OBJECT), (A, FAR), crowd=[1]), found((A, FAR, 0.9), (A, OBJECT, 0.8)), 1)


def test_localisation_goes_before_classification():
    """Near an object of its class and on one of another: TIDE calls it badly placed."""
    split = split_errors(scene((A, NEAR), (B, OBJECT)), found((A, OBJECT, 0.9)))
    assert (split.counts["localisation"], split.counts["classification"]) == (1, 0)


def test_of_two_errors_on_one_object_the_better_is_put_right():
    """The other is dropped, so putting both right gives a whole AP."""
    check(scene((A, OBJECT)), found((A, NEAR, 0.9), (A, NEAR, 0.8)), 0, localisation=(2, 1.0))


def test_an_error_on_an_object_that_is_found_anyway_is_only_removed():
    check(scene((A, OBJECT)), found((B, OBJECT, 0.95), (A, OBJECT, 0.5)), 1, classification=(1, 0.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_perfect_detections_have_no_error(seed):
    truth, _ = made_up(seed)
    split = split_errors(truth, perfect_results(truth))
    assert split.AP50 == 1 and set(split.lost.values()) == {0.0} and set(split.counts.values()) == {0}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_base_is_cocos_ap50_and_every_false_alarm_has_one_kind(seed):
    truth, results = made_up(seed)
    split = split_errors(truth, results)
    assert split.AP50 == pytest.approx(evaluate(truth, results).AP50, abs=1e-12)
    alarms = int(match(truth, results, [0.5]).wrong.sum())
    assert sum(split.counts[kind] for kind in KINDS[:5]) == alarms
    assert all(split.lost[kind] >= -1e-12 for kind in ("both", "duplicate", "background", "missed"))


def test_five_thousand_images_take_seconds():
    """Half a million detections: bounded so loosely that a busy machine passes."""
    import time

    truth, results = made_up(0, images=5000, classes=8, objects=35_000, found=250_000, crowds=500)
    start = time.perf_counter()
    split_errors(truth, results)
    assert time.perf_counter() - start < 30


def test_bootstrap_sees_a_real_difference_and_none_where_there_is_none():
    truth, results = made_up(6, images=20, found=300)
    same = paired_bootstrap(truth, results, results, draws=20)
    assert all((one.difference, one.low, one.high, one.a_better) == (0, 0, 0, 0.5) for one in same)
    assert not any(one.significant for one in same)
    numbers = evaluate(truth, results)
    assert (same[0].a, same[1].a) == pytest.approx((numbers.AP, numbers.AP50))
    better = paired_bootstrap(truth, perfect_results(truth), results, draws=50)
    assert all(one.significant and one.low < one.difference < one.high and one.a_better == 1 for one in better)


def test_bootstrap_weighs_a_image_drawn_twice_like_two_images():
    truth, results = made_up(5, images=2)
    results = replace(
        results, scores=results.scores + np.linspace(0, 0.01, len(results))
    )  # no ties: they may fall otherwise
    times = np.array([2.0, 1.0])
    twice = [0, 0, 1]
    doubled = GroundTruth(
        **{
            **vars(truth),
            "image_ids": (1, 2, 3),
            "file_names": ("",) * 3,
            "sizes": truth.sizes[twice],
            "image": np.concatenate([np.full((truth.image == i).sum(), n) for n, i in enumerate(twice)]),
            **{
                key: np.concatenate([getattr(truth, key)[truth.image == i] for i in twice])
                for key in ("category", "boxes", "area", "crowd")
            },
        }
    )
    parts = [(n, results[results.image == i]) for n, i in enumerate(twice)]
    found = Results(
        np.concatenate([np.full(len(part), n) for n, part in parts]),
        *(np.concatenate([getattr(part, key) for _, part in parts]) for key in ("category", "boxes", "scores")),
    )
    by_weight = _mean_ap(truth, match(truth, results), times, ~truth.crowd)
    numbers = evaluate(doubled, found, "pycocotools")
    assert by_weight == pytest.approx((numbers.AP, numbers.AP50))
