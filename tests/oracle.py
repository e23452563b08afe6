"""Loads the reference script that shares no code with the project, and small helpers for tests on real images."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest


def litert_reference(shared: Path) -> ModuleType:
    """The LiteRT oracle; skipped where LiteRT or the script is missing."""
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, the oracle for .tflite files")
    path = shared / "reference" / "litert_reference.py"
    if not path.exists():
        pytest.skip(f"needs {path}")
    spec = importlib.util.spec_from_file_location("litert_reference", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some_images(folder: Path, number: int) -> list[Path]:
    """The first so many images of a folder, by name."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png", ".bmp", ".webp"))
    return found[:number]


def rgb(path: Path) -> np.ndarray:
    """Read by OpenCV alone, not by the project."""
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
