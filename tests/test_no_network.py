"""No command says anything to anybody: neither ours nor what it imports (albumentations and nncf would ask and tell).

An audit hook stands in every Python process of the commands, the workers of the data loader included, and notes whoever looks
up a name or connects. What a compiled library would do by itself it does not see.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOOK = """
import os, sys

def forbid(event, args, log=os.environ["NOTED"]):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and getattr(args[0], "family", 0) == 1:
        return  # AF_UNIX: between processes of this machine
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(log, "a") as file:
            file.write(f"{' '.join(sys.argv)[:80]}: {event} {args[1:]}\\n")
        raise OSError("no network here")

sys.addaudithook(forbid)
"""
COMMANDS = """
import json, sys
from detection.cli.main import main
for words in json.load(sys.stdin):
    sys.argv = ["mobilessd", *words]
    print(json.dumps([main(words), words]), flush=True)
"""
RUN = [
    "detect images photo.jpg",
    "live film.mp4 --headless --frames 3 --track",
    "eval --data BCCD --weights cells.safetensors",
    "quantize small.safetensors --images images --output int8.xml --samples 2 --force --no-timing",
    "train --data BCCD --weights small.safetensors --steps 2 --batch 2 --workers 1 --compile no --device cpu --output run",
]


def noted(folder, code, given=""):
    """What the hook noted of `python -c code`, and what that printed."""
    hooks, log = folder / "hooks", folder / "noted.txt"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(HOOK)
    quiet = ("NO_ALBUMENTATIONS_UPDATE", "MOBILESSD_OFFLINE", "CI")  # settings that would keep others silent for us
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {
        "PYTHONPATH": f"{hooks}{os.pathsep}{ROOT}",
        "NOTED": str(log),
        "MOBILESSD_HOME": str(folder / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text() if log.exists() else "", done.stdout


def test_the_hook_sees_who_connects(tmp_path):
    code = "import contextlib, socket\nwith contextlib.suppress(OSError): socket.create_connection(('127.0.0.1', 9))"
    assert "socket.getaddrinfo" in noted(tmp_path, code)[0]
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    assert len(noted(tmp_path, child)[0].splitlines()) == 2, "of children as well"


def test_no_command_connects_to_anything(world, tmp_path):
    pytest.importorskip("scipy", reason="needs scipy for --track")
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    told, out = noted(folder, COMMANDS, json.dumps([words.split() for words in RUN]))
    codes = [json.loads(line)[0] for line in out.splitlines() if line.startswith("[")]
    assert codes == [0] * len(RUN), out
    assert told == ""
