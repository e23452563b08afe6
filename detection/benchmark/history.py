"""`mobilessd benchmark --history FILE`: this machine's figures over time, and what has become slower. Standard library only.

A line of JSON a candidate and run. A run is compared with the last one of the same machine, settings and candidate: slower is
what takes 5 % longer in the median of its interleaved rounds, where not one round of now is as fast as the slowest of then. So a
spread that covers the difference gives no alarm, and a single round never does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detection import __version__
from detection.benchmark.harness import ROOT
from detection.errors import MobileSSDError, shown

SLOWER = 1.05
FEWEST = 3  # rounds on both sides
SAME = ("processor", "cores", "candidate", "image", "score")  # what two lines must share to be compared


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, the oldest first; none where there is no file. MobileSSDError names a line that is none."""
    if not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MobileSSDError(f"{shown(path)}: cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not all(isinstance(value, float) for value in entry["rounds_ms"]):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise MobileSSDError(f"{shown(path)}:{number}: is no line of --history: repair or remove it") from None
        found.append(entry)
    return found


def entries(
    machine: dict[str, Any], image: str, score: float, results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A line for each result (see `Timing.to_dict`) that was timed."""
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": commit(),
    }
    about |= {"processor": machine["processor"], "cores": machine["cores"], "load": machine["load"]}
    return [{**about, "image": image, "score": score, **result} for result in results if "error" not in result]


def slower(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[str]:
    """A line for people for each entry of now, the slower ones beginning with "slower"; see above."""
    said = []
    for entry in now:
        alike = [old for old in before if all(old.get(key) == entry[key] for key in SAME)]
        if not alike:
            continue
        old = alike[-1]
        then, here = old["rounds_ms"], entry["rounds_ms"]
        ratio = statistics.median(here) / statistics.median(then)
        certain = min(len(then), len(here)) >= FEWEST and min(here) > max(then)
        word = "slower" if ratio > SLOWER and certain else "as before"
        c = entry["candidate"]
        name = " ".join(str(c[key]) for key in ("name", "runtime", "precision") if c.get(key))
        spans = f"{_span(here)} ms, {_span(then)} on {old['date'][:10]} ({old['commit'] or old['version']})"
        said.append(f"{word}: {name}: {ratio:.2f} x: {spans}")
    return said


def append(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Adds lines to the file. MobileSSDError where it cannot be written."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise MobileSSDError(f"{shown(path)}: cannot be written: {error.strerror or error}") from None


def commit() -> str:
    """The commit of a checkout, short; "" where this is none."""
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _span(rounds: Sequence[float]) -> str:
    """`2.31 (2.25-2.40)`: the median and the spread."""
    return f"{statistics.median(rounds):.2f} ({min(rounds):.2f}-{max(rounds):.2f})"
