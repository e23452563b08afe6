"""What MobileNet V2 and V3 share: a stem, inverted residual blocks, a 1x1 top. Each of the two only writes down a plan.

Taps, first to last: "stem"; "expandN" the activated expansion inside block N, at the block's input stride, where the
block has one; "blockN" the output of block N; "top". Blocks carry the numbers of their network's own literature.
State dict: `stem`, `blocks.{0, 1, ...}.{expand,depthwise,gate,project}`, `top`; in each `conv` and `norm`, in the gate
`fc1` and `fc2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .blocks import ConvNormAct, InvertedResidual, Norm
from .taps import Backbone, Tap, choose_taps


@dataclass(frozen=True)
class Block:
    """One inverted residual: its number in the tap names, channels inside and behind it, its kind, and whether its input
    may be added to its output."""

    number: int
    expanded: int
    channels: int
    stride: int
    kernel: int = 3
    squeeze: bool = False
    activation: str = "relu6"
    residual: bool = True


@dataclass(frozen=True)
class Plan:
    """A whole backbone in numbers; `activation` is that of the stem and the top."""

    name: str
    stem: int
    blocks: tuple[Block, ...]
    top: int
    activation: str = "relu6"

    def taps(self) -> tuple[Tap, ...]:
        """All taps, first to last."""
        stride, channels = 2, self.stem
        taps = [Tap("stem", stride, channels)]
        for block in self.blocks:
            if block.expanded != channels:
                taps.append(Tap(f"expand{block.number}", stride, block.expanded))
            stride, channels = stride * block.stride, block.channels
            taps.append(Tap(f"block{block.number}", stride, channels))
        return (*taps, Tap("top", stride, self.top))


class InvertedBackbone(Backbone):
    """The backbone of a plan. `padding` "same" or "symmetric"."""

    def __init__(self, plan: Plan, taps: Sequence[str], *, padding: str, norm: Norm) -> None:
        available = plan.taps()
        super().__init__(plan.name, choose_taps(plan.name, available, taps))
        wanted = {tap.name for tap in self.taps}
        end = max(available.index(tap) for tap in self.taps)
        built = {tap.name for tap in available[: end + 1]}

        self.stem = ConvNormAct(3, plan.stem, 3, 2, padding=padding, activation=plan.activation, norm=norm)
        self.blocks = nn.ModuleList()
        self.numbers: list[int] = []
        channels = plan.stem
        for block in plan.blocks:
            if not built & {f"expand{block.number}", f"block{block.number}"}:
                break
            self.numbers.append(block.number)
            self.blocks.append(
                InvertedResidual(
                    channels,
                    block.channels,
                    expanded=block.expanded,
                    kernel_size=block.kernel,
                    stride=block.stride,
                    squeeze=block.squeeze,
                    padding=padding,
                    activation=block.activation,
                    norm=norm,
                    expand_only=f"block{block.number}" not in built,
                    residual=block.residual,
                )
            )
            channels = block.channels
        self.top = ConvNormAct(channels, plan.top, activation=plan.activation, norm=norm) if "top" in wanted else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W], normalised -> one [N, tap.channels, ceil(H / tap.stride), ceil(W / tap.stride)] a tap."""
        self.check_size(x)
        wanted = {tap.name for tap in self.taps}
        found: dict[str, Tensor] = {}

        def keep(name: str, feature_map: Tensor) -> None:
            if name in wanted:  # the others are let go at once: memory
                found[name] = feature_map

        x = self.stem(x)
        keep("stem", x)
        for number, block in zip(self.numbers, self.blocks, strict=True):
            expansion = block.expansion(x)
            keep(f"expand{number}", expansion)
            if block.expand_only:
                break
            x = block.finish(x, expansion)
            keep(f"block{number}", x)
        if self.top is not None:
            keep("top", self.top(x))
        return [found[tap.name] for tap in self.taps]
