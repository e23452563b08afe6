"""Optimisers and their parameter groups.

A group's learning rate is the schedule's times its `lr_scale`; `set_learning_rate` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detection.train.config_parts import OptimizerConfig, RunConfig
from detection.train.learn.freeze import freeze


class RMSpropTF(Optimizer):
    """RMSProp as TensorFlow computes it (tf.train.RMSPropOptimizer), which is not PyTorch's.

        mean_square = decay * mean_square + (1 - decay) * gradient ** 2       (starts at 1, not at 0)
        buffer      = momentum * buffer + lr * gradient / sqrt(mean_square + epsilon)   (epsilon inside the root)
        parameter  -= buffer                                                  (the buffer holds rates of the past)

    TF-OD's classic configs use decay .9, momentum .9, epsilon 1.0: with PyTorch's form and that epsilon the first steps
    would be many times longer. weight_decay is an L2 loss: added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step_group(group, parameters)
        return loss

    def _step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "mean_square": torch.ones_like(parameter),
                    "buffer": torch.zeros_like(parameter),
                }
        squares = [self.state[p]["mean_square"] for p in parameters]
        buffers = [self.state[p]["buffer"] for p in parameters]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, gradients, roots, group["lr"])
        torch._foreach_sub_(parameters, buffers)


def build_optimizer(config: RunConfig, network: nn.Module) -> Optimizer:
    """The optimiser of a run. Freezes what `config.freeze` says, and leaves out whatever needs no gradient.

    The learning rate of its groups is that of the config, until `set_learning_rate` writes the schedule's.
    """
    freeze(network, config.freeze)
    own = config.optimizer
    groups = parameter_groups(network, own)
    for group in groups:
        group["lr"] = own.lr * group["lr_scale"]
    device = next(network.parameters()).device
    if own.kind == "rmsprop":
        return RMSpropTF(groups, decay=own.decay, momentum=own.momentum, epsilon=own.epsilon)
    # one kernel over all parameters where there is one, else one over lists: a network has hundreds of small tensors
    fast: dict[str, Any] = {"fused": True} if device.type in ("cuda", "cpu") else {"foreach": True}
    if own.kind == "adamw":
        return torch.optim.AdamW(groups, betas=own.betas, **fast)
    return torch.optim.SGD(groups, lr=own.lr, momentum=own.momentum, nesterov=own.nesterov, **fast)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Writes the schedule's rate into every group, times the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trainable parameters in at most six groups by (factor of the rate, weight decay), in a stable order.

    Norms and biases are the parameters with at most one dimension. Parts of the network named `backbone` have the
    factor `backbone_lr`, biases `bias_lr` besides.
    """
    depthwise = {
        id(layer.weight)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        in_backbone = name.startswith("backbone.")
        scale = config.backbone_lr if in_backbone else 1.0
        if name.endswith(".bias") and not _belongs_to_norm(network, name):
            scale *= config.bias_lr
        decays = config.decay_on == "all" or parameter.ndim > 1
        if config.decay_on == "slim" and in_backbone and id(parameter) in depthwise:
            decays = False
        groups.setdefault((scale, config.weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": found, "lr_scale": scale, "weight_decay": decay} for (scale, decay), found in groups.items()]


def _belongs_to_norm(network: nn.Module, name: str) -> bool:
    return not isinstance(network.get_submodule(name.rpartition(".")[0]), (nn.Conv2d, nn.Linear))
