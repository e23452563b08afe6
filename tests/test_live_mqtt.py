"""`mobilessd live --mqtt`: a real mosquitto on loopback that is stopped and comes back, and a real client that looks on."""

import json
import shutil
import socket
import subprocess
import time
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from live_help import Reds, needs_tracking, save_video, wait_until

from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.live.events import new_event
from detection.live.mqtt import Broker, parse_broker
from detection.live.mqtt_events import MqttEvents
from detection.live.zones import Gate

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
PASSWORD = "Pa/ss:w0rd"
QUOTED = "Pa%2Fss%3Aw0rd"
needs_broker = pytest.mark.skipif(not MOSQUITTO, reason="needs mosquitto: apt-get install mosquitto")


class Mosquitto:
    """A broker on a free port, for the user bob alone. ready(): whether it listens. logged: what it has written."""

    def __init__(self, folder, tls=()):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.process = folder, None
        passwords = folder / "passwords"
        tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([tool, "-b", "-c", passwords, "bob", PASSWORD], check=True, capture_output=True)
        passwords.chmod(0o644)
        folder.chmod(0o755)
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", *tls]
        lines += ["user root", "max_queued_messages 5000"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.start()

    @property
    def url(self):
        return f"mqtt://bob:{QUOTED}@127.0.0.1:{self.port}/home/cams"

    def start(self):
        with open(self.folder / "log", "ab") as log:
            command = [MOSQUITTO, "-c", "mosquitto.conf"]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        wait_until(self.ready, 10, "mosquitto")

    def ready(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Looker:
    """A client of the broker that notes all it sees: got: [(topic, payload)]; kept: the newest retained or live by topic."""

    def __init__(self, broker):
        from paho.mqtt.client import CallbackAPIVersion, Client

        self.got, self.kept = [], {}
        self.ready = False
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("bob", PASSWORD)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self.client.on_disconnect = lambda *_: setattr(self, "ready", False)
        self.client.on_message = self._note
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        wait_until(lambda: self.ready, 10, "the looker")

    def _note(self, client, data, message):
        self.got.append((message.topic, message.payload.decode()))
        self.kept[message.topic] = message.payload.decode()

    def events(self):
        return [json.loads(payload) for topic, payload in self.got if topic.endswith("/event")]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def paho():
    return pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt")


@pytest.fixture
def broker(paho, tmp_path_factory):
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def looker(broker):
    looker = Looker(broker)
    yield looker
    looker.close()


def channel(name="door", gates=(), state="live"):
    """As much of a channel as is looked at."""
    capture = SimpleNamespace(state=state, stale=False, source=SimpleNamespace(key=name.replace(" ", "-")))
    return SimpleNamespace(name=name, capture=capture, watch=SimpleNamespace(gates=tuple(gates)))


def gate(kind, name):
    spec = SimpleNamespace(kind=kind, name=name, points=(), source="")
    return Gate(spec, 1, 1)


def event(n, kind="line", source="door", **more):
    return new_event(kind, source, 1.0, f"number {n}", n=n, **more)


# ---------------------------------------------------------------- the address


def test_an_address_names_host_user_password_and_prefix():
    assert parse_broker(f"mqtts://bob:{QUOTED}@h.example/a/b") == Broker(
        "h.example", 8883, True, "bob", PASSWORD, "a/b"
    )
    plain = parse_broker("mqtt://[::1]")
    assert (plain.host, plain.port, plain.user, plain.prefix) == ("::1", 1883, None, "mobilessd")
    assert parse_broker("mqtt://bob@h", "secret").password == "secret", "where ps does not show it"
    assert parse_broker("mqtt://h", "secret").password is None
    assert (
        parse_broker("mqtt://h?discovery=no").discovery == ""
        and parse_broker("mqtt://h?discovery=ha").discovery == "ha"
    )
    assert "secret" not in repr(parse_broker("mqtt://bob:secret@h"))


@pytest.mark.parametrize(
    "address",
    [
        "http://bob:secret@h", "mqtt://", "mqtt://bob:secret@", "mqtt://bob:secret@h:0", "mqtt://bob:secret@h:x",
        "mqtt://bob:a/secret@h", "mqtt://bob:1/secret@h", "mqtt://bob:a#secret@h", "mqtt://bob:a?secret@h", "mqtt://[",
        "mqtt://bob:secret@h/a/+/b", "mqtt://bob:secret@h/#", "mqtt://h/$SYS", "mqtt://:secret@h", "secret",
        f"mqtt://bob:secret@{'h' * 70}.example", f"mqtt://h/{'a' * 200}", "mqtt://bob:secret@h/?discovery=%2B",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_one_line_without_its_password(address):
    with pytest.raises(MobileSSDError, match="--mqtt") as caught:
        parse_broker(address)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_without_paho_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr("detection.errors.installed", lambda module: False)
    with pytest.raises(MobileSSDError, match=r'--mqtt needs paho-mqtt: pip install "mobilessd\[mqtt\]"'):
        MqttEvents("mqtt://127.0.0.1", [], print)


# ---------------------------------------------------------------- Home Assistant


@needs_broker
def test_home_assistant_finds_an_entity_for_each_thing_that_is_watched(broker, looker):
    said, line = [], gate("line", "front door")
    here = [channel(gates=[line]), channel("camera 0", gates=[gate("zone", "desk.1")])]
    mqtt = MqttEvents(broker.url, ["person", "fire hydrant"], said.append)
    mqtt.refresh(here)
    topics = (
        "home/cams/status home/cams/door/line/front-door home/cams/camera-0/zone/desk.1 home/cams/door/class/person"
    )
    wait_until(lambda: set(topics.split()) <= set(looker.kept) and len(looker.kept) >= 20, 10, "the state")
    configs = {topic: json.loads(text) for topic, text in looker.kept.items() if topic.endswith("/config")}
    kinds = Counter(topic.split("/")[1] for topic in configs)
    assert kinds == {"event": 2, "binary_sensor": 4, "sensor": 2 + 3}
    assert len({config["unique_id"] for config in configs.values()}) == len(configs)
    for topic, config in configs.items():
        assert topic.split("/")[0] == "homeassistant" and len(topic.split("/")) == 5
        assert set(topic.split("/")[2] + topic.split("/")[3]) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )
        assert config["availability"][0]["topic"] == "home/cams/status" and config["device"]["identifiers"]
        if topic.split("/")[1] != "event":
            assert config["state_topic"] in looker.kept, "a state is there before anything happens"
    crossed = configs["homeassistant/sensor/home_cams_door/line_front-door_in/config"]
    assert crossed["name"] == "front door in" and crossed["device"]["name"] == "door"
    jinja2 = pytest.importorskip("jinja2", reason="needs jinja2")
    line.totals["in"] = 3
    mqtt.refresh(here)
    wait_until(lambda: '"in": 3' in looker.kept[crossed["state_topic"]], 5)
    value = json.loads(looker.kept[crossed["state_topic"]])
    assert jinja2.Template(crossed["value_template"]).render(value_json=value) == "3"

    for there in (True, False):
        mqtt(event(1, "appeared" if there else "gone", **{"class": "fire hydrant"}))
        wait_until(lambda: looker.kept["home/cams/door/class/fire-hydrant"] == ("ON" if there else "OFF"), 5)  # noqa: B023
    assert looker.kept["home/cams/camera-0/class/fire-hydrant"] == "OFF"
    wait_until(lambda: len(looker.events()) == 2, 5)
    assert [one["event_type"] for one in looker.events()] == ["appeared", "gone"]

    here[0].watch.gates, here[0].capture.stale = (), True
    mqtt.refresh(here)
    wait_until(lambda: looker.kept["home/cams/door/status"] == "offline", 5)
    wait_until(lambda: looker.kept["homeassistant/sensor/home_cams_door/line_front-door_in/config"] == "", 5)
    mqtt.close()
    wait_until(lambda: looker.kept["home/cams/status"] == "offline", 5)
    assert said == [f"mqtt: events go to 127.0.0.1:{broker.port}, under home/cams/"] and mqtt.lost == 0


@needs_broker
def test_without_discovery_only_the_prefix_is_written_to(broker, looker):
    mqtt = MqttEvents(broker.url + "?discovery=no", ["person"], lambda line: None)
    mqtt.refresh([channel()])
    mqtt(event(1))
    wait_until(looker.events, 5)
    mqtt.close()
    assert looker.kept and all(topic.startswith("home/cams/") for topic in looker.kept)


# ---------------------------------------------------------------- a broker that is away


@needs_broker
def test_the_will_says_offline_when_the_program_is_killed(broker, looker):
    mqtt = MqttEvents(broker.url, [], lambda line: None)
    wait_until(lambda: looker.kept.get("home/cams/status") == "online", 5)
    mqtt._mqtt._client._reconnect_on_failure = False
    mqtt._mqtt._client._sock_close()  # as a kill does: without a word
    wait_until(lambda: looker.kept["home/cams/status"] == "offline", 10)
    mqtt.close()


@needs_broker
def test_a_broker_that_stops_and_comes_back_gets_what_waited_in_order_and_within_bounds(broker, looker, monkeypatch):
    monkeypatch.setattr("detection.live.mqtt.WAITING", 100)
    said = []
    mqtt = MqttEvents(broker.url, ["person"], said.append, pauses=(1, 1))
    mqtt.refresh([channel()])
    mqtt(event(0))
    wait_until(looker.events, 5)
    broker.stop()
    wait_until(lambda: len(said) == 2, 5, "a word about it")
    begin = time.monotonic()
    for n in range(1, 301):
        mqtt(event(n))
    mqtt(event(301, "appeared", **{"class": "person"}))
    assert time.monotonic() - begin < 1, "no camera is held up"
    looker.kept.clear()
    broker.start()
    wait_until(lambda: looker.kept.get("home/cams/door/class/person") == "ON", 10, "the state")
    wait_until(lambda: looker.events()[-1]["n"] == 301, 10, "the events")
    mqtt.close()
    numbers = [one["n"] for one in looker.events()]
    arrived = [n for n in numbers if n > 0]
    assert arrived == list(range(arrived[0], 302)) and len(arrived) >= 50, "the newest, in order"
    assert mqtt.lost == 301 - 100
    assert looker.kept["homeassistant/binary_sensor/home_cams_door/class_person/config"], "a broker without a memory"
    place = f"mqtt: 127.0.0.1:{broker.port}"
    assert said[1].startswith(f"{place} has gone (") and said[1].endswith("up to 100 events wait until it answers")
    assert said[2] == f"mqtt: 100 events wait for 127.0.0.1:{broker.port}; the oldest are lost from now on"
    assert said[3] == f"{place} answers again; 201 events were lost" and len(said) == 4


def test_a_broker_that_never_comes_holds_up_nobody_and_is_said_once(paho):
    said = []
    mqtt = MqttEvents(f"mqtt://bob:{QUOTED}@127.0.0.1:9", [], said.append)
    mqtt.refresh([channel()])
    for n in range(1300):
        mqtt(event(n))
    wait_until(lambda: any("cannot be reached" in line for line in said), 5)
    begin = time.monotonic()
    mqtt.close()
    assert time.monotonic() - begin < 3 and mqtt.lost == 1300
    assert said[-1] == "mqtt: 1300 events could not be delivered and are lost" and len(said) == 3


def test_what_is_lost_is_counted_in_metrics_while_it_happens(paho, monkeypatch, tmp_path):
    from test_live_page import Page

    made = []

    class Noted(MqttEvents):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("detection.live.channels.MqttEvents", Noted)
    monkeypatch.setattr("detection.live.mqtt.WAITING", 100)
    film = save_video(tmp_path / "film.avi")
    options = {"mqtt": "mqtt://127.0.0.1:9", "events": str(tmp_path / "events.jsonl")}
    page = Page([f"door={film}"], loop=True, **options)
    try:
        counts = [_lost(page)]
        for n in range(130):
            made[0](event(n))
        counts.append(_lost(page))
    finally:
        page.close()
    assert counts == [{"events": 0, "mqtt": 0}, {"events": 0, "mqtt": 30}]


def _lost(page):
    """Lost events by where they were to go, as /metrics counts them."""
    lines = page.ask("/metrics")[2].decode().splitlines()
    assert "# TYPE mobilessd_lost_events_total counter" in lines
    pairs = [line.split() for line in lines if line.startswith("mobilessd_lost_events_total{")]
    return {name.split('"')[1]: int(count) for name, count in pairs}


@needs_broker
def test_a_wrong_password_is_said_and_not_shown(broker):
    said = []
    mqtt = MqttEvents(f"mqtt://bob:wrong-one@127.0.0.1:{broker.port}", [], said.append)
    wait_until(lambda: said, 5)
    mqtt.close()
    assert "refuses the connection (Not authorized)" in said[0] and "wrong-one" not in said[0] and len(said) == 1


def test_pauses_between_tries_grow(paho, monkeypatch):
    tries = []
    mqtt = MqttEvents("mqtt://127.0.0.1:9", [], lambda line: None)
    client = mqtt._mqtt._client
    monkeypatch.setattr("paho.mqtt.client.time.sleep", lambda seconds: None)
    monkeypatch.setattr(
        "paho.mqtt.client.time_func", lambda: tries.append(client._reconnect_delay) or time.monotonic() * 1e6
    )
    wait_until(lambda: client._reconnect_delay == 60, 5)
    mqtt.close()
    assert [delay for delay in dict.fromkeys(tries) if delay] == [1, 2, 4, 8, 16, 32, 60]


# ---------------------------------------------------------------- mqtts


@pytest.fixture
def certificate(tmp_path):
    openssl = shutil.which("openssl") or pytest.skip("needs openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-keyout", key, "-out", cert, *subject],
        check=True,
        capture_output=True,
    )
    return key, cert


@needs_broker
def test_mqtts_checks_the_certificate(paho, certificate, tmp_path_factory, monkeypatch):
    key, cert = certificate
    broker = Mosquitto(tmp_path_factory.mktemp("tls"), [f"keyfile {key}", f"certfile {cert}"])
    try:
        url, said = broker.url.replace("mqtt:", "mqtts:"), []
        mqtt = MqttEvents(url, [], said.append)
        wait_until(lambda: said, 5)
        mqtt.close()
        assert "cannot be reached (self" in said[0] and "certificate" in said[0] and PASSWORD not in said[0]
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        mqtt = MqttEvents(url, [], said.append)
        wait_until(lambda: said[1:], 5)
        mqtt.close()
        assert said[1].startswith("mqtt: events go to 127.0.0.1:")
    finally:
        broker.stop()


# ---------------------------------------------------------------- the command


@needs_broker
@needs_tracking
def test_the_command_tells_the_broker_and_nobody_the_password(broker, looker, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("detection.cli.live.open_detector", lambda args, **more: Reds())
    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*"MJPG"), 20, (320, 240))
    for k in range(60):
        image = np.full((240, 320, 3), 90, np.uint8)
        cv2.rectangle(image, (4 * k, 60), (4 * k + 24, 100), (20, 20, 230), -1)
        writer.write(image)
    writer.release()
    url = f"mqtt://bob@127.0.0.1:{broker.port}/home/cams"
    monkeypatch.setenv("MOBILESSD_MQTT_PASSWORD", PASSWORD)
    command = ["live", f"door={film}", "--headless", "--on", "dog", "--line", "gate=0.5,0,0.5,1"]
    assert main([*command, "--mqtt", url]) == 0
    wait_until(lambda: looker.kept["home/cams/status"] == "offline", 5)
    assert [(one["event_type"], one["source"]) for one in looker.events()] == [("appeared", "door"), ("line", "door")]
    assert sum(json.loads(looker.kept["home/cams/door/line/gate"]).values()) == 1
    out = capsys.readouterr()
    assert "mqtt: events go to" in out.out and out.err == ""
    assert main([*command, "--mqtt", f"mqtt://bob:{PASSWORD}@127.0.0.1"]) == 2
    wrong = capsys.readouterr()
    logged = (broker.folder / "log").read_text() + out.out + wrong.out + wrong.err
    assert wrong.err.count("\n") == 1 and PASSWORD not in logged and QUOTED not in logged
