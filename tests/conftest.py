"""Fixtures shared by all tests: real pictures and published weights, where they are at hand."""

import os
from pathlib import Path

import pytest

# Two test processes on two cores must not start eight threads: set on purpose, before any library is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real pictures, labels and published weights; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("MOBILESSD_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs pictures and weights in {folder} (set MOBILESSD_SHARED), which is not here")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch, request):
    """Every test run has a cache of its own, so that no test depends on what a person downloaded before."""
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path_factory.getbasetemp() / "mobilessd-home"))
