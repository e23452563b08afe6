"""`mobilessd export`: weights -> a file that runs without torch, compared with its source before it is written."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from detection.boxes.postprocess import PostSettings
from detection.cli.common import add_data_arguments, fraction, input_size, open_truth, positive_int, thread_count
from detection.errors import MobileSSDError
from detection.evaluate.truth import find_images
from detection.export.bundle import write_bundle
from detection.export.file_formats import FILE_FORMATS, format_of
from detection.export.staging import megabytes
from detection.export.targets.base import OPSETS, Options
from detection.export.targets.table import TARGETS
from detection.export.targets.write import write_folder
from detection.export.write import Wish, export
from detection.postprocessor import DEFAULT_SCORE
from detection.weights.resize import resize_weights
from detection.weights.resolve import Weights, open_weights

EPILOG = """examples:
  mobilessd export model.safetensors --output model.onnx
  mobilessd export ssdlite_mobilenet_v2.coco --format openvino --output ssdlite.xml --precision float16
  mobilessd export model.safetensors --output model.onnx --nms --data instances.json --images images/
  mobilessd export model.int8.onnx --bundle camera/
  mobilessd export model.safetensors --target frigate --output frigate/ --images images/
  mobilessd export ssdlite_mobilenet_v2.mobilessd --input-size 236 --output faster.safetensors

A file that is further from its source than rounding explains is not written, and the exit code is 2. --bundle takes
weights or an exported file, int8 ones too: a folder with the model and one script that needs numpy, OpenCV and a
runtime."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd export`."""
    parser.add_argument("weights", metavar="WEIGHTS", help="weights file or model name")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="what to write: FILE.onnx, .xml (its .bin beside it), .tflite or .pte (its .json beside it); with "
        "--input-size also .safetensors",
    )
    parser.add_argument("--format", choices=tuple(FILE_FORMATS), help="default: by the name of the output")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored weights (default: float32)",
    )
    parser.add_argument(
        "--input-size",
        type=input_size,
        metavar="S",
        help="pixels of the network's input, S or HEIGHTxWIDTH: smaller is faster and sees less (docs/our-weights.md)",
    )
    parser.add_argument("--bundle", metavar="DIR", help="write a folder that detects on a camera by itself")
    system = parser.add_argument_group("a folder for another system (docs/export.md)")
    system.add_argument(
        "--target", choices=tuple(TARGETS), help="what --output DIR is written for: model, labels, settings, README"
    )
    system.add_argument("--gpu", action="store_true", help="for frigate: the form for a graphics processor, ONNX")
    system.add_argument(
        "--opset",
        type=positive_int,
        choices=OPSETS,
        metavar="N",
        help="of ONNX's operators: 11, 13 or 17 (default: 13)",
    )
    inside = parser.add_argument_group("boxes out of the graph itself")
    inside.add_argument("--nms", action="store_true", help="put decoding and NMS into the graph")
    inside.add_argument("--score", type=fraction, metavar="S", help="its lowest score (default: the card's, else 0.3)")
    inside.add_argument("--iou", type=fraction, default=0.6, metavar="I", help="its NMS overlap (default: 0.6)")
    inside.add_argument(
        "--max-detections", type=positive_int, default=100, metavar="N", help="its most boxes (default: 100)"
    )
    check = parser.add_argument_group("the comparison with the source")
    add_data_arguments(check, "compares AP, too", "images to compare on; without --data, drawn by chance")
    check.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads")


def run(args: argparse.Namespace) -> int:
    """Exports, says how far the file is from its source; see the parser for `args`."""
    _check_target(args)
    if not args.output and not args.bundle:
        raise MobileSSDError(
            "nothing to write: give --output FILE.onnx, FILE.xml, FILE.tflite or FILE.pte, or --bundle DIR"
        )
    if args.bundle and str(args.output or args.weights).endswith(".pte"):
        raise MobileSSDError("--bundle: runs .onnx, .xml and .tflite files; there is none of an ExecuTorch program")
    if args.input_size is not None and not args.output:
        raise MobileSSDError("--input-size: the network of that size needs a file of its own; give --output, too")
    if args.output and args.input_size is None:
        _export(args, open_weights(args.weights))
    elif args.output and not args.target and Path(args.output).suffix == ".safetensors":
        _resize(args, open_weights(args.weights))
    elif args.output:
        with tempfile.TemporaryDirectory() as folder:
            resized = Path(folder) / "resized.safetensors"
            resize_weights(open_weights(args.weights), args.input_size, resized)
            _export(args, open_weights(resized))
    if args.bundle:
        script = write_bundle(args.output or args.weights, Path(args.bundle), args.threads)
        print(f"{args.bundle}: copy it to where it is needed, and there: python {script.name} --help")
    return 0


def _resize(args: argparse.Namespace, weights: Weights) -> None:
    """Writes the weights themselves for another input size, as a checkpoint."""
    output = Path(args.output)
    if args.format or args.nms or args.data:
        raise MobileSSDError(f"{output}: a checkpoint has no format, NMS or comparison; leave these options out")
    if output.exists() and output.samefile(weights.path):
        raise MobileSSDError(f"{output}: is the file that is read; name another one with --output")
    name = resize_weights(weights, args.input_size, output, half=args.precision == "float16")
    print(f"{output}: {name}, {megabytes(output)}")


def _check_target(args: argparse.Namespace) -> None:
    """Raises MobileSSDError, one line, for options that do not go together with --target."""
    if not args.target and (args.gpu or args.opset):
        raise MobileSSDError(f"--{'gpu' if args.gpu else 'opset'}: belongs to a --target ({', '.join(TARGETS)})")
    if args.target and not args.output:
        raise MobileSSDError(f"--target {args.target}: give --output DIR, the folder to write")
    given = [name for name in ("format", "bundle", "nms", "data") if getattr(args, name)]
    if args.target and (given or args.precision != "float32"):
        raise MobileSSDError(
            f"--target {args.target}: the system says what is written; leave --{(*given, 'precision')[0]} out"
        )


def _export(args: argparse.Namespace, source: Weights) -> None:
    output = Path(args.output)
    if args.target:
        options = Options(args.gpu, args.opset)
        compare_on = Path(args.images) if args.images else None
        print("\n".join(write_folder(source, TARGETS[args.target], output, options, compare_on, args.threads)))
        return
    form = format_of(output, args.format).name
    truth = images = None
    if args.data:
        truth = open_truth(args.data, args.images, args.split)
        images = find_images(truth)
    settings = None
    if args.nms:
        score = args.score if args.score is not None else source.card.score_threshold
        score = DEFAULT_SCORE if score is None else score
        settings = PostSettings(
            score, args.iou, args.max_detections, activation=source.card.spec.get("scores", "sigmoid")
        )
    wish = Wish(output, form, args.precision, settings)
    comparison = export(source, wish, images or (Path(args.images) if args.images else None), truth, args.threads)
    what = f"{form}, {args.precision} weights" + (f", NMS above {settings.score:g}" if settings else "")
    print("\n".join([f"{output}: {what}, {megabytes(output)}", *comparison.lines(args.precision)]))
