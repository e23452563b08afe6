"""Box geometry: the properties that hold for every box, and the coder against hand-made numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detection.boxes.geometry import BoxCoder, area, clip, iou_matrix, to_cxcywh, to_xyxy

SIDE = st.floats(1 / 64, 1, width=32)
BOXES = arrays(np.float32, (5, 4), elements=SIDE).map(lambda a: np.concatenate([a[:, :2], a[:, :2] + a[:, 2:]], 1))


@given(BOXES)
def test_conversion_there_and_back_is_the_identity(boxes):
    assert np.allclose(to_xyxy(to_cxcywh(boxes)), boxes, atol=1e-6)


@given(BOXES, BOXES)
def test_iou_is_symmetric_within_0_and_1_and_1_with_itself(boxes, others):
    iou = iou_matrix(boxes, others)
    assert np.allclose(iou, iou_matrix(others, boxes).T)
    assert (iou >= 0).all() and (iou <= 1 + 1e-6).all()
    assert np.allclose(np.diag(iou_matrix(boxes, boxes)), 1, atol=1e-5)


def test_iou_of_known_boxes():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    others = np.array([[1, 1, 3, 3], [5, 5, 6, 6]], np.float32)
    assert iou_matrix(boxes, others) == pytest.approx(np.array([[1 / 7, 0], [0, 0]]))


@given(BOXES, BOXES)
def test_decoding_an_encoded_box_gives_it_back_for_numpy_and_torch(boxes, anchors):
    coder, anchors = BoxCoder(), to_cxcywh(anchors)
    back = coder.decode(coder.encode(boxes, anchors), anchors)
    assert np.allclose(back, boxes, atol=2e-4)
    tensor = coder.decode(coder.encode(torch.from_numpy(boxes), torch.from_numpy(anchors)), torch.from_numpy(anchors))
    assert np.allclose(tensor.numpy(), back, atol=1e-5)


def test_the_code_is_tensorflows_in_our_order():
    """ty = 10 (cy - cya) / ha, tx = 10 (cx - cxa) / wa, th = 5 ln(h / ha), tw = 5 ln(w / wa)."""
    box, anchor = np.array([[0.2, 0.1, 0.6, 0.3]]), np.array([[0.5, 0.25, 0.2, 0.1]])
    assert BoxCoder().encode(box, anchor) == pytest.approx(np.array([[-5, -5, 5 * np.log(2), 5 * np.log(2)]]))


def test_clipping_and_areas():
    assert clip(np.array([[-1.0, -1, 5, 9]]), 4, 3).tolist() == [[0, 0, 3, 4]]
    assert area(np.array([[0.0, 0, 2, 3], [2, 2, 1, 1]])).tolist() == [6, 0]
