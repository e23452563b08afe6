"""Fixtures shared by all tests: real images and published weights, where they are at hand."""

import os
from pathlib import Path

import pytest

# One thread each, and none that spins while it waits: the networks of the tests are small, and two threads that wait for
# each other on a busy machine are ten times slower than one. Set before any library is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images, labels and published weights; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("MOBILESSD_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs images and weights in {folder} (set MOBILESSD_SHARED), which is not here")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch, request):
    """Every test run has a cache of its own, so that no test depends on what a person downloaded before."""
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path_factory.getbasetemp() / "mobilessd-home"))
