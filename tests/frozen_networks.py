"""TensorFlow's detectors with random weights, small, as plain lists of operations.

The three architectures are written down from TensorFlow's model definitions (slim's mobilenet_v1 and mobilenet_v2,
object_detection's feature map generators, predictors and anchor generators) and executed operation by operation, with
no code of the project: `run` is what an importer's network is compared with. `frozen_files` writes them as files.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

CLASSES = 90


@dataclass
class Op:
    """One operation; weight [out, in / groups, kh, kw] and bias [out] are a convolution's."""

    kind: str  # "conv", "depthwise", "add", "double"
    output: str
    inputs: list[str]
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: int = 1
    relu6: bool = False


@dataclass
class Network:
    """Operations in order, the (box, class) outputs of each feature map, and TensorFlow's anchors [A, 4] (y, x, h, w)."""

    size: int
    seed: int = 0
    ops: list[Op] = field(default_factory=list)
    heads: list[tuple[str, str]] = field(default_factory=list)
    anchors: np.ndarray | None = None
    columns: int = CLASSES + 1
    mean: float = 127.5  # and standard deviation

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)
        self.channels = {"image": 3}
        self.sides = {"image": self.size}

    def conv(self, x, out=None, kernel=1, stride=1, relu6=True, weight=None, bias=True, gain=2.0):
        """A convolution; depthwise where no number of outputs is given. Weights keep the activations' size."""
        into, depthwise = self.channels[x], out is None
        out = into if depthwise else out
        shape = (out, 1 if depthwise else into, kernel, kernel)
        if weight is None:
            weight = self.random.normal(0, math.sqrt(gain / math.prod(shape[1:])), shape).astype(np.float32)
        offset = self.random.normal(0, 0.2, out).astype(np.float32) if bias else np.zeros(out, np.float32)
        name = f"layer{len(self.ops)}"
        self.ops.append(Op("depthwise" if depthwise else "conv", name, [x], weight, offset, stride, relu6))
        self.channels[name], self.sides[name] = out, -(-self.sides[x] // stride)
        return name

    def join(self, kind, *inputs):
        name = f"layer{len(self.ops)}"
        self.ops.append(Op(kind, name, list(inputs)))
        self.channels[name] = self.channels[inputs[0]]
        self.sides[name] = self.sides[inputs[0]] * (2 if kind == "double" else 1)
        return name


def mobilenet_v1(net, alpha):
    """slim's mobilenet_v1 -> the outputs of Conv2d_11 and Conv2d_13."""
    x = net.conv("image", int(32 * alpha), 3, 2)
    for number, (stride, channels) in enumerate(
        [(1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024)], 1
    ):
        x = net.conv(net.conv(x, None, 3, stride), int(channels * alpha))
        if number == 11:
            tap = x
    return tap, x


def mobilenet_v2(net, alpha, keras=False):
    """slim's mobilenet_v2 -> expanded_conv_{5, 12}'s outputs, expanded_conv_13's expansion, the last layer."""

    def width(channels, least=16):  # to multiples of eight, never more than a tenth below
        rounded = max(least, int(channels * alpha + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * alpha else rounded

    def adds(
        x, y, channels
    ):  # keras: object_detection's mobilenet_v2.py compares the input with what is not yet 16 wide
        return net.channels[x] == (width(int(channels * alpha) / alpha, 8) if keras else net.channels[y])

    found, x, number = {}, net.conv("image", width(32), 3, 2), 0
    for factor, channels, repeats, stride in [
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    ]:
        for repeat in range(repeats):
            inside = x if factor == 1 else net.conv(x, net.channels[x] * factor)
            found[f"expand{number}"] = inside
            step = stride if repeat == 0 else 1
            y = net.conv(net.conv(inside, None, 3, step), width(channels), relu6=False, gain=1.0)
            x = net.join("add", x, y) if step == 1 and adds(x, y, channels) else y
            found[f"block{number}"] = x
            number += 1
    top = net.conv(x, max(1280, width(1280)))
    return found["block5"], found["block12"], found["expand13"], top


def predict(net, x, anchors, separable=False):
    """The two outputs of one map; scores of all sizes, most of them small."""
    pair = []
    for numbers, gain in ((4, 1.0), (net.columns, 4.0)):
        y = net.conv(x, None, 3) if separable else x
        pair.append(net.conv(y, anchors * numbers, relu6=False, gain=gain))
    net.heads.append(tuple(pair))


def extras(net, x, separable):
    """multi_resolution_feature_maps: four maps of half the side each, 1x1 to half the depth before each."""
    maps = []
    for channels in (512, 256, 256, 128):
        x = net.conv(x, channels // 2)
        x = net.conv(net.conv(x, None, 3, 2), channels) if separable else net.conv(x, channels, 3, 2)
        maps.append(x)
    return maps


def grid_anchors(sides):
    """multiple_grid_anchor_generator.py for a square image: (y, x, h, w), cell by cell."""
    scales = [0.2 + (0.95 - 0.2) * i / (len(sides) - 1) for i in range(len(sides))] + [1.0]
    rows = []
    for i, side in enumerate(sides):
        shapes = [(scales[i], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        shapes.append((math.sqrt(scales[i] * scales[i + 1]), 1.0))
        if i == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        for y in range(side):
            for x in range(side):
                for scale, ratio in shapes:
                    rows.append(((y + 0.5) / side, (x + 0.5) / side, scale / ratio**0.5, scale * ratio**0.5))
    return np.array(rows, np.float32)


def pyramid_anchors(sides, size, min_level=3):
    """multiscale_grid_anchor_generator.py, anchor scale 4, two scales an octave, for an input that 2^level divides."""
    rows = []
    for level, side in enumerate(sides, min_level):
        for y in range(side):
            for x in range(side):
                for ratio in (1.0, 2.0, 0.5):
                    for octave in (1.0, 2**0.5):
                        base = 4 * octave * 2**level / size
                        rows.append(((y + 0.5) / side, (x + 0.5) / side, base / ratio**0.5, base * ratio**0.5))
    return np.array(rows, np.float32)


def ssd_v1(size=96, alpha=0.25, seed=0):
    """ssd_mobilenet_v1_coco."""
    net = Network(size, seed)
    taps = mobilenet_v1(net, alpha)
    maps = [*taps, *extras(net, taps[-1], separable=False)]
    for i, x in enumerate(maps):
        predict(net, x, 3 if i == 0 else 6)
    net.anchors = grid_anchors([net.sides[x] for x in maps])
    return net


def ssdlite_v2(size=96, alpha=0.35, seed=0):
    """ssdlite_mobilenet_v2_coco."""
    net = Network(size, seed)
    *_, tap, top = mobilenet_v2(net, alpha)
    maps = [tap, top, *extras(net, top, separable=True)]
    for i, x in enumerate(maps):
        predict(net, x, 3 if i == 0 else 6, separable=True)
    net.anchors = grid_anchors([net.sides[x] for x in maps])
    return net


def fpnlite_v2(size=128, alpha=0.35, channels=32, depth=2, seed=0, keras=False):
    """ssd_mobilenet_v2_fpnlite: the predictor's weights are one for all maps, each map's batch norm folded into a copy."""
    net = Network(size, seed)
    fine, middle, _, coarse = mobilenet_v2(net, alpha, keras)

    def separable(x, stride=1):
        return net.conv(net.conv(x, None, 3, stride, relu6=False, bias=False), channels)

    maps = [net.conv(coarse, channels, relu6=False)]
    for x in (middle, fine):
        doubled = net.join("double", maps[0])
        maps.insert(0, separable(net.join("add", doubled, net.conv(x, channels, relu6=False))))
    for _ in range(2):
        maps.append(separable(maps[-1], 2))
    spatial = [net.random.normal(0, 0.35, (channels, 1, 3, 3)).astype(np.float32) for _ in range(depth + 2)]
    mixing = [net.random.normal(0, 0.25, (channels, channels, 1, 1)).astype(np.float32) for _ in range(depth)]
    outputs = [net.random.normal(0, 0.1, (6 * n, channels, 1, 1)).astype(np.float32) for n in (4, net.columns)]
    offsets = [net.random.normal(0, 0.2, 6 * n).astype(np.float32) for n in (4, net.columns)]
    for x in maps:
        for k in range(depth):
            x = net.conv(x, None, 3, relu6=False, weight=spatial[k], bias=False)
            norm = net.random.uniform(0.5, 1.5, (channels, 1, 1, 1)).astype(np.float32)
            x = net.conv(x, channels, weight=mixing[k] * norm)
        pair = []
        for k in range(2):
            y = net.conv(x, None, 3, relu6=False, weight=spatial[depth + k], bias=False)
            pair.append(net.conv(y, len(offsets[k]), relu6=False, weight=outputs[k]))
            net.ops[-1].bias = offsets[k]
        net.heads.append(tuple(pair))
    net.anchors = pyramid_anchors([net.sides[x] for x in maps], size)
    return net


def activations(net, images):
    """uint8 [N, size, size, 3] -> every operation's output [N, C, h, w], by name."""
    found = {"image": (torch.from_numpy(images).permute(0, 3, 1, 2).float() - net.mean) / net.mean}
    for op in net.ops:
        first, *others = [found[name] for name in op.inputs]
        if op.kind == "add":
            y = first + others[0]
        elif op.kind == "double":
            y = first.repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            kernel, height = op.weight.shape[2], first.shape[2]
            pad = max((-(-height // op.stride) - 1) * op.stride + kernel - height, 0)  # TensorFlow's SAME
            padded = F.pad(first, (pad // 2, pad - pad // 2) * 2)
            groups = len(op.weight) if op.kind == "depthwise" else 1
            y = F.conv2d(padded, torch.from_numpy(op.weight), torch.from_numpy(op.bias), op.stride, groups=groups)
        found[op.output] = y.clamp(0, 6) if op.relu6 else y
    return found


def run(net, images):
    """uint8 [N, size, size, 3] -> TensorFlow's encodings [N, A, 4] (ty, tx, th, tw) and scores [N, A, columns]."""
    found, columns = activations(net, images), []
    for which, numbers in ((0, 4), (1, net.columns)):
        parts = [found[pair[which]].permute(0, 2, 3, 1).reshape(len(images), -1, numbers) for pair in net.heads]
        columns.append(torch.cat(parts, 1))
    return columns[0].numpy(), columns[1].sigmoid().numpy()


def decode(net, encodings):
    """faster_rcnn_box_coder.py with scales 10, 10, 5, 5 -> [N, A, 4] (ymin, xmin, ymax, xmax)."""
    ty, tx, th, tw = np.moveaxis(encodings.astype(np.float64), -1, 0)
    ya, xa, ha, wa = net.anchors.astype(np.float64).T
    y, x, h, w = ty / 10 * ha + ya, tx / 10 * wa + xa, np.exp(th / 5) * ha, np.exp(tw / 5) * wa
    return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)


def parameters(net):
    """How many numbers are learned: every convolution but a head's last, and those without bias, has a batch norm."""
    heads = {name for pair in net.heads for name in pair}
    return sum(
        op.weight.size + len(op.bias) * (1 if op.output in heads else 2) for op in net.ops if op.bias is not None
    )


def noise(net, number=2, seed=3):
    """Images that no two cells of which are alike."""
    return np.random.default_rng(seed).integers(0, 256, (number, net.size, net.size, 3), np.uint8)
