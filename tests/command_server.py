"""Python commands without their imports: a process that has imported the heavy libraries forks a child for each.

`start` puts stand-ins for `mobilessd`, `python`, `torchrun` and `pip` into a folder for PATH; each hands its arguments, folder,
environment and open files to the server and waits for the exit code. What runs is the code of the checkout, as printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENT = """#!{python} -ISE
import json, os, socket, sys
name = os.path.basename(sys.argv[0])
if sys.argv[1:3] == ["-m", "venv"]:  # an environment that is the one at hand
    os.makedirs(sys.argv[3] + "/bin")
    sys.exit(open(sys.argv[3] + "/bin/activate", "w").close())
if name.startswith("python") and (len(sys.argv) == 1 or sys.argv[1].startswith("-")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps(dict(words=[name, *sys.argv[1:]], folder=os.getcwd(), environment=dict(os.environ))).encode()
socket.send_fds(server, [len(order).to_bytes(4, "little")], [0, 1, 2])
server.sendall(order)
code = server.recv(1)
sys.exit(code[0] if code else "the command was killed")
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """Starts the server, whose stand-ins are in `folder`, and waits until it is ready."""
    address = str(folder / "server")
    for name in ("mobilessd", "python", "python3", "torchrun", "pip"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=address))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )
    assert server.stdout and server.stdout.readline() == "ready\n"
    return server


def serve(address: str) -> None:
    import jinja2  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import nncf  # noqa: F401
    import onnxruntime  # noqa: F401
    import torchvision  # noqa: F401

    import detection.cli.main
    import detection.evaluate.coco
    import detection.stream
    import detection.train.run  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
            os._exit(0)
        connection.close()


def answer(connection: socket.socket) -> None:
    """Does what one stand-in asks for, in a child, and tells it the exit code."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    order, wanted = b"", int.from_bytes(size, "little")
    while len(order) < wanted:
        order += connection.recv(wanted - len(order))
    worker = os.fork()
    if worker == 0:
        connection.close()
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os._exit(work(**json.loads(order)))
    threading.Thread(target=end_with, args=(connection, worker), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    connection.sendall(bytes([code if code >= 0 else 128 - code]))


def end_with(connection: socket.socket, worker: int) -> None:
    """Kills a command and its children when the stand-in that asked for it is gone."""
    with contextlib.suppress(OSError):  # both are gone
        connection.recv(1)
        os.killpg(worker, signal.SIGKILL)


def work(words: list[str], folder: str, environment: dict[str, str]) -> int:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Those of the server remember what kind of file they had.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    name, *arguments = words
    try:
        if name == "torchrun":
            arguments = alone(arguments)
        if name == "pip":
            return pip(arguments)
        if name == "mobilessd":
            from detection.cli.main import entry

            sys.argv = words
            entry()
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def alone(arguments: list[str]) -> list[str]:
    """torchrun's own parser on its options; then the script as the only process of its world."""
    from torch.distributed.run import parse_args

    parsed = parse_args(arguments)
    return [parsed.training_script, *parsed.training_script_args]


def pip(arguments: list[str]) -> int:
    """Installs nothing, and complains of an extra that setup.py does not have or a package that the project does not know."""
    extras, known = offered()
    names = [word for word in arguments if not word.startswith("-")]
    assert names.pop(0) == "install"
    for name in names:
        ours = re.fullmatch(r"(?:\.|mobilessd|dist/\S+\.whl)(?:\[([\w,]+)\])?(?: @ git\+https://\S+)?", name)
        unknown = set((ours[1] or "").split(",")) - {"", *extras} if ours else {name} - known
        if unknown:
            print(f"pip: {name}: not in setup.py: {', '.join(unknown)}", file=sys.stderr)
            return 1
    return 0


def offered() -> tuple[set[str], set[str]]:
    """The extras of setup.py, and the packages that it or a message of ours names."""
    from unittest import mock

    import setuptools

    with mock.patch.object(setuptools, "setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    options = setup.call_args.kwargs
    wanted = [*options["install_requires"], *(one for extra in options["extras_require"].values() for one in extra)]
    packages = {re.split(r"[\[<>=! ]", requirement)[0] for requirement in wanted}
    return set(options["extras_require"]), packages | {"litert-torch", "executorch", "gcsfs", "adlfs", "opencv-python"}


if __name__ == "__main__":
    serve(sys.argv[1])
