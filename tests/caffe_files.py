"""chuanqi305's MobileNet-SSD with random weights: as a .caffemodel and a .prototxt as Caffe writes them, and what it computes,
layer by layer from Caffe's definitions, with no code of the project but the schema of its protobuf messages."""

import math

import numpy as np
import torch
from torch.nn import functional as F

WIDTHS = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
EXTRAS = [("conv14", 256, 512), ("conv15", 128, 256), ("conv16", 128, 256), ("conv17", 64, 128)]
MAPS = ["conv11", "conv13", "conv14_2", "conv15_2", "conv16_2", "conv17_2"]
MIN_SIZES, MAX_SIZES = [60, 105, 150, 195, 240, 285], [None, 150, 195, 240, 285, 300]


def mobilenet_ssd(classes=20, alpha=1.0, size=300, norms="merged", seed=0):
    """The layers as plain dicts {name, type, bottom, top, blobs, ...}. norms: "merged", or "whole" (BatchNorm, Scale)."""
    random, layers, channels = np.random.default_rng(seed), [], {"data": 3}

    def layer(name, kind, bottom, top=None, blobs=(), **rules):
        top = [top or name] if not isinstance(top, list) else top
        bottom = [bottom] if isinstance(bottom, str) else bottom
        layers.append({"name": name, "type": kind, "bottom": bottom, "top": top, "blobs": list(blobs), **rules})

    def conv(name, bottom, out, kernel=1, stride=1, group=1, relu=True, gain=2.0):
        shape = (out, channels[bottom] // group, kernel, kernel)
        weight = random.normal(0, math.sqrt(gain / math.prod(shape[1:])), shape).astype(np.float32)
        bias, whole = random.normal(0, 0.2, out).astype(np.float32), norms == "whole" and relu
        rules = {"num_output": out, "kernel_size": kernel, "pad": kernel // 2, "stride": stride, "group": group}
        layer(
            name, "Convolution", bottom, name, [weight] if whole else [weight, bias], convolution=rules, bias=not whole
        )
        if whole:
            count = np.float32(999.98)  # of the moving sums
            mean, variance = random.normal(0, 0.3, out), random.uniform(0.5, 2, out)
            layer(f"{name}/bn", "BatchNorm", name, name, [mean * count, variance * count, np.array([count])])
            layer(f"{name}/scale", "Scale", name, name, [random.uniform(0.7, 1.4, out), bias])
        if relu:
            layer(f"{name}/relu", "ReLU", name, name)
        channels[name] = out
        return name

    def wide(n):
        return max(8, int(n * alpha))

    layer("data", "Input", [], "data", size=size)
    x = conv("conv0", "data", wide(32), 3, 2)
    for i, (width, stride) in enumerate(zip(WIDTHS[1:], STRIDES), 1):
        x = conv(f"conv{i}/dw", x, channels[x], 3, stride, channels[x])
        x = conv(f"conv{i}", x, wide(width))
    for name, hidden, out in EXTRAS:
        x = conv(f"{name}_2", conv(f"{name}_1", x, wide(hidden)), wide(out), 3, 2)
    priors = []
    for i, source in enumerate(MAPS):
        number = 3 if i == 0 else 6
        for kind, numbers in (("loc", 4), ("conf", classes + 1)):
            head = conv(f"{source}_mbox_{kind}", source, number * numbers, relu=False, gain=0.5 if kind == "loc" else 4)
            layer(f"{head}_perm", "Permute", head)
            layer(f"{head}_flat", "Flatten", f"{head}_perm")
        ratios = [2.0] if i == 0 else [2.0, 3.0]
        priors.append({"min_size": MIN_SIZES[i], "max_size": MAX_SIZES[i], "aspect_ratio": ratios})
        layer(f"{source}_mbox_priorbox", "PriorBox", [source, "data"], prior=priors[-1])
    for end in ("loc", "conf"):
        layer(f"mbox_{end}", "Concat", [f"{source}_mbox_{end}_flat" for source in MAPS])
    layer("mbox_priorbox", "Concat", [f"{source}_mbox_priorbox" for source in MAPS], axis=2)
    layer("mbox_conf_reshape", "Reshape", "mbox_conf", columns=classes + 1)
    layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape")
    layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax")
    layer("detection_out", "DetectionOutput", ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"], columns=classes + 1)
    return layers


def write_caffemodel(layers, file):
    """The layers with their numbers, as `Net::ToProto` writes them."""
    from detection.weights.importers.schema import message

    net = message("Net")
    net.name = "MobileNet-SSD"
    for one in layers:
        made = net.layer.add(name=one["name"], type=one["type"], bottom=one["bottom"], top=one["top"])
        for array in one["blobs"]:
            blob = made.blobs.add()
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
            blob.shape.dim.extend(np.shape(array))
        if "size" in one:
            made.input_param.shape.add().dim.extend([1, 3, one["size"], one["size"]])
        if "convolution" in one:
            rules = one["convolution"]
            made.convolution_param.pad.append(rules["pad"])
            made.convolution_param.stride.append(rules["stride"])
            made.convolution_param.group = rules["group"]
        if "prior" in one:
            prior = made.prior_box_param
            prior.min_size.append(one["prior"]["min_size"])
            prior.max_size.extend([one["prior"]["max_size"]] if one["prior"]["max_size"] else [])
            prior.aspect_ratio.extend(one["prior"]["aspect_ratio"])
            prior.flip, prior.clip, prior.offset = True, False, 0.5
            prior.variance.extend([0.1, 0.1, 0.2, 0.2])
    file.write_bytes(net.SerializeToString())
    return file


def write_prototxt(layers, file, score=0.01):
    """The same net as text, which OpenCV wants beside it."""
    lines = ['name: "MobileNet-SSD"']
    for one in layers:
        lines.append("layer {" + f' name: "{one["name"]}" type: "{one["type"]}"')
        lines += [f'  bottom: "{name}"' for name in one["bottom"]] + [f'  top: "{name}"' for name in one["top"]]
        if "size" in one:
            lines.append(f"  input_param {{ shape {{ dim: 1 dim: 3 dim: {one['size']} dim: {one['size']} }} }}")
        if "convolution" in one:
            rules = " ".join(f"{key}: {value}" for key, value in one["convolution"].items())
            lines.append(f"  convolution_param {{ {rules} bias_term: {str(one['bias']).lower()} }}")
        if one["type"] == "Scale":
            lines.append("  scale_param { bias_term: true }")
        if one["type"] == "Permute":
            lines.append("  permute_param { order: 0 order: 2 order: 3 order: 1 }")
        if one["type"] == "Flatten":
            lines.append("  flatten_param { axis: 1 }")
        if one["type"] == "Concat":
            lines.append(f"  concat_param {{ axis: {one.get('axis', 1)} }}")
        if one["type"] == "Reshape":
            lines.append(f"  reshape_param {{ shape {{ dim: 0 dim: -1 dim: {one['columns']} }} }}")
        if one["type"] == "Softmax":
            lines.append("  softmax_param { axis: 2 }")
        if "prior" in one:
            prior = one["prior"]
            sizes = f"min_size: {prior['min_size']}" + (f" max_size: {prior['max_size']}" if prior["max_size"] else "")
            ratios = " ".join(f"aspect_ratio: {ratio}" for ratio in prior["aspect_ratio"])
            lines.append(f"  prior_box_param {{ {sizes} {ratios} flip: true clip: false")
            lines.append("    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }")
        if one["type"] == "DetectionOutput":
            lines.append(f"  detection_output_param {{ num_classes: {one['columns']} share_location: true")
            lines.append("    background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 5000 }")
            lines.append(f"    code_type: CENTER_SIZE keep_top_k: 5000 confidence_threshold: {score} }}")
        lines.append("}")
    file.write_text("\n".join(lines) + "\n")
    return file


def run(layers, images):
    """RGB uint8 [N, S, S, 3] -> Caffe's mbox_loc [N, A, 4] and mbox_conf [N, A, columns]."""
    pixels = torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    blobs = {"data": (pixels - 127.5) * 0.007843}
    for one in layers:
        x = [blobs[name] for name in one["bottom"] if name in blobs]
        numbers = [torch.from_numpy(np.asarray(blob, np.float32)) for blob in one["blobs"]]
        y = None
        if not x:  # what comes behind the scores
            continue
        if one["type"] == "Convolution":
            rules, bias = one["convolution"], numbers[1] if one["bias"] else None
            y = F.conv2d(x[0], numbers[0], bias, rules["stride"], rules["pad"], groups=rules["group"])
        elif one["type"] == "BatchNorm":
            mean, variance = (numbers[i] / numbers[2] for i in range(2))
            y = (x[0] - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        elif one["type"] == "Scale":
            y = x[0] * numbers[0][:, None, None] + numbers[1][:, None, None]
        elif one["type"] == "ReLU":
            y = x[0].clamp(min=0)
        elif one["type"] == "Permute":
            y = x[0].permute(0, 2, 3, 1)
        elif one["type"] == "Flatten":
            y = x[0].flatten(1)
        elif one["type"] == "Concat":
            y = torch.cat(x, 1)
        if y is not None:
            blobs[one["top"][0]] = y
    columns = next(one["columns"] for one in layers if one["type"] == "DetectionOutput")
    return blobs["mbox_loc"].unflatten(1, (-1, 4)).numpy(), blobs["mbox_conf"].unflatten(1, (-1, columns)).numpy()


def priors(layers, images):
    """prior_box_layer.cpp without steps -> [A, 4] corners in fractions of the input."""
    size, found = images.shape[1], []
    side = -(-size // 16)
    for one in layers:
        if "prior" not in one:
            continue
        low, high = one["prior"]["min_size"], one["prior"]["max_size"]
        sizes = [(low, low)] + ([(math.sqrt(low * high),) * 2] if high else [])
        for ratio in one["prior"]["aspect_ratio"]:
            sizes += [(low * math.sqrt(r), low / math.sqrt(r)) for r in (ratio, 1 / ratio)]
        for y in range(side):
            for x in range(side):
                cx, cy = (x + 0.5) * size / side, (y + 0.5) * size / side
                found += [[(cx - w / 2), (cy - h / 2), (cx + w / 2), (cy + h / 2)] for w, h in sizes]
        side = -(-side // 2)
    return np.array(found) / size
