"""`--history`: lines of this machine's figures, and an alarm where the spread does not explain the difference."""

import pytest

from detection.benchmark.history import append, entries, read_history, slower
from detection.errors import MobileSSDError

MACHINE = {"processor": "a processor", "cores": 2, "load": [0.1]}


def lines(*rounds, name="a", **machine):
    result = {"candidate": {"name": name, "runtime": "openvino"}, "rounds_ms": list(rounds)}
    return entries(MACHINE | machine, "an image", 0.01, [result, {"candidate": {}, "error": "no"}])


def test_lines_are_added_and_read_again(tmp_path):
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    for rounds in ((2.0, 2.1, 2.2), (2.0, 2.0, 2.1)):
        append(path, lines(*rounds))
    assert [entry["rounds_ms"] for entry in read_history(path)] == [[2.0, 2.1, 2.2], [2.0, 2.0, 2.1]]
    assert {"date", "version", "commit", "processor", "load"} <= set(read_history(path)[0])


@pytest.mark.parametrize(
    "then,now,alarm",
    [
        ((2.0, 2.1, 2.0), (2.3, 2.2, 2.4), True),
        ((2.0, 2.1, 2.0), (2.1, 2.12, 2.11), False),  # 4 %
        ((2.0, 2.3, 2.0), (2.3, 2.2, 2.4), False),  # within the spread
        ((2.0,), (3.0,), False),  # single rounds say nothing
        ((2.3, 2.2, 2.4), (2.0, 2.1, 2.0), False),
    ],
)
def test_slower_is_what_the_spread_does_not_explain(then, now, alarm):
    (said,) = slower(lines(*then), lines(*now))
    assert said.startswith("slower: a openvino: ") == alarm and " x: " in said


def test_other_machines_and_settings_are_not_compared():
    assert not slower(lines(2.0, 2.0, 2.0, cores=4) + lines(2.0, 2.0, 2.0, name="b"), lines(3.0, 3.0, 3.0))


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "h.jsonl").write_text("{}\n")
    with pytest.raises(MobileSSDError, match="h.jsonl:1: is no line of --history"):
        read_history(tmp_path / "h.jsonl")
