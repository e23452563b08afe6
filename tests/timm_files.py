"""timm's MobileNets as state dicts, written down from the strings by which timm defines them."""

import re

import torch
from made_numbers import kernel, norm, numbers

V2 = [
    "ds_c16",
    "ir_r2_s2_e6_c24",
    "ir_r3_s2_e6_c32",
    "ir_r4_s2_e6_c64",
    "ir_r3_e6_c96",
    "ir_r3_s2_e6_c160",
    "ir_e6_c320",
]
NETWORKS = {  # model: (stem, stages, width of conv_head, what stands behind it)
    "mobilenetv1_100": (32, [["ds_c64"], ["ds_r2_c128"], ["ds_r2_c256"], ["ds_r6_c512"], ["ds_r2_c1024"]], 0, ""),
    "mobilenetv2_100": (32, [[stage] for stage in V2], 1280, "bn2"),
    "mobilenetv3_small_100": (
        16,
        [
            ["ds_c16_se"],
            ["ir_e4.5_c24", "ir_e3.67_c24"],
            ["ir_k5_e4_c40_se", "ir_r2_k5_e6_c40_se"],
            ["ir_r2_k5_e3_c48_se"],
            ["ir_r3_k5_e6_c96_se"],
            ["cn_k1_c576"],
        ],
        1024,
        "bias",
    ),
    "mobilenetv4_conv_small": (
        32,
        [
            ["cn_c32", "cn_k1_c32"],
            ["cn_c96", "cn_k1_c64"],
            ["uir_a5_k5_e3_c96", "uir_r4_a0_k3_e2_c96", "uir_a3_k0_e4_c96"],
            [
                "uir_a3_k3_e6_c128",
                "uir_a5_k5_e4_c128",
                "uir_a0_k5_e4_c128",
                "uir_a0_k5_e3_c128",
                "uir_r2_a0_k3_e4_c128",
            ],
            ["cn_k1_c960"],
        ],
        1280,
        "norm_head",
    ),
    "mobilenetv4_conv_medium": (
        32,
        [
            ["er_k3_e4_c48"],
            ["uir_a3_k5_e4_c80", "uir_a3_k3_e2_c80"],
            ["uir_a3_k5_e6_c160", "uir_r2_a3_k3_e4_c160", "uir_a3_k5_e4_c160", "uir_a3_k3_e4_c160"]
            + ["uir_a3_k0_e4_c160", "uir_a0_k0_e2_c160", "uir_a3_k0_e4_c160"],
            ["uir_a5_k5_e6_c256", "uir_a5_k5_e4_c256", "uir_r2_a3_k5_e4_c256", "uir_a0_k0_e4_c256", "uir_a3_k0_e4_c256"]
            + ["uir_a3_k5_e2_c256", "uir_a5_k5_e4_c256", "uir_r2_a0_k0_e4_c256", "uir_a5_k0_e2_c256"],
            ["cn_k1_c960"],
        ],
        1280,
        "norm_head",
    ),
}
# timm 1.0.31: forward_features of `made_numbers.image()` by these weights, loaded strictly; see `made_numbers.probes`.
GOLDEN = {
    "mobilenetv1_100": [0.0, 0.0, 0.0, 0.371243, 0.403178, 0.0, 0.294633, 0.321114, 0.112939],
    "mobilenetv2_100": [0.0, 0.817718, 0.0, 2.269737, 0.0, 0.0, 0.0, 1.549642, 1.481906],
    "mobilenetv3_small_100": [
        *(0.003235, 0.048695, -0.069524, 0.2492, -0.225012, -0.130131, 0.214034, 0.145578),
        0.01652,
    ],
    "mobilenetv4_conv_small": [158.299225, 128.14978, 79.05703, 0.0, 0.0, 11.079869, 89.677536, 0.0, 42.111502],
    "mobilenetv4_conv_medium": [
        *(10849.644531, 0.0, 0.0, 0.0, 9510.242188, 11977.255859, 0.0, 7611.426758),
        6372.42749,
    ],
}


def rounded(channels):
    new = max(8, int(channels + 4) // 8 * 8)
    return new + 8 if new < 0.9 * channels else new


class Writer:
    """state: what was written so far."""

    def __init__(self):
        self.state = {}

    def conv(self, name, out, into, size=1, bias=False):
        self.state[f"{name}.weight"] = torch.from_numpy(kernel(name, (out, into, size, size)))
        if bias:
            self.state[f"{name}.bias"] = torch.from_numpy(numbers(f"{name}/bias", (out,)))

    def bn(self, name, channels):
        values = norm(name, channels)
        parts = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}
        for part, key in parts.items():
            self.state[f"{name}.{part}"] = torch.from_numpy(values[key])
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    def gate(self, name, channels):
        self.conv(f"{name}.se.conv_reduce", rounded(channels * 0.25), channels, bias=True)
        self.conv(f"{name}.se.conv_expand", channels, rounded(channels * 0.25), bias=True)

    def block(self, name, words, before):
        """One block of a definition, given `before` channels; answers what it gives."""
        kind, *rest = words.split("_")
        found = dict(re.fullmatch(r"([a-z]+)([\d.]*)", word).groups() for word in rest)
        size, out = int(found.get("k", 3)), int(found["c"])
        inside = rounded(before * float(found.get("e", 1)))
        layers = {  # what a block of each kind has: a convolution's name, its channels, what it is given, its kernel
            "ds": (("conv_dw", before, 1, size), ("conv_pw", out, before, 1)),
            "cn": (("conv", out, before, size),),
            "er": (("conv_exp", inside, before, size), ("conv_pwl", out, inside, 1)),
            "ir": (("conv_pw", inside, before, 1), ("conv_dw", inside, 1, size), ("conv_pwl", out, inside, 1)),
        }
        for number, (part, channels, into, kernel_size) in enumerate(layers.get(kind, ()), start=1):
            self.conv(f"{name}.{part}", channels, into, kernel_size)
            self.bn(f"{name}.bn{number}", channels)
            if part == "conv_dw" and "se" in found:
                self.gate(name, channels)
        if kind not in layers:
            parts = [("dw_start", before, 1, int(found["a"])), ("pw_exp", inside, before, 1)]
            for part, channels, into, kernel_size in (
                *parts,
                ("dw_mid", inside, 1, size),
                ("pw_proj", out, inside, 1),
            ):
                if kernel_size:
                    self.conv(f"{name}.{part}.conv", channels, into, kernel_size)
                    self.bn(f"{name}.{part}.bn", channels)
        return out


def state_of(model):
    """The state dict of a model of timm, 1000 classes."""
    stem, stages, head, behind = NETWORKS[model]
    writer = Writer()
    writer.conv("conv_stem", stem, 3, 3)
    writer.bn("bn1", stem)
    channels = stem
    for stage, definitions in enumerate(stages):
        repeats = [re.sub(r"_r\d+", "", words) for words in definitions for _ in range(times(words))]
        for number, words in enumerate(repeats):
            channels = writer.block(f"blocks.{stage}.{number}", words, channels)
    if head:
        writer.conv("conv_head", head, channels, bias=behind == "bias")
        channels = head
    if behind in ("bn2", "norm_head"):
        writer.bn(behind, channels)
    writer.state["classifier.weight"] = torch.from_numpy(numbers("classifier", (1000, channels)))
    writer.state["classifier.bias"] = torch.from_numpy(numbers("classifier/bias", (1000,)))
    return writer.state


def times(words):
    found = re.search(r"_r(\d+)", words)
    return int(found[1]) if found else 1
