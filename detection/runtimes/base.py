"""What every runtime is: the one protocol that the Detector knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Runtime(ABC):
    """A network ready to run. Safe to call from several threads.

    name, device: what computes where. precision: what it computes in: float32, bfloat16, float16 or int8. threads: of
    the CPU. anchors: `cxcywh` float32 [A, 4] where the file brings its own, which differ from the card's; else None.
    """

    name: str
    device: str
    precision: str
    threads: int
    anchors: np.ndarray | None = None

    @abstractmethod
    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB images [N, h, w, 3] at the input size -> float32 encodings [N, A, 4] and logits [N, A, K]."""

    def start(self) -> None:  # noqa: B027 (nothing to do is the usual case)
        """Begins to prepare for one image at a time and returns at once, where that takes long and needs no Python."""

    def __str__(self) -> str:
        """`openvino on cpu, float32, 2 threads`."""
        return (
            f"{self.name} on {self.device}, {self.precision}, {self.threads} thread{'s' if self.threads != 1 else ''}"
        )
