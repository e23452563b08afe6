"""What is watched for in one source: tracks, lines, zones, and classes that appear. A step of the pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detection.boxes.detections import Detections
from detection.live.events import Event, new_event, seconds_since_1970
from detection.live.gate_book import REMEMBERED, Numbered
from detection.live.pipeline import Result
from detection.live.tracking import Tracker
from detection.live.zones import Gate, Passage

CONFIRM = 3  # of the last LOOK frames must hold a class before it counts as having appeared: one alone may be an error
LOOK = 5
QUIET = 5.0  # seconds without it after which it is gone


@dataclass
class Presence:
    """Whether a class is there. since, seen: seconds of the source."""

    name: str
    there: bool = False
    since: float = 0.0
    seen: float = 0.0

    def __post_init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=LOOK)

    def update(self, count: int, time: float) -> str:
        """Says "appeared", "gone", or nothing."""
        self._last.append(count > 0)
        if count:
            self.seen = time
        if not self.there and sum(self._last) >= CONFIRM:
            self.there, self.since = True, time
            return "appeared"
        if self.there and time - self.seen > QUIET:
            self.there = False
            self._last.clear()
            return "gone"
        return ""


class Watch:
    """Looks at each result of a source and says what happens.

    score: boxes below it do not count. on: classes to wait for, and names of lines and zones: what is to be acted upon.
    tell: gets every event. act: gets those of `on`, with the name. goes_on: gets the time while a class is still there.
    new_tracker: makes the tracker that the first line or zone needs. recent: the last events, for the page.
    """

    def __init__(
        self,
        source: str,
        score: float,
        tracker: Tracker | None = None,
        gates: Sequence[Gate] = (),
        on: Sequence[str] = (),
        tell: Callable[[Event], object] = lambda event: None,
        act: Callable[[Event, str], object] = lambda event, name: None,
        goes_on: Callable[[float], object] = lambda time: None,
        new_tracker: Callable[[], Tracker | None] = lambda: None,
    ) -> None:
        self.source, self.gates = source, tuple(gates)
        self.recent: deque[dict[str, object]] = deque(maxlen=20)
        self._score, self._tracker = score, tracker
        self._tell, self._act, self._goes_on = tell, act, goes_on
        self._new_tracker = new_tracker
        self._away: list[Gate] = []  # removed, and what they had counted
        self._on = set(on)
        self._presences = [Presence(name) for name in on if name not in {gate.name for gate in gates}]

    def set_gates(self, wanted: Sequence[Numbered]) -> None:
        """Lines and zones are these from the next frame on. Those of a number that was here before go on counting."""
        known = {gate.number: gate for gate in (*self._away, *self.gates)}
        gates = []
        for one in wanted:
            gate = known.pop(one.number, None) or Gate(one.spec, one.number, one.version)
            gate.spec, gate.version = one.spec, one.version
            gates.append(gate)
        self._away = [*known.values()][-REMEMBERED:]
        for gate in self._away:
            gate.forget_tracks()
        if gates and self._tracker is None:
            self._tracker = self._new_tracker()
        self.gates = tuple(gates)

    def __call__(self, result: Result) -> Result:
        detections, time = result.detections, result.frame.time
        if self._tracker:
            # Tracks need a clock that never jumps back; a file that begins anew has one, as has a camera that was away.
            detections = self._tracker.update(detections, time)
            result = replace(result, detections=detections)
        shown = detections.above(self._score)
        tracked = detections if detections.track_ids is not None else shown
        for gate in self.gates:
            for passage in gate.update(tracked, time):
                event = _passed(self.source, passage, tracked, time)
                self._happened(event, gate.name if gate.name in self._on else "")
        for presence in self._presences:
            which = np.array([name == presence.name for name in shown.names], bool)
            what = presence.update(int(which.sum()), time)
            if what:
                event = _presence(self.source, what, presence, shown[which], time)
                self._happened(event, presence.name if what == "appeared" else "")
            elif presence.there and which.any():
                self._goes_on(time)
        return result

    def _happened(self, event: Event, name: str) -> None:
        self.recent.append({"at": seconds_since_1970(event), "source": self.source, "text": event["text"]})
        self._tell(event)
        if name:
            self._act(event, name)


def _passed(source: str, passage: Passage, detections: Detections, time: float) -> Event:
    gate, one = passage.gate, detections[passage.index].to_dict()["detections"][0]
    words = {"in": "crossed {} inwards", "out": "crossed {} outwards", "entered": "entered {}", "left": "left {}"}
    text = f"{one['name']} #{one['track_id']} {words[passage.what].format(gate.name)}"
    place = {"line": gate.name, "direction": passage.what} if gate.kind == "line" else {"zone": gate.name}
    kind = "line" if gate.kind == "line" else passage.what
    about = {"class": one["name"], "track_id": one["track_id"], "score": one["score"], "box": one["box"]}
    counts = dict(gate.totals) | ({"inside": gate.inside} if gate.kind == "zone" else {})
    return new_event(kind, source, time, text, **place, **about, counts=counts)


def _presence(source: str, what: str, presence: Presence, found: Detections, time: float) -> Event:
    if what == "gone":
        lasted = round(presence.seen - presence.since, 1)
        text = f"{presence.name} gone after {lasted:g} s"
        return new_event("gone", source, time, text, **{"class": presence.name, "lasted": lasted})
    about = {"class": presence.name, "count": len(found), "detections": found.to_dict()["detections"]}
    return new_event("appeared", source, time, f"{presence.name} appeared", **about)
