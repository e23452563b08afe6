"""A connection to an MQTT broker (MQTT 3.1.1, by paho-mqtt) that comes back by itself and holds up no camera.

Two kinds of messages: what is kept (retained: the newest counts, and is sent anew with every connection) and what is sent
once (events, in order, at least once). Both wait in bounds while the broker is away.
"""

from __future__ import annotations

import re
import ssl
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from detection.errors import MobileSSDError, need, one_line
from detection.live.events import WAITING, Say

PREFIX = "mobilessd"  # of all topics, where the address names none
DISCOVERY = "homeassistant"  # where Home Assistant looks for new devices, unless it is told otherwise
PORTS = {"mqtt": 1883, "mqtts": 8883}
PAUSES = (1, 60)  # seconds between tries to connect: the first pause, which doubles, and the longest
KEEP_ALIVE = 30  # seconds of silence after which the connection is tried, and lost where nothing answers
CLOSING = 3.0  # seconds that what is waiting has at the end
_TOPIC = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_HINT = (
    "--mqtt: write mqtt://user:password@host:1883/prefix, or mqtts://...; in a user or password each of : / ? # @ % "
    "is written as its code, such as %2F"
)  # it quotes nothing of what was written: an address that is none may hold the password anywhere


@dataclass(frozen=True)
class Broker:
    """Where the broker is, and what it wants to know. prefix: of all topics; status: the topic that says "online" or
    "offline"; discovery: Home Assistant's prefix, "" for none."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    prefix: str = PREFIX
    discovery: str = DISCOVERY

    @property
    def status(self) -> str:
        return f"{self.prefix}/status"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_broker(address: str, password: str | None = None) -> Broker:
    """Reads `mqtt[s]://[user[:password]@]host[:port][/prefix][?discovery=PREFIX|no]`.

    password: for an address that has a user alone. Raises MobileSSDError, without a word of the address.
    """
    try:
        parts = urlsplit(address)
        host, port, query = parts.hostname, parts.port, dict(parse_qsl(parts.query, True, True))
        if parts.scheme not in PORTS or not host or port == 0 or "#" in address:
            raise ValueError
        host.encode("idna")  # raises UnicodeError, a ValueError, for what cannot be looked up
    except ValueError:
        raise MobileSSDError(_HINT) from None
    prefix, discovery = unquote(parts.path).strip("/") or PREFIX, query.pop("discovery", DISCOVERY)
    discovery = "" if discovery == "no" else discovery
    topics = [prefix, discovery] if discovery else [prefix]
    if query or not all(_TOPIC.fullmatch(topic) and len(topic) <= 100 for topic in topics):
        raise MobileSSDError(f"{_HINT}; the prefix is of letters, digits and _ . - /")
    user = unquote(parts.username or "") or None
    shown = unquote(parts.password) if parts.password else password if user else None
    if shown and user is None:
        raise MobileSSDError("--mqtt: there is a password without a user: write mqtt://user:password@host")
    return Broker(host, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, shown, prefix, discovery)


class Mqtt:
    """lost: messages that were sent once and did not arrive: the oldest, where more than WAITING wait."""

    def __init__(self, broker: Broker, say: Say, pauses: tuple[int, int] = PAUSES) -> None:
        need("--mqtt", "paho.mqtt")
        from paho.mqtt.client import CallbackAPIVersion, Client

        self.broker, self._say, self.lost = broker, say, 0
        self._kept: dict[str, str] = {broker.status: "online"}
        self._changed: dict[str, None] = {}  # topics of _kept whose newest payload the broker does not have yet
        self._waiting: deque[tuple[str, str]] = deque()
        self._taken: set[int] = set()  # numbers of messages that the broker has taken
        self._wake = threading.Condition()
        self._connected = self._failing = self._closing = self._given_up = self._overflowed = False
        self._told = 0  # how many of `lost` people have heard of

        self._client = client = Client(CallbackAPIVersion.VERSION2)
        client.will_set(broker.status, "offline", qos=1, retain=True)
        client.reconnect_delay_set(*pauses)
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_publish = self._on_connect_fail, self._on_publish
        client.connect_async(broker.host, broker.port, KEEP_ALIVE)
        client.loop_start()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def keep(self, topic: str, payload: str) -> None:
        """Sets what a topic says from now on; nothing is sent where it says so already. "" takes it away."""
        with self._wake:
            if self._kept.get(topic, "") != payload:
                self._kept[topic] = payload
                self._changed[topic] = None
                self._wake.notify_all()

    def send(self, topic: str, payload: str) -> None:
        """Sends a message once, after those before it."""
        with self._wake:
            if full := len(self._waiting) >= WAITING:
                self._waiting.popleft()
                self.lost += 1
            first, self._overflowed = full and not self._overflowed, self._overflowed or full
            self._waiting.append((topic, payload))
            self._wake.notify_all()
        if first:
            self._say(f"mqtt: {WAITING} events wait for {self.broker}; the oldest are lost from now on")

    def close(self) -> None:
        """Gives what is waiting a few seconds where the broker is there, says "offline", and how many were lost."""
        with self._wake:
            self._closing = True
            connected = self._connected
            self._wake.notify_all()
        if connected:
            self._thread.join(CLOSING)
        with self._wake:
            self._given_up = True
            self._wake.notify_all()
        self._thread.join(1)
        self.lost += len(self._waiting)
        self._waiting.clear()
        if self.lost > self._told:
            self._say(f"mqtt: {self.lost} events could not be delivered and are lost")
        if connected:
            self._client.publish(self.broker.status, "offline", qos=1, retain=True)
            with self._wake:
                self._wake.wait_for(lambda: self._taken, 1)
        self._client.disconnect()
        if connected:
            self._client.loop_stop()  # else it may be in the middle of a try to connect, which would be waited for

    # ------------------------------------------------------------ the thread that sends

    def _run(self) -> None:
        while message := self._next():
            topic, payload, retained = message
            number = self._client.publish(topic, payload, qos=1, retain=retained).mid
            with self._wake:
                # One on its way at a time. Where the connection is lost meanwhile, paho sends it again with the next.
                while number not in self._taken and not self._given_up:
                    self._wake.wait()
                self.lost += number not in self._taken and not retained
                self._taken.clear()

    def _next(self) -> tuple[str, str, bool] | None:
        """(topic, payload, retained) once there is one to be sent; None at the end."""
        with self._wake:
            while not self._given_up:
                if self._connected and self._changed:
                    topic = next(iter(self._changed))
                    del self._changed[topic]
                    return topic, self._kept[topic], True
                if self._connected and self._waiting:
                    return *self._waiting.popleft(), False
                if self._closing:
                    break
                self._wake.wait()
        return None

    # ------------------------------------------------------------ what paho tells, in a thread of its own

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            return self._away(f"refuses the connection ({reason})")
        with self._wake:
            self._connected, self._changed = True, dict.fromkeys(self._kept)
            failed, self._failing, self._overflowed = self._failing, False, False
            lost, self._told = self.lost - self._told, self.lost
            self._wake.notify_all()
        if failed:
            self._say(f"mqtt: {self.broker} answers again" + (f"; {lost} events were lost" if lost else ""))
        else:
            self._say(f"mqtt: events go to {self.broker}, under {self.broker.prefix}/")

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._wake:
            self._connected = False
            self._wake.notify_all()
        if not self._closing:
            self._away(f"has gone ({reason})")

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles it
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error or "no answer"
        self._away(f"cannot be reached ({reason})")

    def _away(self, words: str) -> None:
        """Said once until it answers again."""
        first, self._failing = not self._failing, True
        if first and not self._closing:
            self._say(one_line(f"mqtt: {self.broker} {words}; up to {WAITING} events wait until it answers"))

    def _on_publish(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        with self._wake:
            self._taken.add(number)
            self._wake.notify_all()
