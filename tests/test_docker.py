"""The Dockerfile and compose.yaml hold what the page promises: small, no torch, no root, looked after, nothing secret in them.

Images are built elsewhere: `python benchmarks/docker_steps.py --folder NEW` runs the steps without Docker and measures.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_missing_packages import extras_of_setup

from detection.cli.main import parser_of

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))
import docker_steps  # noqa: E402

BUILD, LAST = docker_steps.stages((ROOT / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICE = COMPOSE["services"]["mobilessd"]
KNOWN = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint") or pytest.skip("needs hadolint, which neither pip nor apt has here")
    subprocess.run([hadolint, ROOT / "Dockerfile"], check=True)


def test_each_instruction_is_one_and_each_image_has_a_version():
    for word, rest in [*BUILD, *LAST]:
        assert word in KNOWN and rest, word
        if word == "FROM":
            assert re.fullmatch(r"\S+:(?!latest)\S+( AS \w+)?", rest)
        if word == "RUN":
            assert "sudo" not in rest and ("pip" not in rest or "--no-cache-dir" in rest)
            assert "apt-get" not in rest, "nothing of the system is needed"
    assert BUILD[0][1].split()[0] == LAST[0][1].split()[0], "the environment's Python is the one that it was made with"


def test_the_last_stage_is_no_root_and_looks_after_itself():
    words = [word for word, _ in LAST]
    told = dict(LAST)
    assert told["USER"] == "mobilessd" and words.index("USER") < words.index("ENTRYPOINT")
    assert "useradd --uid 10001" in told["RUN"]
    check = json.loads(told["HEALTHCHECK"].partition(" CMD ")[2])
    compile(check[2], "HEALTHCHECK", "exec")
    assert "/healthz" in check[2] and told["EXPOSE"] == "8080"


def test_torch_and_all_of_its_weight_stay_out():
    (wanted,) = (match[1] for _, rest in BUILD if (match := re.search(r'"\.\[([\w,]+)\]"', rest)))
    extras = extras_of_setup()
    brought = {re.split(r"[\[<>=]", package)[0] for extra in wanted.split(",") for package in extras[extra]}
    assert {"openvino", "starlette", "paho-mqtt", "scipy"} <= brought and not {"torch", "torchvision"} & brought


def test_what_is_sent_to_the_builder_is_what_setup_needs():
    sent = {path.name for path in docker_steps.context()}
    assert sent >= {"setup.py", "mobilessd.py", "README.md", "LICENSE", "NOTICE", "detection", "backbones", "configs"}
    assert all(path.exists() for path in docker_steps.context()) and not sent & {"tests", ".git", "benchmarks"}


def test_both_commands_are_known_to_the_parser():
    for command in (json.loads(dict(LAST)["CMD"]), SERVICE["command"]):
        assert parser_of(command[0]).parse_args(command[1:]).host == "0.0.0.0"


def test_compose_runs_it_with_no_more_rights_than_it_needs():
    assert SERVICE["read_only"] is True and SERVICE["cap_drop"] == ["ALL"] and "privileged" not in SERVICE
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICE["ports"])
    volumes = [volume.partition(":")[0] for volume in SERVICE["volumes"]]
    assert set(volumes) <= set(COMPOSE["volumes"]), "no folder of the machine"
    for name, value in SERVICE["environment"].items():
        assert re.fullmatch(rf"\$\{{{name}:.*\}}", value), "secrets come from outside"
