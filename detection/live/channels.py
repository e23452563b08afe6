"""What is done with the results of each source, put together from the options: watch, list, record, show, count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.boxes.class_names import ClassNames
from detection.errors import MobileSSDError, some
from detection.live.capture import Capture
from detection.live.clips import Clips
from detection.live.detection_log import logged
from detection.live.events import Command, Event, Lines, Webhook
from detection.live.gate_book import GateBook
from detection.live.gate_file import GateFile
from detection.live.gate_spec import parse_gate
from detection.live.mailbox import Mailbox
from detection.live.mqtt_events import MqttEvents
from detection.live.options import LiveOptions
from detection.live.overlay import draw_gates
from detection.live.pipeline import Feed, Result, Station
from detection.live.rules import Watch
from detection.live.sinks import DrawnImage, Recording, Say, path_of_source
from detection.live.stats import Stats
from detection.live.tracking import Tracker, need_trackers
from detection.live.zones import Gate
from detection.outputs.csv_table import LIVE_COLUMNS, LiveCsv, csv_line
from detection.outputs.json_lines import LiveJsonLines


class Channel:
    """A source with all that belongs to it."""

    def __init__(self, capture: Capture) -> None:
        self.capture, self.name = capture, capture.name
        self.feed = Feed(capture)
        self.stats = Stats()
        self.newest: Result | None = None
        self.drawn: Mailbox[np.ndarray] | None = None
        self.steps: list[Callable[[Result], Result]] = []
        self.closers: list[Callable[[], object]] = []
        self.station: Station | None = None
        self.watch: Watch | None = None
        self.clips: Clips | None = None

    def note(self, score: float) -> Callable[[Result], Result]:
        """The last step: keeps the numbers."""

        def step(result: Result) -> Result:
            shown = result.detections.above(score)
            self.newest = replace(result, detections=shown)
            self.stats.add(result, shown.names, self.capture.live)
            return result

        return step

    def done(self) -> None:
        for close in self.closers:
            close()


class Outlets:
    """Where everything that happens, and all that is seen, is told; one for all sources.

    gone: called where nobody reads standard output any more. class_names: of the detector. Raises MobileSSDError for
    what cannot be done, before the first frame.
    """

    def __init__(
        self,
        options: LiveOptions,
        sources: Sequence[str],
        class_names: Sequence[str],
        say: Say,
        gone: Callable[[], object],
        stack: ExitStack,
    ) -> None:
        self.options, self._say = options, say
        self.book = _book(options, sources, say)
        self.book.prepare = need_trackers
        self.tracks = options.track or bool(self.book.here)
        self.on = _known(options.on, class_names, [gate.name for gate in self.book.here])
        if (options.run or options.clips) and not options.on:
            raise MobileSSDError("--run and --clips need --on: say on what, as in --on person")
        self.command = Command(options.run, say) if options.run else None
        self.events = self._open(options.events, stack, gone)
        self.jsonl = self._open(options.jsonl, stack, gone)
        self.csv = self._open(options.csv, stack, gone, csv_line(LIVE_COLUMNS))
        self.webhook = Webhook(options.webhook, say) if options.webhook else None
        if self.webhook:
            stack.callback(self.webhook.close)
        classes = [name for name in self.on if name in class_names]
        self.mqtt = MqttEvents(options.mqtt, classes, say, options.mqtt_password) if options.mqtt else None
        if self.mqtt:
            stack.callback(self.mqtt.close)

    def tell(self, event: Event) -> None:
        """Everything that happens comes here."""
        if self.events:
            self.events.write_json(event)
        if self.webhook:
            self.webhook(event)
        if self.mqtt:
            self.mqtt(event)
        if self.options.show == "none" and "-" not in (self.options.events, self.options.jsonl, self.options.csv):
            self._say(f"{event['at'][11:19]}  {event['source']}  {event['text']}")

    def lost(self) -> dict[str, int]:
        """How many events did not arrive, by where they were to go, for /metrics."""
        places = {"events": self.events, "webhook": self.webhook, "mqtt": self.mqtt}
        return {name: place.lost for name, place in places.items() if place}

    @property
    def watches(self) -> bool:
        """Also where nothing is watched for yet: lines and zones can be drawn, or written into the file, at any time."""
        return self.tracks or bool(self.on) or self.options.show == "page" or bool(self.options.watch)

    def _open(self, path: str | None, stack: ExitStack, gone: Callable[[], object], head: str = "") -> Lines | None:
        if not path:
            return None
        lines = Lines(path, self._say, gone, head)
        stack.callback(lines.close)
        return lines


def add_steps(channel: Channel, outlets: Outlets, score: float, several: bool, say: Say) -> None:
    """Gives a channel its steps. score: boxes below it are not drawn, listed or counted."""
    options, capture, name = outlets.options, channel.capture, channel.name
    if outlets.watches:
        channel.watch = _watch(channel, outlets, score, say)
        channel.steps.append(channel.watch)
    if channel.clips:
        channel.steps.append(channel.clips)
    if outlets.jsonl:
        channel.steps.append(logged(name, score, LiveJsonLines(outlets.jsonl.write)))
    if outlets.csv:
        channel.steps.append(logged(name, score, LiveCsv(outlets.csv.write)))
    recording = None
    if options.record:
        path = path_of_source(options.record, capture.source.key, several)
        recording = Recording(
            path,
            lambda: capture.drawn_rate(),  # of the source that is open by then
            lambda: capture.live,
            options.record_minutes,
            say,
            quick=options.show != "none",
        )
        channel.closers.append(recording.close)
    if options.show == "window":
        channel.drawn = Mailbox()

    def more(canvas: np.ndarray) -> None:
        draw_gates(canvas, channel.watch.gates if channel.watch else ())

    channel.steps.append(DrawnImage(channel.stats, score, recording, channel.drawn, options.stats, more))
    channel.steps.append(channel.note(score))


def _watch(channel: Channel, outlets: Outlets, score: float, say: Say) -> Watch:
    options, capture = outlets.options, channel.capture
    clips = None
    if options.clips:
        clips = Clips(
            Path(options.clips), capture.source.key, score, lambda: capture.fps, say, options.before, options.after
        )
        channel.clips = clips
        channel.closers.append(clips.close)

    def act(event: Event, name: str) -> None:
        if outlets.command:
            outlets.command(event)
        if clips:
            clips.start(name, event["time"])

    gates = [Gate(one.spec, one.number, one.version) for one in outlets.book.of(channel.name)]
    tracker = Tracker(score) if outlets.tracks else None
    goes_on = clips.extend if clips else lambda time: None
    return Watch(channel.name, score, tracker, gates, outlets.on, outlets.tell, act, goes_on, lambda: Tracker(score))


def _book(options: LiveOptions, sources: Sequence[str], say: Say) -> GateBook:
    """The lines and zones of the options, or of the file, which comes first where there is one. Raises MobileSSDError."""
    texts = [("line", options.lines), ("zone", options.zones)]
    specs = [parse_gate(kind, text, i, sources) for kind, words in texts for i, text in enumerate(words, 1)]
    if options.watch is None:
        return GateBook(sources, specs)
    file = GateFile(options.watch)
    if not file.exists and not specs and options.show != "page":
        raise MobileSSDError(f"{file.name}: no such file: draw lines and zones on the page, with --page")
    found = file.read()
    if not file.exists:
        book = GateBook(sources, specs, file)
        if specs:
            file.write(specs)
        return book
    if specs:
        say(f"{file.name} is there: its lines and zones count, not --line and --zone (remove the file to begin anew)")
    book = GateBook(sources, found, file)
    if others := sorted({spec.source for spec in found} - {"", *sources}):
        count = len(found) - len(book.here)
        say(f"{file.name}: {count} of {len(found)} lines and zones are for sources that are not here: {some(others)}")
    return book


def _known(wanted: Sequence[str], class_names: Sequence[str], gates: Sequence[str]) -> list[str]:
    """The names of --on as the detector writes them. Raises MobileSSDError for one that is neither class nor gate."""
    known = ClassNames(class_names)
    found: list[str] = []
    for name in wanted:
        classes = [class_names[index] for index in known.find(name)]
        if name not in gates and not classes:
            raise MobileSSDError(f"--on {name!r} is neither a class nor a line or zone; {known.hint(name)}")
        found += [name] if name in gates else classes
    return found
