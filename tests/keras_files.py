"""Files as Keras writes them for keras.applications' MobileNet and MobileNetV2: the layers' own names, three forms of HDF5."""

import numpy as np
from made_numbers import kernel, norm, numbers

_V2 = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
_V1 = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
FORMS = ("keras 2, weights", "keras 3, model", "keras 3, weights")
# Keras 3.15.1 on TensorFlow 2.21: what comes out of the last activation for `made_numbers.image()`, by these weights; see
# `made_numbers.probes`, of the features with their channels first.
GOLDEN = {
    "MobileNet": [0.0, 0.194733, 0.358119, 0.414389, 0.0, 0.813363, 0.0, 0.0, 0.114333],
    "MobileNetV2": [0.768763, 3.85235, 4.210072, 0.0, 0.866931, 0.421813, 6.0, 0.0, 1.494054],
}


def _conv(name, out, into, size):
    """height, width, in, out."""
    return name, {"kernel": kernel(name, (out, into, size, size)).transpose(2, 3, 1, 0)}


def _depthwise(name, channels):
    """height, width, channels, 1."""
    return name, {"depthwise_kernel": kernel(name, (channels, 1, 3, 3)).transpose(2, 3, 0, 1)}


def _norm(name, channels):
    values = norm(name, channels)
    return name, {
        "gamma": values["gamma"],
        "beta": values["beta"],
        "moving_mean": values["mean"],
        "moving_variance": values["variance"],
    }


def layers_of(network):
    """The layers that hold numbers, in order: (name, {part: array})."""
    if network == "MobileNet":
        yield _conv("conv1", 32, 3, 3)
        yield _norm("conv1_bn", 32)
        before = 32
        for i, channels in enumerate(_V1, 1):
            yield _depthwise(f"conv_dw_{i}", before)
            yield _norm(f"conv_dw_{i}_bn", before)
            yield _conv(f"conv_pw_{i}", channels, before, 1)
            yield _norm(f"conv_pw_{i}_bn", channels)
            before = channels
        yield "conv_preds", {"kernel": numbers("preds", (1, 1, 1024, 1000)), "bias": numbers("preds/bias", (1000,))}
        return
    yield _conv("Conv1", 32, 3, 3)
    yield _norm("bn_Conv1", 32)
    before, number = 32, 0
    for factor, channels, repeats in _V2:
        for _ in range(repeats):
            name, inside = (f"block_{number}_" if number else "expanded_conv_"), before * factor
            if factor > 1:
                yield _conv(f"{name}expand", inside, before, 1)
                yield _norm(f"{name}expand_BN", inside)
            yield _depthwise(f"{name}depthwise", inside)
            yield _norm(f"{name}depthwise_BN", inside)
            yield _conv(f"{name}project", channels, inside, 1)
            yield _norm(f"{name}project_BN", channels)
            before, number = channels, number + 1
    yield _conv("Conv_1", 1280, 320, 1)
    yield _norm("Conv_1_bn", 1280)
    yield "predictions", {"kernel": numbers("preds", (1280, 1000)), "bias": numbers("preds/bias", (1000,))}


def write(path, layers, form):
    """Writes an .h5 file of a form of `FORMS`."""
    import h5py

    with h5py.File(path, "w") as file:
        if form == "keras 3, weights":
            counts = {}
            for name, parts in layers:
                kind = "batch_normalization" if "gamma" in parts else "conv2d"
                number = counts[kind] = counts.get(kind, -1) + 1
                group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
                group.attrs["name"] = name
                for i, array in enumerate(parts.values()):
                    group[str(i)] = np.ascontiguousarray(array)
            return
        model = form == "keras 3, model"
        root = file.create_group("model_weights") if model else file
        layers = list(layers)
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        if model:
            file.attrs["model_config"] = "{}"
            file.create_group("optimizer_weights/adam")["kernel"] = np.zeros((3, 3), np.float32)
        for name, parts in layers:
            group = root.create_group(name)
            names = {part: "kernel" if model and part == "depthwise_kernel" else part for part in parts}
            end = "" if model else ":0"
            group.attrs["weight_names"] = [f"{name}/{names[part]}{end}".encode() for part in parts]
            for part, array in parts.items():
                group[f"{name}/{names[part]}{end}"] = np.ascontiguousarray(array)
