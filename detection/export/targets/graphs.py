"""The graphs that other systems take, as modules of torch and as ONNX: normalisation outside, plain floats, one image."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detection.boxes.geometry import BoxCoder
from detection.runtimes.interfaces import CENTRE
from detection.runtimes.onnx_graph import traced
from detection.runtimes.torch import fuse
from detection.ssd.network import SSD


class Core(nn.Module):
    """float RGB [1, 3, h, w], (x - 127.5) / 127.5 -> encodings [1, A, 4] and logits [1, A, K]. What the network's own
    normalisation has beyond that, and another order of colours, are inside."""

    def __init__(self, ssd: SSD) -> None:
        super().__init__()
        self.ssd = fuse(copy.deepcopy(ssd).eval())
        own = ssd.spec.input
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (own.mean, own.std))
        self.register_buffer("scale", CENTRE / std, persistent=False)
        self.register_buffer("shift", (CENTRE - mean) / std, persistent=False)
        self.swapped = own.color == "bgr"
        self.plain = bool((self.scale == 1).all() and (self.shift == 0).all())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.swapped:
            images = torch.cat([images[:, 2:], images[:, 1:2], images[:, :1]], 1)
        if not self.plain:
            images = images * self.scale + self.shift
        return self.ssd(images)


class Decoded(nn.Module):
    """As `Core`, with scores [1, A, K] after their activation, background first, and boxes [1, A, 4] `xyxy` in fractions."""

    def __init__(self, ssd: SSD, anchors: np.ndarray) -> None:
        super().__init__()
        self.core, self.softmax = Core(ssd), ssd.spec.scores == "softmax"
        self.decode = Decode(anchors, ssd.spec.coder)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encodings, logits = self.core(images)
        scores = torch.softmax(logits, 2) if self.softmax else torch.sigmoid(logits)
        return scores, self.decode(encodings)


class Decode(nn.Module):
    """Encodings [1, A, 4] -> boxes `xyxy` [1, A, 4] in fractions, by multiplications of whole tables alone."""

    def __init__(self, anchors: np.ndarray, coder: BoxCoder) -> None:
        super().__init__()
        table = torch.from_numpy(anchors)[None]
        variances = torch.tensor(coder.variances, dtype=torch.float32)
        self.register_buffer("centre", table[..., :2], persistent=False)
        self.register_buffer("step", table[..., 2:] * variances[:2], persistent=False)
        self.register_buffer("half_size", table[..., 2:] / 2, persistent=False)
        self.register_buffer("growth", variances[2:].view(1, 1, 2), persistent=False)
        self.max_log = coder.max_log

    def forward(self, encodings: Tensor) -> Tensor:
        growth = encodings[..., 2:] * self.growth
        if self.max_log is not None:
            growth = growth.clamp(max=self.max_log)
        middle, half = encodings[..., :2] * self.step + self.centre, growth.exp() * self.half_size
        return torch.cat([middle - half, middle + half], 2)


def float_graph(module: nn.Module, ssd: SSD, input: str, outputs: tuple[str, ...], opset: int) -> Any:
    """One of the modules above as an `onnx.ModelProto` for one image: no free sides, no casts, no uint8."""
    return traced(module.eval(), torch.zeros(1, 3, *ssd.spec.input.size), input, outputs, opset, free=False)
