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
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import train_runs as runs  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from detection.core.errors import MobileSSDError  # noqa: E402
from detection.train import finish, plan  # noqa: E402
from detection.train.history import read_history  # noqa: E402
from detection.train.run import train  # noqa: E402
from detection.train.state import LAST, has_state, read_state  # noqa: E402

finish._report = lambda *_: None  # the plots take longer than the training


def fork(work: Callable[[], None], **environment: str) -> int:
    """A child that does `work` and exits 0, 2 with a line on stderr for MobileSSDError, or 1; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        code = 0
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 2
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    return {"deaths": deaths, "steps": steps, "end": end, "left": [p.name for p in output.glob(".*")]}


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
        rename, count = os.replace, iter(range(1, 10**6))

        def replace(*paths: Any) -> None:
            if next(count) == dies_at_rename:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*paths)

        os.replace = replace
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


if __name__ == "__main__":
    found = {"killed": killed}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(found))
