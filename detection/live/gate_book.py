"""All lines and zones of a run, while they are drawn, moved, named and removed. One book for all sources and editors.

Each has a number for as long as the program runs, and a version that every change raises: who changes it says which
version was seen, so that nobody undoes what another has done meanwhile. What is kept in a file is written first; where
that fails nothing changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from detection.errors import MobileSSDError
from detection.live.gate_file import GateFile
from detection.live.gate_spec import GateSpec, Point, check_together, checked

REMEMBERED = 50  # removed ones that can be brought back


class ChangedMeanwhile(MobileSSDError):
    """Another editor was faster."""


@dataclass(frozen=True)
class Numbered:
    """A line or zone with its number and version."""

    number: int
    version: int
    spec: GateSpec


class GateBook:
    """specs: those from the beginning. file: where all are kept. sources: names of those of this run; of others the
    file may have lines and zones as well, which are kept and not shown.

    on_change: called after each change, from the thread of who made it. prepare: called before the first one that a
    source gets; it may raise MobileSSDError.
    """

    def __init__(self, sources: Sequence[str], specs: Sequence[GateSpec] = (), file: GateFile | None = None) -> None:
        check_together(specs)
        self.file, self._sources = file, tuple(sources)
        self._last = 0
        self._gates: dict[int, Numbered] = {}
        self._removed: dict[int, Numbered] = {}
        self._lock = threading.RLock()  # held while a change is told as well, so that the newest is told last
        self.on_change: Callable[[], object] = lambda: None
        self.prepare: Callable[[], object] = lambda: None
        self._gates = self._numbered(specs)

    def of(self, source: str) -> list[Numbered]:
        """Those of a source, the oldest first."""
        return [one for one in list(self._gates.values()) if one.spec.source in ("", source)]

    def all(self) -> list[Numbered]:
        """Those of the sources of this run, the oldest first."""
        return [one for one in list(self._gates.values()) if one.spec.source in ("", *self._sources)]

    @property
    def specs(self) -> list[GateSpec]:
        return [one.spec for one in list(self._gates.values())]

    @property
    def here(self) -> list[GateSpec]:
        """Those of the sources of this run."""
        return [one.spec for one in self.all()]

    def options(self) -> str:
        """The options of `mobilessd live` that name all of this run."""
        return " ".join(spec.option() for spec in self.here)

    def add(self, spec: GateSpec) -> Numbered:
        """Adds one of a source of this run; without a name it gets the next free one. Raises MobileSSDError."""
        with self._lock:
            self.reread()
            if spec.source not in self._sources:
                raise MobileSSDError(f"there is no source {spec.source!r}, only {', '.join(self._sources)}")
            one = Numbered(self._last + 1, 1, checked(spec if spec.name.strip() else self._named(spec)))
            self.prepare()
            self._become({**self._gates, one.number: one})
            self._last = one.number
            self.on_change()
        return one

    def change(
        self, number: int, version: int, name: str | None = None, points: tuple[Point, ...] | None = None
    ) -> Numbered:
        """Gives it another name or other points. Raises MobileSSDError."""
        with self._lock:
            self.reread()
            one = self._seen(number, version)
            spec = replace(one.spec, name=one.spec.name if name is None else name, points=points or one.spec.points)
            one = Numbered(number, version + 1, checked(spec))
            self._become({**self._gates, number: one})
            self.on_change()
        return one

    def remove(self, number: int, version: int) -> Numbered:
        """Takes it away; `restore` brings it back. Raises MobileSSDError."""
        with self._lock:
            self.reread()
            one = self._seen(number, version)
            self._become({key: gate for key, gate in self._gates.items() if key != number})
            self._removed[number] = replace(one, version=version + 1)
            while len(self._removed) > REMEMBERED:
                del self._removed[next(iter(self._removed))]
            self.on_change()
        return one

    def restore(self, number: int) -> Numbered:
        """Brings a removed one back. Raises MobileSSDError."""
        with self._lock:
            self.reread()
            one = self._removed.get(number)
            if one is None:
                raise ChangedMeanwhile("it is there again already, or was removed too long ago")
            self._become(dict(sorted({**self._gates, number: one}.items())))
            del self._removed[number]
            self.on_change()
        return one

    def reread(self) -> bool:
        """Takes over what somebody else has written into the file. What has the name and source of one that is here
        is that one. Raises MobileSSDError for what cannot be read; everything stays as it was then."""
        with self._lock:
            if self.file is None or not self.file.changed():
                return False
            specs = self.file.read()
            if specs:
                self.prepare()
            self._gates = self._numbered(specs)
            self.on_change()
            return True

    def _named(self, spec: GateSpec) -> GateSpec:
        taken = {other.name for other in self.specs}
        names = (f"{spec.kind} {number}" for number in range(1, len(taken) + 2))
        return replace(spec, name=next(name for name in names if name not in taken))

    def _numbered(self, specs: Sequence[GateSpec]) -> dict[int, Numbered]:
        before = {(one.spec.kind, one.spec.source, one.spec.name): one for one in self._gates.values()}
        found = {}
        for spec in specs:
            old = before.get((spec.kind, spec.source, spec.name))
            if old is None:
                self._last += 1
            one = Numbered(self._last, 1, spec) if old is None else old
            found[one.number] = one if one.spec == spec else Numbered(one.number, one.version + 1, spec)
        return found

    def _seen(self, number: int, version: int) -> Numbered:
        one = self._gates.get(number)
        if one is None:
            raise ChangedMeanwhile("somebody else has removed it meanwhile")
        if one.version != version:
            raise ChangedMeanwhile(f"somebody else has changed {one.spec.words} meanwhile: look at it again")
        return one

    def _become(self, gates: dict[int, Numbered]) -> None:
        specs = [one.spec for one in gates.values()]
        check_together(specs)
        if self.file:
            self.file.write(specs)
        self._gates = gates


class Reread:
    """Looks once a second whether somebody else has written the file, and says once what is wrong in it."""

    def __init__(self, book: GateBook, say: Callable[[str], object]) -> None:
        self._book, self._say = book, say
        self._looked, self._problem = 0.0, ""

    def __call__(self, now: float) -> None:
        """now: `time.monotonic()`."""
        if now - self._looked < 1:
            return
        self._looked = now
        try:
            if self._book.reread():
                self._say(f"{self._book.file.name}: read anew" if self._book.file else "")
            self._problem = ""
        except MobileSSDError as error:
            if str(error) != self._problem:
                self._say(f"{error}; lines and zones stay as they were")
            self._problem = str(error)
