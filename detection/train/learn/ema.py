"""A moving average of the weights: what is evaluated and kept.

Averages of late weights are flatter and better minima than the last ones (Polyak averaging; TF-OD's classic configs
train with it at 0.9999). Batch norms' running statistics are averaged too, with the same decay: they belong to the
weights under which they were gathered, and the last ones do not fit an average of older weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from detection.train.config_parts import EMAConfig


def decay_at(config: EMAConfig, step: int) -> float:
    """The share of the old average that the update behind `step` (from 0) keeps.

    With the ramp it is min(decay, (1 + step) / (10 + step)), the rule of TensorFlow's ExponentialMovingAverage: at the
    beginning the average forgets the untrained weights quickly, in a short run too.
    """
    return min(config.decay, (1 + step) / (10 + step)) if config.ramp else config.decay


class EMA:
    """The average of a network, `.module`: a network of its own, in evaluation mode, on the same device.

    With decay 0 there is no average, and `.module` is the network itself.
    """

    def __init__(self, network: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self._average: AveragedModel | None = None
        self._network = network
        if config.decay > 0:
            self._average = AveragedModel(network, multi_avg_fn=self._blend, use_buffers=True)
            self._average.requires_grad_(False).eval()
            self._average.n_averaged.fill_(1)  # it starts as a copy: the first update blends like any other
        self._decay = 0.0

    @property
    def module(self) -> nn.Module:
        """The averaged network."""
        return self._network if self._average is None else self._average.module

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights behind optimiser step `step` (from 0). `network`: not wrapped by DDP or the compiler."""
        if self._average is not None:
            self._decay = decay_at(self.config, step)
            self._average.update_parameters(network)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights; empty where there is no average."""
        return {} if self._average is None else dict(self._average.module.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self._average is not None:
            self._average.module.load_state_dict(state)

    def _blend(self, averaged: Any, current: Any, _: Any) -> None:
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(self._decay)(averaged, current, _)
        else:  # num_batches_tracked counts, it is no quantity to average
            torch._foreach_copy_(averaged, current)
