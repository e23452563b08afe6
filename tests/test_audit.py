"""`make audit` says what it could not find out: packages of which nobody told anything are not free of weaknesses."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("audit", Path(__file__).resolve().parents[1] / "tools" / "audit.py")
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

FINE = {"name": "numpy", "version": "2.0", "vulns": []}
OURS = {"name": "mobilessd", "skip_reason": "distribution marked as editable"}
UNKNOWN = {"name": "scipy", "skip_reason": "Dependency not found on PyPI and could not be audited: scipy (1.1)"}
WEAK = {"name": "pillow", "version": "9.0", "vulns": [{"id": "CVE-1", "fix_versions": ["9.1"]}]}


def ends(tmp_path, capsys, said, code=0, error=""):
    """(exit code, what was printed, what was printed as errors) where pip-audit says this."""
    program = tmp_path / "pip-audit"
    text = f"#!{sys.executable}\nimport sys\nprint({said!r})\nprint({error!r}, file=sys.stderr)\nsys.exit({code})\n"
    program.write_text(text)
    program.chmod(0o755)
    found = audit.main(str(program), str(tmp_path))
    return found, *capsys.readouterr()


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([FINE, OURS], 0, ""),
        ([FINE, OURS, UNKNOWN], 2, "not audited: 1 of 2 packages (scipy)"),
        ([OURS], 2, "not audited: 0 of 0 packages (none is there)"),
        ([FINE, WEAK, UNKNOWN], 1, "pillow 9.0: CVE-1, mended in 9.1"),
    ],
)
def test_what_nobody_told_of_is_not_passed(tmp_path, capsys, found, code, words):
    ended, _, error = ends(tmp_path, capsys, json.dumps({"dependencies": found, "fixes": []}), int(WEAK in found))
    assert ended == code and words in error and bool(error) == bool(words)


@pytest.mark.parametrize("said", ["", "null", "[]"])
def test_no_connection_is_one_line(tmp_path, capsys, said):
    ended, out, error = ends(tmp_path, capsys, said, 1, "Traceback\nConnectionError: refused")
    assert ended == 2 and not out and error.count("\n") == 1
    assert "not audited: pip-audit gave up (ConnectionError: refused)" in error
