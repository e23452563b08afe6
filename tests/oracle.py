"""Loads the reference script that shares no code with the project, and small helpers for tests on real images."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


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


def photographs(number: int) -> list[np.ndarray]:
    """So many different images, RGB: parts of the photographs that come with the repository."""
    portrait, room = (rgb(IMAGES / name) for name in ("grace_hopper.jpg", "live.jpg"))
    found = [portrait, room, portrait[:300], room[:380, :620], portrait[300:], room[380:, 620:], room[:380, 620:]]
    assert number <= len(found)
    return found[:number]


def rgb(path: Path) -> np.ndarray:
    """Read by OpenCV alone, not by the project."""
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class LiteRT:
    """LiteRT on a detector's `.tflite` file: uint8 [h, w, 3] of the input's size -> encodings [A, 4] (ty, tx, th, tw),
    scores [A, columns] and anchors [A, 4] (y, x, h, w), as they enter the file's own post-processing."""

    def __init__(self, path: Path) -> None:
        module = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the oracle")
        self.net = module.Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
        self.net.allocate_tensors()
        self.details = {tensor["index"]: tensor for tensor in self.net.get_tensor_details()}
        (post,) = [op for op in self.net._get_ops_details() if "Detection_PostProcess" in op["op_name"]]
        self.raw = post["inputs"]

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        wanted = self.net.get_input_details()[0]
        pixels = image if wanted["dtype"] == np.uint8 else image.astype(np.float32) / 127.5 - 1
        self.net.set_tensor(wanted["index"], pixels[None])
        self.net.invoke()
        encodings, scores, anchors = (self._real(index) for index in self.raw)
        return encodings[0], scores[0], anchors

    def _real(self, index: int) -> np.ndarray:
        value, (scale, zero) = self.net.get_tensor(index).astype(np.float32), self.details[index]["quantization"]
        return (value - zero) * scale if scale else value
