"""Writes the networks of `frozen_networks` as TensorFlow 2's Object Detection API does: SavedModels of functions, and
checkpoints of objects with their pipeline.config."""

import numpy as np
from frozen_files import graph_def, tensorflow_graph, write_bundle

OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


def write_saved_model(net, folder, change=None):
    """`saved_model.pb` and `variables/`: a signature calls a function, which calls the detector; images go through a loop.
    change: a function that is handed the MetaGraph before it is written."""
    from detection.weights.importers.schema import message

    nodes, constants = tensorflow_graph(net, "kept")
    variables = [name for name in constants if name.startswith("FeatureExtractor/")]
    model = message("SavedModel")
    meta = model.meta_graphs.add()
    top, library = meta.graph_def, meta.graph_def.library
    top.node.add(name="serving_default_input_tensor", op="Placeholder")
    for name in variables:
        made = top.node.add(name=name, op="VarHandleOp")
        made.attr.add(key="shared_name").value.s = name.encode()
    arguments = ["serving_default_input_tensor", *variables]
    call(top.node, "StatefulPartitionedCall", "wrapper", arguments)
    signature = meta.signature_def.add(key="serving_default").value
    signature.outputs.add(key="raw").value.name = "StatefulPartitionedCall:0"

    inner = [f"argument{i}" for i in range(len(arguments))]
    wrapper = function(library, "wrapper", inner, {"out": "Identity:output:0"})
    call(wrapper.node_def, "StatefulPartitionedCall", "detector", inner)
    wrapper.node_def.add(name="Identity", op="Identity", input=["StatefulPartitionedCall:output:0"])

    looped = [n for n in nodes if n["name"].startswith("Preprocessor") or n["name"] == "image"]
    rest = [n for n in nodes if n not in looped and n["op"] != "Placeholder" and n["name"] not in variables]
    body = function(library, "body", ["image_tensor"], {"image": "image:z:0"})
    inside(looped, constants, body, {"image_tensor": "image_tensor"})
    detector = function(library, "detector", inner, {"out": "concat:output:0", "more": "concat_1:output:0"})
    call(detector.node_def, "map/while", "body", inner[:1], op="StatelessWhile", key="body")
    inside(rest, constants, detector, {"image": "map/while:output:0"})
    for name, argument in zip(variables, inner[1:]):
        detector.node_def.add(name=name, op="ReadVariableOp", input=[argument])

    keys = {name: f"_model/variables/{i}/{VALUE}" for i, name in enumerate(variables)}
    (folder / "variables").mkdir(parents=True)
    values = {keys[name]: constants[name] for name in variables}
    write_bundle(values | {OBJECTS: objects(keys)}, folder / "variables" / "variables.index")
    if change:
        change(meta)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + model.SerializeToString())
    return folder


def function(library, name, arguments, returned):
    made = library.function.add()
    made.signature.name = name
    for argument in arguments:
        made.signature.input_arg.add(name=argument)
    for end, tensor in returned.items():
        made.signature.output_arg.add(name=end)
        made.ret.add(key=end, value=tensor)
    return made


def call(nodes, name, called, inputs, op="StatefulPartitionedCall", key="f"):
    nodes.add(name=name, op=op, input=inputs).attr.add(key=key).value.func.name = called


def inside(nodes, constants, made, given):
    """The nodes in a function, where a tensor is `node:output:k`."""
    names = {name: [given.get(name, f"{name}:output:0")] for n in nodes for name in n["input"]}
    graph_def([n | {"input": [names[name][0] for name in n["input"]]} for n in nodes], constants, _Nodes(made.node_def))


class _Nodes:
    def __init__(self, node):
        self.node = node


def objects(keys):
    """The object graph that says under which key each variable stands."""
    from detection.weights.importers.schema import message

    made = message("SavedObjects")
    for name, key in keys.items():
        made.nodes.add().attributes.add(full_name=name, checkpoint_key=key)
    return made.SerializeToString()


def write_objects(layers, folder, config):
    """`checkpoint/ckpt-0.index` and `.data` of {layer: {variable: array}}, and pipeline.config above -> the index."""
    values = {f"model/{layer}/{name}/{VALUE}": array for layer, held in layers.items() for name, array in held.items()}
    # What training leaves beside the weights.
    slots = {
        key.replace(VALUE, f".OPTIMIZER_SLOT/optimizer/momentum/{VALUE}"): np.zeros_like(a) for key, a in values.items()
    }
    values |= slots | {f"save_counter/{VALUE}": np.zeros(1, np.float32), OBJECTS: objects({})}
    if config:
        (folder / "pipeline.config").write_text(config)
    (folder / "checkpoint").mkdir()
    return write_bundle(values, folder / "checkpoint" / "ckpt-0.index")


class Layers:
    """Collects the layers of a checkpoint of objects by their names."""

    def __init__(self, net):
        self.random, self.layers = net.random, {}

    def factor(self, op):
        return self.random.uniform(0.5, 2, len(op.weight)).astype(np.float32)

    def kernel(self, name, op, factor=1.0, kind=None, bias=False):
        weight = (op.weight / np.reshape(factor, (-1, 1, 1, 1))).astype(np.float32)
        kind = kind or ("depthwise_kernel" if op.kind == "depthwise" else "kernel")
        order = (2, 3, 0, 1) if op.kind == "depthwise" else (2, 3, 1, 0)
        held = self.layers.setdefault(name, {})
        held[kind] = np.ascontiguousarray(weight.transpose(order))
        held |= {"bias": op.bias} if bias else {}

    def norm(self, name, op, factor):
        """A batch norm that multiplies by `factor` and then adds the operation's bias."""
        mean = self.random.normal(0, 0.3, len(op.bias)).astype(np.float32)
        variance = self.random.uniform(0.5, 2, len(op.bias)).astype(np.float32)
        gamma = (factor * np.sqrt(variance + 0.001)).astype(np.float32)
        beta = op.bias + factor * mean
        self.layers[name] = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}

    def normalised(self, names, op):
        factor = self.factor(op)
        self.kernel(names[0], op, factor)
        self.norm(names[1], op, factor)

    def separable(self, name, spatial, point, factor=1.0, bias=False):
        self.kernel(name, spatial)
        self.kernel(name, point, factor, "pointwise_kernel", bias)


BACKBONE = "_feature_extractor/classification_backbone/layer_with_weights-"
HEADS = "_box_predictor/_prediction_heads"


def objects_of_ssd(net):
    """ssd_v1 as `ssd_mobilenet_v1_keras` names its layers."""
    heads = [name for pair in net.heads for name in pair]
    trunk, found = [op for op in net.ops if op.output not in heads], Layers(net)
    for i, op in enumerate(trunk[:27]):
        found.normalised([f"{BACKBONE}{2 * i}", f"{BACKBONE}{2 * i + 1}"], op)
    for i, op in enumerate(trunk[27:]):
        scope = f"_feature_extractor/_feature_map_generator/convolutions/{2 + i // 2}"
        found.normalised([f"{scope}/{3 * (i % 2)}", f"{scope}/{3 * (i % 2) + 1}"], op)
    by_name = {op.output: op for op in net.ops}
    for i, (box, scores) in enumerate(net.heads):
        found.kernel(f"{HEADS}/box_encodings/{i}/_box_encoder_layers/0", by_name[box], bias=True)
        name = f"{HEADS}/class_predictions_with_background/{i}/_class_predictor_layers/0"
        found.kernel(name, by_name[scores], bias=True)
    return found.layers


def objects_of_fpnlite(net, depth=2):
    """fpnlite_v2 as `ssd_mobilenet_v2_fpn_keras` names its layers."""
    layers = [op for op in net.ops if op.weight is not None]
    found, extractor, predictor = Layers(net), "_feature_extractor", "_box_predictor"
    for i in range(52):
        found.normalised([f"{BACKBONE}{2 * i}", f"{BACKBONE}{2 * i + 1}"], layers.pop(0))
    fpn = f"{extractor}/_fpn_features_generator"
    found.kernel(f"{fpn}/top_layers/0", layers.pop(0), bias=True)
    places = [f"{fpn}/conv_layers/{i}" for i in range(2)] + [
        f"{extractor}/_coarse_feature_layers/{i}" for i in range(2)
    ]
    for i, place in enumerate(places):
        if i < 2:
            found.kernel(f"{fpn}/residual_blocks/{i}/0", layers.pop(0), bias=True)
        spatial, point = layers.pop(0), layers.pop(0)
        factor = found.factor(point)
        found.separable(f"{place}/0", spatial, point, factor)
        found.norm(f"{place}/1", point, factor)
    factors, first = {}, {}
    for level in range(5):
        for k in range(depth):
            spatial, point = layers.pop(0), layers.pop(0)
            if level == 0:
                factors[k], first[k] = found.factor(point), point.weight
                found.separable(f"{predictor}/_head_scope_conv_layers/PredictionTower/{k}", spatial, point, factors[k])
            scale = (point.weight * first[k]).sum((1, 2, 3)) / (first[k] * first[k]).sum((1, 2, 3))
            tower = f"{predictor}/_base_tower_layers_for_heads/box_encodings/{level}"
            found.norm(f"{tower}/{3 * k + 1}", point, factors[k] * scale)
        for place in ("_box_prediction_head/_box_encoder_layers/0",
                      "_prediction_heads/class_predictions_with_background/_class_predictor_layers/0"):  # fmt: skip
            spatial, point = layers.pop(0), layers.pop(0)
            found.separable(f"{predictor}/{place}", spatial, point, bias=True)
    return found.layers


def pipeline(
    size, extractor, anchors, classes=90, predictor="convolutional_box_predictor", activation="RELU_6", more=""
):
    rules = "conv_hyperparams { activation: RELU_6, batch_norm { scale: true, epsilon: 0.001 } initializer { } }"
    return f"""
# As the Object Detection API writes it, fields that nobody here reads among them.
model {{
  ssd {{
    num_classes: {classes}
    image_resizer {{ fixed_shape_resizer {{ height: {size} width: {size} }} }}
    feature_extractor {{
      type: '{extractor}' depth_multiplier: 0.35 min_depth: 16 {rules.replace("RELU_6", activation)}
      override_base_feature_extractor_hyperparams: true {more}
    }}
    box_coder {{ faster_rcnn_box_coder {{ y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 }} }}
    box_predictor {{ {predictor} {{ {rules} use_dropout: false }} }}
    anchor_generator {{ {anchors} }}
    post_processing {{ score_converter: SIGMOID }}
  }}
}}
train_config: {{ batch_size: 512 data_augmentation_options {{ ssd_random_crop {{ }} }} }}
"""
