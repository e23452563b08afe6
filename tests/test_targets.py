"""Which anchor learns which box: the rules of TensorFlow, Liu and torchvision, each against hand-made cases."""

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.boxes.geometry import BoxCoder, to_xyxy
from detection.errors import MobileSSDError
from detection.train.learn.targets import RULES, build_targets

ANCHORS = torch.from_numpy(anchors_for(AnchorSpec(), [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)], (300, 300)))


def matched(iou, rule="tf", valid=None):
    """The matches of one image from its table of overlaps, a row a box, as a list."""
    table = torch.tensor(iou, dtype=torch.float32)[None]
    valid = torch.ones(table.shape[:2], dtype=torch.bool) if valid is None else torch.tensor(valid)[None]
    return RULES[rule](table, valid, 0.5)[0].tolist()


def targets(boxes, labels=None, anchors=ANCHORS, scores=None, ignore=None, **options):
    """Targets of one image."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    count = boxes.shape[1]
    labels = torch.tensor([labels or [0] * count])
    scores = torch.ones(1, count) if scores is None else torch.tensor([scores])
    ignore = torch.zeros(1, count, dtype=torch.bool) if ignore is None else torch.tensor([ignore])
    return build_targets(boxes, labels.reshape(1, count), scores, ignore, anchors, **options)


def random_boxes(rng, count, smallest=0.02, largest=0.7):
    size = rng.uniform(smallest, largest, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (1 - size)
    return np.concatenate([corner, corner + size], 1).astype(np.float32)


class TestTensorFlow:
    def test_an_anchor_takes_its_best_box_from_half_overlap_on(self):
        assert matched([[0.5, 0.49, 0.6, 0.9], [0.2, 0.30, 0.7, 0.1]]) == [0, -1, 1, 0]

    def test_a_box_that_reaches_no_anchor_claims_its_best_one(self):
        assert matched([[0.1, 0.3, 0.2], [0.0, 0.0, 0.8]]) == [-1, 0, 1]

    def test_a_claim_beats_a_better_overlap_of_another_box(self):
        assert matched([[0.55, 0.9], [0.40, 0.1]]) == [1, 0]

    def test_of_two_boxes_that_claim_one_anchor_the_first_wins(self):
        assert matched([[0.1, 0.3], [0.1, 0.4]]) == [-1, 0]
        assert matched([[0.1, 0.6], [0.1, 0.9]]) == [-1, 0]  # also where the other overlaps more

    def test_a_box_without_any_overlap_claims_anchor_0(self):
        assert matched([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]]) == [0, -1, 1]

    def test_padding_claims_nothing(self):
        assert matched([[-1.0, -1.0], [0.1, 0.2]], valid=[False, True]) == [-1, 1]


class TestLiu:
    def test_the_best_pair_is_taken_first_and_the_loser_takes_its_next_best(self):
        # both want anchor 1; box 1 overlaps it more, so box 0 is left with anchor 0
        assert matched([[0.30, 0.40, 0.0], [0.1, 0.45, 0.0]], "liu") == [0, 1, -1]

    def test_the_rest_take_their_best_box_from_half_overlap_on(self):
        assert matched([[0.9, 0.5, 0.49]], "liu") == [0, 0, -1]

    def test_a_box_that_touches_nothing_gets_nothing(self):
        assert matched([[0.0, 1e-7], [0.0, 0.6]], "liu") == [-1, 1]

    def test_a_chain_of_disputes_ends_as_the_greedy_walk_does(self):
        # box 1 takes anchor 0 from box 0, which then takes anchor 1 from box 2, which overlaps nothing else
        assert matched([[0.8, 0.7], [0.9, 0.0], [0.0, 0.6]], "liu") == [1, 0]

    def test_ties_go_to_the_lower_anchor_and_the_lower_box(self):
        assert matched([[0.4, 0.4, 0.4], [0.4, 0.4, 0.4]], "liu") == [0, 1, -1]

    @given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 12))
    @settings(max_examples=60, deadline=None)
    def test_it_equals_caffes_loop(self, seed, boxes, anchors):
        rng = np.random.default_rng(seed)
        iou = np.round(rng.uniform(0, 1, (boxes, anchors)) * (rng.random((boxes, anchors)) < 0.7), 1).astype(np.float32)
        assert matched(iou.tolist(), "liu") == caffe(iou)


def caffe(iou):
    """bbox_util.cpp's MatchBBox, loop by loop."""
    found, pool = [-1] * iou.shape[1], list(range(iou.shape[0]))
    while pool:
        best = max(
            (
                (iou[j, i], -i, -j)
                for i, j in itertools.product(range(iou.shape[1]), pool)
                if found[i] < 0 and iou[j, i] > 1e-6
            ),
            default=None,
        )
        if best is None:
            break
        found[-best[1]] = -best[2]
        pool.remove(-best[2])
    return [f if f >= 0 else (int(iou[:, i].argmax()) if iou[:, i].max() >= 0.5 else -1) for i, f in enumerate(found)]


class TestTorchvision:
    def test_of_two_boxes_that_claim_one_anchor_the_last_wins(self):
        assert matched([[0.1, 0.3], [0.1, 0.2]], "torchvision") == [-1, 1]

    @pytest.mark.parametrize("seed", range(5))
    def test_it_equals_torchvisions_matcher(self, seed):
        boxes = torch.from_numpy(random_boxes(np.random.default_rng(seed), 30))
        iou = box_iou(boxes, to_xyxy(ANCHORS))
        expected = SSDMatcher(0.5)(iou)
        assert torch.equal(RULES["torchvision"](iou[None], torch.ones(1, 30, dtype=torch.bool), 0.5)[0], expected)
        assert torch.equal(targets(boxes.tolist(), rule="torchvision").matched[0], expected)


class TestTargets:
    @pytest.mark.parametrize("rule", RULES)
    def test_the_codes_of_positive_anchors_decode_to_their_boxes(self, rule):
        boxes = random_boxes(np.random.default_rng(0), 12)
        found = targets(boxes.tolist(), labels=list(range(12)), rule=rule)
        decoded = BoxCoder().decode(found.encodings, ANCHORS)[found.positive]
        assert torch.allclose(decoded, torch.from_numpy(boxes)[found.matched[found.positive]], atol=1e-6)
        assert torch.equal(found.classes[found.positive], found.matched[found.positive])
        assert (found.classes[~found.positive] == -1).all() and (found.encodings[~found.positive] == 0).all()
        if rule == "liu":  # gives every box an anchor of its own
            assert set(found.matched.unique().tolist()) == {-1, *range(12)}

    def test_scores_become_the_target_values(self):
        found = targets([[0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]], labels=[3, 5], scores=[0.7, 1.0])
        assert found.scores[found.classes == 3].unique().tolist() == pytest.approx([0.7])
        assert found.scores[found.classes == 5].unique().tolist() == [1.0]
        assert (found.scores[~found.positive] == 0).all()

    def test_a_image_without_boxes_is_all_background(self):
        for boxes in (torch.zeros(2, 0, 4), torch.zeros(2, 5, 4)):
            count = boxes.shape[1]
            empty = torch.full((2, count), -1), torch.zeros(2, count), torch.zeros(2, count, dtype=torch.bool)
            for rule in RULES:
                found = build_targets(boxes, *empty, ANCHORS, rule=rule)
                assert not found.positive.any() and not found.ignore.any() and found.positives == 0
                assert found.matched.shape == (2, 1917) and (found.matched == -1).all()

    def test_anchors_inside_an_ignore_region_are_neither_positive_nor_negative(self):
        region = [0.0, 0.0, 0.5, 1.0]
        found = targets([region, [0.2, 0.2, 0.4, 0.4]], labels=[-1, 2], ignore=[True, False])
        x1, y1, x2, y2 = to_xyxy(ANCHORS).unbind(1)
        inside = (x2.clamp(0, 0.5) - x1.clamp(0, 0.5)) * (y2.clamp(0, 1) - y1.clamp(0, 1)) > 0.5 * (x2 - x1) * (y2 - y1)
        assert found.positive.any() and (found.classes[found.positive] == 2).all()
        assert torch.equal(found.ignore[0], inside & ~found.positive[0])
        assert 0.3 < found.ignore.float().mean() < 0.6

    def test_an_ignore_region_is_never_matched_even_with_a_label(self):
        found = targets([[0.1, 0.1, 0.5, 0.5]], labels=[4], ignore=[True])
        assert not found.positive.any() and found.ignore.any()

    def test_unknown_classes_go_along_and_are_dropped_where_there_are_none(self):
        unknown = torch.tensor([[False, True]])
        assert torch.equal(targets([[0.1, 0.1, 0.5, 0.5]], unknown=unknown).unknown, unknown)
        assert targets([[0.1, 0.1, 0.5, 0.5]], unknown=torch.zeros(1, 2, dtype=torch.bool)).unknown is None

    def test_a_batch_is_its_images_one_by_one_whatever_the_padding(self):
        rng = np.random.default_rng(1)
        images = [random_boxes(rng, count) for count in (3, 0, 40, 1, 90)]
        boxes, labels = torch.zeros(5, 95, 4), torch.full((5, 95), -1)
        for i, own in enumerate(images):
            boxes[i, : len(own)] = torch.from_numpy(own)
            labels[i, : len(own)] = torch.arange(len(own))
        for rule in RULES:
            together = build_targets(boxes, labels, (labels >= 0).float(), labels < -1, ANCHORS, rule=rule)
            for i, own in enumerate(images):
                alone = targets(own.tolist(), labels=list(range(len(own))), rule=rule)
                assert torch.equal(together.matched[i], alone.matched[0])
                assert torch.equal(together.encodings[i], alone.encodings[0])

    @given(st.integers(0, 10_000), st.permutations(range(6)))
    @settings(max_examples=30, deadline=None)
    def test_lius_matches_do_not_depend_on_the_order_of_the_boxes(self, seed, order):
        boxes = random_boxes(np.random.default_rng(seed), 6)
        plain = targets(boxes.tolist(), labels=list(range(6)), rule="liu")
        mixed = targets(boxes[order].tolist(), labels=list(order), rule="liu")
        assert torch.equal(plain.classes, mixed.classes) and torch.equal(plain.encodings, mixed.encodings)

    def test_an_unknown_rule_is_one_clear_line(self):
        with pytest.raises(MobileSSDError, match="'atss' is none of tf, liu, torchvision"):
            targets([[0.1, 0.1, 0.5, 0.5]], rule="atss")

    def test_a_batch_of_32_is_matched_in_a_blink(self):
        rng = np.random.default_rng(0)
        boxes = torch.from_numpy(np.stack([random_boxes(rng, 20) for _ in range(32)]))
        labels = torch.zeros(32, 20, dtype=torch.int64)
        spent = []
        for _ in range(5):
            begun = time.process_time()
            build_targets(boxes, labels, labels.float() + 1, labels < 0, ANCHORS)
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.25  # about 0.01 s; a loop over boxes needs many times more
