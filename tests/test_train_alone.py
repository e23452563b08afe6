"""A run has its folder alone, its threads, states whose flipped bits are found, and a line where a worker of its is killed."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import train_runs as runs

from detection.cli.main import main
from detection.data.open import open_data
from detection.errors import MobileSSDError
from detection.files import locked
from detection.train.distributed import World
from detection.train.input.loader import TrainLoader
from detection.train.run_folder import LOCK, run_folder
from detection.train.state import LAST, PREVIOUS, RunState, read_state, restore_threads, write_state

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import os, sys, time
from detection.files import locked
with locked(sys.argv[1], "busy"):
    if os.fork() == 0:          # a worker, which lives on for a while when its parent is killed
        os.setsid()
        print("held", flush=True)  # by its parent: a child that has come so far has let go of the lock
        time.sleep(20)
        os._exit(0)
    time.sleep(20)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a run, and has forked a worker."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout and child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_training_in_a_folder_is_one_line(tmp_path, holder, capsys):
    with (
        pytest.raises(MobileSSDError, match="another training is at work in this folder"),
        run_folder(tmp_path, False, World()),
    ):
        pass
    with (
        pytest.raises(MobileSSDError, match="another training is at work in this folder"),
        run_folder(tmp_path, True, World()),
    ):
        pass
    data = runs.shapes(tmp_path / "data", 4)
    assert main(["train", "--data", str(data), "--output", str(tmp_path)]) == 2
    assert "another training is at work in this folder" in capsys.readouterr().err
    assert (tmp_path / LOCK).exists(), "what the first one has made stays"


def test_the_lock_dies_with_its_process_though_a_worker_lives_on(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run_folder(tmp_path, True, World()) as folder:
        assert folder == tmp_path


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / LOCK).symlink_to("precious")
    with pytest.raises(MobileSSDError, match="is a link"), locked(tmp_path / LOCK, "busy"):
        pass
    (tmp_path / LOCK).unlink()
    os.link(tmp_path / "precious", tmp_path / LOCK)
    with locked(tmp_path / LOCK, "busy"):
        pass
    assert (tmp_path / "precious").read_text() == "content"


def test_a_start_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), run_folder(tmp_path / "a" / "b", False, World()):
        raise KeyError
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------- states


def states(folder):
    for step in (1, 2):
        write_state(folder, RunState({"model.w": torch.arange(1000.0) + step, "one": torch.tensor(7)}, {"step": step}))
    return folder


@pytest.mark.parametrize("place", [-1, -2000, 60, 150])
def test_a_bit_that_flipped_falls_back_to_the_state_before(tmp_path, caplog, place):
    data = bytearray((states(tmp_path) / LAST).read_bytes())
    data[place] ^= 4
    (tmp_path / LAST).write_bytes(data)
    found = read_state(tmp_path)
    assert found.meta["step"] == 1 and found.tensors["model.w"][0] == 1
    assert f"{LAST} is damaged" in caplog.text and f"going on from {PREVIOUS}, step 1" in caplog.text


def test_states_of_before_there_were_checksums_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, tmp_path / LAST, {"mobilessd": '{"step": 5}'})
    assert read_state(tmp_path).meta["step"] == 5


# ---------------------------------------------------------------- threads


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_a_resumed_run_has_the_threads_that_it_had(caplog):
    torch.set_num_threads(2)
    restore_threads(RunState(meta={"threads": 1}), None)
    assert torch.get_num_threads() == 1 and not caplog.text
    restore_threads(RunState(meta={"threads": 2}), 1)
    assert torch.get_num_threads() == 1
    assert "had 2 threads and goes on with 1 (--threads 1)" in caplog.text and "last bits" in caplog.text
    caplog.clear()
    restore_threads(RunState(meta={"threads": 10_000}), None)
    assert torch.get_num_threads() == 1 and "cores)" in caplog.text


@pytest.mark.usefixtures("_threads")
def test_each_state_says_how_many_threads_there_were(tmp_path, monkeypatch):
    from detection.train.run import train

    runs.without_report(monkeypatch)
    data = runs.shapes(tmp_path / "data")
    runs.interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train(runs.request(data, tmp_path / "run"))
    assert read_state(tmp_path / "run").meta["threads"] == 1


# ---------------------------------------------------------------- killed workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_at_any_moment_is_one_line_soon(tmp_path, workers):
    """Eight times, at moments by chance: while it loads, while it hands over, while nobody asks."""
    data = open_data(runs.shapes(tmp_path, 6), "train")
    random = np.random.default_rng(workers)
    for _ in range(8):
        loader = TrainLoader(data, (96, 96), 4, workers=workers)
        stream = loader.batches()
        next(stream)
        victim = loader._loader._iterator._workers[0].pid
        killer = threading.Timer(float(random.uniform(0, 0.15)), os.kill, (victim, signal.SIGKILL))
        killer.start()
        began = time.monotonic()
        with pytest.raises(MobileSSDError, match="a data worker was killed .* then resume"):
            for _ in itertools.islice(stream, 100_000):
                pass
        assert time.monotonic() - began < 5
        killer.join()


def test_a_worker_that_dies_with_half_a_batch_in_the_pipe_is_one_line_soon(tmp_path, monkeypatch):
    from multiprocessing import connection

    parent, send = os.getpid(), connection.Connection._send_bytes

    def half(self, data):
        if os.getpid() != parent and len(data) > 1000:
            os.write(self.fileno(), len(data).to_bytes(4, "big") + bytes(data[:100]))
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, data)

    monkeypatch.setattr(connection.Connection, "_send_bytes", half)
    monkeypatch.setattr("detection.train.input.loader.shared_memory_free", lambda: 0)
    loader = TrainLoader(open_data(runs.shapes(tmp_path, 6), "train"), (96, 96), 4, workers=1)
    began = time.monotonic()
    with pytest.raises(MobileSSDError, match="a data worker was killed"):
        next(loader.batches())
    assert time.monotonic() - began < 20
