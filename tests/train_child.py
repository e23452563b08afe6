"""Runs trainings in processes that may die: imports once, then forks for each. The tests start this file by itself.

    python tests/train_child.py killed DATA FOLDER      one run killed again and again, beside one that is left alone
    python tests/train_child.py worlds DATA FOLDER      runs of two processes

What it prints as its last line is JSON for the test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import train_runs as runs  # noqa: E402
from children import die_at_rename, ended, fork  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from detection.data.open import open_data  # noqa: E402
from detection.evaluate.truth import ground_truth  # noqa: E402
from detection.train import finalize as finish  # noqa: E402
from detection.train.distributed import world  # noqa: E402
from detection.train.learn import loop, plan  # noqa: E402
from detection.train.learn.history import read_history  # noqa: E402
from detection.train.run import train  # noqa: E402
from detection.train.state import LAST, has_state, read_state  # noqa: E402
from detection.train.validate import validate  # noqa: E402
from detection.weights.checkpoint import load_checkpoint  # noqa: E402

finish._report = lambda *_: None  # the plots take longer than the training


# --- a run killed again and again ---------------------------------------------------------------------------------

STEPS = 40


def killed(data: Path, folder: Path) -> dict[str, Any]:
    plan.SAVE_EVERY = 1  # so that much of the time goes into checkpoints
    run_once(data, folder / "whole")  # in this process, on one thread: what it imports is there for every child
    chance, output = random.Random(0), folder / "killed"
    deaths, steps = [], []

    def died(child: int) -> None:
        deaths.append(ended(child))
        steps.append(step_of(output))

    # first of all in the middle of what a checkpoint does: before one renaming or another
    for number in (2, 3, 5):
        died(fork(lambda n=number: run_once(data, output, dies_at_rename=n)))
    for number in range(10):
        child = fork(lambda: run_once(data, output))
        if number % 4:  # at some moment of some step; else at one of the setting up
            wait_for_step(output, steps[-1] + chance.randint(1, 4))
            time.sleep(chance.uniform(0, 0.1))
        else:
            time.sleep(chance.uniform(0, 0.6))
        os.kill(child, signal.SIGKILL)
        died(child)
    end = ended(fork(lambda: run_once(data, output)))
    return {
        "deaths": deaths,
        "steps": steps,
        "end": end,
        "left": [p.name for p in output.glob(".*") if p.name != ".lock"],
    }


def wait_for_step(output: Path, step: int, most: float = 30.0) -> None:
    """Until the state holds this step. Only one opening of the file: it may be replaced at any time."""
    begun = time.monotonic()
    while time.monotonic() - begun < most:
        if (output / LAST).exists():
            with open(output / LAST, "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            if json.loads(header["__metadata__"]["mobilessd"])["step"] >= step:
                return
        time.sleep(0.01)


def run_once(data: Path, output: Path, dies_at_rename: int = 0) -> None:
    """Begins or goes on with the run."""
    if dies_at_rename:
        die_at_rename(dies_at_rename)
    changes = {"steps": STEPS, "evaluate_every": 15, "batch": 2, "optimizer": {"kind": "sgd", "lr": 0.02}}
    train(runs.request(data, output, resume=has_state(output), **changes))


def step_of(output: Path) -> int:
    """The step that a resumed run goes on from; raises if anything that was left behind is broken."""
    if not has_state(output):
        return -1
    for file in output.glob("[!.]*.safetensors"):  # what a killed write leaves behind begins with a point
        load_file(file)
    read_history(output)
    return read_state(output).meta["step"]


# --- two processes -------------------------------------------------------------------------------------------------

PAIR = {
    "steps": 20,
    "batch": 4,
    "accumulate": 2,
    "norms": "frozen",
    "evaluate_every": 10,
    "log_every": 1,
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "augmentation": {"flip_vertical": 0.5, "rotate": 5, "transforms": [{"RandomScale": {"scale_limit": 0.2}}]},
    "balanced_sampling": 0.5,
    "loss": {"class_weights": "balanced"},
}


def worlds(data: Path, folder: Path) -> dict[str, Any]:
    """One process and two of the same global batch; two of which one is killed, and the resumed run; two scoring."""
    found: dict[str, Any] = {}
    begin = train(runs.request(data, folder / "begin", steps=12, evaluate_every=0, optimizer__lr=0.01))
    start = {"model": None, "options": {}, "weights": str(begin / "best.safetensors")}
    train(runs.request(data, folder / "one", **PAIR, **start))
    found["two"] = pair(lambda: train(runs.request(data, folder / "two", **PAIR, **start)))

    def broken() -> None:
        if os.environ["RANK"] == "1":
            die_at_step(7)
        train(runs.request(data, folder / "broken", **PAIR, **start))

    plan.SAVE_EVERY = 4
    found["broken"] = pair(broken, stderr=folder / "broken.txt")
    found["broken_step"] = step_of(folder / "broken")

    def stopped() -> None:
        if os.environ["RANK"] == "1":  # only one of them hears of it, as on two machines
            runs.interrupt_at(Patch(), 5)
        train(runs.request(data, folder / "broken", resume=True, **PAIR, **start))

    found["stopped"] = pair(stopped)
    found["stopped_step"] = step_of(folder / "broken")
    found["resumed"] = pair(lambda: train(runs.request(data, folder / "broken", resume=True, **PAIR, **start)))
    score(data, folder / "begin", folder / "score one.json")
    found["scored"] = pair(lambda: score(data, folder / "begin", folder / "score two.json"))
    return found


class Patch:
    """pytest's monkeypatch for a process that ends anyway."""

    setattr = staticmethod(setattr)


def die_at_step(step: int) -> None:
    original, count = loop.step_gradients, iter(range(1, 10**6))

    def dying(*arguments: Any) -> dict[str, float]:
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    loop.step_gradients = dying


def pair(work: Callable[[], Any], stderr: Path | None = None) -> list[int]:
    """Does `work` in two processes that know of each other as torchrun's do; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def loud() -> None:
        if stderr is not None:
            os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        work()

    children = []
    for rank in range(2):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        children.append(fork(loud, **ranks, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)))
    return [ended(child) for child in children]


def score(data: Path, run: Path, file: Path) -> None:
    """The twelve numbers of a run's weights on its training images, written by the first process."""
    with world("cpu") as here:
        ssd, card = load_checkpoint(run / "best.safetensors")
        found = validate(ssd, card, ground_truth(open_data(data, "train")), "cpu", here)
        if here.first:
            file.write_text(json.dumps(found.numbers.twelve()))


if __name__ == "__main__":
    found = {"killed": killed, "worlds": worlds}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(found))
