"""Files for telephones and small boards: TensorFlow Lite by litert-torch, ExecuTorch by its XNNPACK backend.

Both libraries want an older torch than ours, so this runs in an environment of their own. One picture at a time, float32.
"""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from detection.core.card import Card


def write_tflite(ssd: Any, path: Path, card: Card) -> None:
    """Writes a network as .tflite: uint8 RGB [1, h, w, 3] -> encodings and logits; the card in a zip at its end."""
    import litert_torch
    import torch

    from detection.export.int8 import quiet
    from detection.runtimes.exported import add_tflite_card

    with quiet(), torch.no_grad():
        litert_torch.convert(*_traceable(ssd)).export(str(path))
    add_tflite_card(path, card.to_json())


def write_executorch(ssd: Any, path: Path, card: Card) -> None:
    """Writes a network as an ExecuTorch program: the same input and outputs; the card as JSON beside it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from detection.export.int8 import quiet

    with quiet(), torch.no_grad():
        program = torch.export.export(*_traceable(ssd))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")


def _traceable(ssd: Any) -> tuple[Any, tuple]:
    import torch

    from detection.runtimes.torch import fuse
    from detection.ssd.network import Deployable

    network = Deployable(fuse(copy.deepcopy(ssd).eval())).eval()
    return network, (torch.zeros(1, *ssd.spec.input.size, 3, dtype=torch.uint8),)


class Program:
    """An ExecuTorch program behind the protocol of `detection.runtimes.Runtime`, to compare it with its source."""

    name, device, precision = "executorch", "cpu", "float32"

    def __init__(self, path: Path) -> None:
        from executorch.runtime import Runtime

        self.threads = os.cpu_count() or 1
        self._method = Runtime.get().load_program(str(path)).load_method("forward")
        self._lock = threading.Lock()

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        with self._lock:
            found = [
                [output.numpy().copy() for output in self._method.execute([torch.from_numpy(picture[None])])]
                for picture in pictures
            ]
        return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
