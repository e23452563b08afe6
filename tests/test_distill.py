"""Learning from a teacher: raw predictions against raw predictions."""

from dataclasses import replace

import pytest
import torch

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.train.config import DistillationConfig
from detection.train.teachers.distillation_loss import distillation_loss

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
        config = DistillationConfig(minimum=0.1)

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
