#!/usr/bin/env python3
"""Makes the files that ship out of trained ones: their average, in float16, under its name and with a complete card.

    python tools/release_weights.py runs/a/best.safetensors ssdlite_mobilenet_v2.coco \\
        --name ssdlite_mobilenet_v2.mobilessd --parent ssdlite_mobilenet_v2.coco --data "COCO 2017, ..."

The mean of the weights of runs that began alike is often better than each of them (Wortsman et al. 2022, arXiv
2203.05482), and so is the mean of a run and what it began from (the same 2021, arXiv 2109.01903). The first file gives the
card and the classes, of which the others need to have more or the same. What it scores is taken from
detection/weights/records.py.

The int8 form of what ships is made by

    python tools/release_weights.py NAME --name NAME --int8 DIR

calibrated on the images of DIR, which should be of those that were trained on.

The result lies in detection/weights/. Beside it lies the network's graph as .onnx without a number of its own: it takes
them out of the .safetensors, so that OpenVINO and onnxruntime run the one file without torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.errors import BadWeightsError, MobileSSDError
from detection.export.calibration import PLANS, Int8Plan, calibration_images
from detection.export.staging import size_of
from detection.files import sha256_of
from detection.weights.card import Card
from detection.weights.records import find_record
from detection.weights.resolve import Weights

ROOT = Path(__file__).resolve().parents[1]
INT8_PLAN = PLANS[3]  # box heads and first layer in float32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", metavar="NAME_OR_FILE")
    parser.add_argument("--name", required=True)
    parser.add_argument("--parent", metavar="NAME", help="published weights that the training began from")
    parser.add_argument("--shares", metavar="A,B", help="of each file in the average, as 7,3 (default: alike)")
    parser.add_argument("--input-size", type=int, metavar="S", help="of the result (default: the first file's)")
    parser.add_argument("--data", default="", metavar="TEXT", help="what was trained on, in words")
    parser.add_argument("--output", type=Path, help="default: detection/weights/NAME.safetensors")
    text = "write no weights, but the int8 form of the ones that ship as --name, calibrated on the images of a folder"
    parser.add_argument("--int8", type=Path, metavar="DIR", help=text)
    args = parser.parse_args()
    output = args.output or ROOT / "detection" / "weights" / f"{args.name}.safetensors"
    try:
        if args.int8:
            file = release_int8(args.weights[0], args.int8, output.with_suffix(".int8.xml"))
            print(f"{file}: {size_of(file) / 1e6:.2f} MB")
            return 0
        shares = [float(part) for part in args.shares.split(",")] if args.shares else [1.0] * len(args.weights)
        if len(shares) != len(args.weights) or min(shares) < 0 or not sum(shares):
            raise MobileSSDError(f"--shares {args.shares}: {len(args.weights)} numbers, one for each file")
        size = release(args.weights, args.name, args.parent, args.data, output, shares, args.input_size)
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {size / 1e6:.2f} MB, sha256 {sha256_of(output)}")
    return 0


def release(
    names: Sequence[str],
    name: str,
    parent: str | None,
    data: str,
    output: Path,
    shares: Sequence[float] | None = None,
    input_size: int | None = None,
) -> int:
    """Writes the file and its graph, and returns the file's size in bytes. shares: of each file in the average, whatever
    their sum. input_size: of the result. Raises MobileSSDError where the weights do not belong together."""
    from detection.runtimes import onnx_graph
    from detection.ssd.batch_norms import fold_batch_norms
    from detection.ssd.network import anchor_grids, build, feature_maps
    from detection.train.model import class_sources, transfer
    from detection.weights.checkpoint import load_checkpoint, save_checkpoint
    from detection.weights.resolve import open_weights

    shares = [1.0] * len(names) if shares is None else shares
    first, card = load_checkpoint(open_weights(names[0]).path)
    size = first.spec.input.size if input_size is None else (input_size, input_size)
    ssd = build(first.spec.resized(size))
    total = dict.fromkeys(ssd.state_dict(), 0.0)
    for other, share in zip(names, shares, strict=True):
        one, its = load_checkpoint(open_weights(other).path)
        sources = class_sources(card.class_names, its.class_names, {})
        spec = one.spec.resized(size).with_classes(ssd.spec.num_classes)
        if None in sources or spec != ssd.spec:
            raise BadWeightsError(f"{other}: is another network than {names[0]}; only copies of one can be averaged")
        # Every run has statistics of its own, so norms are folded first; and what is rounded are the kernels that run.
        one = transfer(one, ssd.spec, sources)
        fold_batch_norms(one)
        total = {key: total[key] + share / sum(shares) * tensor.double() for key, tensor in one.state_dict().items()}
    ssd.load_state_dict({key: tensor.float() for key, tensor in total.items()})  # type: ignore[attr-defined]
    card = replace(card, spec=ssd.spec.to_dict(), feature_maps=feature_maps(ssd), anchor_grids=anchor_grids(ssd))
    card = described(card, name, parent, list(names), data)
    if len(set(shares)) > 1:
        card = replace(card, recipe=card.recipe | {"shares": [round(share / sum(shares), 4) for share in shares]})
    save_checkpoint(output, ssd, card, half=True)
    graph = onnx_graph.convert(load_checkpoint(output)[0])
    onnx_graph.point_into(graph, output)
    onnx_graph.save(graph, output.with_suffix(".onnx"), replace(card, training_images=()))
    return output.stat().st_size


def release_int8(name: str, calibration: Path, output: Path, plan: Int8Plan = INT8_PLAN) -> Path:
    """Writes the int8 form of weights, as OpenVINO reads it, calibrated on the images of a folder; returns its path."""
    from detection.export.int8 import quantize_openvino
    from detection.export.quantize import float_file
    from detection.weights.resolve import open_weights

    source = open_weights(name)
    images = calibration_images(calibration, source.card.input_size)
    quantize_openvino(float_file(source, "openvino"), output, int8_card(source, name, plan, len(images)), images, plan)
    return output


def int8_card(source: Weights, name: str, plan: Int8Plan, images: int) -> Card:
    """The card of the int8 form: of which file it is the form, and what it scores by its record."""
    record = find_record(name)
    recipe = {"tool": f"nncf {metadata.version('nncf')}", "images": images, "float32": plan.name, "of": source.sha256}
    return replace(
        source.card,
        precision="int8",
        metrics=[dict(metric) for metric in record.int8_metrics] if record else [],
        recipe=source.card.recipe | {"quantization": recipe},
    )


def described(card: Card, name: str, parent: str | None, names: list[str], data: str) -> Card:
    """The card with name, licence, where it comes from, and what it scores."""
    record = find_record(name)
    attribution, source = "the mobilessd authors", "trained from ImageNet weights"
    if parent is not None:
        attribution += f"; began from {parent} (Apache-2.0, The TensorFlow Authors)"
        source = f"fine-tuned from {parent}"
    averaged = [one if find_record(one) else f"run {k}" for k, one in enumerate(names, 1)]
    return replace(
        card,
        name=name,
        licence="Apache-2.0",
        attribution=attribution,
        source=source,
        recipe=card.recipe | {"averaged": averaged, "data": data},
        metrics=[dict(metric) for metric in record.metrics] if record else [],
        score_threshold=None,  # that of the average is another than that of its parts
        class_thresholds=None,
        precision="float16",
        folded_norms=True,
    )


if __name__ == "__main__":
    sys.exit(main())
