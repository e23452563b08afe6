"""Learning from a teacher: raw predictions against raw predictions, and its boxes mixed with real labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detection.core.anchors import AnchorSpec, anchors_for
from detection.train.config import DistillationConfig, LossConfig
from detection.train.distill import distillation_loss, merge_teacher_boxes
from detection.train.losses import detection_losses
from detection.train.targets import build_targets

ANCHORS = torch.from_numpy(anchors_for(AnchorSpec(), [(4, 4), (2, 2), (1, 1)], (64, 64)))


class TestDistillation:
    @pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_a_perfect_copy_costs_nothing_and_a_step_comes_nearer(self, scores, temperature):
        rng = torch.Generator().manual_seed(0)
        teacher = torch.randn(2, 30, 4, generator=rng), torch.randn(2, 30, 6, generator=rng) * 3
        config = DistillationConfig(temperature=temperature)
        assert float(distillation_loss(*teacher, *teacher, config, scores=scores)) == pytest.approx(0, abs=1e-4)
        student = [torch.randn(t.shape, generator=rng).requires_grad_() for t in teacher]
        before = distillation_loss(*student, *teacher, config, scores=scores)
        before.backward()
        moved = [s.detach() - 0.05 * s.grad for s in student]
        assert 0 < distillation_loss(*moved, *teacher, config, scores=scores) < before

    def test_confident_anchors_count_more_and_boxes_count_by_confidence_alone(self):
        teacher_logits = torch.full((1, 2, 3), -9.0)
        teacher_logits[0, 0, 1] = 9.0
        codes = torch.zeros(1, 2, 4)
        config = DistillationConfig(floor=0.1)

        def loss(anchor, scores=1.0, boxes=1.0):
            logits, moved = teacher_logits.clone(), codes.clone()
            logits[0, anchor, 2] += 4
            moved[0, anchor] += 1
            return float(
                distillation_loss(moved, logits, codes, teacher_logits, replace(config, scores=scores, boxes=boxes))
            )

        assert loss(0, boxes=0.0) == pytest.approx(10 * loss(1, boxes=0.0), rel=0.01)
        assert loss(0, scores=0.0) == pytest.approx(2.0, rel=0.01) and loss(1, scores=0.0) < 1e-2

    def test_the_background_column_can_be_left_out(self):
        codes, logits = torch.zeros(1, 4, 4), torch.zeros(1, 4, 3)
        other = logits.clone()
        other[..., 0] = 5
        assert distillation_loss(codes, logits, codes, other, DistillationConfig()) > 0
        assert float(distillation_loss(codes, logits, codes, other, DistillationConfig(), background=False)) == 0


class TestTeacherBoxes:
    REAL = np.array([[10, 10, 50, 50], [60, 60, 90, 90]], np.float32)

    def merged(self, boxes, labels, scores, **options):
        return merge_teacher_boxes(self.REAL, np.array([0, 1]), np.array(boxes, np.float32), labels, scores, **options)

    def test_a_real_label_wins_over_the_same_class_and_not_over_another(self):
        found = self.merged([[11, 11, 50, 50], [11, 11, 50, 50]], [0, 2], [0.9, 0.8])
        assert found.labels.tolist() == [0, 1, 2] and found.scores.tolist() == pytest.approx([1, 1, 0.8])
        assert not found.ignore.any() and found.boxes.dtype == np.float32

    def test_between_the_thresholds_a_box_is_a_region_to_ignore(self):
        found = self.merged([[0, 60, 20, 90], [60, 0, 90, 20], [20, 0, 30, 9]], [3, 3, 3], [0.6, 0.3, 0.1])
        assert found.ignore.tolist() == [False, False, False, True]
        assert found.boxes[3].tolist() == [60, 0, 90, 20]

    def test_doubt_gives_way_where_something_certain_is_known(self):
        found = self.merged([[11, 11, 50, 50], [0, 60, 20, 90], [0, 61, 20, 90]], [2, 3, 4], [0.3, 0.7, 0.4])
        assert found.labels.tolist() == [0, 1, 3] and not found.ignore.any()

    def test_a_teacher_adds_nothing_to_classes_that_are_annotated(self):
        annotated = np.array([True, True, True, False])
        found = self.merged([[0, 60, 20, 90], [60, 0, 90, 20]], [2, 3], [0.9, 0.9], annotated=annotated)
        assert found.labels.tolist() == [0, 1, 3]

    def test_without_a_teacher_or_without_labels_it_is_the_other(self):
        nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0)
        found = merge_teacher_boxes(self.REAL, np.array([0, 1]), *nothing)
        assert np.array_equal(found.boxes, self.REAL) and found.scores.tolist() == [1, 1]
        taught = merge_teacher_boxes(nothing[0], nothing[1], self.REAL, np.array([2, 3]), np.array([0.9, 0.4]))
        assert taught.labels.tolist() == [2, 3] and taught.ignore.tolist() == [False, True]

    def test_a_taught_picture_trains(self):
        found = self.merged([[0, 60, 20, 90], [60, 0, 90, 20]], [3, 3], [0.6, 0.3])
        targets = build_targets(
            torch.from_numpy(found.boxes / 100)[None],
            torch.from_numpy(np.where(found.ignore, -1, found.labels))[None],
            torch.from_numpy(found.scores)[None],
            torch.from_numpy(found.ignore)[None],
            ANCHORS,
        )
        assert targets.scores[targets.classes == 3].unique().tolist() == pytest.approx([0.6])
        encodings, logits = torch.zeros(1, len(ANCHORS), 4), torch.zeros(1, len(ANCHORS), 6)
        assert detection_losses(encodings, logits, targets, LossConfig(classification="sigmoid")).total.isfinite()
