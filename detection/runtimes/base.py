"""What every runtime is: the one protocol that the Detector knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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

    def streams(self) -> int:
        """At how many images at a time it is fastest where there are many, each by itself in one thread (`in_stream`); 0 where
        a batch is the better way. Measured when it is first asked."""
        return 0

    def in_stream(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As a call of one image [1, h, w, 3], to the bit what it has among several. From as many threads as like; those
        beyond `streams` wait."""
        return self(image)

    def begin(self, images: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Starts a call, where that is possible, and returns what waits for its end and gives its outputs. Calls of several
        runtimes that are begun together run side by side."""
        return lambda: self(images)

    def start(self) -> None:  # noqa: B027 (nothing to do is the usual case)
        """Begins to prepare for one image at a time and returns at once, where that takes long and needs no Python."""

    def __str__(self) -> str:
        """`openvino on cpu, float32, 2 threads`."""
        return (
            f"{self.name} on {self.device}, {self.precision}, {self.threads} thread{'s' if self.threads != 1 else ''}"
        )
