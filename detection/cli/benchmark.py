"""`mobilessd benchmark`: how fast weights are here, in every runtime and precision that is installed, beside peers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detection.benchmark import history, summary
from detection.benchmark.candidates import Candidate, candidates_of, peers_of, random_weights, variant
from detection.benchmark.machine import describe, machine
from detection.benchmark.timing import Timing, drawn_image, time_detectors
from detection.cli.common import add_data_arguments, fraction, open_truth, positive_int
from detection.cli.pipes import words_beside
from detection.detector import Detector
from detection.errors import MobileSSDError
from detection.export.compare import average_precision
from detection.files import write_output
from detection.ssd.families import list_architectures
from detection.weights.records import DEFAULT
from detection.weights.resolve import open_weights

EPILOG = """examples:
  mobilessd benchmark ssdlite_mobilenet_v2.coco
  mobilessd benchmark model.safetensors model.int8.xml --threads 1,2 --batch 1,8 --image street.jpg
  mobilessd benchmark ssdlite_mobilenet_v2 --alphas 0.35,0.5,1 --input-sizes 224,300 --runtimes openvino
  mobilessd benchmark detect.tflite model.int8.xml --peers --data instances.json --plot speed.png

An architecture's name is timed with random weights. Each candidate is a process of its own, taken in turns."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd benchmark`."""
    parser.add_argument("weights", nargs="*", metavar="W", help="weights files or names (default: the bundled weights)")
    what = parser.add_argument_group("what is timed")
    what.add_argument(
        "--runtimes",
        type=words,
        metavar="A,B",
        help="torch, openvino, onnxruntime, litert (default: these), torch-compiled",
    )
    what.add_argument("--precisions", type=words, metavar="A,B", help="float32, bfloat16, int8 (default: all)")
    what.add_argument("--threads", type=counts, default=[0], metavar="N,M", help="CPU threads (default: all cores)")
    what.add_argument("--batch", type=counts, default=[1], metavar="N,M", help="images of one call (default: 1)")
    what.add_argument("--input-sizes", type=counts, metavar="N,M", help="input sizes other than the weights' own")
    what.add_argument("--alphas", type=numbers, metavar="A,B", help="widths of an architecture named without weights")
    what.add_argument("--peers", action="store_true", help="time torchvision's ssdlite320 and OpenCV's DNN, too")
    how = parser.add_argument_group("how")
    how.add_argument("--image", metavar="FILE", help="the image (default: one of 640 x 480, drawn by chance)")
    how.add_argument(
        "--score", type=fraction, default=0.01, metavar="S", help="score threshold (default: 0.01, as eval)"
    )
    how.add_argument("--rounds", type=positive_int, default=3, metavar="N", help="processes of each (default: 3)")
    how.add_argument("--seconds", type=float, default=3.0, metavar="S", help="timed in each process (default: 3)")
    add_data_arguments(how, "AP beside the times")
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="OUT", help="write everything as JSON (- for stdout)")
    output.add_argument(
        "--history", metavar="FILE", help="add the figures to FILE; say what got slower by more than 5 %%"
    )
    output.add_argument("--plot", metavar="OUT", help="draw latency against AP (.png, .svg, .pdf)")


def run(args: argparse.Namespace) -> int:
    """Times, prints, writes; exit code 2 if nothing could be timed."""
    if args.plot and not args.data:
        raise MobileSSDError("--plot draws latency against AP: give --data, too")
    if args.image and not Path(args.image).is_file():
        raise MobileSSDError(f"{args.image}: no such file")
    before = history.read_history(Path(args.history)) if args.history else []
    words = words_beside(json=args.json)
    said = machine()
    print("\n".join(describe(said)), file=words, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        candidates = _candidates(args, Path(folder))
        if not candidates:
            raise MobileSSDError("nothing to time: no runtime that is installed runs these weights in these precisions")
        image = Path(args.image) if args.image else drawn_image(Path(folder))
        timings = time_detectors(
            candidates,
            image,
            args.rounds,
            args.seconds,
            score=args.score,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if args.data:
            _add_ap(timings, args)
    shown = args.image or "an image of 640 x 480"
    print(summary.explanation(args.score, shown), summary.timing_table(timings), sep="\n\n", file=words)
    if args.json:
        data = {
            "machine": said,
            "image": shown,
            "score": args.score,
            "results": [timing.to_dict() for timing in timings],
        }
        write_output(args.json, json.dumps(data, indent=1) + "\n")
    if args.history:
        now = history.entries(said, shown, args.score, [timing.to_dict() for timing in timings])
        print(*history.slower(before, now), sep="\n", file=words)
        history.append(Path(args.history), now)
    if args.plot:
        summary.plot(timings, Path(args.plot))
    return 2 if all(timing.error for timing in timings) else 0


def _candidates(args: argparse.Namespace, folder: Path) -> list[Candidate]:
    threads = [count or os.cpu_count() or 1 for count in args.threads]
    found: list[Candidate] = []
    for number, name in enumerate(args.weights or [DEFAULT]):
        for size in args.input_sizes or [None]:
            for alpha in args.alphas or [None]:
                if name in list_architectures() and not Path(name).exists():
                    path, shown = random_weights(name, folder, size, alpha)
                elif size is not None or alpha is not None:
                    path, shown = variant(open_weights(name), folder, size, alpha)
                else:
                    path, shown = name, Path(name).name
                weights = open_weights(path)
                found += candidates_of(weights, shown, args.runtimes, args.precisions, threads, args.batch)
                if args.peers and number == 0:
                    found += [peer for peer in peers_of(weights, shown, threads, args.batch) if peer not in found]
    return found


def _add_ap(timings: Sequence[Timing], args: argparse.Namespace) -> None:
    """AP of each pair of weights and runtime, measured once; peers have none."""
    truth = open_truth(args.data, args.images, args.split)
    known: dict[tuple, float] = {}
    for timing in timings:
        c = timing.candidate
        if timing.error or c.kind != "ours" or c.name.endswith("random weights"):
            continue
        key = (c.weights, c.runtime, c.precision)
        if key not in known:
            detector = Detector(c.weights, "cpu", c.runtime, c.precision, c.threads, score=0.01)
            known[key] = average_precision(detector, truth)
        timing.ap = known[key]


def words(text: str) -> list[str]:
    """argparse type: words with commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def counts(text: str) -> list[int]:
    """argparse type: whole numbers of at least 1 with commas between them."""
    return [positive_int(word) for word in words(text)]


def numbers(text: str) -> list[float]:
    """argparse type: numbers above 0 with commas between them."""
    try:
        found = [float(word) for word in words(text)]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers above 0")
    return found
