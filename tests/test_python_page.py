"""docs/python.md: every line of it runs, and says what stands there."""

import doctest
import shutil
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_page_is_right(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image", reason="needs pillow")
    (tmp_path / "shots").mkdir()
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(ROOT / "photos" / "hopper.jpg", tmp_path / "shots" / name)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        failed, tried = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False, optionflags=FLAGS)
    assert tried > 30 and not failed
