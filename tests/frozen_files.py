"""Writes the networks of `frozen_networks` as TensorFlow writes its own: TensorFlow.js graph models, frozen graphs,
`.tflite` files."""

import json
import os

import numpy as np
from frozen_networks import activations


def write_tfjs(net, folder, shards=5):
    """`model.json` and weight shards as the published ssdlite_mobilenet_v2_coco has them. Batch norms are folded in its
    two ways: a bias behind a 1x1 convolution, a factor behind a depthwise one; the heads' depthwise norms are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes, constants = tensorflow_graph(net, "folded")
    data = b"".join(value.tobytes() for value in constants.values())
    length = -(-len(data) // shards)
    parts = [data[at : at + length] for at in range(0, len(data), length)]
    paths = [f"group1-shard{i}of{len(parts)}" for i in range(1, len(parts) + 1)]
    for name, part in zip(paths, parts):
        (folder / name).write_bytes(part)
    weights = [
        {"name": name, "shape": list(value.shape), "dtype": value.dtype.name} for name, value in constants.items()
    ]
    manifest = [{"paths": paths, "weights": weights}]
    (folder / "model.json").write_text(
        json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}), encoding="utf-8"
    )
    return folder


def graph_def(nodes, constants, graph, variables=()):
    """Fills a GraphDef; constants named in `variables` become variables, whose values lie elsewhere."""
    for node in nodes:
        variable = node["name"] in variables
        made = graph.node.add(name=node["name"], op="VariableV2" if variable else node["op"], input=node["input"])
        for key, value in node["attr"].items():
            attr = made.attr.add(key=key)
            ((kind, inner),) = value.items()
            if kind == "list":
                attr.value.list.i.extend(int(i) for i in inner["i"])
            else:
                setattr(attr.value, kind, inner)
        if node["op"] == "Const" and not variable:
            array, attr = constants[node["name"]], made.attr.add(key="value")
            tensor = attr.value.tensor
            tensor.dtype = {"float32": 1, "int32": 3}[array.dtype.name]
            for side in array.shape:
                tensor.tensor_shape.dim.add(size=side)
            if array.size > 1 and (array == array.flat[0]).all():  # as TensorFlow packs equal values
                (tensor.float_val if tensor.dtype == 1 else tensor.int_val).append(array.flat[0])
            else:
                tensor.tensor_content = array.tobytes()


def write_frozen_graph(net, file, norms="kept"):
    """`frozen_inference_graph.pb`. norms: as in `tensorflow_graph`."""
    from detection.weights.importers.schema import message

    graph = message("GraphDef")
    graph_def(*tensorflow_graph(net, norms), graph)
    file.write_bytes(graph.SerializeToString())
    return file


def write_checkpoint(net, folder, averages=False):
    """`model.ckpt.index`, `.meta` and `.data-00000-of-00001` of TensorFlow 1 -> the first. averages: the variables hold noise,
    and what the network computes with stands in their exponential moving averages."""
    from detection.weights.importers.schema import message

    nodes, constants = tensorflow_graph(net, "kept")
    variables = [name for name in constants if name.startswith("FeatureExtractor/")]
    meta = message("MetaGraph")
    graph_def(nodes, constants, meta.graph_def, variables)
    values = {name: constants[name] for name in variables}
    if averages:
        kept = {f"{name}/ExponentialMovingAverage": value for name, value in values.items()}
        values = {
            name: net.random.normal(0, 1, value.shape).astype(np.float32) for name, value in values.items()
        } | kept
    (folder / "model.ckpt.meta").write_bytes(meta.SerializeToString())
    return write_bundle(values, folder / "model.ckpt.index")


def write_bundle(values, index):
    """tensorflow/core/util/tensor_bundle: the arrays one behind the other, and a LevelDB table that says where."""
    from detection.weights.importers.schema import message

    header, data, entries = message("BundleHeader"), b"", []
    header.num_shards = 1
    for key in sorted(values):
        entry = message("BundleEntry")
        value = values[key]
        entry.dtype, entry.offset = (7, len(data)) if isinstance(value, bytes) else (1, len(data))
        for side in np.shape(value):
            entry.shape.dim.add(size=side)
        # A text: its length and a checksum of that before it.
        data += _varint(len(value)) + bytes(4) + value if isinstance(value, bytes) else value.tobytes()
        entry.size = len(data) - entry.offset
        entries.append((key.encode(), entry.SerializeToString()))
    index.with_name(f"{index.stem}.data-00000-of-00001").write_bytes(data)
    table = _block([(b"", header.SerializeToString()), *entries])
    handle = _varint(0) + _varint(len(table) - 5)
    at, empty = len(table), _block([])
    directory = _block([(b"~", handle)])
    ends = _varint(at) + _varint(len(empty) - 5) + _varint(at + len(empty)) + _varint(len(directory) - 5)
    footer = ends.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    index.write_bytes(table + empty + directory + footer)
    return index


def _block(entries):
    """Keys that share their beginnings with the one before, the restart points, and a trailer."""
    out, before = b"", b""
    for key, value in entries:
        shared = len(os.path.commonprefix([key, before]))
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return out + bytes(4) + (1).to_bytes(4, "little") + bytes(5)


def _varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def tensorflow_graph(net, norms):
    """A network as the nodes of a TensorFlow graph (protobuf's JSON) and its constants.

    norms: "folded": as TensorFlow.js's converter does it. "kept": whole behind every convolution (fine-tuned exports).
    "depthwise": whole behind depthwise convolutions, folded into the others (the zoo's V1 of 2018). "unfused": whole, in
    the operations of tf.nn.batch_normalization (2017). All but "folded" compute the anchors from parts.
    """
    nodes, constants, heads = [], {}, {name for pair in net.heads for name in pair}
    before_heads = {op.inputs[0] for op in net.ops if op.output in heads}

    def node(op, name, *inputs, **attr):
        nodes.append({"op": op, "name": name, "input": list(inputs), "attr": attr})
        return name

    def constant(name, value, dtype="float32"):
        constants[name] = np.array(value, dtype, order="C")
        return node("Const", name)

    def variable(name, value):
        made = constant(name, value)
        return made if norms == "folded" else node("Identity", f"{name}/read", made)

    def whole_norm(scope, out, x, op, factor):
        """A batch norm that multiplies by `factor` and then adds the bias."""
        mean = net.random.normal(0, 0.3, len(op.weight)).astype(np.float32)
        variance = net.random.uniform(0.5, 2, len(op.weight)).astype(np.float32)
        gamma = factor * np.sqrt(variance + 0.001)
        parts = {"gamma": gamma, "beta": op.bias + factor * mean, "moving_mean": mean, "moving_variance": variance}
        gamma, beta, mean, variance = [variable(f"{scope}/BatchNorm/{name}", value) for name, value in parts.items()]
        if norms != "unfused":
            node("FusedBatchNorm", out, x, gamma, beta, mean, variance, epsilon={"f": 0.001})
            return
        inside = f"{scope}/BatchNorm/batchnorm"
        total = node("Add", f"{inside}/add", variance, constant(f"{inside}/add/y", 0.001))
        product = node("Mul", f"{inside}/mul", node("Rsqrt", f"{inside}/Rsqrt", total), gamma)
        offset = node("Sub", f"{inside}/sub", beta, node("Mul", f"{inside}/mul_2", mean, product))
        node("Add", out, node("Mul", f"{inside}/mul_1", x, product), offset)

    node("Placeholder", "image_tensor")
    size = constant("Preprocessor/ResizeImage/size", [net.size] * 2, "int32")
    node("ResizeBilinear", "Preprocessor/resized", "image_tensor", size)
    node("Mul", "Preprocessor/mul", constant("Preprocessor/mul/x", np.float32(2 / 255)), "Preprocessor/resized")
    node("Sub", "image", "Preprocessor/mul", constant("Preprocessor/sub/y", np.float32(1)))
    for op in net.ops:
        strides = {"list": {"i": ["1", str(op.stride), str(op.stride), "1"]}}
        if op.kind == "add":
            node("Add", op.output, *op.inputs)
            continue
        if op.kind == "double":
            sides = constant(f"{op.output}/size", [net.sides[op.output]] * 2, "int32")
            node("ResizeNearestNeighbor", op.output, *op.inputs, sides)
            continue
        scope, out = f"FeatureExtractor/{op.output}", f"{op.output}/sum"
        bias_of, depthwise, head = f"{scope}/BatchNorm/batchnorm/sub", op.kind == "depthwise", op.output in heads
        whole = not head and (norms in ("kept", "unfused") or norms == "depthwise" and depthwise)
        whole = (whole or depthwise and op.output in before_heads) and op.bias.any()
        factor = (
            net.random.uniform(0.5, 2, len(op.weight)).astype(np.float32)
            if depthwise and op.bias.any() or whole
            else None
        )
        weight = op.weight if factor is None else op.weight / factor.reshape(-1, 1, 1, 1)
        if depthwise:
            made = variable(f"{scope}/depthwise_weights", weight.transpose(2, 3, 0, 1))
            x = node("DepthwiseConv2dNative", f"{scope}/depthwise", op.inputs[0], made, strides=strides)
        else:
            name = f"{scope}/Conv2D/merged_input" if norms == "folded" and not head else f"{scope}/weights"
            made = variable(name, weight.transpose(2, 3, 1, 0))
            x = node("Conv2D", f"{scope}/Conv2D", op.inputs[0], made, strides=strides)
        if whole:
            whole_norm(scope, out, x, op, factor)
        elif factor is not None:
            x = node("Mul", f"{scope}/scaled", x, constant(f"{scope}/BatchNorm/batchnorm/mul", factor))
            node("Add", out, x, constant(bias_of, op.bias))
        else:
            node("BiasAdd", out, x, variable(f"{scope}/biases" if head else bias_of, op.bias))
        node("Relu6" if op.relu6 else "Identity", op.output, out)
    for k, name in enumerate(("concat", "concat_1")):
        for pair in net.heads:
            node("Reshape", f"{pair[k]}/flat", pair[k], constant(f"{pair[k]}/shape", [-1], "int32"))
        node("ConcatV2", name, *[f"{pair[k]}/flat" for pair in net.heads], constant(f"{name}/axis", 1, "int32"))
    y, x, h, w = net.anchors.astype(np.float64).T
    corners = np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
    if norms == "folded":
        constant("Postprocessor/ExpandDims", corners[None])
    else:
        halves = [constant(f"MultipleGridAnchorGenerator/{i}", part) for i, part in enumerate(np.split(corners, 2))]
        table = node("ConcatV2", "Concatenate/concat", *halves, constant("Concatenate/concat/axis", 0, "int32"))
        node("ExpandDims", "Postprocessor/ExpandDims", table, constant("Postprocessor/ExpandDims/dim", 0, "int32"))
    return nodes, constants


class TFLiteWriter:
    """Collects tensors and operators of a `.tflite` file, with the schema's own classes."""

    def __init__(self, versions=None):
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.versions = schema, versions or {}
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.model.subgraphs, self.graph.tensors, self.graph.operators = [self.graph], [], []
        self.indices, self.codes = {}, {}

    def tensor(self, name, shape, data=None, dtype=np.float32, scale=None, zero=0):
        """scale: None for real numbers, one for the tensor, or one for each entry of its first axis. -> the index."""
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name, list(shape), 0
        made.type = getattr(self.schema.TensorType, np.dtype(dtype).name.upper())
        if data is not None:
            made.buffer = len(self.model.buffers)
            self.model.buffers.append(self.schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
        if scale is not None:
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.float32(scale))
            made.quantization.zeroPoint = np.full(len(made.quantization.scale), zero, np.int64)
        self.graph.tensors.append(made)
        self.indices[name] = len(self.graph.tensors) - 1
        return self.indices[name]

    def operator(self, kind, inputs, outputs, custom=None, **options):
        kinds, op = vars(self.schema.BuiltinOperator), self.schema.OperatorT()
        if kind not in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = kinds[kind]
            code.version, code.customCode = (
                self.versions.get(kind, 1),
                "TFLite_Detection_PostProcess" if custom else None,
            )
            self.codes[kind] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        op.opcodeIndex, op.inputs, op.outputs = self.codes[kind], inputs, outputs
        if custom:
            op.customOptions = list(custom)
        elif kind in OPTIONS:
            op.builtinOptions = getattr(self.schema, OPTIONS[kind] + "T")()
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, OPTIONS[kind])
            for name, value in options.items():
                setattr(op.builtinOptions, name, value)
        self.graph.operators.append(op)

    def write(self, file, inputs, outputs):
        import flatbuffers

        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        file.write_bytes(builder.Output())
        return file


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "ADD": "AddOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "CONCATENATION": "ConcatenationOptions",
}


def write_tflite(net, file, weights="float32", images=None):
    """A `.tflite` file that ends in TFLite_Detection_PostProcess, as TensorFlow's converter writes it.

    weights: "float32"; "int8" with a scale a channel, the rest in float32 (the published FPNLite); "uint8" throughout,
    activations too, whose ranges are those on `images` (the published SSD MobileNet V1). `net` is given the weights that
    stand in the file, rounded.
    """
    uint8 = weights == "uint8"
    writer = TFLiteWriter({"CONV_2D": 5} if weights == "int8" else {})
    dtype, ranges = np.float32, {}
    if uint8:
        dtype, net.mean = np.uint8, 128.0
        ranges = {name: (float(y.min()), float(y.max())) for name, y in activations(net, images).items()}
        ranges |= {op.output: (0.0, 6.0) for op in net.ops if op.relu6} | {"image": (-1.0, 127 / 128)}

    def activation(name, shape, like=None):
        steps = dict(zip(("scale", "zero"), eight_bits(*ranges[like or name]))) if uint8 else {}
        return writer.tensor(name, shape, dtype=dtype, **steps)

    image = activation("image", (1, net.size, net.size, 3))
    for op in net.ops:
        side = net.sides[op.output]
        sources = [writer.indices[name] for name in op.inputs]
        result = activation(op.output, (1, side, side, net.channels[op.output]))
        if op.kind == "add":
            writer.operator("ADD", sources, [result])
        elif op.kind == "double":
            sizes = writer.tensor(f"{op.output}/size", (2,), [side, side], np.int32)
            writer.operator("RESIZE_NEAREST_NEIGHBOR", [*sources, sizes], [result])
        else:
            depthwise = op.kind == "depthwise"
            relu6 = getattr(writer.schema.ActivationFunctionType, "RELU6" if op.relu6 else "NONE")
            same = {"strideH": op.stride, "strideW": op.stride, "padding": writer.schema.Padding.SAME}
            writer.operator(
                "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
                [*sources, *_constants(writer, op, weights, ranges)],
                [result],
                **same,
                fusedActivationFunction=relu6,
                **({"depthMultiplier": 1} if depthwise else {}),
            )
    raw, number = [], len(net.anchors)
    for k, (name, numbers) in enumerate((("raw_boxes", 4), ("raw_scores", net.columns))):
        ends = [pair[k] for pair in net.heads]
        if uint8:
            low, high = zip(*[ranges[end] for end in ends])
            ranges[name] = min(low), max(high)
        parts = []
        for end in ends:
            flat = (1, net.channels[end] * net.sides[end] ** 2 // numbers, numbers)
            shape = writer.tensor(f"{end}/shape", (3,), flat, np.int32)
            parts.append(activation(f"{end}/flat", flat, like=end))
            writer.operator("RESHAPE", [writer.indices[end], shape], [parts[-1]])
        raw.append(activation(name, (1, number, numbers)))
        writer.operator("CONCATENATION", parts, [raw[-1]], axis=1)
    scores = writer.tensor("scores", (1, number, net.columns), dtype=dtype, scale=1 / 256 if uint8 else None)
    writer.operator("LOGISTIC", [raw[1]], [scores])
    table = net.anchors
    if uint8:
        scale, zero = eight_bits(table.min(), table.max())
        table = np.rint(table / scale + zero)
    anchors = writer.tensor("anchors", table.shape, table, dtype, *((scale, zero) if uint8 else ()))
    outputs = [writer.tensor(f"detections:{k}", shape) for k, shape in enumerate(((1, 10, 4), (1, 10), (1, 10), (1,)))]
    writer.operator("CUSTOM", [raw[0], scores, anchors], outputs, custom=_post_processing(net))
    return writer.write(file, [image], outputs)


def eight_bits(low, high):
    """Scale and zero point of a range that is made to hold 0, which is a whole step."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = (high - low) / 255
    return scale, round(-low / scale)


def _constants(writer, op, weights, ranges):
    """Writes a convolution's weights and bias, and puts what the file says into `op`."""
    weight, bias, dtype, steps, bias_steps = op.weight, op.bias, np.float32, {}, {}
    if weights == "uint8":
        scale, zero = eight_bits(weight.min(), weight.max())
        weight, dtype, steps = np.rint(weight / scale) + zero, np.uint8, {"scale": scale, "zero": zero}
        op.weight = ((weight - zero) * scale).astype(np.float32)
        unit = scale * eight_bits(*ranges[op.inputs[0]])[0]
        bias, bias_steps = np.rint(bias / unit), {"dtype": np.int32, "scale": unit}
        op.bias = (bias * unit).astype(np.float32)
    elif weights == "int8" and op.kind == "conv":
        scale = (np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32)
        weight, dtype, steps = np.rint(weight / scale.reshape(-1, 1, 1, 1)), np.int8, {"scale": scale}
        op.weight = (weight * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    weight = weight.transpose(1, 2, 3, 0) if op.kind == "depthwise" else weight.transpose(0, 2, 3, 1)
    return [
        writer.tensor(f"{op.output}/weights", weight.shape, weight, dtype, **steps),
        writer.tensor(f"{op.output}/bias", bias.shape, bias, **bias_steps),
    ]


def _post_processing(net):
    """The options of TFLite_Detection_PostProcess."""
    from flatbuffers import flexbuffers

    values = {
        "max_detections": 10,
        "max_classes_per_detection": 1,
        "detections_per_class": 100,
        "num_classes": net.columns - 1,
        "use_regular_nms": False,
        "nms_score_threshold": 0.01,
        "nms_iou_threshold": 0.6,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
    }
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in values.items():
            builder.Key(name)
            {bool: builder.Bool, int: builder.Int, float: builder.Float}[type(value)](value)
    return bytes(builder.Finish())
