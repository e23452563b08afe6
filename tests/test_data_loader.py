"""The training loader: the same batches for the same seed, however many workers, ranks and interruptions."""

import itertools
import logging
import multiprocessing
import os
import signal
import sys
import time
import tracemalloc

import children
import cv2
import numpy as np
import pytest
from data_sets import SIZE, make_image
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.build import build
from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.open import open_data
from detection.errors import BadDataError, MobileSSDError
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.train.input import loader as loader_module
from detection.train.input.augment import PRESETS, Augmentation
from detection.train.input.cache import ImageCache
from detection.train.input.loader import TrainLoader
from detection.train.input.sampling import drawn, image_shares
from detection.train.input.workers import quiet_worker

torch = pytest.importorskip("torch")
FIELDS = ("images", "boxes", "labels", "scores", "ignore", "unknown", "image_ids", "indices")
EVERYTHING = Augmentation(
    crop="liu", expand=0.3, photometric="liu", mosaic=0.3, mixup=0.3, flip_vertical=0.5, transforms=("ShotNoise",)
)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven images of 60 x 80 with one to three boxes, and one without."""
    folder = tmp_path_factory.mktemp("images")
    paths = [make_image(folder / f"{i}.png", seed=i) for i in range(12)]
    owners = [i for i in range(11) for _ in range(i % 3 + 1)]
    boxes = [[5 + 4 * (k % 7), 6, 45 + 4 * (k % 7), 50] for k in range(len(owners))]
    sizes = [SIZE] * 12
    return build(["a", "b", "c"], paths, owners, boxes, np.array(owners) % 3, sizes=sizes, image_ids=range(100, 112))


def batches(data, start, stop, *, size=4, augmentation=EVERYTHING, **options):
    loader = TrainLoader(data, (64, 96), size, augmentation, seed=5, **options)
    found = list(loader.batches(start, stop))
    loader.close()
    return found


def same(one, two) -> bool:
    return len(one) == len(two) and all(
        torch.equal(getattr(a, field), getattr(b, field)) for a, b in zip(one, two) for field in FIELDS
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(data, workers):
    assert same(batches(data, 0, 12), batches(data, 0, 12, workers=workers))


def test_another_seed_is_another_run(data):
    loader = TrainLoader(data, (64, 96), 4, EVERYTHING, seed=6)
    assert not same(batches(data, 0, 3), list(loader.batches(0, 3)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_in_mid_epoch_to_the_bit(data, workers):
    whole = batches(data, 0, 10, size=5)
    assert same(whole[7:], batches(data, 7, 10, size=5, workers=workers))


def test_two_ranks_make_the_same_global_batch_as_one(data):
    whole = batches(data, 0, 6)
    parts = [batches(data, 0, 6, rank=rank, world=2) for rank in (0, 1)]
    for one, first, second in zip(whole, *parts):
        assert torch.equal(one.images, torch.cat([first.images, second.images]))
        assert one.indices.tolist() == first.indices.tolist() + second.indices.tolist()
        for i, part in ((0, first), (2, second)):
            for k in range(2):
                kept = part.labels[k] >= 0
                assert torch.equal(one.boxes[i + k][one.labels[i + k] >= 0], part.boxes[k][kept])


def test_every_epoch_shows_every_image_once_in_another_order(data):
    loader = TrainLoader(data, (32, 32), 5, PRESETS["none"])
    seen = [i for batch in loader.batches(0, 12) for i in batch.indices.tolist()]
    epochs = [seen[k * 12 : k * 12 + 12] for k in range(5)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs) and len(set(map(tuple, epochs))) == 5


def test_balanced_sampling_shows_images_of_rare_classes_more_often(data):
    """Class a is in eleven images, b in seven, c in four: (11 / 4) ** 1 against 1, and no image without objects more often."""
    boxes, owners = np.tile([5.0, 6, 45, 50], (22, 1)), [*range(11), *range(7), *range(4)]
    labels = [0] * 11 + [1] * 7 + [2] * 4
    uneven = build(["a", "b", "c"], data.paths, owners, boxes, labels, sizes=[SIZE] * 12, image_ids=range(12))
    shares = image_shares(uneven, 1.0)
    assert shares / shares[-1] == pytest.approx([11 / 4] * 4 + [11 / 7] * 3 + [1] * 5)
    assert image_shares(uneven, 0.5)[0] / image_shares(uneven, 0.5)[-1] == pytest.approx((11 / 4) ** 0.5)
    counts = np.stack([np.bincount(drawn(shares, np.random.default_rng(seed)), minlength=12) for seed in range(400)])
    assert (counts.sum(1) == 12).all() and counts.mean(0) == pytest.approx(shares * 12, abs=0.1)
    assert (abs(counts - shares * 12) < 1).all(), "rounded up or down, never further off"
    found = batches(uneven, 0, 60, balanced=1.0)
    seen = np.bincount(np.concatenate([batch.indices.numpy() for batch in found]), minlength=12)
    assert seen / seen.sum() == pytest.approx(shares, abs=0.02)
    assert same(found[7:], batches(uneven, 7, 60, balanced=1.0)), "it resumes in mid-epoch"


def test_the_stream_is_endless_also_when_the_batch_is_larger_than_the_data(data):
    loader = TrainLoader(data.subset([0, 1, 2]), (32, 32), 8, PRESETS["none"])
    for batch in itertools.islice(loader.batches(), 20):
        assert len(batch) == 8 and set(batch.indices.tolist()) == {0, 1, 2}


def test_workers_live_on_when_a_loop_is_left_early(data):
    loader = TrainLoader(data, (64, 96), 4, EVERYTHING, seed=5, workers=2)
    first = list(itertools.islice(loader.batches(), 3))
    workers = [worker.pid for worker in loader._loader._iterator._workers]
    again = list(loader.batches(1, 4))
    assert [worker.pid for worker in loader._loader._iterator._workers] == workers
    loader.close()
    assert same(first, batches(data, 0, 3)) and same(again, batches(data, 1, 4))


def test_batches_come_through_pipes_where_shared_memory_is_small(data, monkeypatch):
    monkeypatch.setattr(loader_module, "shared_memory_free", lambda: 0)
    found = batches(data, 0, 4, workers=2)
    assert same(found, batches(data, 0, 4)) and not found[0].images.is_shared()


def test_a_killed_worker_is_one_clear_line(data):
    loader = TrainLoader(data, (64, 96), 4, EVERYTHING, seed=5, workers=1)
    stream = loader.batches()
    next(stream)
    os.kill(loader._loader._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(MobileSSDError, match="a data worker was killed"):
        list(itertools.islice(stream, 50))
    assert same(list(itertools.islice(loader.batches(1), 2)), batches(data, 1, 3))  # and a new one takes over


# --- what is in a batch


def test_a_batch_has_its_declared_form(data):
    batch = batches(data, 0, 1, size=12, augmentation=PRESETS["none"])[0]
    assert batch.images.shape == (12, 64, 96, 3) and batch.images.dtype == torch.uint8
    assert batch.boxes.shape == (12, 3, 4) and batch.boxes.dtype == torch.float32
    assert batch.labels.dtype == torch.int64 and batch.ignore.dtype == batch.unknown.dtype == torch.bool
    assert batch.unknown.shape == (12, 3) and not batch.unknown.any()
    for k, index in enumerate(batch.indices.tolist()):
        original, count = data.image(index), int((batch.labels[k] >= 0).sum())
        assert batch.labels[k, :count].tolist() == original.labels.tolist() and count == len(original.labels)
        assert np.allclose(batch.boxes[k, :count], original.boxes / [80, 60, 80, 60], atol=1e-6)
        assert int(batch.image_ids[k]) == 100 + index and (batch.boxes[k, count:] == 0).all()
    assert TrainLoader(data, (64, 96), 4).names(batch)[0] == data.path(int(batch.indices[0]))
    assert batch.to("cpu").images is not None and len(batch) == 12


def test_only_background_images_make_a_batch_too(data):
    batch = batches(data.subset([11]), 0, 1, size=2)[0]
    assert batch.labels.tolist() == [[-1], [-1]] and batch.boxes.shape == (2, 1, 4)


@pytest.mark.parametrize("policy, targets, ignored", [("drop", 1, 1), ("ignore", 1, 3), ("train", 3, 1)])
def test_crowd_difficult_and_ignore_boxes_by_policy(data, policy, targets, ignored):
    flags = [0, CROWD, DIFFICULT, IGNORE]
    boxes = [[0, 0, 20, 20], [20, 0, 40, 20], [0, 20, 20, 40], [40, 40, 70, 60]]
    odd = build(["a"], [data.path(0)], [0] * 4, boxes, [0, 0, 0, -1], flags=flags, sizes=[SIZE])
    options = {"augmentation": PRESETS["none"], "crowd": policy, "difficult": policy}
    batch = batches(odd, 0, 1, size=1, **options)[0]
    assert int((batch.labels >= 0).sum()) == targets and int(batch.ignore.sum()) == ignored
    assert not (batch.ignore & (batch.labels >= 0)).any()


def test_unknown_classes_and_soft_labels_reach_the_batch(data):
    soft = build(
        ["a", "b"], [data.path(0)], [0], [[0, 0, 40, 40]], [0], scores=[0.5], sizes=[SIZE], unknown_classes=["b"]
    )
    batch = batches(soft, 0, 1, size=1, augmentation=PRESETS["none"])[0]
    assert batch.unknown.tolist() == [[False, True]] and batch.scores.tolist() == [[0.5]]


def test_faulty_boxes_do_not_reach_a_batch_even_uncleaned(data):
    boxes = [[0, 0, 40, 40], [np.nan, 0, 5, 5], [10, 10, 10, 40], [200, 200, 300, 300], [40, 50, 10, 5], [0, 0, 1, 999]]
    odd = build(["a"], [data.path(0)], [0] * 6, boxes, [0] * 6, sizes=[SIZE])
    for batch in batches(odd, 0, 5, size=4, augmentation=PRESETS["torchvision_ssdlite"]):
        kept = batch.boxes[batch.labels >= 0]
        assert torch.isfinite(batch.boxes).all() and (kept[:, 2:] > kept[:, :2]).all()
        assert (kept >= 0).all() and (kept <= 1).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 1000))
def test_the_order_is_a_function_of_seed_and_position_alone(number, position, seed):
    sets = build(["a"], [f"{i}" for i in range(number)], [0], [[0, 0, 1, 1]], [0])
    one = TrainLoader(sets, (8, 8), 1, seed=seed).source
    two = TrainLoader(sets, (8, 8), 1, seed=seed).source
    backwards = [two.image_at(p) for p in reversed(range(position + number))][::-1]
    assert [one.image_at(p) for p in range(position + number)] == backwards
    first = position // number * number
    assert sorted(backwards[first : first + number]) == list(range(number))


# --- bad images

BIG_TIFF = b"II+\0\x08\0\0\0" + b"\xff" * 8


@pytest.mark.parametrize("content", [b"broken", BIG_TIFF], ids=["no image", "a directory that lies nowhere"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_once_and_replaced_the_same_way_every_time(tmp_path, caplog, workers, content):
    paths = [make_image(tmp_path / f"{i}.png", seed=i) for i in range(4)]
    paths[2].write_bytes(content)
    odd = build(["a"], paths, [0, 1, 2, 3], [[0, 0, 40, 40]] * 4, [0] * 4, sizes=[SIZE] * 4)
    with caplog.at_level(logging.WARNING, "mobilessd.data"):
        found = batches(odd, 0, 8, workers=workers)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "2.png" in lines[0] and "another image takes its place" in lines[0]
    assert same(found, batches(odd, 0, 8))
    assert all(2 not in batch.indices.tolist() for batch in found)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_that_vanished_is_one_clear_line(tmp_path, workers):
    gone = build(["a"], [tmp_path / f"{i}.png" for i in range(4)], [0], [[0, 0, 5, 5]], [0])
    before = set(multiprocessing.active_children())
    with pytest.raises(BadDataError, match="20 images in a row cannot be read, the last of them: .*png") as caught:
        batches(gone, 0, 1, workers=workers)
    assert "\n" not in str(caught.value)
    assert set(multiprocessing.active_children()) <= before, "the error holds the loader, and the loader its workers"


def test_a_closed_loader_has_no_workers_whoever_holds_its_batches(data):
    loader = TrainLoader(data, (64, 96), 4, EVERYTHING, seed=5, workers=2)
    held = loader.batches()
    next(held)
    workers = list(loader._loader._iterator._workers)
    loader.close()
    assert not any(worker.is_alive() for worker in workers)


def test_impossible_requests_are_refused(data):
    with pytest.raises(BadDataError, match="no images to train on"):
        TrainLoader(data.subset([]), (32, 32), 4)
    with pytest.raises(BadDataError, match="a batch of 5 cannot be shared equally by 2"):
        TrainLoader(data, (32, 32), 5, world=2)
    with pytest.raises(BadDataError, match="crowd: 'maybe' is none of drop, ignore, train"):
        TrainLoader(data, (32, 32), 4, crowd="maybe")


# --- memory


def test_the_cache_is_shared_by_workers_and_changes_nothing(data):
    plain = batches(data, 0, 9)
    for workers in (0, 2):
        assert same(plain, batches(data, 0, 9, cache_mb=10, workers=workers))
    loader = TrainLoader(data, (64, 96), 4, EVERYTHING, seed=5, cache_mb=10, workers=2)
    list(loader.batches(0, 6))
    assert loader.source.cache.filled.sum() >= 10  # written by the workers, seen here
    loader.close()


def test_the_cache_keeps_to_its_budget_and_plans_with_halved_images():
    sizes = np.array([[1800, 2400], [400, 400], [0, 0], [300, 200]], np.int32)
    cache = ImageCache(sizes, budget_mb=3.1, input_size=(300, 300))
    assert cache.planned == 1 and cache.shapes[0].tolist() == [900, 1200]
    image = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    cache.put(0, image)
    assert (cache.get(0) == image).all() and not cache.get(0).flags.writeable
    for index in (1, 2):  # no room; a size that is not known
        cache.put(index, image[:400, :400])
        assert cache.get(index) is None
    cache = ImageCache(sizes, budget_mb=9, input_size=(300, 300))
    assert cache.planned == 3
    cache.put(1, image)  # not the size that the data set says
    assert cache.get(1) is None


def test_large_images_come_as_detection_sees_them(tmp_path):
    """A photograph, its boxes with it: without augmentation the batch holds the pixels that `stretch` gives."""
    path = make_image(tmp_path / "large.png", size=(3001, 2003))
    data = build(["a"], [path], [0], [[300, 200, 1500, 1000]], [0], sizes=[(2003, 3001)])
    for cache_mb in (0, 20):
        loader = TrainLoader(data, (300, 300), 1, PRESETS["none"], cache_mb=cache_mb)
        first, second = loader.batches(0, 2)
        assert (first.images[0].numpy() == stretch(read_image(path), (300, 300))).all()
        assert (second.images == first.images).all()
        assert np.allclose(first.boxes[0, 0], np.array([300 / 3001, 200 / 2003, 1500 / 3001, 1000 / 2003]), atol=1e-6)


def test_annotations_cost_little_while_reading_and_afterwards(tmp_path):
    """A file shaped like COCO's train2017, a hundredth of it: polygons are never held."""
    polygon = ",".join("123.45" for _ in range(60))
    images = ",".join(f'{{"id":{i},"file_name":"{i:012d}.jpg","height":480,"width":640}}' for i in range(1180))
    entries = ",".join(
        f'{{"segmentation":[[{polygon}]],"area":99.5,"iscrowd":0,"image_id":{k % 1180},"bbox":[1,2,30,40],'
        f'"category_id":1,"id":{k}}}'
        for k in range(8600)
    )
    file = tmp_path / "instances_train2017.json"
    file.write_text(f'{{"images":[{images}],"annotations":[{entries}],"categories":[{{"id":1,"name":"a"}}]}}')
    length = file.stat().st_size
    del images, entries
    tracemalloc.start()
    data = open_data(file)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.num_boxes == 8600 and length > 4e6
    assert peak < 12e6 and held < 2e6  # a window of a few megabytes; json.load would hold more than 30 MB


def test_another_augmentation_leaves_the_loader_as_it_was(data):
    """Also where its stream breaks off, as while batch norms are rebuilt."""
    loader = TrainLoader(data, (32, 32), 4, PRESETS["tf"], workers=1)
    before = loader.source.augmentation
    stream = loader.augmented_by(PRESETS["none"]).batches(0, 3)
    assert same([next(stream)], list(TrainLoader(data, (32, 32), 4, PRESETS["none"]).batches(0, 1)))
    stream.close()
    assert loader.source.augmentation == before and loader.workers == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_worker_starts_where_opencvs_threads_had_work_in_the_main_process_before():
    """The fork takes the pool along but not its threads; ending that pool in the child would never end."""
    noise = np.zeros((3000, 3000, 3), np.uint8)
    cv2.resize(noise, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    time.sleep(0.5)  # until the pool's threads sleep
    child = os.fork()
    if child == 0:
        quiet_worker(0)
        os._exit(0)
    until = time.monotonic() + 5
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < until:
        time.sleep(0.01)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended, "the worker hangs"


def test_a_program_that_ends_while_something_holds_the_batches_ends(tmp_path):
    """Workers ignore SIGTERM, which multiprocessing sends before it waits for them."""
    script = """
import torch
from detection.train.input import workers
rows = torch.utils.data.DataLoader(range(100), num_workers=1, worker_init_fn=workers.start_worker)
held = workers.started(rows)
next(held)
"""
    done = children.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == 0, done.stderr
