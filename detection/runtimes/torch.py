"""The torch runtime: batch norms fused into the convolutions, channels_last; as an option through torch.compile."""

from __future__ import annotations

import copy
import os

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from backbones.blocks import ConvNormAct
from detection.errors import MobileSSDError
from detection.runtimes.base import Runtime
from detection.ssd.network import SSD, Deployable
from detection.weights.checkpoint import load_checkpoint
from detection.weights.resolve import Weights

DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime(Runtime):
    """See `detection.runtimes.base.Runtime`."""

    name = "torch"

    def __init__(
        self,
        weights: Weights,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.threads = threads or os.cpu_count() or 1
        device = choose_device(device)
        if device == "cpu":
            torch.set_num_threads(self.threads)
        self._take(load_checkpoint(weights.path)[0], device, DTYPES[precision])

    @classmethod
    def of(cls, ssd: SSD, device: str = "cpu") -> TorchRuntime:
        """A runtime of a network at hand, which stays as it is: a copy of it runs."""
        runtime = cls.__new__(cls)
        runtime.threads = torch.get_num_threads()
        runtime._take(copy.deepcopy(ssd), device, torch.float32)
        return runtime

    def _take(self, ssd: SSD, device: str, dtype: torch.dtype) -> None:
        self.device, self.precision = device, str(dtype).removeprefix("torch.")
        network = Deployable(fuse(ssd.eval())).eval()
        self.network = network.to(device, dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        encodings, logits = self.network(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
        return encodings.float().cpu().numpy(), logits.float().cpu().numpy()


def compiled(weights: Weights, device: str, precision: str, threads: int | None) -> TorchRuntime:
    """The same through torch.compile: the first call of a batch size compiles for a minute."""
    runtime = TorchRuntime(weights, device, precision, threads)
    runtime.name = "torch-compiled"
    runtime.network.compile()
    return runtime


def choose_device(device: str) -> str:
    """auto: CUDA, then Apple's MPS, then the CPU. Raises MobileSSDError for one that is not here."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if here[name])
    if not here.get(device.split(":")[0], False):
        raise MobileSSDError(f"device {device} is not here; there is {', '.join(name for name in here if here[name])}")
    return device


@torch.no_grad()
def fuse(network: SSD) -> SSD:
    """Folds every batch norm into its convolution, in place: same outputs in eval mode, half the passes over memory."""
    for layer in network.modules():
        if isinstance(layer, ConvNormAct) and isinstance(layer.norm, nn.BatchNorm2d):
            norm, conv = layer.norm, layer.conv
            assert norm.running_mean is not None and norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            layer.norm = nn.Identity()
    return network
