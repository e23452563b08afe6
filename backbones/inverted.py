"""What MobileNet V2, V3 and V4 share: a stem, inverted residual blocks, a 1x1 top. Each of them only writes down a plan,
from which its class builds the layers, and `build.available_taps` lists the taps.

Taps, first to last: "stem"; "expandN" the activated expansion inside block N, at the block's input stride, where the
block has one; "blockN" the output of block N; "top". Blocks carry the numbers of their network's own literature.
State dict: `stem`, `blocks.{0, 1, ...}.{start,expand,depthwise,gate,project}`, `top`; in each `conv` and `norm`, in the gate
`fc1` and `fc2`; a block that is a plain convolution is `blocks.N.{conv,norm}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from .blocks import ConvNormAct, FusedInverted, InvertedResidual, Norm
from .initialise import initialise
from .taps import Backbone, Tap, choose_taps


@dataclass(frozen=True)
class Block:
    """One inverted residual: its number in the tap names, channels inside and behind it, its kind, and whether its input
    may be added to its output. start: the kernel of a depthwise layer before the expansion (V4), 0 for none, as `kernel`
    may be 0 then. plain: V4's first blocks: "conv" is one convolution alone, "fused" expands by a convolution of `kernel`
    and `stride` in the place of 1x1 and depthwise."""

    number: int
    expanded: int
    channels: int
    stride: int
    kernel: int = 3
    squeeze: bool = False
    activation: str = "relu6"
    residual: bool = True
    start: int = 0
    plain: Literal["", "conv", "fused"] = ""


@dataclass(frozen=True)
class Plan:
    """A whole backbone in numbers; `activation` is that of the stem and the top, `usual` the taps of a detector."""

    name: str
    stem: int
    blocks: tuple[Block, ...]
    top: int
    activation: str = "relu6"
    usual: tuple[str, str] = ("expand13", "top")

    def taps(self) -> tuple[Tap, ...]:
        """All taps, first to last."""
        stride, channels = 2, self.stem
        taps = [Tap("stem", stride, channels)]
        for block in self.blocks:
            if block.expanded != channels and not block.plain:
                taps.append(Tap(f"expand{block.number}", stride, block.expanded))
            stride, channels = stride * block.stride, block.channels
            taps.append(Tap(f"block{block.number}", stride, channels))
        return (*taps, Tap("top", stride, self.top))


class InvertedBackbone(Backbone):
    """The backbone of a plan, with fresh weights. `taps` None: the plan's usual ones; `padding` "same" or "symmetric"."""

    def __init__(
        self, plan: Plan, taps: Sequence[str] | None, *, padding: str, norm_eps: float, norm_momentum: float
    ) -> None:
        available, norm = plan.taps(), Norm(norm_eps, norm_momentum)
        super().__init__(plan.name, choose_taps(plan.name, available, plan.usual if taps is None else taps))
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
            self.blocks.append(_layer(block, channels, padding, norm, f"block{block.number}" not in built))
            channels = block.channels
        self.top = ConvNormAct(channels, plan.top, activation=plan.activation, norm=norm) if "top" in wanted else None
        initialise(self)

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
            if not isinstance(block, InvertedResidual):
                x = block(x)
                keep(f"block{number}", x)
                continue
            expansion = block.expansion(x)
            keep(f"expand{number}", expansion)
            if block.expand_only:
                break
            x = block.finish(x, expansion)
            keep(f"block{number}", x)
        if self.top is not None:
            keep("top", self.top(x))
        return [found[tap.name] for tap in self.taps]


def _layer(block: Block, channels: int, padding: str, norm: Norm, expand_only: bool) -> nn.Module:
    """The module of a block that is given so many channels."""
    given: dict[str, Any] = {
        "kernel_size": block.kernel,
        "stride": block.stride,
        "padding": padding,
        "activation": block.activation,
        "norm": norm,
    }
    if block.plain == "conv":
        return ConvNormAct(channels, block.channels, **given)
    if block.plain == "fused":
        return FusedInverted(channels, block.channels, expanded=block.expanded, **given)
    return InvertedResidual(
        channels,
        block.channels,
        expanded=block.expanded,
        start_kernel=block.start,
        squeeze=block.squeeze,
        expand_only=expand_only,
        residual=block.residual,
        **given,
    )
