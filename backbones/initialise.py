"""First weights of a network that will be trained."""

from torch import nn

SCHEMES = ("kaiming", "truncated_normal", "xavier")


def initialise(module: nn.Module, scheme: str = "kaiming", stddev: float = 0.09) -> None:
    """Draw the weights of all convolutions and linear layers below `module` anew; biases 0, batch norms (1, 0).

    `scheme`: "kaiming" (fan-out normal; torchvision's MobileNets, with a normal of 0.01 for linear layers),
    "truncated_normal" (of `stddev`, cut at two of them: 0.09 in slim, 0.03 in TF-OD's detection configurations),
    "xavier" (uniform; Caffe's SSD). Raises ValueError for another scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown initialisation {scheme!r}: there are {', '.join(SCHEMES)}")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if scheme == "truncated_normal":
                nn.init.trunc_normal_(layer.weight, std=stddev, a=-2 * stddev, b=2 * stddev)
            elif scheme == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
