"""Training under the rounding of int8, so that the file that `mobilessd quantize` makes afterwards loses less.

In the forward pass kernels are rounded to 8 bits for each output channel, and what leaves each layer to 8 bits for the
whole tensor, between the smallest and the largest value at hand; gradients pass as if nothing had been rounded (Jacob et
al. 2018, arXiv 1712.05877). A batch norm only scales the channels of its kernel, so rounding before it is rounding the
folded kernel. The weights that are learned, averaged and kept stay float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from backbones.blocks import ConvNormAct

KERNEL_STEPS, OUTPUT_STEPS = 127, 255  # a sign and seven bits; eight bits
SMALLEST = 1e-8  # step: a channel of zeros stays one


class Rounded(nn.Module):
    """A network that computes as int8 would; its parameters are the network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._kernels = [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
        for layer in network.modules():
            if isinstance(layer, ConvNormAct):
                layer.register_forward_hook(_round_output)

    def forward(self, images: Tensor) -> Any:
        parameters = dict(self.network.named_parameters())
        rounded = {name: round_kernel(parameters[name]) for name in self._kernels}
        return functional_call(self.network, rounded, (images,))


def round_kernel(weight: Tensor) -> Tensor:
    """[out, in, h, w] at the steps of int8: symmetric, each output channel for itself."""
    step = weight.detach().abs().amax((1, 2, 3)).clamp(min=SMALLEST) / KERNEL_STEPS
    zero = torch.zeros_like(step, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, step, zero, 0, -KERNEL_STEPS, KERNEL_STEPS)


def round_output(x: Tensor) -> Tensor:
    """Any tensor at the steps of uint8 between its smallest and its largest value, 0 among the steps."""
    low, high = x.detach().amin().clamp(max=0).float(), x.detach().amax().clamp(min=0).float()
    step = ((high - low) / OUTPUT_STEPS).clamp(min=SMALLEST)
    zero = (-low / step).round().clamp(0, OUTPUT_STEPS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, OUTPUT_STEPS)


def _round_output(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return round_output(output)
