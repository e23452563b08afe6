"""Two processes of torchrun's kind (gloo) against one with the same global batch."""

import json
import sys
from pathlib import Path

import children
import pytest
import torch
import train_runs as runs
from safetensors.torch import load_file

from detection.train.learn.history import read_history
from detection.train.state import read_state


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What tests/train_child.py did, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("worlds")
    data = runs.shapes(folder / "data", 12)
    runs.shapes(folder / "data", 5, "val")
    command = [sys.executable, str(Path(__file__).with_name("train_child.py")), "worlds", str(data), str(folder)]
    done = children.run(command, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"folder": folder}


def test_the_same_losses_and_weights_over_twenty_steps(found):
    """Accumulated over two parts besides, with frozen batch norms: these alone see another batch in each process."""
    assert found["two"] == [0, 0]
    one, two = (losses(found["folder"] / name) for name in ("one", "two"))
    assert len(one) == 20
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    mine, other = (read_state(found["folder"] / name).part("model") for name in ("one", "two"))
    for name, tensor in mine.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    begin = load_file(found["folder"] / "begin" / "best.safetensors")
    learned = max(float((mine[name] - begin[name]).abs().max()) for name in begin)
    apart = max(float((mine[name] - other[name]).abs().max()) for name in begin)
    assert apart < 1e-3 * learned, "what is between them is nothing beside what was learned"


def losses(folder):
    rows = [row for row in read_history(folder) if "loss" in row]
    return torch.tensor([[row[key] for key in ("loss", "classification", "localization", "positives")] for row in rows])


def test_a_sharded_evaluation_gives_the_same_twelve_numbers(found):
    assert found["scored"] == [0, 0]
    one, two = (json.loads((found["folder"] / f"score {name}.json").read_text()) for name in ("one", "two"))
    assert one == two and len(one) == 12 and one["AP50"] > 0


def test_a_process_that_dies_ends_the_other_with_a_message(found):
    assert found["broken"] == [2, -9]
    said = (found["folder"] / "broken.txt").read_text()
    assert "error: another process of this run has ended" in said and "--resume goes on" in said
    assert "Traceback" not in said and found["broken_step"] == 4


def test_ctrl_c_in_one_process_stops_all_at_the_same_step(found):
    assert found["stopped"] == [130, 130] and found["stopped_step"] == 9


def test_the_resumed_run_ends_as_the_one_that_was_left_alone(found):
    """Killed at step 7, resumed from 4, stopped at 9, resumed: to the bit."""
    assert found["resumed"] == [0, 0]
    two, broken = (runs.outcome(found["folder"] / name) for name in ("two", "broken"))
    del two["plain"]["plan"], broken["plain"]["plan"]  # which was saved more often
    runs.assert_same(two, broken)
