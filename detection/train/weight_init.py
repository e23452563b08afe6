"""First weights as a recipe wants them, where no checkpoint fills them."""

from __future__ import annotations

from torch import nn

from detection.ssd.heads import last_convolution
from detection.ssd.network import SSD
from detection.train.config_parts import InitialConfig


def initialise_network(ssd: SSD, config: InitialConfig) -> None:
    """Draws the convolutions of backbone, extras (a pyramid too) and heads by the config's schemes, biases 0.

    "default" leaves what the network was built with. Batch norms are left at (1, 0). The class biases are set to
    `class_bias` where it is not 0.
    """
    parts = {
        "backbone": (config.backbone, config.backbone_std),
        "extras": (config.extras, config.extras_std),
        "pyramid": (config.extras, config.extras_std),
        "heads": (config.heads, config.heads_std),
    }
    for name, part in ssd.named_children():
        scheme, std = parts[name]
        if scheme != "default":
            _draw(part, scheme, std)
    if config.class_bias:
        for head in ssd.heads:
            bias = last_convolution(head.score).bias
            assert bias is not None
            nn.init.constant_(bias, config.class_bias)


def _draw(part: nn.Module, scheme: str, std: float) -> None:
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            if scheme == "normal":
                nn.init.normal_(layer.weight, std=std)
            elif scheme == "truncated_normal":
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
