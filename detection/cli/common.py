"""Options that several commands share, so that `--score` means the same everywhere. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from detection.errors import quoted
from detection.limits import MOST, MOST_IMAGES, MOST_THREADS
from detection.progress import waiting
from detection.runtimes.table import NAMES

if TYPE_CHECKING:
    from detection.detector import Detector
    from detection.evaluate.truth import GroundTruth
    from detection.weights.resolve import Weights


def add_detector_arguments(
    parser: argparse.ArgumentParser,
    auto_score: bool = False,
    score_default: str = "the weights' own, else 0.3",
    moving: bool = False,
) -> None:
    """Adds --weights --input-size --device --runtime --precision --threads --score --iou
    --merge --max-detections --classes --views --tiles.

    auto_score: --score auto, the threshold of each class, is offered. score_default: what --help says of it.
    moving: the views of moving images are offered.

    Everything not given is None (or "auto"), so that a command can tell a choice from its absence.
    """
    model = parser.add_argument_group("model")
    model.add_argument("--weights", metavar="W", help="weights file or model name (default: bundled weights)")
    text = "pixels of its input, S or HEIGHTxWIDTH: larger sees smaller objects, slower (default: the weights' own)"
    model.add_argument("--input-size", type=input_size, metavar="S", help=text)
    model.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    model.add_argument("--runtime", default="auto", help=f"{', '.join(NAMES)} (default: auto)")
    model.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16, int8 (default: auto)")
    model.add_argument(
        "--threads", type=thread_count, metavar="N", help="CPU threads of the network (default: all cores)"
    )
    result = parser.add_argument_group("what is kept")
    text = "lowest score to keep, 0..1" + ("; auto: each class's own, where the weights hold it" if auto_score else "")
    text += f" (default: {score_default})"
    result.add_argument("--score", type=fraction_or_auto if auto_score else fraction, metavar="S", help=text)
    result.add_argument(
        "--iou", type=fraction, metavar="I", help="overlap at which the weaker box goes, 0..1 (default: 0.6)"
    )
    text = "what overlapping boxes of one class become: nms (the best one), vote (their weighted mean), soft (soft-NMS)"
    result.add_argument(
        "--merge", choices=("nms", "vote", "soft"), help=f"{text} (default: vote; published networks: nms)"
    )
    result.add_argument(
        "--max-detections",
        type=positive_int,
        metavar="N",
        help="most boxes of one image (default: 100; with --views tiles 1000)",
    )
    result.add_argument(
        "--classes", type=name_list, metavar="A,B", help="only these classes, as in person,dog (default: all)"
    )
    text = "how each image is looked at: 300,512 (scales), tiles, 2x2, 3x2@0.2 (overlap), mirror, joined with +"
    if moving:
        text += "; auto: as many as a frame has time for; turn:2x2: one tile a frame"
    result.add_argument("--views", metavar="V", help=f"{text} (default: once, as a whole)")
    result.add_argument("--tiles", metavar="T", help="short for --views 1+T, as in 2x2: the whole image and its tiles")


def open_detector(
    args: argparse.Namespace,
    score: float | None = None,
    at_once: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Detector:
    """The detector that `args` (of `add_detector_arguments`) asks for.

    `score` is the threshold when --score was not given (evaluation wants 0.01). None means for display: the threshold that
    stands in the card of the weights, else 0.3 (`Detector` decides). at_once: one image comes soon, so the runtime gets
    ready for it while the rest is imported, which is a quarter of such a start. tell: where given, --precision auto takes
    the int8 form of the weights, if one ships and this machine is faster with it, and `tell` gets a line that says so.
    """
    from detection.runtimes.open import open_runtime, suits_int8
    from detection.runtimes.reopened import Opening

    with waiting("getting the network ready"):
        weights, precision, views = weights_of(args), args.precision, args.views
        may = tell is not None and precision == "auto" and at_own_size(weights, views, args.tiles)
        if may and suits_int8(weights, args.runtime, args.device):
            precision, weights = "int8", weights.in_precision("int8")
        runtime = open_runtime(weights, args.runtime, args.device, precision, args.threads)
    if tell is not None and precision != args.precision:
        tell(f"{weights.source}: int8, as this processor is fast at it; --precision float32 for the unrounded weights")
    if at_once:
        runtime.start()
    from detection.detector import Detector

    options = {
        "score": args.score if args.score is not None else score,
        "iou": args.iou,
        "max_detections": args.max_detections,
        "classes": args.classes,
        "merge": args.merge,
    }
    given = {name: value for name, value in options.items() if value is not None}
    opening = Opening(weights, args.runtime, args.device, precision, args.threads)
    detector = Detector.of(weights.card, runtime, weights.source, opening, **given)
    return detector if views is None and args.tiles is None else detector.with_views(views, args.tiles)


def at_own_size(weights: Weights, views: str | None, tiles: str | None) -> bool:
    """Whether these views need the network at no other input size than its own, at which its int8 form was measured."""
    if views is None and tiles is None:
        return True
    from detection.views import joined, parse

    own = weights.card.input_size
    return parse(joined(views, tiles) or "").sizes(own) == [own]


def weights_of(args: argparse.Namespace) -> Weights:
    """The weights that `args` (of `add_detector_arguments`) names, at the input size and in the form that it asks for."""
    from detection.weights.resolve import open_weights

    weights = open_weights(args.weights).in_precision(args.precision)
    if args.input_size is None:
        return weights
    from detection.runtimes.resize import at_size

    return at_size(weights, args.input_size)


def add_data_arguments(parser: argparse._ActionsContainer, what: str, images: str = "images of a COCO file") -> None:
    """Adds --data --split --images: ground truth as `train` and `data check` read it. what: what it is for."""
    parser.add_argument("--data", action=Once, metavar="PATH", help=f"COCO, VOC or YOLO data, found by looking: {what}")
    parser.add_argument(
        "--split", metavar="S", help="its split: val, test, ... (default: val, else test, else everything)"
    )
    parser.add_argument("--images", metavar="DIR", help=f"{images} (default: looked for beside it)")


class Once(argparse.Action):
    """An option that is given once: of two data sets the first would vanish."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if (before := getattr(namespace, self.dest)) is not None:
            parser.error(f"{option_string} is given twice, {before} and {values}: give one")
        setattr(namespace, self.dest, values)


def open_truth(path: str, images: str | None, split: str | None = None) -> GroundTruth:
    """Ground truth of any format; what was repaired or left out is said on stderr."""
    from detection.evaluate.truth import ground_truth, open_evaluation

    data = open_evaluation(path, split, images=images)
    for line in data.faults.brief():
        print(f"warning: {path}: {line}", file=sys.stderr)
    return ground_truth(data)


def progress(total: int | None, unit: str, quiet: bool = False):
    """A progress bar on stderr; silent where stderr is no terminal, so that logs stay readable."""
    if quiet or not sys.stderr.isatty():
        return NoProgress()
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, dynamic_ncols=True, leave=False)


class NoProgress:
    """What of tqdm is used, showing nothing: a run that nobody watches does not import the library."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, _: int = 1) -> None:
        pass

    def write(self, line: str, file: TextIO | None = None) -> None:
        print(line, file=file)


def fraction(text: str) -> float:
    """argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def fraction_or_auto(text: str) -> float | str:
    """argparse type: a number from 0 to 1, or auto."""
    return text if text == "auto" else fraction(text)


def positive_int(text: str, most: int = MOST) -> int:
    """argparse type: a whole number of at least 1, and at most `most`."""
    if not text.isdecimal() or not text.strip("0"):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number of at least 1")
    if len(text) > 100 or int(text) > most:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not at most {most}")
    return int(text)


def thread_count(text: str) -> int:
    """argparse type: threads, 1 to 1024."""
    return positive_int(text, MOST_THREADS)


def batch_size(text: str) -> int:
    """argparse type: images at once, 1 to 65536."""
    return positive_int(text, MOST_IMAGES)


def width(text: str) -> float:
    """argparse type: a width multiplier, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 16:  # also refuses nan
        raise argparse.ArgumentTypeError(f"a width multiplier is a number above 0 (at most 16), not {text!r}")
    return value


def input_size(text: str) -> tuple[int, int]:
    """argparse type: S or HEIGHTxWIDTH, in pixels."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 0 < int(side) <= 16384 for side in sides):
        raise argparse.ArgumentTypeError(f"an input size is S or HEIGHTxWIDTH in pixels (1 to 16384), not {text!r}")
    return int(sides[0]), int(sides[-1])


def name_list(text: str) -> list[str]:
    """argparse type: names with commas between them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("needs at least one class name, as in person,dog")
    return names


def device(text: str) -> str:
    """argparse type: auto, cpu, mps, cuda or cuda:N."""
    if text.isdecimal():  # as ultralytics numbers GPUs
        raise argparse.ArgumentTypeError(f"{text!r} is no device here: GPU {text} is cuda:{text}")
    kind, _, index = text.lower().partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N, mps")
    return text.lower()
