"""`mobilessd quantize`: an int8 file, calibrated on images of one's own, with what it costs and what it gains."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from detection.benchmark.candidates import Candidate
from detection.benchmark.timing import drawn_image, time_detectors
from detection.cli.common import add_data_arguments, fraction, open_truth, positive_int, thread_count
from detection.errors import MobileSSDError
from detection.evaluate.truth import find_images
from detection.export.file_formats import INT8_FORMATS, format_of
from detection.export.quantize import QuantizeOrder, quantize
from detection.weights.resolve import open_weights

EPILOG = """examples:
  mobilessd quantize model.safetensors --images images/ --output model.int8.xml
  mobilessd quantize model.safetensors --images val/ --data instances.json --output model.int8.onnx
  mobilessd quantize ssdlite_mobilenet_v2.coco --data coco --max-drop 0.003 --output v2.xml

With ground truth, layers stay in float32 as long as AP falls by more than --max-drop; if it still does, nothing is
written and the exit code is 2. Images to calibrate on should be like those that are to come; 300 are plenty."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd quantize`."""
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="weights file or model name, or a float .onnx, .xml or .tflite"
    )
    add_data_arguments(parser, "AP before and after", "images to calibrate on, and to measure AP on")
    parser.add_argument("--calibration", metavar="DIR", help="images to calibrate on, if others than --images")
    parser.add_argument("--samples", type=positive_int, default=300, metavar="N", help="calibrate on N (default: 300)")
    parser.add_argument("--output", required=True, metavar="FILE", help="FILE.xml (OpenVINO), FILE.onnx or FILE.tflite")
    parser.add_argument("--format", choices=INT8_FORMATS, help="default: by the name of the output")
    parser.add_argument("--max-drop", type=fraction, metavar="D", help="how far AP may fall (default: 0.005)")
    parser.add_argument("--force", action="store_true", help="write the best even if AP falls further")
    parser.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads")
    parser.add_argument("--no-timing", action="store_true", help="do not time both at the end")


def run(args: argparse.Namespace) -> int:
    """Quantises, measures, writes; see the parser for `args`."""
    output = Path(args.output)
    form = format_of(output, args.format, INT8_FORMATS).name
    truth = images = None
    if args.data:
        truth = open_truth(args.data, args.images, args.split)
        images = find_images(truth)
    elif args.max_drop is not None:
        raise MobileSSDError("--max-drop is about AP, which needs ground truth: give --data, too")
    calibration = args.calibration or images or args.images
    if calibration is None:
        raise MobileSSDError("which images? --images DIR, to calibrate on")
    order = QuantizeOrder(
        output=output,
        format=form,
        calibration=Path(calibration),
        number=args.samples,
        truth=truth,
        max_drop=0.005 if args.max_drop is None else args.max_drop,
        force=args.force,
        threads=args.threads,
    )
    source = open_weights(args.weights)
    result = quantize(source, order, lambda line: print(line, flush=True))
    times = (None, None) if args.no_timing else _times(source.source, output, args.threads)
    print(_table(result, times))
    print(f"{output}: {form}, int8 ({result.plan.name}), calibrated on {result.calibrated_on} images")
    return 0


def _times(source: str, output: Path, threads: int | None) -> tuple[float | None, float | None]:
    """Median ms of both, a process for each, in turns; None where one did not run."""
    runtime = format_of(output, None).reader or "auto"
    names = (source, str(output))
    count = threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        both = [Candidate(name, name, runtime, threads=count) for name in names]
        timings = time_detectors(both, drawn_image(Path(folder)), rounds=3, seconds=1.0, score=0.3)
    before, after = (None if timing.error else timing.latency for timing in timings)
    return before, after


def _table(result, times: tuple[float | None, float | None]) -> str:
    """float32 and int8 side by side, with their ratio."""
    rows = [("", "float32", "int8", "ratio")]
    if result.ap is not None and result.float_ap is not None:
        rows.append(
            (f"AP, {result.images} images", f"{result.float_ap:.4f}", f"{result.ap:.4f}", f"{-result.drop:+.4f}")
        )
    sizes = result.float_size / 1e6, result.size / 1e6
    rows.append(("size", f"{sizes[0]:.1f} MB", f"{sizes[1]:.1f} MB", f"{sizes[1] / sizes[0]:.2f}"))
    if times[0] and times[1]:
        rows.append(("latency, median", f"{times[0]:.1f} ms", f"{times[1]:.1f} ms", f"{times[1] / times[0]:.2f}"))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return "\n".join(
        "  ".join(w.ljust(n) if k == 0 else w.rjust(n) for k, (w, n) in enumerate(zip(row, widths))) for row in rows
    )
