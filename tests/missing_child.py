"""Runs commands as if packages were missing, each in a child, and prints what became of it as JSON lines.

    python missing_child.py FOLDER < [[command, ...], ...] in JSON

First each command runs with everything there, and what it imports or looks for is noted; then once for each optional
package among that, without it. A package that a command never asks for cannot change what it does.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import traceback

from detection.errors import EXTRAS

SECONDS = 300


def main() -> None:
    import cv2  # noqa: F401
    import torch._dynamo  # noqa: F401 (what jit and OpenVINO's converter import: a second, and no optional package)
    import torchvision  # noqa: F401

    for words in json.load(sys.stdin):
        code, said, asked = child(words, None)
        report(words, None, code, said)
        for package in sorted(asked):
            code, said, _ = child(words, package)
            report(words, package, code, said)


def report(words: list[str], package: str | None, code: int, said: str) -> None:
    print(json.dumps([words, package, code, said]), flush=True)


def child(words: list[str], missing: str | None) -> tuple[int, str, list[str]]:
    """Exit code (100 with a traceback), stderr, and the optional packages that were asked for."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as noted:
        number = os.fork()
        if number == 0:
            import signal

            signal.alarm(SECONDS)
            os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            asked = listen() if missing is None else hide(missing)
            code = 100
            os.chdir(fresh(sys.argv[1]))
            os.environ["MOBILESSD_HOME"] = "home"
            try:
                code = importlib.import_module("detection.cli.main").main(words)
            except BaseException:
                traceback.print_exc()
            with contextlib.suppress(OSError):
                noted.write(json.dumps(sorted(asked)))
                noted.flush()
                sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        said.seek(0)
        noted.seek(0)
        return code, said.read(), json.loads(noted.read() or "[]")


def fresh(world: str) -> str:
    """A folder of its own for what a run writes, with links to what it reads."""
    folder = tempfile.mkdtemp(dir=os.path.dirname(world))
    for name in os.listdir(world):
        os.symlink(os.path.join(world, name), os.path.join(folder, name))
    return folder


def hide(missing: str) -> set[str]:
    """As if the package were not installed; our own modules are imported anew, without it."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("detection", "backbones") or f"{name}.".startswith(f"{missing}."):
            del sys.modules[name]
    sys.modules[missing] = None  # type: ignore[assignment]
    return set()


def listen() -> set[str]:
    """The optional packages that are imported or looked for from now on."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("detection", "backbones"):
            del sys.modules[name]
    asked: set[str] = set()
    import_, find = builtins.__import__, importlib.util.find_spec

    def note(name: str) -> None:
        asked.update(package for package in EXTRAS if name == package or name.startswith(package + "."))

    def noting_import(name, *rest, **more):
        note(name)
        return import_(name, *rest, **more)

    def noting_find(name, package=None):
        note(name)
        return find(name, package)

    builtins.__import__, importlib.util.find_spec = noting_import, noting_find
    return asked


if __name__ == "__main__":
    main()
