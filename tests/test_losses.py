"""The losses, against torchvision's SSD and against sums written out by hand."""

import math
import typing
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.boxes.geometry import TORCHVISION_MAX_LOG, BoxCoder, to_cxcywh
from detection.config import hints_of
from detection.errors import MobileSSDError
from detection.train.config import LossConfig
from detection.train.distributed import global_positives
from detection.train.learn.losses import CLASSIFICATION, class_weights_of, detection_losses, hardest
from detection.train.learn.targets import build_targets

MAPS = [(4, 4), (2, 2), (1, 1)]
ANCHORS = torch.from_numpy(anchors_for(AnchorSpec(), MAPS, (64, 64)))
CLASSES = 5
SOFTMAX = LossConfig(classification="softmax", minimum_negatives=0)
SIGMOID = LossConfig(classification="sigmoid", minimum_negatives=3)
FOCAL = LossConfig(classification="focal", alpha=0.75, gamma=2)
ALL = pytest.mark.parametrize("config", [SOFTMAX, SIGMOID, FOCAL], ids=lambda config: config.classification)


def batch(counts=(3, 1), seed=0, classes=CLASSES, scores=None, ignore=(), unknown=None, anchors=ANCHORS, rule="tf"):
    """Random predictions that want gradients, and targets of random boxes."""
    rng = torch.Generator().manual_seed(seed)
    most = max(max(counts), 1)
    corner = torch.rand(len(counts), most, 2, generator=rng) * 0.6
    boxes = torch.cat([corner, corner + 0.1 + 0.3 * torch.rand(len(counts), most, 2, generator=rng)], 2)
    labels = torch.randint(0, classes, (len(counts), most), generator=rng)
    for i, count in enumerate(counts):
        labels[i, count:] = -1
    regions = torch.zeros_like(labels, dtype=torch.bool)
    for place in ignore:
        regions[place], labels[place] = True, -1
    given = torch.full_like(boxes[..., 0], 1.0) if scores is None else torch.full_like(boxes[..., 0], scores)
    targets = build_targets(boxes, labels, given, regions, anchors, unknown=unknown, rule=rule)
    encodings = torch.randn(len(counts), len(anchors), 4, generator=rng)
    logits = torch.randn(len(counts), len(anchors), classes + 1, generator=rng) * 2
    return encodings.requires_grad_(), logits.requires_grad_(), targets


def reference_ssd(size=64, classes=CLASSES):
    """torchvision's SSD around a body that does nothing: we only want its anchors, its matcher and its loss."""
    generator = DefaultBoxGenerator([[2, 3]] * 3, scales=[0.1, 0.35, 0.7, 1.0])
    body = torch.nn.Identity()
    body.out_channels = [8] * 3
    return SSD(body, generator, (size, size), classes + 1, head=torch.nn.Identity())


class TestTorchvision:
    @pytest.mark.parametrize("counts", [(3, 1), (7, 0, 12), (0, 0), (1,)])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_whole_equals_its_ssd_on_the_same_inputs(self, counts, seed):
        size, rng = 64, torch.Generator().manual_seed(seed)
        ssd = reference_ssd(size)
        maps = [torch.zeros(1, 8, *m) for m in MAPS]
        pixels = ssd.anchor_generator(ImageList(torch.zeros(1, 3, size, size), [(size, size)]), maps)[0]
        anchors = to_cxcywh(pixels / size)
        encodings = torch.randn(len(counts), len(anchors), 4, generator=rng)
        logits = torch.randn(len(counts), len(anchors), CLASSES + 1, generator=rng)
        truth, most = [], max(1, *counts)
        boxes, labels = torch.zeros(len(counts), most, 4), torch.full((len(counts), most), -1)
        for i, count in enumerate(counts):
            corner = torch.rand(count, 2, generator=rng) * 0.6
            boxes[i, :count] = torch.cat([corner, corner + 0.05 + 0.35 * torch.rand(count, 2, generator=rng)], 1)
            labels[i, :count] = torch.randint(0, CLASSES, (count,), generator=rng)
            truth.append({"boxes": boxes[i, :count] * size, "labels": labels[i, :count] + 1})
        matches = [
            ssd.proposal_matcher(box_iou(t["boxes"], pixels)) if len(t["boxes"]) else torch.full((len(pixels),), -1)
            for t in truth
        ]
        heads = {"bbox_regression": encodings, "cls_logits": logits}
        theirs = ssd.compute_loss(truth, heads, [pixels] * len(counts), matches)

        coder = BoxCoder(max_log=TORCHVISION_MAX_LOG)
        none = torch.zeros_like(labels, dtype=torch.bool)
        targets = build_targets(boxes, labels, (labels >= 0).float(), none, anchors, coder=coder, rule="torchvision")
        assert torch.equal(targets.matched, torch.stack(matches))
        ours = detection_losses(encodings, logits, targets, SOFTMAX, anchors, coder=coder)
        assert ours.classification.item() == pytest.approx(float(theirs["classification"]), rel=1e-5, abs=1e-5)
        assert ours.localization.item() == pytest.approx(float(theirs["bbox_regression"]), rel=1e-5, abs=1e-5)

    def test_the_focal_loss_equals_its_op_for_hard_labels(self):
        encodings, logits, targets = batch((3, 0, 2))
        wanted = torch.zeros_like(logits)
        wanted[targets.positive, targets.classes[targets.positive] + 1] = 1
        for alpha, gamma in ((0.75, 2.0), (0.25, 1.5), (0.5, 0.0)):
            expected = sigmoid_focal_loss(logits, wanted, alpha, gamma, "sum") / targets.positives
            found = detection_losses(encodings, logits, targets, replace(FOCAL, alpha=alpha, gamma=gamma))
            assert found.classification.item() == pytest.approx(expected.item(), rel=1e-5)


class TestByHand:
    def test_sigmoid_asks_the_background_column_for_1_where_nothing_is(self):
        encodings, logits, targets = batch((2,))
        wanted = torch.zeros_like(logits)
        wanted[..., 0] = (~targets.positive).float()
        wanted[targets.positive, targets.classes[targets.positive] + 1] = 1
        table = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(2)[0]
        positive = targets.positive[0]
        worst = table[~positive].sort(descending=True).values[: 3 * int(positive.sum())]
        expected = (table[positive].sum() + worst.sum()) / positive.sum()
        assert detection_losses(encodings, logits, targets, SIGMOID).classification.item() == pytest.approx(
            expected.item(), rel=1e-5
        )

    def test_boxes_are_compared_by_smooth_l1_summed_over_the_four_codes(self):
        encodings, logits, targets = batch()
        difference = (encodings - targets.encodings)[targets.positive].abs()
        huber = torch.where(difference < 1, difference**2 / 2, difference - 0.5).sum() / targets.positives
        assert detection_losses(encodings, logits, targets, FOCAL).localization.item() == pytest.approx(
            huber.item(), rel=1e-5
        )
        quarter = detection_losses(encodings, logits, targets, replace(FOCAL, code_size=True))
        assert quarter.localization.item() == pytest.approx(huber.item() / 4, rel=1e-5)

    @pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
    def test_iou_losses_compare_decoded_boxes(self, kind):
        encodings, logits, targets = batch((3, 0, 1))
        config = replace(SOFTMAX, localization=kind)
        perfect = detection_losses(targets.encodings, logits, targets, config, ANCHORS)
        assert perfect.localization.item() == pytest.approx(0, abs=1e-4)
        found = detection_losses(encodings, logits, targets, config, ANCHORS)
        if kind == "giou":
            decoded = BoxCoder().decode(encodings, ANCHORS.expand_as(encodings))[targets.positive]
            expected = (1 - generalized_box_iou(decoded, targets.boxes[targets.positive]).diagonal()).sum()
            assert found.localization.item() == pytest.approx((expected / targets.positives).item(), rel=1e-4)
        found.total.backward()
        assert encodings.grad.isfinite().all() and (encodings.grad[~targets.positive] == 0).all()

    def test_weights_multiply_the_parts(self):
        encodings, logits, targets = batch()
        plain = detection_losses(encodings, logits, targets, SIGMOID)
        heavy = detection_losses(
            encodings, logits, targets, replace(SIGMOID, classification_weight=2.0, localization_weight=1.5)
        )
        assert torch.allclose(heavy.classification, plain.classification * 2)
        assert torch.allclose(heavy.total, plain.classification * 2 + plain.localization * 1.5)


class TestMining:
    def test_it_takes_the_worst_three_negatives_a_positive_in_each_image(self):
        loss = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0, 6.0], [1.0, 1.0, 1.0, 9.0, 1.0, 1.0]])
        negative = torch.tensor([[True, True, True, True, True, False]] + [[True] * 6])
        chosen = hardest(loss, negative, torch.tensor([1, 0]))
        assert chosen.tolist() == [[True, False, True, True, False, False], [False] * 6]

    def test_a_image_without_objects_gives_the_minimum(self):
        loss = torch.tensor([[1.0, 5.0, 3.0, 3.0]])
        chosen = hardest(loss, torch.ones(1, 4, dtype=torch.bool), torch.tensor([0]), minimum=2)
        assert chosen.tolist() == [[False, True, True, False]]  # equal losses: the lower anchor

    def test_there_may_be_fewer_negatives_than_wanted(self):
        chosen = hardest(torch.ones(1, 3), torch.tensor([[True, False, True]]), torch.tensor([2]))
        assert chosen.tolist() == [[True, False, True]]

    def test_tensorflows_miner_drops_a_box_that_a_worse_one_covers(self):
        encodings, logits, targets = batch((2,))
        miner = replace(SIGMOID, mining_nms=0.99)
        plain = detection_losses(encodings, logits, targets, SIGMOID, ANCHORS)
        assert torch.allclose(detection_losses(encodings, logits, targets, miner, ANCHORS).total, plain.total)
        # every anchor of the first cell says the same box: of them, the one with the highest loss is left
        same = torch.tensor([[0.1, 0.1, 0.5, 0.5]])
        with torch.no_grad():
            encodings[0, :40] = BoxCoder().encode(same.expand(40, 4), ANCHORS[:40])
        found = detection_losses(encodings, logits, targets, miner, ANCHORS)
        found.total.backward()
        touched = (logits.grad[0, :40].abs().sum(1) > 0).sum()
        assert touched <= 1 and found.total < plain.total


class TestEdges:
    @ALL
    def test_a_batch_of_background_alone_is_finite_and_divides_by_one(self, config):
        encodings, logits, targets = batch((0, 0, 0))
        losses = detection_losses(encodings, logits, targets, config, ANCHORS)
        losses.total.backward()
        assert losses.total.isfinite() and logits.grad.isfinite().all()
        assert losses.positives == 0 and losses.localization == 0
        if config.classification == "softmax":  # as torchvision and Caffe: nothing to learn without objects
            assert losses.total == 0
        else:
            assert losses.total > 0

    @ALL
    def test_one_class_is_enough(self, config):
        encodings, logits, targets = batch((2, 1), classes=1)
        assert logits.shape[2] == 2
        losses = detection_losses(encodings, logits, targets, config)
        losses.total.backward()
        assert losses.total.isfinite() and logits.grad.abs().sum() > 0

    @ALL
    def test_gradients_reach_positives_and_negatives_and_never_ignored_anchors(self, config):
        encodings, logits, targets = batch((3, 2), ignore=[(0, 0), (1, 1)])
        assert targets.ignore.any()
        detection_losses(encodings, logits, targets, config).total.backward()
        moved = logits.grad.abs().sum(2) > 0
        assert moved[targets.positive].all() and moved[~targets.positive & ~targets.ignore].any()
        assert not moved[targets.ignore].any()
        assert (encodings.grad[~targets.positive] == 0).all() and encodings.grad[targets.positive].abs().sum() > 0

    @ALL
    def test_unknown_classes_are_never_pushed_down(self, config):
        unknown = torch.tensor([[False, True, False, True, True]] * 2)
        encodings, logits, targets = batch((3, 3), unknown=unknown)
        losses = detection_losses(encodings, logits, targets, config)
        losses.total.backward()
        assert losses.total.isfinite() and logits.grad.isfinite().all()
        columns = torch.nn.functional.pad(unknown, (1, 0))[:, None].expand_as(logits).clone()
        own = (targets.classes + 1)[..., None]
        columns.scatter_(2, own, False)  # a box of an unknown class, say a teacher's, is a positive like any other
        assert (logits.grad[columns] == 0).all() and logits.grad[~columns].abs().sum() > 0
        taught = targets.positive & columns.new_tensor([[False, True, False, True, True]] * 2).gather(
            1, targets.classes.clamp(min=0)
        )
        assert taught.any() and (logits.grad.gather(2, own)[..., 0][taught] < 0).all()

    @ALL
    def test_with_all_classes_known_the_mask_changes_nothing(self, config):
        encodings, logits, targets = batch()
        masked = replace(targets, unknown=torch.zeros(2, CLASSES, dtype=torch.bool))
        plain = detection_losses(encodings, logits, targets, config).total
        assert torch.allclose(detection_losses(encodings, logits, masked, config).total, plain)

    @ALL
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_prediction_that_is_not_finite_is_not_hidden(self, config, bad):
        for place in ((0, 0, 0), (1, len(ANCHORS) - 1, 3)):
            encodings, logits, targets = batch((2, 0))
            for tensor in (encodings, logits):
                kept = tensor.detach().clone()
                kept[place] = bad
                pair = (kept, logits) if tensor is encodings else (encodings, kept)
                assert not detection_losses(*pair, targets, config).total.isfinite()

    @ALL
    def test_a_soft_label_is_smallest_at_its_score(self, config):
        encodings, logits, targets = batch((1, 0), scores=0.7)
        positive = targets.positive.nonzero()[0]

        def loss(value):
            """The loss where the first positive anchor says `value` for its class and 1 - value for background."""
            logits_ = torch.full_like(logits, -9.0)
            image, anchor = positive.tolist()
            logits_[image, anchor, int(targets.classes[image, anchor]) + 1] = math.log(value / (1 - value))
            logits_[image, anchor, 0] = math.log((1 - value) / value) if config.classification == "sigmoid" else -99.0
            if config.classification == "softmax":
                logits_[image, anchor, 0] = 0.0
            return float(
                detection_losses(encodings, logits_, targets, config, normaliser=torch.tensor(1.0)).classification
            )

        assert min((0.5, 0.6, 0.7, 0.8, 0.9), key=loss) == 0.7

    def test_a_box_of_half_a_score_counts_half(self):
        encodings, logits, whole = batch()
        _, _, half = batch(scores=0.5)
        full = detection_losses(encodings, logits, whole, FOCAL).localization
        assert torch.allclose(detection_losses(encodings, logits, half, FOCAL).localization, full / 2)

    @ALL
    def test_the_order_of_boxes_does_not_matter_with_lius_rule(self, config):
        rng = torch.Generator().manual_seed(3)
        corner = torch.rand(1, 6, 2, generator=rng) * 0.6
        boxes = torch.cat([corner, corner + 0.1 + 0.3 * torch.rand(1, 6, 2, generator=rng)], 2)
        labels, order = torch.arange(6)[None] % CLASSES, torch.randperm(6, generator=rng)
        encodings, logits, _ = batch((1,))
        totals = []
        for b, c in ((boxes, labels), (boxes[:, order], labels[:, order])):
            targets = build_targets(b, c, torch.ones(1, 6), torch.zeros(1, 6, dtype=torch.bool), ANCHORS, rule="liu")
            totals.append(detection_losses(encodings, logits, targets, config).total)
        assert torch.allclose(*totals)

    @ALL
    def test_parts_of_a_batch_with_the_global_normaliser_add_up(self, config):
        encodings, logits, targets = batch((3, 1, 0, 2))
        whole = detection_losses(encodings, logits, targets, config)
        positives = global_positives(targets.positives)
        parts = [
            detection_losses(
                encodings[half],
                logits[half],
                replace(targets, **{k: v[half] for k, v in vars(targets).items() if isinstance(v, torch.Tensor)}),
                config,
                normaliser=positives,
            ).total
            for half in (slice(0, 2), slice(2, 4))
        ]
        assert torch.allclose(sum(parts), whole.total)
        assert whole.parts().keys() == {"loss", "classification", "localization"}

    def test_auto_follows_the_network_and_a_misfit_is_refused(self):
        assert LossConfig().for_scores("softmax").classification == "softmax"
        assert LossConfig().for_scores("sigmoid").classification == "sigmoid"
        assert FOCAL.for_scores("sigmoid").classification == "focal"
        with pytest.raises(MobileSSDError, match="focal does not fit this network, whose scores are softmax"):
            FOCAL.for_scores("softmax")


def test_the_config_lists_the_losses_that_there_are():
    listed = typing.get_args(hints_of(LossConfig)["classification"])
    assert set(listed) == {"auto", *CLASSIFICATION}


class TestClassWeights:
    @ALL
    def test_a_class_counts_as_its_weight_says(self, config):
        """The gradient of the weights: that class's part of the loss, nothing of the background."""
        encodings, logits, targets = batch((3, 2))
        plain = detection_losses(encodings, logits, targets, config)
        weights = torch.tensor([1.0, 3.0, 1.0, 0.0, 2.0])
        weighted = detection_losses(encodings, logits, targets, config, class_weights=weights)
        each = CLASSIFICATION[config.classification].of_anchors(logits, targets, config)
        factor = torch.where(targets.positive, weights[targets.classes.clamp(min=0)] - 1, 0.0)
        expected = plain.classification + (each * factor).sum() / plain.positives
        torch.testing.assert_close(weighted.classification, expected)
        torch.testing.assert_close(weighted.localization, plain.localization)

    def test_by_name_balanced_or_none(self):
        def of(wanted, counts=(2, 8, 0)):
            return class_weights_of(LossConfig(class_weights=wanted), ["cat", "dog", "TV"], counts)

        assert of("none") is None and of({}) is None
        assert of({"dog": 2, "tvmonitor": 0.5}).tolist() == [1, 2, 0.5], "COCO's and VOC's spelling"
        assert of("balanced").tolist() == [2.5, 0.625, 1], "of a class without boxes nothing is known"
        assert of("balanced", (1, 999, 0)).tolist() == pytest.approx([10, 0.5005, 1], abs=1e-3), "bounded"
        with pytest.raises(MobileSSDError, match=r"loss.class_weights: no class 'dogg'; nearest: dog"):
            of({"dogg": 2})
