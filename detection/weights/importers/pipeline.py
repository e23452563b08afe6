"""pipeline.config of TensorFlow's Object Detection API: what its checkpoints do not say themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.boxes.anchors import AnchorSpec, Size
from detection.errors import BadWeightsError
from detection.weights.importers.schema import read_text

NAME = "pipeline.config"
ACTIVATIONS = {1: "relu", 2: "relu6"}  # hyperparams.proto
SOFTMAX = 2  # post_processing.proto
KERAS_EPS = 0.001  # of a backbone that keeps its own rules (override_base_feature_extractor_hyperparams: false)
EXTRACTORS = (
    "ssd_mobilenet_v1_keras",
    "ssd_mobilenet_v2_keras",
    "ssd_mobilenet_v1_fpn_keras",
    "ssd_mobilenet_v2_fpn_keras",
)


@dataclass(frozen=True)
class Pipeline:
    """file: where it stands. classes: without background. The rest as in `SSDSpec`; epsilons of the backbone's norms, and of
    all others."""

    file: Path
    classes: int
    size: Size
    anchors: AnchorSpec
    variances: tuple[float, float, float, float]
    scores: str
    padding: str
    activation: str
    norm_eps: float
    backbone_eps: float


def find_pipeline(path: Path) -> Pipeline:
    """The config beside a checkpoint, or a folder further up, as the zoo packs it. Raises BadWeightsError, one line, where
    there is none, or it says what no network here does."""
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        if (folder / NAME).is_file():
            return read_pipeline(folder / NAME)
    raise BadWeightsError(
        f"{path}: a checkpoint of TensorFlow 2, which holds no graph: put its {NAME} beside it, or name the SavedModel "
        "that was exported from it"
    )


def read_pipeline(file: Path) -> Pipeline:
    """Raises BadWeightsError, one line."""
    ssd = read_text(file, "Pipeline", NAME).model.ssd
    extractor, resizer = ssd.feature_extractor, ssd.image_resizer.fixed_shape_resizer
    if extractor.type not in EXTRACTORS:
        raise BadWeightsError(f"{file}: its feature extractor is {extractor.type!r}; known: {', '.join(EXTRACTORS)}")
    if not ssd.image_resizer.HasField("fixed_shape_resizer") or resizer.convert_to_grayscale:
        raise BadWeightsError(f"{file}: does not stretch colour images to one size (fixed_shape_resizer)")
    rules = [extractor.conv_hyperparams]
    for name in ("convolutional_box_predictor", "weight_shared_convolutional_box_predictor"):
        if ssd.box_predictor.HasField(name):
            rules.append(getattr(ssd.box_predictor, name).conv_hyperparams)
    overrides = extractor.override_base_feature_extractor_hyperparams
    activations = {_activation(rule) for rule in rules} | (set() if overrides else {"relu6"})
    epsilons = {_epsilon(rule) for rule in rules}
    if len(activations) > 1 or None in activations or len(epsilons) > 1:
        raise BadWeightsError(
            f"{file}: its layers follow different conv_hyperparams, which those of no network here do"
        )
    eps, coder = epsilons.pop(), ssd.box_coder.faster_rcnn_box_coder
    return Pipeline(
        file=file,
        classes=ssd.num_classes,
        size=(_given(resizer, "height", 300), _given(resizer, "width", 300)),
        anchors=_anchors(ssd.anchor_generator, file),
        variances=(
            1 / _given(coder, "x_scale", 10.0),
            1 / _given(coder, "y_scale", 10.0),
            1 / _given(coder, "width_scale", 5.0),
            1 / _given(coder, "height_scale", 5.0),
        ),
        scores="softmax" if ssd.post_processing.score_converter == SOFTMAX else "sigmoid",
        padding="symmetric" if extractor.use_explicit_padding else "same",
        activation=str(activations.pop()),
        norm_eps=eps,
        backbone_eps=eps if overrides else KERAS_EPS,
    )


def _given(message: Any, field: str, default: Any) -> Any:
    """A field's value, float32's digits rounded away, or the API's own default."""
    if not message.HasField(field):
        return default
    value = getattr(message, field)
    return round(value, 6) if isinstance(value, float) else value


def _activation(rule: Any) -> str | None:
    return ACTIVATIONS.get(_given(rule, "activation", 1))


def _epsilon(rule: Any) -> float:
    norm = rule.sync_batch_norm if rule.HasField("sync_batch_norm") else rule.batch_norm
    return round(norm.epsilon, 9) if norm.HasField("epsilon") else KERAS_EPS


def _anchors(generator: Any, file: Path) -> AnchorSpec:
    """What differs from the layout's own numbers alone, so that the zoo's detectors have the layout by its name."""
    if generator.HasField("multiscale_anchor_generator"):
        rule = generator.multiscale_anchor_generator
        if rule.HasField("normalize_coordinates") and not rule.normalize_coordinates:
            raise BadWeightsError(f"{file}: its anchors are in pixels, which those of no network here are")
        options: dict[str, Any] = {"min_level": _given(rule, "min_level", 3)}
        usual = {"anchor_scale": 4.0, "scales_per_octave": 2}
        layout, ratios = "multiscale", [1.0, 2.0, 0.5]
    elif generator.HasField("ssd_anchor_generator"):
        rule = generator.ssd_anchor_generator
        square = _given(rule, "interpolated_scale_aspect_ratio", 1.0)
        base = _given(rule, "base_anchor_height", 1.0), _given(rule, "base_anchor_width", 1.0)
        if square not in (0.0, 1.0) or base != (1.0, 1.0) or rule.height_stride:
            raise BadWeightsError(f"{file}: its ssd_anchor_generator follows rules that no network here has")
        options = {} if square else {"interpolated": False}
        if not _given(rule, "reduce_boxes_in_lowest_layer", True):
            options["reduce_lowest"] = False
        if rule.scales:
            options["scales"] = [*(round(scale, 6) for scale in rule.scales), 1.0]
        usual = {"min_scale": 0.2, "max_scale": 0.95}
        layout, ratios = "tensorflow", [1.0, 2.0, 0.5, 3.0, 0.3333]
    else:
        raise BadWeightsError(f"{file}: its anchors are of no kind known here (ssd or multiscale_anchor_generator)")
    options |= {name: value for name, known in usual.items() if (value := _given(rule, name, known)) != known}
    given = [round(ratio, 6) for ratio in rule.aspect_ratios]
    if given and given != ratios:
        options["aspect_ratios"] = given
    return AnchorSpec(layout, options)
