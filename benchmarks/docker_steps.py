"""Runs the steps of the Dockerfile without Docker, and tells how large the image becomes and whether it is healthy.

    python benchmarks/docker_steps.py --folder /tmp/image [--python /usr/bin/python3]

The build stage is run as it stands, with /src and /opt/mobilessd below the folder; the container's command and health check are
then run with the same settings, as the image's user 10001 where this is root and that user may read the Python (--python, in the
place of the base image's: 3.10 or newer). The base image is not there: BASE_MB stands for it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE_MB = 130  # python:3.12-slim unpacked: `docker image ls` says 120 to 130 MB on x86-64
MOST_MB = 600


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, its words) for each of a Dockerfile, continued lines as one."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word.upper(), rest) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def stages(text: str) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, which begins with FROM."""
    found: list[list[tuple[str, str]]] = []
    for one in instructions(text):
        if one[0] == "FROM":
            found.append([])
        found[-1].append(one)
    return found


def context(root: Path = ROOT) -> list[Path]:
    """What .dockerignore lets through: it lists what is taken, by names of the top level."""
    lines = (root / ".dockerignore").read_text().split("\n")
    return [root / line[1:] for line in lines if line.startswith("!")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder")
    parser.add_argument("--python", default=sys.executable, help="the base image's (default: this one)")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True)
    build, last = stages((ROOT / "Dockerfile").read_text())
    source, target = folder / "src", folder / "opt/mobilessd"
    source.mkdir()
    for path in context():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / path.name, ignore=ignored) if path.is_dir() else shutil.copy(path, source)
    for word, rest in build:
        if word == "RUN":
            command = rest.replace("/opt/mobilessd", str(target)).replace("python -m", f"{args.python} -m")
            subprocess.run(["sh", "-ec", command], cwd=source, check=True)
    size = sum(path.lstat().st_size for path in target.rglob("*")) / 1e6
    print(f"/opt/mobilessd {size:.0f} MB, with the base image's {BASE_MB} MB {size + BASE_MB:.0f} MB of {MOST_MB} MB")
    torch = [
        path.name for path in target.rglob("site-packages/*") if path.name.split("-")[0] in ("torch", "torchvision")
    ]
    print(f"torch: {torch or 'not in it'}")
    told = dict(last)
    healthy = _healthy(folder, target, json.loads(told["ENTRYPOINT"]) + json.loads(told["CMD"]), told["HEALTHCHECK"])
    print(f"health check: {'passes' if healthy else 'FAILS'}")
    return 0 if size + BASE_MB <= MOST_MB and not torch and healthy else 1


def _healthy(folder: Path, target: Path, command: list[str], check: str) -> bool:
    """Starts the container's command, and waits for its health check as Docker does."""
    check_words = json.loads(check.partition(" CMD ")[2])
    data = folder / "data"
    data.mkdir()
    user = {}
    if os.geteuid() == 0:
        os.chown(data, 10001, 10001)
        if _may_run(10001, target / "bin/python"):
            user = {"user": 10001, "group": 10001, "extra_groups": []}
            print("as user 10001, with no groups")
        else:
            print("as root, as this Python is where nobody else may read")
    settings = {"PATH": f"{target}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(data), "PYTHONUNBUFFERED": "1"}
    more: dict[str, Any] = {"cwd": data, "env": settings, **user}
    check_words[0] = str(target / "bin" / check_words[0])
    with subprocess.Popen([str(target / "bin" / command[0]), *command[1:]], **more) as server:
        try:
            for _ in range(60):
                time.sleep(1)
                done = subprocess.run(check_words, stderr=subprocess.DEVNULL, **more)
                if done.returncode == 0 or server.poll() is not None:
                    return done.returncode == 0
            return False
        finally:
            server.terminate()


def _may_run(user: int, program: Path) -> bool:
    try:
        return subprocess.run([program, "-c", ""], user=user, group=user, capture_output=True).returncode == 0
    except PermissionError:
        return False


if __name__ == "__main__":
    sys.exit(main())
