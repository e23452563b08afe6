"""A Detector in other processes and in threads: pickled, forked after use, and called from many threads at once."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading
from pathlib import Path

import bulk_help as bulk
import children
import numpy as np
import pytest

from detection import Detector
from detection.errors import MobileSSDError
from detection.runtimes import reopened

IMAGES = [np.random.default_rng(i).integers(0, 256, (50 + i, 70, 3), np.uint8) for i in range(4)]
SECONDS = 60  # within which a child that does not hang is done, on a busy machine too


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["openvino", "torch", "onnxruntime"])
def detector(request, tiny):
    if request.param == "openvino":
        return Detector(tiny, threads=2, score=0.2)
    return Detector(tiny.with_suffix(".safetensors"), "cpu", request.param, threads=2, score=0.2)


def close(found, expected):
    return all(
        a.names == b.names and np.allclose(a.boxes, b.boxes, atol=0.05) for a, b in zip(found, expected, strict=True)
    )


def in_child(connection, detector):
    try:
        connection.send((detector(IMAGES[0]), detector(IMAGES), list(detector.stream(IMAGES)), str(detector)))
    except Exception as error:
        connection.send(error)


def ask(method, detector):
    """What a child of this kind finds; fails where it hangs."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(theirs, detector))
    child.start()
    try:
        assert ours.poll(SECONDS), "the child hangs"
        found = ours.recv()
    finally:
        child.join(SECONDS)
        hangs = child.is_alive()
        child.kill()
    assert not hangs, "the child does not end"
    return found


def forked(runtime, weights, gone=False, patience=60.0):
    """In a process of its own: uses a detector, forks by multiprocessing and plainly, and prints what the children say.
    gone: another detector was used before and taken apart."""
    reopened.PATIENCE = patience
    detectors = [Detector(weights, "cpu", runtime, threads=2, score=0.2) for _ in range(2 if gone else 1)]
    one, many = [(detector(IMAGES[0]), detector(IMAGES)) for detector in detectors][-1]  # a batch has threads
    detector = detectors.pop()
    del detectors
    found = ask("fork", detector)
    if isinstance(found, MobileSSDError):
        print(found)
        return
    assert not isinstance(found, Exception), found
    assert close([found[0]], [one]) and close(found[1], many) and close(found[2], many)
    assert close(detector(IMAGES), many), "the parent goes on"
    child = os.fork()
    if not child:
        os._exit(0 if close(detector(IMAGES), many) else 4)
    assert os.waitpid(child, 0)[1] == 0
    print("the same")


def in_fresh_process(*arguments):
    """What `forked` prints in a process that has used no runtime before."""
    code = f"import test_python_processes as tests; tests.forked(*{arguments!r})"
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = children.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@pytest.mark.parametrize("runtime", ["openvino", "torch", "onnxruntime"])
def test_a_detector_that_was_used_works_in_forked_children_and_on_in_the_parent(runtime, tiny):
    weights = tiny if runtime == "openvino" else tiny.with_suffix(".safetensors")
    assert in_fresh_process(runtime, str(weights)) == "the same"


@needs_fork
def test_a_runtime_that_never_starts_in_a_forked_child_is_one_line(tiny):
    """OpenVINO gives the idle threads of a network that is gone to the next one; after a fork they are no threads."""
    said = in_fresh_process("openvino", str(tiny), True, 3.0)
    assert said == "the same" or said.endswith("or open the first Detector in the child"), said


def test_a_pickled_detector_finds_the_same(detector):
    many = detector(IMAGES)
    data = pickle.dumps(detector.with_rules(max_detections=5))
    assert len(data) < 300_000, "how to open the network, not the network"
    again = pickle.loads(data)
    assert close(again(IMAGES), [one[:5] for one in many]) and str(again) == str(detector)


def test_a_detector_is_sent_to_a_spawned_process(tiny):
    detector = Detector(tiny, threads=1, score=0.2)
    assert close(ask("spawn", detector)[1], detector(IMAGES))


def test_a_pickle_finds_its_weights_from_another_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    data = pickle.dumps(Detector(tiny.name, threads=1))
    monkeypatch.chdir(tmp_path)
    assert len(pickle.loads(data)(IMAGES)) == 4


def test_copies_share_the_network(detector):
    assert copy.copy(detector).runtime is detector.runtime is detector.with_score(0.5).runtime


def test_a_detector_of_a_network_at_hand_says_that_it_cannot_be_sent(tiny):
    detector = Detector(tiny, threads=1)
    made = Detector.of(detector.card, detector.runtime)
    assert made(IMAGES[0]).class_names == ("a", "b", "c")
    with pytest.raises(MobileSSDError, match="is not pickled: save its weights"):
        pickle.dumps(made)


def test_streams_and_calls_in_threads_find_what_one_alone_finds(detector):
    expected, found = detector(IMAGES), [None] * 8

    def work(i):
        found[i] = list(detector.stream(IMAGES)) if i % 2 else [detector(image) for image in IMAGES]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(close(one, expected) for one in found)
