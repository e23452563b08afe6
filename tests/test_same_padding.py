"""TensorFlow's SAME padding, against its definition and against the places that trained weights expect to look at."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from backbones import ConvNormAct, Norm, build_backbone
from backbones.convolutions import SameConv2d, conv2d, same_padding


def test_paddings_of_tensorflow_at_stride_two():
    assert all(same_padding(n, 3, 2) == (0, 1) for n in (2, 10, 20, 38, 40, 80, 150, 160, 300, 320))
    assert all(same_padding(n, 3, 2) == (1, 1) for n in (1, 3, 5, 19, 75))
    assert same_padding(40, 5, 2) == (1, 2) and same_padding(19, 5, 2) == (2, 2)
    assert same_padding(19, 3, 1, 6) == (6, 6) and same_padding(8, 1, 2) == (0, 0) and same_padding(8, 2, 1) == (0, 1)


def test_same_padding_leads_and_symmetric_padding_trails():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    same, symmetric = conv2d(1, 1, 3, 2, bias=False), conv2d(1, 1, 3, 2, bias=False, padding="symmetric")
    for layer in (same, symmetric):
        nn.init.ones_(layer.weight)
    with torch.no_grad():
        assert same(x)[0, 0].tolist() == [[45, 39], [66, 50]]  # the first cell sees rows and columns 0 to 2
        assert symmetric(x)[0, 0].tolist() == [[10, 24], [51, 90]]  # the first cell sees rows and columns -1 to 1


def same_convolution_in_numpy(x, weight, stride, dilation):
    """SAME from its definition: out = ceil(n / stride) windows, the odd cell of the padding they lack behind."""
    kernel = weight.shape[-1]
    out_shape = [-(-n // stride) for n in x.shape]
    lack = [max((m - 1) * stride + (kernel - 1) * dilation + 1 - n, 0) for m, n in zip(out_shape, x.shape)]
    padded = np.pad(x, [(total // 2, total - total // 2) for total in lack])
    out = np.zeros(out_shape)
    for row, column in np.ndindex(*out_shape):
        window = padded[row * stride :: dilation, column * stride :: dilation][:kernel, :kernel]
        out[row, column] = (window * weight).sum()
    return out


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    kernel=st.sampled_from([1, 2, 3, 4, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_same_padding_equals_its_definition(size, kernel, stride, dilation, seed):
    draw = np.random.default_rng(seed)
    x, weight = draw.normal(size=size), draw.normal(size=(kernel, kernel))
    layer = conv2d(1, 1, kernel, stride, dilation=dilation, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        found = layer(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, same_convolution_in_numpy(x, weight, stride, dilation), atol=1e-12)


@pytest.mark.parametrize(
    "padding, size, centres",
    [("same", 300, (11.5, 11.5)), ("symmetric", 300, (0.5, 0.5)), ("same", 320, (15.5, 31.5))],
)
def test_where_the_first_cell_looks(padding, size, centres):
    """Centre in pixels of what cell (0, 0) of the two taps sees: padding moves it."""
    body = build_backbone("mobilenet_v1", alpha=0.25, padding=padding)
    centre, step, seen = 0.5, 1, {}
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Conv2d):
            before = layer.padding[0]
            if isinstance(layer, SameConv2d):
                before = same_padding(-(-size // step), layer.kernel_size[0], layer.stride[0])[0]
            centre += step * ((layer.kernel_size[0] - 1) / 2 - before)
            step *= layer.stride[0]
            seen[name] = centre
    assert (seen["blocks.10.pointwise.conv"], seen["blocks.12.pointwise.conv"]) == centres


def test_other_paddings_and_biases_of_a_convolution():
    x = torch.zeros(1, 3, 8, 8)
    assert ConvNormAct(3, 4, 4, padding=1, norm=None)(x).shape[-1] == 7  # the last extra of SSD512
    assert ConvNormAct(3, 4, 3, padding="valid", norm=None)(x).shape[-1] == 6  # the last extras of SSD300
    assert type(conv2d(3, 4, 3)) is nn.Conv2d  # at stride 1 there is nothing to emulate
    assert ConvNormAct(3, 4).conv.bias is None and ConvNormAct(3, 4, norm=None).conv.bias is not None
    assert ConvNormAct(3, 4, bias=True).conv.bias is not None
    norm = ConvNormAct(3, 4, norm=Norm(1e-5, 0.1)).norm
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)
    with pytest.raises(ValueError, match="padding is"):
        conv2d(3, 4, 3, padding="full")
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        ConvNormAct(3, 4, activation="swish")
