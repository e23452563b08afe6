"""Files for telephones and small boards: TensorFlow Lite by litert-torch, ExecuTorch by its XNNPACK backend.

litert-torch wants an older torch than ours, and so an environment of its own; executorch does not. One image at a time,
float32.
"""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from detection.export.int8 import quiet
from detection.runtimes.base import Runtime
from detection.runtimes.torch import fuse
from detection.ssd.heads import flatten
from detection.ssd.network import SSD, Deployable
from detection.ssd.pyramid import SharedHeads
from detection.weights.card import Card
from detection.weights.card_files import add_tflite_card


def write_tflite(ssd: SSD, path: Path, card: Card, *raw: object) -> None:
    """Writes a network as .tflite: uint8 RGB [1, h, w, 3] -> encodings and logits; the card in a zip at its end."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before its C++ part is loaded
    with quiet(), torch.no_grad():
        import litert_torch

        litert_torch.convert(*_traceable(ssd)).export(str(path))
    add_tflite_card(path, card.to_json())


def write_executorch(ssd: SSD, path: Path, card: Card, *raw: object) -> None:
    """Writes a network as an ExecuTorch program: the same input and outputs; the card as JSON beside it."""
    with quiet(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(*_traceable(ssd))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")


def _traceable(ssd: SSD) -> tuple[nn.Module, tuple[Tensor]]:
    network = fuse(copy.deepcopy(ssd).eval())
    if isinstance(network.heads, SharedHeads):
        network.heads = _Unshared(network.heads)  # type: ignore[assignment]
    return Deployable(network).eval(), (torch.zeros(1, *ssd.spec.input.size, 3, dtype=torch.uint8),)


class _Unshared(nn.Module):
    """Heads that all maps share, with a tower for each map, its norms folded in. ExecuTorch would fold the norms of all
    maps into the one tower, one after the other: wrong from the second map on."""

    def __init__(self, heads: SharedHeads) -> None:
        super().__init__()
        self.towers = nn.ModuleList()
        for norms in heads.norms:
            tower = nn.Sequential()
            for layer, norm in zip(heads.tower, norms, strict=True):  # type: ignore[arg-type]
                *before, last = layer
                folded = copy.deepcopy(last)
                folded.weight, folded.bias = fuse_conv_bn_weights(
                    last.weight, last.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                tower.extend([*before, folded, heads.act])
            self.towers.append(tower)
        self.box, self.score, self.columns = heads.box, heads.score, heads.columns

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found = [tower(x) for tower, x in zip(self.towers, maps, strict=True)]
        return [(flatten(self.box(x), 4), flatten(self.score(x), self.columns)) for x in found]


class Program(Runtime):
    """An ExecuTorch program behind the protocol of `detection.runtimes.base.Runtime`, to compare it with its source."""

    name, device, precision = "executorch", "cpu", "float32"

    def __init__(self, path: Path) -> None:
        from executorch import runtime as executorch

        self.threads = os.cpu_count() or 1
        self._method = executorch.Runtime.get().load_program(str(path)).load_method("forward")
        self._lock = threading.Lock()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            found = [
                [output.numpy().copy() for output in self._method.execute([torch.from_numpy(image[None])])]
                for image in images
            ]
        return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
