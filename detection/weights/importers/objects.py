"""Checkpoints of TensorFlow 2's Object Detection API (`ckpt-0.index`, `.data`): layers by the objects that hold them.

They hold no graph. How the layers are joined follows from the objects' names; the input's size, anchors and scores stand in
the pipeline.config that the zoo packs beside them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.errors import BadWeightsError
from detection.weights.importers.graph import Convolution, DetectorGraph, Head
from detection.weights.importers.pipeline import Pipeline, find_pipeline
from detection.weights.importers.tensor_bundle import TensorBundle

KEY = re.compile(r"model/(?P<layer>.+)/(?P<name>\w+)/\.ATTRIBUTES/VARIABLE_VALUE")
EXTRACTOR, PREDICTOR = "_feature_extractor", "_box_predictor"
EXTRAS = f"{EXTRACTOR}/feature_map_generator", f"{EXTRACTOR}/_feature_map_generator"  # of MobileNet V2, V1
PYRAMID, HEADS = f"{EXTRACTOR}/_fpn_features_generator", f"{PREDICTOR}/_prediction_heads"
TOWER, TOWER_NORMS = f"{PREDICTOR}/_head_scope_conv_layers/PredictionTower", f"{PREDICTOR}/_base_tower_layers_for_heads"


def read_objects(bundle: TensorBundle, path: Path) -> DetectorGraph:
    """Raises BadWeightsError, one line, for a checkpoint of something else, or one without its pipeline.config."""
    objects = _Objects(bundle, str(path))
    if not objects.within(f"{EXTRACTOR}/classification_backbone") or not objects.within(PREDICTOR):
        raise BadWeightsError(
            f"{path}: a checkpoint of TensorFlow 2, but of no SSD MobileNet of its Object Detection API (it has no "
            f"model/{EXTRACTOR}/classification_backbone)"
        )
    pipeline = find_pipeline(path)
    trunk, box_heads, class_heads = objects.pyramid(pipeline) if objects.within(PYRAMID) else objects.plain(pipeline)
    per_cell = max(1, len(box_heads[0].layers[-1].bias) // 4)
    columns = len(class_heads[0].layers[-1].bias) // per_cell
    if columns != pipeline.classes + 1:
        raise BadWeightsError(
            f"{path}: predicts {columns - 1} classes, and {pipeline.file} says {pipeline.classes}: is it another's?"
        )
    return DetectorGraph(
        file=str(path),
        trunk=trunk,
        box_heads=box_heads,
        class_heads=class_heads,
        anchors=None,
        layout=pipeline.anchors,
        input_size=pipeline.size,
        mean=(127.5,) * 3,  # preprocess() of these feature extractors: 2 / 255 * x - 1
        std=(127.5,) * 3,
        columns=columns,
        variances=pipeline.variances,
        scores=pipeline.scores,
        padding=pipeline.padding,
        activation=pipeline.activation,
        details={"keras": True},
    )


class _Objects:
    """The layers of a checkpoint, each with the keys of its variables."""

    def __init__(self, bundle: TensorBundle, file: str) -> None:
        self.bundle, self.file = bundle, file
        self.layers: dict[str, dict[str, str]] = defaultdict(dict)
        for key in bundle.keys():  # noqa: SIM118
            if found := KEY.fullmatch(key):  # an optimizer's own variables end in other ways
                self.layers[found["layer"]][found["name"]] = key

    def within(self, scope: str) -> list[str]:
        """The layers in a scope, in the order of the numbers in their names."""

        def numbers(name: str) -> list[tuple[bool, int, str]]:
            return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]

        return sorted((name for name in self.layers if f"{name}/".startswith(f"{scope}/")), key=numbers)

    def plain(self, pipeline: Pipeline) -> tuple[list[Convolution], list[Head], list[Head]]:
        """Trunk, box heads and class heads of an SSD, each map with heads of its own."""
        trunk = self.convolutions(f"{EXTRACTOR}/classification_backbone", pipeline.backbone_eps)
        maps = next((scope for scope in EXTRAS if self.within(scope)), EXTRAS[0])
        trunk += self.convolutions(maps, pipeline.norm_eps, stride=2)
        heads = []
        for kind in ("box_encodings", "class_predictions_with_background"):
            levels = {
                name.removeprefix(f"{HEADS}/{kind}/").partition("/")[0] for name in self.within(f"{HEADS}/{kind}")
            }
            layers = [self.convolutions(f"{HEADS}/{kind}/{i}", pipeline.norm_eps) for i in range(len(levels))]
            heads.append([Head(both, "") for both in layers])
        box_heads, class_heads = heads
        if not box_heads or len(box_heads) != len(class_heads):
            raise BadWeightsError(f"{self.file}: {len(box_heads)} box heads and {len(class_heads)} class heads")
        return trunk, box_heads, class_heads

    def pyramid(self, pipeline: Pipeline) -> tuple[list[Convolution], list[Head], list[Head]]:
        """Those of an FPN-lite, whose maps share one predictor: the trunk has a copy of its tower for each map, as
        `assemble_pyramid` wants it."""
        eps = pipeline.norm_eps
        trunk = self.convolutions(f"{EXTRACTOR}/classification_backbone", pipeline.backbone_eps)
        trunk += self.convolutions(f"{PYRAMID}/top_layers", eps)
        laterals = 1
        while self.within(f"{PYRAMID}/residual_blocks/{laterals - 1}"):
            for part in ("residual_blocks", "conv_layers"):
                trunk += self.convolutions(f"{PYRAMID}/{part}/{laterals - 1}", eps)
            laterals += 1
        tower = self.convolutions(TOWER, eps)
        maps = {name.removeprefix(f"{TOWER_NORMS}/").split("/")[1] for name in self.within(TOWER_NORMS)}
        for level in range(len(maps)):
            if level >= laterals:
                trunk += self.convolutions(f"{EXTRACTOR}/_coarse_feature_layers/{level - laterals}", eps, stride=2)
            trunk += self._with_norms(tower, f"{TOWER_NORMS}/box_encodings/{level}", eps)
        box = self.convolutions(f"{PREDICTOR}/_box_prediction_head", eps)
        scores = self.convolutions(f"{HEADS}/class_predictions_with_background", eps)
        return trunk, [Head(box, "")] * len(maps), [Head(scores, "")] * len(maps)

    def _with_norms(self, tower: list[Convolution], scope: str, eps: float) -> list[Convolution]:
        """One map's copy of the tower: a norm of its own behind each of its layers."""
        norms = [name for name in self.within(scope) if "moving_mean" in self.layers[name]]
        ends = [i for i in range(len(tower)) if i + 1 == len(tower) or not tower[i].depthwise]
        if len(norms) != len(ends):
            raise BadWeightsError(f"{self.file}: {len(norms)} norms in {scope} for a tower of {len(ends)} layers")
        behind = {i: self._norm(name, eps) for i, name in zip(ends, norms)}
        return [replace(layer, norm=behind.get(i)) for i, layer in enumerate(tower)]

    def convolutions(self, scope: str, eps: float, stride: int = 1) -> list[Convolution]:
        """The convolutions of a scope, each with the norm that follows it. stride: of those larger than 1x1."""
        found: list[Convolution] = []
        for name in self.within(scope):
            variables = self.layers[name]
            if "moving_mean" in variables and found:
                found[-1].norm = self._norm(name, eps)
            for kernel in ("depthwise_kernel", "pointwise_kernel", "kernel"):
                if kernel in variables:
                    found.append(self._convolution(name, kernel, stride))
        if not found:
            raise BadWeightsError(f"{self.file}: holds no layers in model/{scope}, so its network is none known here")
        return found

    def _convolution(self, name: str, kernel: str, stride: int) -> Convolution:
        """HWIO -> OIHW; depthwise HWC1 -> C1HW. A separable layer's bias is its pointwise part's."""
        variables, depthwise = self.layers[name], kernel == "depthwise_kernel"
        weight = self.bundle.array(variables[kernel])
        if weight.ndim != 4 or depthwise and weight.shape[3] != 1:
            raise BadWeightsError(f"{self.file}: {name} has weights of shape {list(weight.shape)}")
        weight = np.ascontiguousarray(weight.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)), np.float32)
        bias = np.zeros(len(weight), np.float32)
        if "bias" in variables and not (depthwise and "pointwise_kernel" in variables):
            bias = self.bundle.array(variables["bias"])
        return Convolution(name, weight, bias, depthwise, stride if weight.shape[2] > 1 else 1)

    def _norm(self, name: str, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        """gamma and beta are missing where the config turns them off."""
        variables = self.layers[name]
        mean, variance = (self.bundle.array(variables[part]) for part in ("moving_mean", "moving_variance"))
        gamma = self.bundle.array(variables["gamma"]) if "gamma" in variables else np.ones_like(mean)
        beta = self.bundle.array(variables["beta"]) if "beta" in variables else np.zeros_like(mean)
        return gamma, beta, mean, variance, eps
