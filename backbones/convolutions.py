"""Convolutions that pad: TensorFlow's SAME padding, whose cells depend on the size that is met, and PyTorch's symmetric one."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Height and width of [N, C, H, W] as plain integers, so that a traced graph holds constants and no arithmetic."""
    if torch.jit.is_tracing():
        with (
            warnings.catch_warnings()
        ):  # "might not generalise to other sizes": a deployed graph has one size on purpose
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            return int(x.shape[-2]), int(x.shape[-1])
    return x.shape[-2], x.shape[-1]


def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME padding of one side length: (before, after), the odd cell goes after.

    The output has ceil(size / stride) cells. At stride 2 a 3x3 kernel pads (0, 1) where `size` is even and (1, 1) where
    it is odd, which is not what PyTorch's `padding=1` does: weights trained with one lose accuracy under the other.
    """
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does, from the size it meets. Square kernels, strides, dilations."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]."""
        height, width = spatial_size(x)
        top, bottom = same_padding(height, self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_padding(width, self.kernel_size[1], self.stride[1], self.dilation[1])
        padding = (top, left)
        # the convolution itself can only pad both ends alike
        if (top, left) != (bottom, right) or (self.training and height == width == 1):  # `StridedConv2d` says why
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class StridedConv2d(nn.Conv2d):
    """A padded convolution of stride 2 or more, which may meet a map of one cell.

    In bfloat16 on a CPU, PyTorch 2.14's gradient of a padded 3x3 kernel that strides over 1x1 cells holds whatever was in
    memory before at the weights that meet padding alone. With the padding written out it is right.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = spatial_size(x)
        if not (self.training and height == width == 1) or isinstance(self.padding, str):
            return super().forward(x)
        (down, right) = self.padding
        x = F.pad(x, (right, right, down, down))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    padding: str | int = "same",
    bias: bool = True,
) -> nn.Conv2d:
    """A bare convolution. `padding`: "same" (TensorFlow), "symmetric" ((k - 1) // 2 * dilation), "valid" (0) or cells.

    At stride 1 an odd kernel pads alike under "same" and "symmetric", and a plain nn.Conv2d is returned.
    Raises ValueError for another word.
    """
    kind: type[nn.Conv2d] = nn.Conv2d
    if isinstance(padding, int):
        cells = padding
    elif padding == "valid":
        cells = 0
    elif padding in ("same", "symmetric"):
        cells = (kernel_size - 1) // 2 * dilation
        if padding == "same" and kernel_size > 1 and (stride > 1 or kernel_size % 2 == 0):
            kind = SameConv2d
    else:
        raise ValueError(f'padding is "same", "symmetric", "valid" or a number of cells, not {padding!r}')
    if kind is nn.Conv2d and cells and stride > 1:
        kind = StridedConv2d
    return kind(
        in_channels, out_channels, kernel_size, stride, padding=cells, dilation=dilation, groups=groups, bias=bias
    )
