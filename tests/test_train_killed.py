"""kill -9 at any moment, in the middle of writing a checkpoint too: the run goes on and ends with the same weights."""

import json
import sys
from pathlib import Path

import children
import train_runs as runs


def test_a_run_that_is_killed_again_and_again_ends_as_if_left_alone(tmp_path):
    data = runs.shapes(tmp_path / "data", 6)
    runs.shapes(tmp_path / "data", 2, "val")
    script = Path(__file__).with_name("train_child.py")
    command = [sys.executable, str(script), "killed", str(data), str(tmp_path)]
    done = children.run(command)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["end"] == 0 and not found["left"]
    assert found["deaths"] == [-9] * 13, found
    assert found["steps"] == sorted(found["steps"]) and len(set(found["steps"])) >= 6, found
    runs.assert_same(runs.outcome(tmp_path / "whole"), runs.outcome(tmp_path / "killed"))
