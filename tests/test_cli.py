"""The command `mobilessd` itself: instant help, nearest names, one line for every mistake."""

import subprocess
import sys
import time
from pathlib import Path

import children
import pytest

from detection.cli.main import COMMANDS, available_commands, main

ROOT = Path(__file__).resolve().parents[1]


def test_help_is_instant_and_imports_nothing_heavy():
    code = (
        "import sys; from detection.cli.main import main; code = main(['--help']);"
        "print([name for name in ('numpy', 'cv2', 'torch', 'openvino', 'argparse') if name in sys.modules]); sys.exit(code)"
    )
    begin = time.perf_counter()
    out = children.run([sys.executable, "-c", code], cwd=ROOT)
    took = time.perf_counter() - begin
    assert out.returncode == 0 and out.stdout.splitlines()[-1] == "[]"
    assert took < 2, "0.02 s where nothing else runs"
    assert "detect" in out.stdout and "live" in out.stdout


def test_only_commands_that_are_there_are_offered(capsys):
    assert set(available_commands()) <= set(COMMANDS)
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert "mobilessd" in capsys.readouterr().out


@pytest.mark.parametrize("name,hint", [("detct", "did you mean detect"), ("xyz", "commands: detect, live")])
def test_an_unknown_command_offers_the_nearest(name, hint, capsys):
    assert main([name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: unknown command") and hint in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "args", [[], ["a.jpg", "--score", "2"], ["a.jpg", "--bogus"], ["a.jpg", "--max-detections", "0"]]
)
def test_a_wrong_option_is_one_line(args, capsys):
    assert main(["detect", *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "mobilessd detect --help" in err


def test_a_pipe_that_closes_early_is_no_error():
    code = "import sys; from detection.cli.main import main; sys.exit(main(['detect', '--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
