"""What `pip install "mobilessd[all]"` brings is under no licence that reaches into the programs of those who use it."""

import importlib.util
import re
from email.message import Message
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
licences = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(licences)


def package(name="thing", files=(), **metadata):
    said = Message()
    for key, value in {"Name": name, **metadata}.items():
        said[key.replace("_", "-")] = value
    return SimpleNamespace(metadata=said, files=[PurePosixPath(file) for file in files])


def test_nothing_in_all_is_under_the_gpl():
    base, extras = licences.requirements_of_setup()
    packages, _ = licences.closure([*base, *extras["all"]])
    assert len(packages) > 10
    assert {found.metadata["Name"]: why for found in packages if (why := licences.trouble_with(found))} == {}


def test_no_extra_asks_for_what_brings_gpl_codecs():
    base, extras = licences.requirements_of_setup()
    names = {re.split(r"[\[<>=!~; ]", wanted)[0].lower() for some in [base, *extras.values()] for wanted in some}
    assert not names & {"av", "supervision", "trackers", "ultralytics", "albumentationsx"}
    assert {wanted for wanted in extras["train"] if wanted.startswith("albumentations")} == {"albumentations>=2.0,<2.1"}
    assert "supervision" in (ROOT / "NOTICE").read_text()


@pytest.mark.parametrize(
    "found, words",
    [
        (package(License_Expression="MIT", files=["av.libs/libx264-1ab2.so.164"]), "libx264"),
        (package(License_Expression="GPL-3.0-or-later"), "GPL-3.0"),
        (package(License="GNU Affero General Public License v3"), "Affero"),
        (package(Classifier="License :: OSI Approved :: GNU General Public License v2 (GPLv2)"), "GPLv2"),
        (package("docutils", ["docutils/rst.el"], License="GPL"), "GPL"),
        (package("docutils", License="BSD, GPL"), None),
        (package(License_Expression="LGPL-2.1"), None),
        (package(License="EPL-2.0 OR BSD-3-Clause"), None),
        (package(License_Expression="MPL-1.1 OR GPL-2.0-or-later"), None),
        (package(License_Expression="GPL-2.0-only OR AGPL-3.0-only"), "GPL-2.0"),
        (package(License_Expression="GPL-2.0-only AND (MIT OR BSD-2-Clause)"), "GPL-2.0"),
        (package(License="Apache-2.0", files=["nvidia/libcufftw.so.12"]), None),
    ],
)
def test_a_licence_is_seen_in_the_metadata_and_in_what_the_wheel_holds(found, words):
    why = licences.trouble_with(found)
    assert why is None if words is None else words in why


def test_what_is_not_installed_was_not_looked_at(monkeypatch, capsys):
    for absent, code in (([], 0), (["paho-mqtt"], 2)):
        monkeypatch.setattr(licences, "closure", lambda wanted, absent=absent: ([package(License="MIT")], absent))
        assert licences.main(["all"]) == code
        assert ("not looked at, as they are not installed: paho-mqtt" in capsys.readouterr().err) == bool(absent)
    monkeypatch.setattr(licences, "closure", lambda wanted: ([package(License="GPL")], ["paho-mqtt"]))
    assert licences.main(["all"]) == 1
