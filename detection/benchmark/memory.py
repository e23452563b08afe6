"""How much memory a process and its children hold together, watched from the outside. Linux only.

Pages that they share (forked data workers share the annotations, and a cache) count once: the sum of proportional set
sizes, which is what the machine has to have.
"""

from __future__ import annotations

import threading
from pathlib import Path


class MemoryWatch:
    """Watches a process from `start` to `stop`; `samples`: MiB every `every` seconds."""

    def __init__(self, pid: int, every: float = 0.5) -> None:
        self.pid, self.every, self.samples = pid, every, list[float]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> MemoryWatch:
        self._thread.start()
        return self

    def stop(self) -> list[float]:
        self._stop.set()
        self._thread.join()
        return self.samples

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            if held := sum(proportional_mib(pid) for pid in family(self.pid)):
                self.samples.append(held)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:  # ended meanwhile
                continue
    return found


def proportional_mib(pid: int, of: str = "Pss") -> float:
    """The proportional set size of one process in MiB; 0 where it cannot be read.

    of: "Pss_Anon" leaves out what is mapped from files. Libraries' pages are shared with whoever else has the same ones
    loaded, so the whole sum rises when another process ends: to see whether one grows, look at what it allocated."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{of}:")) / 1024
