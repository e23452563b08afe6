"""What a network costs: parameters and multiply-adds, layer by layer, for any input size.

Works for any nn.Module built of torch's own layers, detectors too.

Convention: parameters are the weights and biases of convolutions and linear layers, gamma and beta of norms, and every
other nn.Parameter; running means and variances are none. Multiply-adds are those of convolutions and linear layers
only, for one image.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .shapes import ShapesOnly


@dataclass(frozen=True)
class Layer:
    """One call of a layer that has parameters. A layer called again appears again, with no parameters of its own."""

    name: str  # dotted, as in the state dict
    kind: str  # "convolution", "depthwise", "pointwise", "linear", "norm", or the name of the class
    output_shape: tuple[int, ...]  # without the batch; () where the forward pass never called it
    params: int
    madds: int


@dataclass(frozen=True)
class Cost:
    """Parameters, multiply-adds for one image, and both by layer in the order of execution."""

    params: int
    madds: int
    layers: tuple[Layer, ...]

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Kind of layer -> (parameters, multiply-adds), the kinds in the order in which they first appear."""
        sums: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            params, madds = sums.get(layer.kind, (0, 0))
            sums[layer.kind] = (params + layer.params, madds + layer.madds)
        return sums


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        if module.groups > 1 and module.groups == module.in_channels:
            return "depthwise"
        return "pointwise" if module.kernel_size == (1, 1) else "convolution"
    if isinstance(module, nn.Linear):
        return "linear"
    return "norm" if _is_norm(module) else type(module).__name__


def _madds(module: nn.Module, output: Tensor) -> int:
    """An output value of a convolution or linear layer costs one multiply-add a weight of its filter."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        return 0
    return output[0].numel() * module.weight[0].numel()


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes and no values: the caller's module is not touched."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_without_values(parameter), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = _without_values(buffer)
    return copy.deepcopy(module, memo).eval()


def _without_values(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def count(
    module: nn.Module, input_size: int | tuple[int, int], num_channels: int = 3, *, include_norms: bool = True
) -> Cost:
    """Count a network at an input of `input_size` pixels, (height, width) or one side, by running it without values.

    Takes a tenth of a second whatever the size. `include_norms=False` leaves the batch norms' parameters out, as the V3
    paper and slim's V2 table do. The network must take float [1, num_channels, H, W].
    """
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    network = _on_meta(module)
    counted: set[int] = set()  # parameters shared by layers count once
    called: set[str] = set()
    layers: list[Layer] = []

    def own_params(layer: nn.Module) -> int:
        if _is_norm(layer) and not include_norms:
            return 0
        fresh = [p for p in layer.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, fresh))
        return sum(p.numel() for p in fresh)

    def watch(name: str, layer: nn.Module) -> None:
        def after(_module: nn.Module, _inputs: object, output: object) -> None:
            called.add(name)
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            madds = _madds(layer, output) if isinstance(output, Tensor) else 0
            layers.append(Layer(name, _kind(layer), shape, own_params(layer), madds))

        layer.register_forward_hook(after)

    with_params = {n: m for n, m in network.named_modules() if any(True for _ in m.parameters(recurse=False))}
    for name, layer in with_params.items():
        watch(name, layer)
    with torch.no_grad(), ShapesOnly():
        network(torch.empty(1, num_channels, height, width, device="meta"))
    for name, layer in with_params.items():
        if name not in called:
            layers.append(Layer(name, _kind(layer), (), own_params(layer), 0))
    return Cost(sum(layer.params for layer in layers), sum(layer.madds for layer in layers), tuple(layers))
