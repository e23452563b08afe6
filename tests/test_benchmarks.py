"""What measures: processes in turns, the uncounted round, failures told, memory of a whole family of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import children
import pytest

from detection.benchmark.harness import Program, ProgramFailed, run_once, side_by_side, table
from detection.benchmark.machine import describe, machine
from detection.benchmark.memory import MemoryWatch

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs a system that tells what a child used")


def program(name, code, **more):
    code = f"import json, sys; {code}; json.dump({{'name': '{name}'}}, open(sys.argv[1], 'w'))"
    return Program(name, ("-c", code, "OUT"), threads=1, pin=True, **more)


def test_programs_take_turns_and_the_warm_up_does_not_count(capfd):
    series = side_by_side([program("a", "1"), program("b", "2", warm_up=False)], rounds=2)
    order = [line.split(": ")[:2] for line in capfd.readouterr().err.splitlines()]
    assert order == [["warm-up", "a"], *[["round 1/2", n] for n in "ab"], *[["round 2/2", n] for n in "ba"]]
    assert [len(one.runs) for one in series] == [2, 2]
    assert series[0].warm_up is not None and series[1].warm_up is None
    assert series[0].runs[0].answer == {"name": "a"}
    assert 0 < series[0].best <= series[0].median and series[0].peak > 1


def test_a_program_that_fails_is_told_with_its_own_words():
    with pytest.raises(ProgramFailed, match="(?s)broken failed.*no such thing"):
        run_once(program("broken", "sys.exit('no such thing')"))


def test_one_that_fails_is_left_out_of_the_next_rounds_where_the_others_go_on():
    mute = Program("mute", ("-c", "pass"), threads=1)
    honest = Program("honest", ("-c", "import sys; open(sys.argv[1], 'w').write('{\"error\": \"cannot\"}')", "OUT"), 1)
    told = []
    tell = lambda number, one: told.append((number, one.program.name))  # noqa: E731
    series = side_by_side([mute, honest, program("good", "1")], rounds=2, warm_up=False, go_on=True, tell=tell)
    assert [one.error for one in series] == ["ended with 0: no output", "cannot", ""]
    assert [len(one.runs) for one in series] == [0, 0, 2]
    assert [name for number, name in told if number == "round 2/2"] == ["good"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_counts_children_too():
    code = "import subprocess, sys, time; held = b'x' * 60_000_000; "
    child = code + "time.sleep(1.5)"
    parent = code + f"subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    watch = MemoryWatch(process.pid, every=0.1).start()
    process.wait()
    assert 114 < max(watch.stop()) < 200


def test_the_machine_is_described_and_a_table_lines_up():
    on = machine(2)
    json.dumps(on)
    assert on["processor"] and "2 threads" in describe(on)[0]
    lines = table([("name", "s"), ("a longer name", "1.25")]).splitlines()
    assert lines[0].endswith("   s") and lines[2].endswith("1.25") and len(lines) == 3


@pytest.mark.parametrize(
    "script",
    [
        "bf16_seeds.py",
        "bulk.py",
        "bulk_ray.py",
        "coco_numbers.py",
        "detect_files.py",
        "evaluate_wall.py",
        "evaluation_share.py",
        "server_attack.py",
        "train_throughput.py",
    ],
)
def test_every_script_explains_itself(script):
    done = children.run([sys.executable, str(ROOT / "benchmarks" / script), "--help"])
    assert done.returncode == 0 and "Wanted:" in done.stdout


def test_the_page_of_benchmarks_says_what_was_met_and_what_did_not_run():
    from benchmarks.report import PARTS, Said, page

    on = ["AMD EPYC, 2 cores", "NOT A QUIET MACHINE: load 9 before the start"]
    found = {
        "stages": Said(
            "stages.py --images images/ --weights v1.int8.xml",
            "a table\npost 0.2: met\nratio 0.5: MISSED",
            1,
            60.0,
            "2026-11-29",
            9.0,
            on,
        ),
        "coco": Said("coco_numbers.py", '{"met": true}', 0, 30.0, "2026-11-29", 0.1, on[:1]),
        "ray": Said("bulk_ray.py", "error: needs ray", 1, 1.0, "2026-11-29", 0.1, on[:1]),
        "motion": Said("motion.py", "", None, 600.0, "2026-11-29", 0.1, on[:1]),
    }
    text = page(found)
    rows = {row.split("](")[0].lstrip("| ["): row for row in text.splitlines() if row.startswith("| [")}
    wanted = {"stages": "1 of 2 met", "coco": "1 of 1 met", "ray": "did not run", "motion": "not finished in time"}
    assert {name: rows[PARTS[name].title].split("|")[2].strip() for name in found} == wanted
    assert text.count("**A busy machine.**") == 1 and "ratio 0.5: MISSED" in text
    assert "python benchmarks/stages.py --images images/ --weights v1.int8.xml" in text


def test_every_part_of_the_page_is_a_script_that_is_there():
    from benchmarks.report import PARTS

    for part in PARTS.values():
        assert (ROOT / "benchmarks" / part.command.split()[0]).exists()
