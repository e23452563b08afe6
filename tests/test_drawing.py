"""What is drawn on an image: a copy with boxes and labels that stay inside it and can be read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes.detections import Detections
from detection.boxes.drawing import class_color, draw_boxes, fit_text

NAMES = tuple(f"class{i}" for i in range(80))


def draw_detections(image, detections, **options):
    return detections.draw(image, **options)


def found(*boxes, ids=None, scores=None, names=NAMES, size=(120, 160)):
    n = len(boxes)
    return Detections(
        np.asarray(boxes, np.float32).reshape(n, 4),
        np.asarray(scores if scores is not None else np.linspace(0.9, 0.4, n), np.float32),
        np.asarray(ids if ids is not None else range(n), np.int64),
        names,
        size,
    )


def test_the_image_given_stays_as_it_was_and_a_new_one_comes_back():
    image = np.full((120, 160, 3), 80, np.uint8)
    image.setflags(write=False)
    drawn = draw_detections(image, found((20, 40, 90, 100)))
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 80).all() and (drawn != 80).any()


def test_without_detections_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert np.array_equal(draw_detections(image, found((20, 40, 90, 100))[:0]), image)


def test_the_frame_lies_on_the_edges_of_the_box():
    drawn = draw_detections(np.zeros((120, 160, 3), np.uint8), found((20, 40, 90, 100)), line_width=1, labels=False)
    colored = (drawn == class_color(0)).all(-1)
    rows, columns = np.nonzero(colored)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 99, 20, 89)  # x2 and y2 are exclusive
    assert colored.sum() == 2 * 70 + 2 * 58
    assert not colored[42:98, 22:88].any()


def test_a_label_names_the_class_and_its_score_above_the_box():
    image = np.zeros((200, 300, 3), np.uint8)
    plain = draw_detections(image, found((50, 100, 200, 180)), labels=False)
    labelled = draw_detections(image, found((50, 100, 200, 180)))
    rows, _ = np.nonzero((plain != labelled).any(-1))
    assert rows.min() >= 60 and rows.max() < 100
    other = draw_detections(image, found((50, 100, 200, 180), scores=[0.31]))
    assert (labelled != other).any(), "the score is written"


def test_a_label_without_room_above_goes_inside():
    image = np.zeros((200, 300, 3), np.uint8)
    plain = draw_detections(image, found((50, 0, 200, 200)), labels=False)
    rows, columns = np.nonzero((plain != draw_detections(image, found((50, 0, 200, 200)))).any(-1))
    assert rows.size and rows.max() < 60 and columns.min() >= 50


def test_labels_of_neighbours_do_not_cover_each_other():
    boxes = [(50, 100, 150, 180), (52, 100, 152, 180), (54, 102, 150, 181)]
    drawn = draw_detections(np.zeros((300, 400, 3), np.uint8), found(*boxes))
    areas = [(drawn == class_color(i)).all(-1).sum() for i in range(3)]
    alone = [
        (draw_detections(np.zeros((300, 400, 3), np.uint8), found(box, ids=[i])) == class_color(i)).all(-1).sum()
        for i, box in enumerate(boxes)
    ]
    assert all(shown > 0.5 * whole for shown, whole in zip(areas, alone))


def test_the_line_grows_with_the_image():
    def line(height, width):
        box = (width * 0.2, height * 0.2, width * 0.8, height * 0.8)
        drawn = draw_detections(np.zeros((height, width, 3), np.uint8), found(box), labels=False)
        return int((drawn[height // 2, : width // 2] == class_color(0)).all(-1).sum())

    assert line(60, 80) == 1 and line(480, 640) in (2, 3) and 10 <= line(3000, 4000) <= 20


def test_colors_are_stable_distinct_and_bright():
    colors = [class_color(i) for i in range(90)]
    assert colors == [class_color(i) for i in range(90)]
    assert len(set(colors)) == 90
    for near, far in zip(colors, colors[1:]):
        assert np.abs(np.subtract(near, far)).sum() > 90
    assert all(max(color) > 140 for color in colors)


def test_track_ids_are_shown():
    from dataclasses import replace

    plain = found((20, 60, 140, 110))
    image = np.zeros((120, 160, 3), np.uint8)
    tracked = replace(plain, track_ids=np.array([7]))
    assert (draw_detections(image, tracked) != draw_detections(image, plain)).any()
    fresh = replace(plain, track_ids=np.array([-1]))  # not yet tracked
    assert np.array_equal(draw_detections(image, fresh), draw_detections(image, plain))


def test_text_shrinks_to_the_room_and_vanishes_where_nobody_could_read_it():
    (wide, tall), scale = fit_text("traffic light 0.82", 14, 1000)
    (narrow, low), smaller = fit_text("traffic light 0.82", 14, wide - 20)
    assert narrow <= wide - 20 and low < tall and smaller < scale
    assert fit_text("traffic light 0.82", 14, 20)[1] == 0


@pytest.mark.parametrize("name", ["", "café", "狗", "a\nb", "x" * 200])
def test_any_class_name_can_be_drawn(name):
    drawn = draw_detections(np.zeros((90, 120, 3), np.uint8), found((10, 40, 100, 80), names=(name,)))
    assert drawn.any()


numbers = st.one_of(st.floats(-300, 300), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30]))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6))
def test_no_box_and_no_image_is_too_odd_to_draw(height, width, boxes):
    image = np.full((height, width, 3), 7, np.uint8)
    drawn = draw_detections(image, found(*boxes, scores=[0.5] * len(boxes), ids=[1] * len(boxes)))
    assert drawn.shape == image.shape


def test_boxes_with_colours_of_ones_own_the_first_on_top_and_broken_frames():
    black = np.zeros((120, 160, 3), np.uint8)
    red, blue = (255, 0, 0), (0, 0, 255)
    boxes = np.array([[20, 40, 90, 100], [20, 40, 90, 100]], np.float32)
    drawn = draw_boxes(black, boxes, [red, blue], dashed=[True, False], line_width=2)
    top_edge = drawn[40, 20:90]
    assert (top_edge[0] == red).all(), "a dash begins at the corner"
    assert {tuple(pixel) for pixel in top_edge.tolist()} >= {red}, "the first lies on top"
    assert not (top_edge == red).all(-1).all(), "and its gaps let the second through"
    assert (top_edge == blue).all(-1).any()
    labelled = draw_boxes(black, boxes[:1], [red], ["missed cat"], line_width=2)
    assert (labelled != draw_boxes(black, boxes[:1], [red], [""], line_width=2)).any()
