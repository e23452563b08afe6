"""Images through a detector in bulk: in order, each once, errors as items, bounded, and clean however it ends."""

import threading
import time

import bulk_help as bulk
import cv2
import numpy as np
import pytest

from detection import Detector
from detection.boxes.detections import Detections
from detection.errors import BadImageError, MobileSSDError
from detection.images.preprocess import stretch
from detection.stream import detect_stream, in_order


class Bright:
    """The stages of a detector that finds one box whose score is the brightness of the image."""

    def __init__(self):
        self.batches: list[list[int]] = []

    def see(self, image):
        return stretch(image, (8, 8))

    def compute(self, seen):
        batch = np.stack(seen)
        assert batch.dtype == np.uint8 and batch.shape[1:] == (8, 8, 3)
        self.batches.append([int(image.mean()) for image in batch])
        return list(batch.mean((1, 2, 3)) / 255)

    def conclude(self, raw, image_size):
        return Detections(np.zeros((1, 4), np.float32), np.array([raw], np.float32), np.array([0]), ("x",), image_size)


class Streaming(Bright):
    """The same, each image computed by itself, two at a time."""

    def __init__(self):
        super().__init__()
        self.at_once, self.most, self.lock = 0, 0, threading.Lock()

    def streams(self):
        return 2

    def compute_alone(self, seen):
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.001)
        with self.lock:
            self.at_once -= 1
        return super().compute([seen])[0]


def grey(value, size=(20, 30)):
    return np.full((*size, 3), value, np.uint8)


def levels(found):
    return [None if one.detections is None else round(float(one.detections.scores[0]) * 255) for one in found]


def threads_of_streams():
    names = ("load", "finish", "square")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("workers", [None, 1, 5])
def test_every_image_comes_once_in_order_whatever_the_batch(batch, workers):
    detector = Bright()
    found = list(detect_stream(detector, range(40), grey, batch=batch, workers=workers))
    assert [one.item for one in found] == list(range(40)) and levels(found) == list(range(40))
    assert all(one.size == (20, 30) and one.error is None and one.network_seconds > 0 for one in found)
    assert sum(detector.batches, []) == list(range(40)) and max(map(len, detector.batches)) == min(batch, 40)
    assert not threads_of_streams()


def test_where_images_are_computed_one_in_a_thread_they_come_in_order_too():
    detector = Streaming()
    found = list(detect_stream(detector, range(40), grey, batch=16, workers=2))
    assert levels(found) == list(range(40)) and all(one.network_seconds > 0 for one in found)
    assert sorted(detector.batches) == [[i] for i in range(40)]
    assert 2 <= detector.most <= 3, "as many as there are streams, and one that waits for its turn"
    assert not threads_of_streams()


@pytest.mark.parametrize("items, batch", [([7], 16), ([7, 8, 9], 1)])
def test_a_single_image_and_images_one_after_the_other_get_all_threads(items, batch):
    detector = Streaming()
    detector.compute_alone = None
    assert levels(detect_stream(detector, items, grey, batch=batch)) == items


@pytest.mark.parametrize("kind", [Bright, Streaming])
def test_nothing_in_nothing_out(kind):
    assert list(detect_stream(kind(), [])) == []


def test_images_may_be_paths_arrays_and_addresses(tmp_path):
    files = pytest.importorskip("fsspec", reason="needs fsspec").filesystem("memory")
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), grey(7))
    files.pipe_file("/stream/b.png", cv2.imencode(".png", grey(9))[1].tobytes())
    found = list(detect_stream(Bright(), [path, str(path), grey(8), "memory://stream/b.png", "memory://stream/c.png"]))
    assert levels(found) == [7, 7, 8, 9, None] and "no such file" in str(found[4].error)


@pytest.mark.parametrize("kind", [Bright, Streaming])
def test_unreadable_images_are_items_in_their_place_and_count_in_their_batch(tmp_path, kind):
    (tmp_path / "bad.jpg").write_text("no image")
    detector = kind()
    items = [1, "bad.jpg", 3, "gone.jpg", 5, 6]
    found = list(detect_stream(detector, items, lambda i: grey(i) if isinstance(i, int) else tmp_path / i, batch=2))
    assert [one.item for one in found] == items and levels(found) == [1, None, 3, None, 5, 6]
    assert [type(one.error) for one in found] == [type(None), BadImageError] * 2 + [type(None)] * 2
    assert "bad.jpg: is no image" in str(found[1].error) and "gone.jpg: no such file" in str(found[3].error)
    assert kind is Streaming or detector.batches == [[1], [3], [5, 6]], (
        "who sits with whom does not depend on what is readable"
    )


def test_a_stream_of_unreadable_images_never_asks_the_network(tmp_path):
    detector = Bright()
    found = list(detect_stream(detector, [tmp_path / "a.jpg"] * 40))
    assert len(found) == 40 and all(one.error for one in found) and not detector.batches


def test_a_batch_never_crosses_from_one_group_into_the_next():
    detector = Bright()
    list(detect_stream(detector, range(12), grey, batch=3, group_of=lambda i: i // 5))
    assert detector.batches == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9], [10, 11]]


def test_images_are_given_back_only_where_they_are_asked_for():
    (kept,), (dropped,) = (list(detect_stream(Bright(), [5], grey, keep_image=keep)) for keep in (True, False))
    assert np.array_equal(kept.image, grey(5)) and dropped.image is None


def test_it_finds_what_the_detector_finds_to_the_last_bit(tmp_path):
    weights = bulk.tiny_weights(tmp_path)
    paths = sorted(bulk.save_images(tmp_path / "in", 9).glob("*"))
    detector = Detector(weights, score=0.01)
    for batch in (1, 4):
        found = list(detect_stream(detector, paths, batch=batch))
        expected = [one for i in range(0, 9, batch) for one in detector(paths[i : i + batch])]
        assert [one.item for one in found] == paths and sum(len(one) for one in expected) > 20
        for one, other in zip(found, expected):
            assert np.array_equal(one.detections.boxes, other.boxes) and one.size == other.image_size
            assert np.array_equal(one.detections.scores, other.scores)
            assert np.array_equal(one.detections.class_ids, other.class_ids)


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize("kind", [Bright, Streaming])
@pytest.mark.parametrize("where", ["read", "network", "finish", "items"])
def test_what_is_no_fault_of_an_image_is_raised_after_the_batches_before_it(where, kind):
    detector = kind()
    plain = detector.compute, detector.conclude

    def fail(there, value):
        if there == where and value == 9:
            raise MobileSSDError("the store does not answer")
        return value

    detector.compute = lambda seen: [fail("network", int(image.mean())) for image in seen] and plain[0](seen)
    if kind is Streaming:
        detector.compute_alone = lambda seen: detector.compute([seen])[0]
    detector.conclude = lambda raw, size: [plain[1](raw, size), fail("finish", round(float(raw) * 255))][0]
    items, found = (fail("items", i) for i in range(20)), []
    with pytest.raises(MobileSSDError, match="does not answer"):
        for one in detect_stream(detector, items, lambda i: grey(fail("read", i)), batch=3):
            found.append(one)
    assert levels(found) == list(range(9)) and not threads_of_streams()


@pytest.mark.parametrize("at", [0, 1])
def test_what_the_items_raise_before_there_are_two_of_them_comes_in_its_place(at):
    def items():
        yield from range(at)
        raise MobileSSDError("the list ends here")

    found = []
    with pytest.raises(MobileSSDError, match="ends here"):
        for one in detect_stream(Streaming(), items(), grey):
            found.append(levels([one]))
    assert found == [[0]] * at


@pytest.mark.parametrize("kind", [Bright, Streaming])
def test_whoever_stops_early_leaves_no_thread_behind_and_reads_no_further(kind):
    asked = []
    stream = detect_stream(kind(), (asked.append(i) or i for i in range(10_000)), grey, batch=4, workers=2)
    assert [next(stream).item for _ in range(5)] == list(range(5)) and threads_of_streams()
    stream.close()
    assert not threads_of_streams() and len(asked) < 60
    for one in detect_stream(kind(), range(10_000), grey):
        if one.item == 3:
            break
    del one
    assert not threads_of_streams(), "dropped is closed"


def test_memory_is_bounded_however_slow_the_consumer(monkeypatch):
    alive, most, lock = set(), [0], threading.Lock()

    class Counted(np.ndarray):
        def __del__(self):
            with lock:
                alive.discard(id(self))

    def image_of(i):
        image = grey(i % 200).view(Counted)
        with lock:
            alive.add(id(image))
            most[0] = max(most[0], len(alive))
        return image

    for one in detect_stream(Bright(), range(200), image_of, batch=4, workers=2, keep_image=True):
        if one.item < 30:
            time.sleep(0.005)
    assert 4 <= most[0] <= 4 * 4 + 2 * 2 + 2


def test_addresses_are_fetched_by_more_threads_than_decode(monkeypatch):
    data, at_once, most, lock = cv2.imencode(".png", grey(3))[1].tobytes(), [0], [0], threading.Lock()

    def fetch(name):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return data

    monkeypatch.setattr("detection.stream.fetch", fetch)
    found = list(detect_stream(Bright(), [f"s3://bucket/{i}.png" for i in range(64)], workers=1))
    assert levels(found) == [3] * 64 and most[0] > 8


# ---------------------------------------------------------------- its part that others use, too


def square(value):
    time.sleep(0.002 * (value % 3))
    if value == 7:
        raise BadImageError("seven")
    return value * value


def test_work_in_threads_comes_back_in_order_and_raises_in_its_place():
    assert list(in_order(square, range(7), threads=3)) == [0, 1, 4, 9, 16, 25, 36]
    seen = []
    with pytest.raises(BadImageError):
        for value in in_order(square, range(100), threads=3):
            seen.append(value)
    assert seen == [0, 1, 4, 9, 16, 25, 36] and not threads_of_streams()


# ---------------------------------------------------------------- memory


def test_images_are_decoded_ahead_by_their_bytes_and_not_by_their_number(tmp_path, monkeypatch):
    """Room for two of them, and eight threads: never three at once."""
    cv2.imwrite(str(tmp_path / "a.png"), grey(7, (300, 300)))
    monkeypatch.setattr("detection.stream.DECODING", 2 * 300 * 300 * 3)
    at_once, most, lock = 0, 0, threading.Lock()

    class Slow(Bright):
        def see(self, image):
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.01)
            with lock:
                at_once -= 1
            return super().see(image)

    names = [str(tmp_path / "a.png")] * 20
    assert levels(detect_stream(Slow(), names, workers=8)) == [7] * 20
    assert most == 2


def test_an_image_that_is_larger_than_all_memory_is_read_alone(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), grey(9))
    monkeypatch.setattr("detection.stream.DECODING", 1)
    assert levels(detect_stream(Bright(), [(tmp_path / "a.png").read_bytes()] * 5, workers=4)) == [9] * 5


def test_kept_images_have_the_room_that_there_is(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), grey(9))
    monkeypatch.setattr("detection.stream.DECODING", 3 * 20 * 30 * 3)
    found = list(detect_stream(Bright(), [str(tmp_path / "a.png")] * 5, workers=1, keep_image=True))
    assert sum(one.image is not None for one in found) == 3 and all(one.size == (20, 30) for one in found)
