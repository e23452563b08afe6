"""The Detector: one door, the same boxes whatever way an image comes in."""

import threading

import cv2
import numpy as np
import pytest
from oracle import some_images

from detection import Detector
from detection.errors import MobileSSDError
from detection.postprocessor import PostProcessor
from detection.weights.card import Card
from detection.weights.names import spec_for


@pytest.fixture(scope="module")
def detector(trained):
    return Detector(trained.weights, device="cpu", threads=2)


def same(a, b):
    return (
        a.names == b.names and np.allclose(a.boxes, b.boxes, atol=1e-2) and np.allclose(a.scores, b.scores, atol=1e-5)
    )


def test_a_cat_is_a_cat(detector, trained):
    found = detector(trained.cat)
    assert found.names[0] == "cat" and found.scores[0] > 0.6
    x1, y1, x2, y2 = found.boxes[0]
    height, width = found.image_size
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height and (x2 - x1) * (y2 - y1) > 0.2 * width * height


def test_a_path_an_rgb_array_a_bgr_array_and_a_list_give_the_same_boxes(detector, trained):
    path = trained.cat
    bgr = cv2.imread(str(path))
    reference = detector(path)
    assert same(detector(str(path)), reference)
    assert same(detector(np.ascontiguousarray(bgr[..., ::-1])), reference)
    assert same(detector(bgr, color="bgr"), reference)
    several = detector([path, bgr[..., ::-1]])
    assert len(several) == 2 and all(same(one, reference) for one in several)


def test_the_wrong_colour_order_changes_scores(detector, trained):
    bgr = cv2.imread(str(trained.other))
    right, wrong = detector(bgr, color="bgr"), detector(bgr)
    assert not same(right, wrong)
    assert right.names[0] == trained.other_class and abs(right.scores[0] - wrong.scores[0]) > 0.02


def test_torch_and_openvino_find_the_same(trained):
    files = some_images(trained.photos, 10)
    results = [Detector(trained.weights, "cpu", runtime, threads=2)(files) for runtime in ("torch", "openvino")]
    assert all(same(a, b) for a, b in zip(*results))


def test_eight_threads_at_once_get_what_one_gets(detector, trained):
    files = some_images(trained.photos, 8)
    alone = [detector(file) for file in files]
    found = [None] * len(files)

    def work(i):
        found[i] = detector(files[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(files))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(same(a, b) for a, b in zip(alone, found))


def test_classes_can_be_chosen_and_an_unknown_one_offers_the_nearest(trained):
    weights = trained.weights
    found = Detector(weights, "cpu", classes=[trained.other_class])(trained.other)
    assert set(found.names) == {trained.other_class}
    with pytest.raises(MobileSSDError, match="no class 'purson'; nearest: person"):
        Detector(weights, "cpu", classes=["purson"])


def test_an_empty_list_is_no_error(detector):
    assert detector([]) == []


def test_unknown_runtime_device_and_precision_are_one_line(trained):
    weights = trained.weights
    with pytest.raises(MobileSSDError, match="unknown runtime 'tensorrt'"):
        Detector(weights, runtime="tensorrt")
    with pytest.raises(MobileSSDError, match="on the CPU here, not on cuda"):
        Detector(weights, runtime="openvino", device="cuda")
    with pytest.raises(MobileSSDError, match="no precision 'int3'"):
        Detector(weights, precision="int3")


def test_auto_takes_the_threshold_of_each_class_from_the_card():
    maps = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
    spec = spec_for("ssd_mobilenet_v1", num_classes=3).to_dict()
    card = Card(spec, ("cat", "dog", "bus"), (1, 2, 3), maps, score_threshold=0.4)
    assert PostProcessor.of(card, score="auto").settings == PostProcessor.of(card).settings
    card.class_thresholds = {"dog": 0.7, "cat": 0.2}
    postprocessor = PostProcessor.of(card, score="auto")
    encodings, logits = np.zeros((1917, 4), np.float32), np.full((1917, 4), -9, np.float32)
    for row, (column, score) in {0: (1, 0.3), 30: (2, 0.6), 60: (3, 0.3), 90: (2, 0.8), 120: (3, 0.5)}.items():
        logits[row, column] = np.log(score / (1 - score))
    assert postprocessor(encodings, logits, (300, 300)).names == ["dog", "bus", "cat"]
    assert postprocessor.with_score(0.1)(encodings, logits, (300, 300)).names == ["dog", "dog", "bus", "cat", "bus"]
    assert PostProcessor.of(card).settings.score == 0.4
    with pytest.raises(MobileSSDError, match='score is a number from 0 to 1 or "auto"'):
        PostProcessor.of(card, score="best")
