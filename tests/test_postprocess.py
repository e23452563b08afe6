"""Post-processing: the outcome equals class-by-class suppression written the plain way, in under a millisecond."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes.candidates import candidates
from detection.boxes.geometry import BoxCoder, iou_matrix, to_cxcywh
from detection.boxes.postprocess import PostSettings, merged, postprocess, select
from detection.boxes.suppression import suppress

NAMES = ("cat", "dog", "person")


def plain_suppression(boxes, classes, scores, iou):
    """Class by class, one box at a time."""
    kept = []
    for c in np.unique(classes):
        order = [i for i in np.argsort(-scores, kind="stable") if classes[i] == c]
        while order:
            best = order.pop(0)
            kept.append(best)
            order = [i for i in order if iou_matrix(boxes[best : best + 1], boxes[i : i + 1])[0, 0] <= iou]
    return sorted(kept, key=lambda i: -scores[i])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 500), st.sampled_from([0.3, 0.45, 0.6]))
def test_walking_all_classes_together_equals_class_by_class(seed, number, iou):
    rng = np.random.default_rng(seed)
    corner = rng.random((number, 2)) * 0.6
    boxes = np.concatenate([corner, corner + 0.05 + rng.random((number, 2)) * 0.35], 1).astype(np.float32)
    scores = np.sort(rng.random(number))[::-1]
    classes = rng.integers(0, 3, number)
    assert suppress(boxes, classes, iou, 50).tolist() == plain_suppression(boxes, classes, scores, iou)[:50]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.45, 0.6, 1.0]))
def test_pairs_left_out_for_their_distance_would_not_have_overlapped(seed, iou):
    rng = np.random.default_rng(seed)
    corner = rng.random((300, 2)) * rng.choice([0.01, 0.6])
    boxes = np.concatenate([corner, corner + rng.random((300, 2)) * rng.choice([0.001, 0.4])], 1).astype(np.float32)
    classes = rng.integers(0, 4, 300)
    found = suppress(boxes, classes, iou, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detection.boxes.suppression.FEW", 1000)  # every pair of a class
        assert np.array_equal(found, suppress(boxes, classes, iou, 300))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 6, 7, 8, 50, 400]), st.sampled_from(["sigmoid", "softmax"]))
def test_candidates_are_the_first_of_all_pairs_sorted_the_plain_way(seed, anchors, activation):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 2, (anchors, 6)).astype(np.float32).round(int(rng.integers(0, 4)))  # many are equal
    if activation == "sigmoid":
        logits[rng.random(logits.shape) < 0.02] = np.nan  # which hides nothing beside it
    only, score = (None, (0, 3))[seed % 2], float(rng.choice([0, 0.01, 0.3]))
    scores = 1 / (1 + np.exp(-logits[:, 1:]))
    if activation == "softmax":
        scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, 1:]
    places = [(a, c) for a in range(anchors) for c in only or range(5) if scores[a, c] > score]
    anchor_ids, class_ids, found, cut = candidates(logits, activation, only, score, 20)
    assert np.all(np.diff(found) <= 0) and len(found) >= min(20, len(places))
    assert cut or len(found) == len(places)
    assert found == pytest.approx([scores[a, c] for a, c in zip(anchor_ids, class_ids)], rel=1e-5)
    if (
        activation == "sigmoid"
    ):  # of equal logits, which are equal scores to the bit, the first anchor and class come first
        wanted = sorted(places, key=lambda place: -logits[place[0], 1 + place[1]])[: len(found)]
        assert list(zip(anchor_ids.tolist(), class_ids.tolist())) == wanted
    else:
        assert found == pytest.approx(sorted((scores[p] for p in places), reverse=True)[: len(found)], rel=1e-5)


def outputs(rows):
    """Raw outputs that decode to the given (box, class, probability) rows: encodings, sigmoid logits, anchors."""
    anchors = to_cxcywh(np.array([box for box, _, _ in rows], np.float32))
    logits = np.full((len(rows), 4), -20, np.float32)
    for i, (_, c, p) in enumerate(rows):
        logits[i, 1 + c] = np.log(p / (1 - p))
    return np.zeros((len(rows), 4), np.float32), logits, anchors


ROWS = [
    ((0, 0, 0.5, 0.5), 0, 0.9),
    ((0, 0, 0.5, 0.45), 0, 0.8),
    ((0, 0, 0.5, 0.45), 1, 0.7),
    ((0.5, 0.5, 1.2, 1), 2, 0.2),
]


def test_the_weaker_box_of_a_class_goes_another_class_stays_and_boxes_end_at_the_border():
    found = postprocess(*outputs(ROWS), (100, 200), NAMES)
    assert found.names == ["cat", "dog", "person"]
    assert found.scores == pytest.approx([0.9, 0.7, 0.2])
    assert found.boxes[0] == pytest.approx([0, 0, 100, 50]) and found.boxes[2] == pytest.approx([100, 50, 200, 100])


@pytest.mark.parametrize(
    "settings, names",
    [
        (PostSettings(score=0.5), ["cat", "dog"]),
        (PostSettings(max_detections=1), ["cat"]),
        (PostSettings(classes=(1, 2)), ["dog", "person"]),
        (PostSettings(iou=0.95), ["cat", "cat", "dog", "person"]),
        (PostSettings(iou=0.95, per_class=1), ["cat", "dog", "person"]),
        (PostSettings(score=0.999), []),
        (PostSettings(score=1), []),
        (PostSettings(class_scores=(0.999, 0.01, 0.01)), ["dog", "person"]),
    ],
)
def test_each_rule(settings, names):
    assert postprocess(*outputs(ROWS), (100, 100), NAMES, settings).names == names


def test_softmax_scores_are_softmax():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (40, 4)).astype(np.float32)
    anchors = np.stack([np.linspace(0.1, 0.9, 40), np.full(40, 0.5), np.full(40, 0.01), np.full(40, 0.01)], 1)
    found = postprocess(np.zeros((40, 4)), logits, anchors, (100, 100), NAMES, PostSettings(0.2, activation="softmax"))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.sort(probability[:, 1:][probability[:, 1:] > 0.2])[::-1]
    assert found.scores == pytest.approx(expected, rel=1e-5)


def test_every_score_is_found_at_floor_0():
    found = postprocess(*outputs(ROWS), (10, 10), NAMES, PostSettings(score=0, iou=1))
    assert len(found) == len(ROWS) * 3


def raw_outputs(seed, mean, spread):
    """1917 anchors and 90 classes, as the trained networks have them: encodings, logits, anchors."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(mean, spread, (1917, 91)).astype(np.float32)
    anchors = np.concatenate([rng.random((1917, 2)), 0.05 + 0.3 * rng.random((1917, 2))], 1).astype(np.float32)
    return rng.normal(0, 1, (1917, 4)).astype(np.float32), logits, anchors


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("more", [{}, {"classes": (3, 5)}, {"per_class": 7}, {"max_detections": 400}, {"iou": 0.01}])
@pytest.mark.parametrize("step", [0, 0.25])
@pytest.mark.parametrize("merge", ["nms", "vote"])
def test_looking_at_the_best_candidates_first_changes_nothing(activation, more, step, merge, monkeypatch):
    encodings, logits, anchors = raw_outputs(1, -4, 1.2)  # about 50,000 candidates
    if step:  # quantised: many are equal
        logits = np.round(logits / step) * step
    names = tuple(map(str, range(90)))
    arguments = encodings, logits, anchors, (480, 640), names, PostSettings(activation=activation, merge=merge, **more)
    found = postprocess(*arguments)
    monkeypatch.setattr("detection.boxes.postprocess.HEAD", 10**7)
    everything = postprocess(*arguments)
    assert len(found) > 5
    assert np.array_equal(found.boxes, everything.boxes)
    assert np.array_equal(found.scores, everything.scores)
    assert np.array_equal(found.class_ids, everything.class_ids)


@pytest.mark.parametrize("mean, spread, least, most", [(-7.5, 1.1, 400, 1500), (-4.5, 1.2, 20_000, 100_000)])
@pytest.mark.parametrize("merge", ["nms", "vote"])
def test_a_image_of_1917_anchors_and_90_classes_takes_at_most_a_millisecond(mean, spread, least, most, merge):
    """About 700 candidates at a floor of 0.01, and tens of thousands, as the quantised V1 of TensorFlow has them."""
    encodings, logits, anchors = raw_outputs(0, mean, spread)
    names = tuple(map(str, range(90)))
    assert least < (logits[:, 1:] > np.log(0.01 / 0.99)).sum() < most
    spans = []
    for _ in range(40):
        start = time.perf_counter()
        postprocess(encodings, logits, anchors, (480, 640), names, PostSettings(merge=merge))
        spans.append(time.perf_counter() - start)
    assert min(spans) < 1e-3, f"{min(spans) * 1e3:.2f} ms at best"


def test_the_coder_of_torchvision_clamps_what_ours_does_not():
    encodings, anchors = np.array([[0, 0, 100, 0]], np.float32), np.array([[0.5, 0.5, 0.1, 0.1]], np.float32)
    width = BoxCoder(max_log=np.log(1000 / 16)).decode(encodings, anchors)
    assert width[0, 2] - width[0, 0] == pytest.approx(6.25, rel=1e-4)


def plain_vote(boxes, classes, scores, kept):
    """The score-weighted mean of a kept box and of the others of its class that overlap it by 0.7 and have half its score."""
    overlap = iou_matrix(boxes, boxes)
    others = set(range(len(boxes))) - set(kept)
    voters = {
        i: [i, *(j for j in others if classes[i] == classes[j] and overlap[i, j] > 0.7 and scores[j] >= scores[i] / 2)]
        for i in kept
    }
    means = [(boxes[v] * scores[v, None]).sum(0) / scores[v].sum() for v in voters.values()]
    return np.array(means).reshape(-1, 4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 400))
def test_a_vote_keeps_the_boxes_of_suppression_and_moves_them_to_the_mean_of_their_voters(seed, number):
    rng = np.random.default_rng(seed)
    corner = rng.random((number, 2)) * 0.2
    boxes = np.concatenate([corner, corner + 0.5 + rng.random((number, 2)) * 0.2], 1).astype(np.float32)
    scores = np.sort(rng.random(number))[::-1].astype(np.float32)
    classes = rng.integers(0, 2, number)
    able = int((scores > 0.01).sum())
    kept = suppress(boxes[:able], classes[:able], 0.6, 1000)
    found = merged(boxes, scores, classes, PostSettings(merge="vote", max_detections=1000))
    assert found[1].tolist() == scores[kept].tolist() and found[2].tolist() == classes[kept].tolist()
    assert found[0] == pytest.approx(plain_vote(boxes, classes, scores, kept.tolist()), abs=1e-6)
    plain = merged(boxes, scores, classes, PostSettings(merge="nms", max_detections=1000))
    assert np.array_equal(plain[0], boxes[suppress(boxes, classes, 0.6, 1000)])


@pytest.mark.parametrize("rules", [{"score": 0.3}, {"max_detections": 5}, {"class_scores": (0.3,) * 90}])
def test_where_a_voted_box_lies_depends_neither_on_the_score_threshold_nor_on_how_many_are_wanted(rules):
    encodings, logits, anchors = raw_outputs(2, -7, 2)
    anchors[:, :2] = 0.5 + 0.05 * anchors[:, :2]  # many overlap
    logits[:, 6:] = -20
    coder = BoxCoder()
    every = select(encodings / 5, logits, anchors, PostSettings(merge="vote"), coder)
    some = select(encodings / 5, logits, anchors, PostSettings(merge="vote", **rules), coder)
    plain = select(encodings / 5, logits, anchors, PostSettings(**rules), coder)
    number = len(some[1])
    assert 2 < number < len(every[1]) and not np.array_equal(some[0], plain[0])
    assert all(np.array_equal(part, whole[:number]) for part, whole in zip(some, every))
    assert np.array_equal(some[1], plain[1]) and np.array_equal(some[2], plain[2])


def test_soft_suppression_lowers_what_overlaps_by_its_formula():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.5]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1])
    found = merged(boxes, scores, classes, PostSettings(merge="soft"))
    assert found[1] == pytest.approx([0.9, 0.7, 0.8 * np.exp(-(0.5**2) / 0.5)]) and found[2].tolist() == [0, 1, 0]
    high = merged(boxes, scores, classes, PostSettings(merge="soft", score=0.6))
    assert len(high[1]) == 2


@pytest.mark.parametrize("merge", ["nms", "vote", "soft"])
def test_no_candidate_is_no_box_whatever_the_merging(merge):
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    assert [len(part) for part in merged(*nothing, PostSettings(merge=merge))] == [0, 0, 0]
