"""What happens, as MQTT messages, and described so that Home Assistant shows it without being told anything.

Under the prefix of the address: `status` (online, offline); for each source, by its key, `status`, `event` (each event as
JSON), `class/NAME` (ON, OFF) for the classes of --on, `line/NAME` and `zone/NAME` (counts as JSON). All but events are
retained. The descriptions follow https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, a message an entity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from detection import __version__
from detection.live.capture import ENDED, FAILED, OPENING
from detection.live.events import Event, Say
from detection.live.mqtt import PAUSES, Mqtt, parse_broker
from detection.live.source_names import keys_of
from detection.live.zones import Gate

EVENT_TYPES = ("line", "entered", "left", "appeared", "gone")
COUNTS = {"line": ("in", "out"), "zone": ("inside", "entered", "left")}


class MqttEvents:
    """address: see `parse_broker`; password: for one that has a user alone. classes: those of --on, whose presence is told.
    Raises MobileSSDError for an address that is none, MissingPackageError without paho-mqtt."""

    def __init__(
        self,
        address: str,
        classes: Sequence[str],
        say: Say,
        password: str | None = None,
        pauses: tuple[int, int] = PAUSES,
    ) -> None:
        self._mqtt = Mqtt(parse_broker(address, password), say, pauses)
        self._classes = dict(zip(classes, keys_of(classes)))
        self._sources: dict[str, _Source] = {}

    def __call__(self, event: Event) -> None:
        """Tells an event of a source that `refresh` has seen."""
        if source := self._sources.get(event["source"]):
            if event["event"] in ("appeared", "gone"):
                source.set_presence(event["class"], event["event"] == "appeared")
            self._mqtt.send(f"{source.topic}/event", json.dumps({**event, "event_type": event["event"]}))

    def refresh(self, channels: Sequence[Any]) -> None:
        """Tells what has changed of sources, lines and zones; costs nothing where nothing has. channels: those of `app`."""
        for channel in channels:
            if channel.name not in self._sources:
                self._sources[channel.name] = _Source(channel, self._mqtt, self._classes)
            self._sources[channel.name].refresh(channel)

    @property
    def lost(self) -> int:
        return self._mqtt.lost

    def close(self) -> None:
        self._mqtt.close()


class _Source:
    """A source, which is a device to Home Assistant."""

    def __init__(self, channel: Any, mqtt: Mqtt, classes: dict[str, str]) -> None:
        broker, key = mqtt.broker, channel.capture.source.key
        self.topic = f"{broker.prefix}/{key}"
        self._mqtt, self._classes = mqtt, classes
        self._id = _identifier(self.topic)
        self._gates: dict[str, Gate] = {}  # by topic
        self._about = {
            "availability": [{"topic": broker.status}, {"topic": f"{self.topic}/status"}],
            "availability_mode": "all",
            "device": {
                "identifiers": [self._id],
                "name": channel.name,
                "manufacturer": "mobilessd",
                "sw_version": __version__,
            },
            "origin": {"name": "mobilessd", "sw_version": __version__},
        }
        self._describe("event", "events", f"{self.topic}/event", {"event_types": EVENT_TYPES})
        for name, class_key in classes.items():
            self.set_presence(name, False)
            self._describe("binary_sensor", name, f"{self.topic}/class/{class_key}", {"device_class": "occupancy"})

    def set_presence(self, name: str, there: bool) -> None:
        if name in self._classes:
            self._mqtt.keep(f"{self.topic}/class/{self._classes[name]}", "ON" if there else "OFF")

    def refresh(self, channel: Any) -> None:
        capture = channel.capture
        up = not capture.stale and capture.state not in (OPENING, FAILED, ENDED)
        self._mqtt.keep(f"{self.topic}/status", "online" if up else "offline")
        found = channel.watch.gates if channel.watch else ()
        keys = keys_of([gate.name for gate in found])
        gates = {f"{self.topic}/{gate.kind}/{key}": gate for gate, key in zip(found, keys)}
        for topic in self._gates.keys() - gates.keys():
            self._mqtt.keep(topic, "")
            self._describe_counts(topic, self._gates[topic], there=False)
        for topic, gate in gates.items():
            counts = {what: gate.inside if what == "inside" else gate.totals[what] for what in COUNTS[gate.kind]}
            self._mqtt.keep(topic, json.dumps(counts))
            if topic not in self._gates:
                self._describe_counts(topic, gate, there=True)
        self._gates = gates

    def _describe_counts(self, topic: str, gate: Gate, there: bool) -> None:
        for what in COUNTS[gate.kind]:
            more = {
                "value_template": f"{{{{ value_json['{what}'] }}}}",
                "state_class": "measurement" if what == "inside" else "total_increasing",
            }
            self._describe("sensor", f"{gate.name} {what}", topic, more, f"{topic}/{what}", there)

    def _describe(
        self, kind: str, name: str, topic: str, more: dict[str, Any], unique: str = "", there: bool = True
    ) -> None:
        """Tells Home Assistant of an entity that reads `topic`, or that it is gone. unique: by what it is known, else its
        topic."""
        if not self._mqtt.broker.discovery:
            return
        one = _identifier(unique or topic)
        config = {"name": name, "unique_id": one, "state_topic": topic, **more, **self._about}
        path = f"{self._mqtt.broker.discovery}/{kind}/{self._id}/{one.removeprefix(self._id).strip('_')}/config"
        self._mqtt.keep(path, json.dumps(config) if there else "")


def _identifier(topic: str) -> str:
    """Of letters, digits, _ and -, as Home Assistant wants them."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", topic)
