"""Every backbone as an ImageNet classifier, as its paper has it.

State dict: `backbone.*` as the backbone's own; V1 and V2 `fc`; V3 and V4 `hidden`, `fc`; VGG `fc6`, `fc7`, `fc8`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ConvNormAct, Norm, make_divisible
from .build import build_backbone
from .convolutions import spatial_size
from .initialise import initialise
from .taps import Backbone


class Classifier(nn.Module):
    """Backbone, global mean, linear layers. `.backbone` has one tap, its last. Answers logits, not probabilities."""

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        hidden: int | None = None,
        hidden_norm: Norm | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.taps[-1].channels
        self.hidden: nn.Module | None = None  # behind the pool: V3 with h-swish, V4 with a norm and ReLU
        if hidden is not None and hidden_norm is not None:
            self.hidden = ConvNormAct(channels, hidden, activation="relu", norm=hidden_norm)
        elif hidden is not None:
            self.hidden = nn.Linear(channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels if hidden is None else hidden, num_classes)
        for layer in (self.hidden, self.fc):
            if layer is not None:
                initialise(layer)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W], normalised -> [N, num_classes]."""
        x = F.adaptive_avg_pool2d(self.backbone(x)[-1], 1)
        if isinstance(self.hidden, ConvNormAct):
            x = self.hidden(x)
        x = torch.flatten(x, 1)
        if isinstance(self.hidden, nn.Linear):
            x = F.hardswish(self.hidden(x))
        return self.fc(self.dropout(x))


class VGGClassifier(nn.Module):
    """VGG-16's convolutions, its fifth pool, a mean over 7x7 fields, linear layers of 4096, 4096 and `num_classes`."""

    def __init__(self, backbone: Backbone, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc6 = nn.Linear(backbone.taps[-1].channels * 7 * 7, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7, self.fc8):
            initialise(layer)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W], normalised -> [N, num_classes]. Raises ValueError below 32 pixels a side."""
        height, width = spatial_size(x)
        if min(height, width) < 32:
            raise ValueError(f"an input of {height}x{width} pixels is too small for vgg16: each side needs at least 32")
        x = F.adaptive_avg_pool2d(F.max_pool2d(self.backbone(x)[-1], 2), 7)
        x = self.dropout(F.relu(self.fc6(torch.flatten(x, 1))))
        return self.fc8(self.dropout(F.relu(self.fc7(x))))


def build_classifier(
    name: str, num_classes: int = 1000, *, dropout: float | None = None, hidden: int | None = None, **options: Any
) -> Classifier | VGGClassifier:
    """A backbone by name as a classifier with fresh weights; `options` are the backbone's, errors as in `build_backbone`.

    TensorFlow's files have 1001 classes, column 0 "background". `dropout` in front of the last layer; left out it is
    that of the reference code: V1 0.001, V2 and V3 0.2, VGG 0.5. `hidden` sets the width of the hidden layer of
    V3 and V4; left out it is 1280 (V3 small: 1024), in V3 scaled with alpha and halved by `reduced_tail`, as in torchvision
    (slim keeps it at 1280). ValueError with another backbone.
    """
    if hidden is not None and not name.startswith(("mobilenet_v3", "mobilenet_v4")):
        raise ValueError(f"hidden sets the width of the hidden layer of MobileNet V3 and V4: {name} has none")
    if name == "vgg16":
        backbone = build_backbone(name, ["conv5_3"], **{"ceil_pool3": False, **options})
        return VGGClassifier(backbone, num_classes, dropout=0.5 if dropout is None else dropout)
    is_v1 = name.startswith("mobilenet_v1")
    backbone = build_backbone(name, ["conv13" if is_v1 else "top"], **options)
    if hidden is None and name.startswith("mobilenet_v3"):
        full = 1280 if name == "mobilenet_v3_large" else 1024
        hidden = make_divisible(full / (2 if options.get("reduced_tail") else 1) * options.get("alpha", 1.0))
    norm = None
    if name.startswith("mobilenet_v4"):
        hidden = 1280 if hidden is None else hidden
        norm = Norm(options.get("norm_eps", 0.001), options.get("norm_momentum", 0.03))
    dropout = (0.001 if is_v1 else 0.2) if dropout is None else dropout
    return Classifier(backbone, num_classes, hidden=hidden, hidden_norm=norm, dropout=dropout)
