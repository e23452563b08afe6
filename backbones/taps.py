"""Taps: the named places of a backbone whose feature maps a detector reads, and the base class of all backbones."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .convolutions import spatial_size


@dataclass(frozen=True)
class Tap:
    """A feature map that a backbone can give: its name, its stride in input pixels, its channels."""

    name: str
    stride: int
    channels: int


def unknown(kind: str, name: object, known: Sequence[str]) -> ValueError:
    """One line that names all that exist, the nearest first."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint}: there are {', '.join(known)}")


def choose_taps(backbone: str, available: Sequence[Tap], wanted: Sequence[str]) -> tuple[Tap, ...]:
    """The taps of these names, in the order asked for. Raises ValueError for an unknown, a repeated or no name."""
    by_name = {tap.name: tap for tap in available}
    for name in wanted:
        if name not in by_name:
            raise unknown(f"tap of {backbone}", name, list(by_name))
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"taps of {backbone} must be at least one and all different, not {list(wanted)}")
    return tuple(by_name[name] for name in wanted)


def check_alpha(alpha: float) -> float:
    """The width multiplier, if it is above zero; ValueError otherwise."""
    if not alpha > 0:
        raise ValueError(f"the width multiplier alpha must be above 0, not {alpha:g}")
    return alpha


class Backbone(nn.Module):
    """A backbone: images in, feature maps out. Layers behind the last tap are not built.

    `.taps` are the requested ones, in the order asked for and in the order of the answer.
    """

    def __init__(self, name: str, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.name = name
        self.taps = taps

    def check_size(self, x: Tensor) -> None:
        """Raises ValueError where the input has a side shorter than the coarsest tap's stride."""
        height, width = spatial_size(x)
        coarsest = max(self.taps, key=lambda tap: tap.stride)
        if min(height, width) < coarsest.stride:
            raise ValueError(
                f"an input of {height}x{width} pixels is too small for {self.name}: "
                f"its tap {coarsest.name} has stride {coarsest.stride}, so each side needs at least {coarsest.stride}"
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W], normalised -> one [N, tap.channels, ceil(H / tap.stride), ceil(W / tap.stride)] a tap."""
        raise NotImplementedError
