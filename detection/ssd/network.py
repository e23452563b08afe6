"""The detector: backbone + extras + heads -> raw boxes and raw scores at every anchor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from backbones import build_backbone
from backbones.shapes import ShapesOnly, shapes_only
from detection.boxes.anchors import Grid, Size, anchors_for, moved_grid
from detection.errors import MobileSSDError
from detection.ssd.cell_centres import Follow
from detection.ssd.extras import Extras
from detection.ssd.heads import Heads, last_convolution
from detection.ssd.pyramid import Pyramid, SharedHeads
from detection.ssd.spec import SSDSpec


class SSD(nn.Module):
    """A single-shot detector (Liu et al. 2016) as `spec` describes it: `.backbone`, `.extras` or `.pyramid`, `.heads`.

    A normalised batch [N, 3, H, W] -> encodings [N, A, 4] (tx, ty, tw, th) and logits [N, A, K], K = classes + 1 with
    background in column 0; anchors in the order map, row, column, anchor of the cell.
    """

    def __init__(self, spec: SSDSpec) -> None:
        super().__init__()
        self.spec = spec
        try:
            self.backbone = build_backbone(spec.backbone, taps=spec.taps or None, **shared_options(spec))
        except ValueError as error:
            raise MobileSSDError(str(error)) from None
        channels = [tap.channels for tap in self.backbone.taps]
        self.extras = Extras(channels[-1], spec)
        self.pyramid: Pyramid | None = None
        if spec.pyramid is not None:
            self.pyramid = Pyramid(channels, spec)
            channels = [spec.pyramid.channels] * (len(channels) + spec.pyramid.coarse)
        channels += [extra.channels for extra in spec.extras]
        per_cell = spec.anchors.per_cell(len(channels), spec.input.size)
        if spec.pyramid is None:
            self.heads: Heads | SharedHeads = Heads(channels, per_cell, spec)
        elif spec.extras or len(set(per_cell)) > 1:
            raise MobileSSDError("a pyramid has no extras, and anchors of one kind on all its maps")
        else:
            self.heads = SharedHeads(len(channels), per_cell[0], spec)
        initialise(self)

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps that the heads read, finest first."""
        maps = self.backbone(x)
        if self.pyramid is not None:
            return self.pyramid(maps)
        return maps + self.extras(maps[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encodings, logits = zip(*self.heads(self.maps(x)))
        return torch.cat(encodings, 1), torch.cat(logits, 1)


def shared_options(spec: SSDSpec) -> dict:
    """What a backbone is built with: its own options, and the rules that hold for the whole network."""
    options = {"padding": spec.padding, "norm_eps": spec.norm_eps, "norm_momentum": spec.norm_momentum}
    if spec.backbone == "vgg16":  # has no norms, and pads as its paper does
        options = {}
    if spec.backbone.startswith(("mobilenet_v1", "mobilenet_v2")):
        options["activation"] = spec.activation
    return options | dict(spec.backbone_options)


def build(spec: SSDSpec) -> SSD:
    """The network of a spec with fresh weights. Raises MobileSSDError, one line, where the spec cannot be built."""
    ssd = SSD(spec)
    feature_maps(ssd)  # an input too small for the pyramid is found out here, not in the middle of a run
    return ssd


def feature_maps(ssd: SSD, input_size: Size | None = None) -> tuple[Size, ...]:
    """(height, width) of each map at an input size, asked of the network itself without computing anything."""
    return tuple(size for size, _ in looks(ssd, input_size or ssd.spec.input.size))


def looks(ssd: SSD, input_size: Size) -> list[tuple[Size, Grid]]:
    """Of each map at an input size its (height, width), and where its cells look, in pixels: the middle of the first
    cell's receptive field (y, x) and the steps (y, x); the middle of pixel 0 is 0.5. Nothing is computed."""
    height, width = input_size
    parameters = {name: p.detach().to("meta") for name, p in ssd.named_parameters()}
    buffers = {name: b.detach().to("meta") for name, b in ssd.named_buffers()}
    image = torch.empty(1, 3, height, width, device="meta")
    was_training = ssd.training
    ssd.eval()
    try:
        with ShapesOnly(), Follow(image) as follow:
            maps = torch.func.functional_call(_Maps(ssd), _prefixed(parameters | buffers), (image,))
    except ValueError as error:  # the backbone's own sentence
        raise MobileSSDError(str(error)) from None
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise MobileSSDError(f"an input of {height} x {width} is too small for this pyramid ({reason})") from None
    finally:
        ssd.train(was_training)
    found = []
    for one in maps:
        lattice = follow.of(one)
        found.append(((one.shape[2], one.shape[3]), (lattice.y + 0.5, lattice.x + 0.5, *lattice[2:])))
    return found


def anchor_grids(ssd: SSD, input_size: Size | None = None) -> tuple[Grid, ...]:
    """The anchor centres of each map in pixels, where they follow the network (`AnchorSpec.centred_at`); else ()."""
    size = input_size or ssd.spec.input.size
    return () if ssd.spec.anchors.centred_at in (None, size) else _grids(ssd, size, looks(ssd, size))


def _grids(ssd: SSD, size: Size, here: list[tuple[Size, Grid]]) -> tuple[Grid, ...]:
    spec, trained = ssd.spec.anchors, ssd.spec.anchors.centred_at
    if trained is None or trained == size:
        return ()
    there = looks(ssd, trained)
    return tuple(
        moved_grid(cell, trained, (old, new), (old_look, new_look))
        for cell, (old, old_look), (new, new_look) in zip(spec.cells(len(there), trained), there, here)
    )


def anchors_of(ssd: SSD, input_size: Size | None = None) -> np.ndarray:
    """All anchors `cxcywh` float32 [A, 4] in fractions of the input, from the maps' real sizes."""
    size = input_size or ssd.spec.input.size
    here = looks(ssd, size)
    return anchors_for(ssd.spec.anchors, [maps for maps, _ in here], size, _grids(ssd, size, here))


def anchors_at(spec: SSDSpec, size: Size) -> np.ndarray:
    """`anchors_of` the network of `spec.resized(size)`, without building its weights. Raises MobileSSDError where the size
    is too small for it."""
    with shapes_only():
        return anchors_of(SSD(spec.resized(size)))


class Deployable(nn.Module):
    """A detector as it is deployed: uint8 RGB images [N, H, W, 3] in, float32 encodings and logits out.

    The normalisation lives inside, so that every runtime and every exported file takes the same plain images.
    """

    def __init__(self, ssd: SSD) -> None:
        super().__init__()
        self.ssd = ssd
        mean, std = (
            torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (ssd.spec.input.mean, ssd.spec.input.std)
        )
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 RGB [N, H, W, 3] -> what the backbone sees, float [N, 3, H, W] in channels_last order."""
        x = images.permute(0, 3, 1, 2)
        if self.ssd.spec.input.color == "bgr":
            x = x.flip(1)
        return x.to(self.scale.dtype) * self.scale + self.shift

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encodings, logits = self.ssd(self.normalise(images))
        return encodings.float(), logits.float()


class _Maps(nn.Module):
    def __init__(self, ssd: SSD) -> None:
        super().__init__()
        self.ssd = ssd

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.ssd.maps(x)


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"ssd.{name}": tensor for name, tensor in tensors.items()}


def initialise(ssd: SSD) -> None:
    """Extras and heads from a truncated normal of 0.03 (TF-OD's configs), or Xavier's uniform where they have no norms
    (Caffe, pytorch-ssd); biases 0, class biases as the spec says. A pyramid's layers, of which many have no norm behind
    them, from He's normal, its last ones from a normal of 0.01 (RetinaNet).

    A focal loss wants class biases of -log((1 - pi) / pi), -4.6 at pi = 0.01, so that it does not start among thousands
    of confident mistakes (Lin et al. 2017, section 3.3).
    """
    added = [part for part in (ssd.extras, ssd.pyramid, ssd.heads) if part is not None]
    for module in [module for part in added for module in part.modules()]:
        if isinstance(module, nn.Conv2d):
            if ssd.pyramid is not None:
                nn.init.kaiming_normal_(module.weight)
            elif ssd.spec.extras_norm:
                nn.init.trunc_normal_(module.weight, std=0.03, a=-0.06, b=0.06)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in ssd.heads:
        if ssd.pyramid is not None:
            nn.init.normal_(last_convolution(head.box).weight, std=0.01)
            nn.init.normal_(last_convolution(head.score).weight, std=0.01)
        nn.init.constant_(last_convolution(head.score).bias, ssd.spec.heads.class_bias)
