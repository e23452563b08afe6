"""`mobilessd eval`: the COCO numbers of weights on images, or of a results file.

Order: whatever can be wrong with the files is said before the first image is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.class_names import ClassNames
from detection.cli.common import add_data_arguments, add_detector_arguments, batch_size, open_detector, positive_int
from detection.cli.pipes import words_beside
from detection.data.ids import plain, read_ids
from detection.data.readers import FORMATS
from detection.errors import BadDataError, MobileSSDError
from detection.evaluate import tables
from detection.evaluate.bootstrap import paired_bootstrap
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import ENGINES, CocoNumbers, choose_engine, evaluate
from detection.evaluate.detect import detect_all
from detection.evaluate.errors import split_errors
from detection.evaluate.report.page import page_template
from detection.evaluate.report.write import write_report
from detection.evaluate.results import Results, perfect_results, read_results, write_results
from detection.evaluate.thresholds import best_thresholds, store_thresholds
from detection.evaluate.truth import GroundTruth, find_images, ground_truth, open_evaluation
from detection.files import write_output
from detection.stream import for_many_images
from detection.two_stage.card import card_text

EVALUATION_SCORE = 0.01  # of the protocol of record: COCO's curve needs the weak boxes too
SHOWN_PROBLEMS = 10

EPILOG = """examples:
  mobilessd eval --weights model.safetensors --data coco/ --json numbers.json
  mobilessd eval --weights runs/cells/best.safetensors --data BCCD --split test     a VOC or YOLO data set
  mobilessd eval --results mine.json --data instances_val2017.json --errors
  mobilessd eval --results new.json --versus old.json --data instances_val2017.json
  mobilessd eval --self-test --data instances_val2017.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd eval`."""
    data = parser.add_argument_group("data")
    add_data_arguments(data, "the ground truth")
    data.add_argument("--format", default="auto", choices=("auto", *sorted(FORMATS)), help="of --data (default: auto)")
    data.add_argument("--image-ids", metavar="FILE", help="only these images: a JSON list of ids, or ids in lines")
    data.add_argument("--results", metavar="R", help="evaluate this COCO results JSON in the place of weights")
    data.add_argument("--versus", metavar="B", help="compare with this results JSON: A - B and its interval")
    data.add_argument("--self-test", action="store_true", help="feed the ground truth back: must give AP 1.000")
    add_detector_arguments(parser)
    running = parser.add_argument_group("running")
    running.add_argument("--batch", type=batch_size, default=16, metavar="N", help="images at once (default: 16)")
    running.add_argument("--engine", choices=ENGINES, default="auto", help="what computes (auto: pycocotools)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="OUT", help="write all numbers as JSON (- for stdout)")
    output.add_argument("--csv", metavar="OUT", help="write the per-class table as CSV (- for stdout)")
    output.add_argument("--report", metavar="DIR", help="write report.html: curves, confusion, the worst images")
    output.add_argument("--save-results", metavar="R", help="write the detections as COCO results JSON (- for stdout)")
    output.add_argument("--errors", action="store_true", help="say which kinds of error cost how much AP50")
    output.add_argument("--draws", type=positive_int, default=200, metavar="N", help="draws of --versus (default: 200)")
    output.add_argument(
        "--store-threshold", action="store_true", help="store the scores of best F1 in the weights file"
    )
    output.add_argument("--quiet", action="store_true", help="no progress bar, no per-class table")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints, writes. Exit code 0 also where single images could not be read (each is reported)."""
    _check(args)
    say = partial(print, file=words_beside(json=args.json, csv=args.csv, save_results=args.save_results))
    data = open_evaluation(args.data, args.split, args.format, args.images)
    for line in data.faults.brief():
        _warn(line)
    whole = ground_truth(data)
    chosen = None if args.image_ids is None else read_image_ids(args.image_ids, whole)
    categories = None if args.classes is None else ClassNames(whole.category_names).choose(args.classes, whole.path)
    truth = whole.select(chosen, categories)

    seconds: float | None = None
    protocol_parts: dict[str, Any] = {}
    if args.self_test:
        results, model = perfect_results(truth), "the ground truth itself (self-test)"
    elif args.results:
        every, model = read_results(args.results, whole, _warn), str(args.results)
        if args.score is not None:
            every = every[every.scores > args.score]
        if len(every):
            protocol_parts["score_floor"] = float(every.scores.min()) if args.score is None else args.score
            protocol_parts["max_detections"] = int(np.bincount(every.image).max())
        results = every.select(whole, chosen, categories)
    else:
        results, model, seconds, protocol_parts = _detect(args, truth, has_ids=data.source == "coco")
    if args.save_results:
        write_results(args.save_results, results, truth)

    numbers = evaluate(truth, results, args.engine)
    thresholds = best_thresholds(truth, results)
    unknown: dict[str, Any] = {"score_floor": None, "nms_iou": None, "max_detections": None, "runtime": None}
    protocol = tables.Protocol(
        annotations=truth.path,
        split=_split_name(args, truth.path) + (f" ({Path(args.image_ids).name})" if args.image_ids else ""),
        images=len(truth.image_ids),
        model=model,
        engine=numbers.engine,
        classes=None if categories is None else truth.category_names,
        **{**unknown, **protocol_parts},
    )
    errors = differences = None
    if args.errors:
        errors = split_errors(truth, results)
    if args.versus:
        other = read_results(args.versus, whole, _warn).select(whole, chosen, categories)
        differences = paired_bootstrap(truth, results, other, args.draws)

    if not args.quiet:
        say(tables.class_table(numbers, thresholds), end="\n\n")
    if errors is not None:
        say(tables.error_table(errors), end="\n\n")
    if differences is not None:
        say(f"A: {model}\nB: {args.versus}")
        say(tables.difference_table(differences, args.draws), end="\n\n")
    say(tables.summary(numbers, protocol, thresholds))
    if seconds is not None:
        say(f"    {len(truth.image_ids) / seconds:.1f} images/s, decoding included")
    for line in tables.warnings_of(protocol, numbers):
        _warn(line)
    figures = tables.to_dict(numbers, protocol, thresholds, errors, differences, seconds)
    if args.json:
        write_output(args.json, json.dumps({**figures, "repaired": data.faults.to_dict()}, indent=1) + "\n")
    if args.csv:
        write_output(args.csv, tables.to_csv(figures))
    if args.report:
        say(f"report: {_write_report(args, truth, results, numbers, protocol)}")
    if args.store_threshold:
        score = thresholds.overall.score
        if score != score:
            raise MobileSSDError(f"{args.weights}: nothing was found rightly, so there is no threshold to store")
        by_class = store_thresholds(args.weights, thresholds, truth)
        say(f"stored in {args.weights}: score threshold {score:.3f}, and those of {len(by_class)} classes")
    if args.self_test:
        say(_judge_self_test(truth, numbers))
    return 0


def read_image_ids(path: str, truth: GroundTruth) -> list[int]:
    """The indices of the images that a file names: a JSON list of ids, a JSON object of such lists, or ids in lines.

    Ids that `truth` does not have are counted in a note. BadDataError if none is left.
    """
    named = {plain(identity) for identity in read_ids(path)}
    found = [index for index, identity in enumerate(truth.image_ids) if plain(identity) in named]
    if not found:
        raise BadDataError(f"{path}: none of its {len(named)} ids is an image of {truth.path}")
    if len(found) < len(named):
        _warn(f"{path}: {len(named) - len(found)} of its {len(named)} ids are not in {truth.path}, left out")
    return found


def _detect(args: argparse.Namespace, truth: GroundTruth, has_ids: bool) -> tuple[Results, str, float, dict]:
    """Runs the detector over the images: its results, its name, the seconds, and its part of the protocol.

    has_ids: the ids of the classes are the data set's own; else they were made up, and only names are compared."""
    if not args.images:
        find_images(truth)
    if args.weights and card_text(args.weights) is not None:
        from detection.cli.two_stage_job import find  # torchvision with it

        results, name, seconds, protocol, notes = find(args, truth)
        for line in notes:
            _warn(line)
        return results, name, seconds, protocol
    detector = open_detector(args, EVALUATION_SCORE)
    card = detector.card
    categories = match_categories(card.class_names, card.category_ids if has_ids else None, truth)
    for line in categories.notes() if args.classes is None else ():
        _warn(line)
    for_many_images()
    results, ran = detect_all(
        detector, truth, categories, args.batch, training_images=card.training_images, progress=not args.quiet
    )
    for line in ran.unreadable[:SHOWN_PROBLEMS]:
        _warn(line)
    if len(ran.unreadable) > SHOWN_PROBLEMS:
        _warn(f"and {len(ran.unreadable) - SHOWN_PROBLEMS} more images that cannot be read")
    if ran.unreadable:
        _warn(f"{len(ran.unreadable)} of {len(truth.image_ids)} images count as without detections")
    settings = detector.settings
    protocol = {
        "score_floor": settings.score,
        "nms_iou": settings.iou,
        "merge": settings.merge,
        "max_detections": settings.max_detections,
        "runtime": str(detector.runtime),
        "images_trained_on": len(ran.trained_on),
        "unreadable_images": len(ran.unreadable),
    }
    name = str(args.weights or getattr(card, "name", "") or "default weights")
    if args.input_size is not None:
        name = detector.source
    return results, name, ran.seconds, protocol


def _write_report(
    args: argparse.Namespace, truth: GroundTruth, results: Results, numbers: CocoNumbers, protocol: tables.Protocol
) -> Path:
    """The page for people, where it was written. Without the images, as may be with --results, it has no images, and says so."""
    written = write_report(args.report, truth, results, protocol=protocol, numbers=numbers)
    for line in written.notes:
        _warn(line)
    return written.page


def _check(args: argparse.Namespace) -> None:
    """What does not go together, and what is missing, is said before the work is done."""
    choose_engine(args.engine)
    if args.report:
        page_template()  # MissingPackageError
    if not args.data:
        raise MobileSSDError("ground truth is required: --data PATH (COCO, VOC or YOLO)")
    if args.self_test and (args.results or args.weights):
        raise MobileSSDError("--self-test feeds the ground truth back: it needs neither --weights nor --results")
    if args.input_size is not None and (args.self_test or args.results):
        raise MobileSSDError("--input-size is the network's: there is none here; leave it out")
    if args.store_threshold:
        if args.input_size is not None:
            raise MobileSSDError(
                "--store-threshold: the file has thresholds of its own input size; leave --input-size out"
            )
        if not args.weights or Path(args.weights).suffix != ".safetensors":
            raise MobileSSDError("--store-threshold writes into --weights FILE.safetensors; give such a file")
        if not Path(args.weights).is_file():
            raise MobileSSDError(f"{args.weights}: no such file, so no threshold can be stored in it")
    elif args.results and args.weights:
        raise MobileSSDError("give either --weights or --results (both only with --store-threshold)")


def _judge_self_test(truth: GroundTruth, numbers: CocoNumbers) -> str:
    """That it is passed. MobileSSDError, with what the ground truth has that COCO's rule cannot score, unless AP is 1.000."""
    if numbers.AP >= 0.9995:
        return "self-test passed: the ground truth scores AP 1.000 against itself"
    reasons = []
    real = ~truth.crowd
    if flat := int((truth.boxes[real, 2:] <= 0).any(1).sum()):
        reasons.append(f"{flat} boxes have no area")
    in_cell = np.unique(np.stack([truth.image[real], truth.category[real]]), axis=1, return_counts=True)[1]
    if full := int((in_cell > 100).sum()):
        reasons.append(f"{full} times an image has more than 100 objects of one class, of which COCO counts 100")
    if not real.any():
        reasons.append("there are no objects")
    raise BadDataError(f"{truth.path}: self-test gives AP {tables.show(numbers.AP)}, not 1.000: {'; '.join(reasons)}")


def _split_name(args: argparse.Namespace, path: str) -> str:
    """instances_val2017.json -> val2017; coco_val500/instances.json -> coco_val500; BCCD (test) -> BCCD (test)."""
    if args.split:
        return args.split
    stem = Path(path).stem if Path(path).is_file() else Path(path).name
    return stem.removeprefix("instances_") if stem != "instances" else Path(path).resolve().parent.name or stem


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
