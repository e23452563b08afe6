"""`mobilessd detect SOURCE... --shards OUT`: the options of detection over very many images, and what it prints."""

from __future__ import annotations

import argparse
import sys

from detection.cli.common import batch_size, positive_int, weights_of
from detection.errors import MobileSSDError

NEED_SHARDS = ("shard_format", "shard_size", "engine", "workers", "batch")


def add_bulk_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --shards and what belongs to it. Not given is None, so that `check` can tell."""
    bulk = parser.add_argument_group("very many images")
    bulk.add_argument(
        "--shards", metavar="OUT", help="folder or address (s3://...) for the results; run again, it goes on"
    )
    bulk.add_argument("--shard-format", choices=("parquet", "jsonl"), help="format of the results (default: parquet)")
    bulk.add_argument("--shard-size", type=positive_int, metavar="N", help="images in one file (default: 1000)")
    bulk.add_argument(
        "--batch", type=batch_size, metavar="N", help="images that the network sees at once (default: 16)"
    )
    bulk.add_argument("--engine", choices=("local", "ray"), help="this process, or a Ray cluster (default: local)")
    bulk.add_argument(
        "--workers", type=positive_int, metavar="N", help="most workers of the Ray cluster (default: all that fit)"
    )


def check(args: argparse.Namespace, default_output: str) -> None:
    """MobileSSDError, one line, for options that do not go together."""
    if not args.shards:
        for name in NEED_SHARDS:
            if getattr(args, name) is not None:
                raise MobileSSDError(f"--{name.replace('_', '-')} needs --shards OUT, where the results go")
        return
    if args.json or args.csv or args.labels:
        option = "--json" if args.json else "--csv" if args.csv else "--labels"
        raise MobileSSDError(f"{option} holds the boxes of all images in memory: leave it out, --shards has them")
    if args.output != default_output:
        raise MobileSSDError("--output: nothing is drawn with --shards: leave one of them out")
    if args.workers and args.engine != "ray":
        raise MobileSSDError("--workers is the number of Ray workers: add --engine ray")


def run_bulk(args: argparse.Namespace) -> int:
    """Detects in every image; see the parser for `args`. Returns the exit code."""
    from detection.bulk.run import BulkOrder, detect_in_bulk

    options = {
        "runtime": args.runtime,
        "device": args.device,
        "precision": args.precision,
        "threads": args.threads,
        "score": args.score,
        "iou": args.iou,
        "max_detections": args.max_detections,
        "classes": args.classes,
        "merge": args.merge,
        "views": args.views,
        "tiles": args.tiles,
    }
    order = BulkOrder(
        args.sources,
        args.shards,
        args.weights if args.input_size is None else str(weights_of(args).path),
        {name: value for name, value in options.items() if value is not None},
        args.recursive,
        args.shard_format or "parquet",
        args.shard_size or 1000,
        args.batch or 16,
        args.engine or "local",
        args.workers,
    )
    done = detect_in_bulk(order, lambda line: print(line, flush=True))
    if done.present < done.total:
        bad = f", {done.bad:,} that could not be read (see the column error)" if done.bad else ""
        rate = f" ({done.made / done.seconds:.1f} images/s)" if done.made else ""
        print(f"{done.made:,} images, {done.objects:,} objects{bad} in {done.seconds:.1f} s{rate}; in {args.shards}")
    else:
        print(f"nothing to do: all {done.total:,} images are in {args.shards}")
    if done.stopped:
        kept = done.present + done.made
        print(
            f"interrupted: {kept:,} of {done.total:,} images are in {args.shards}; the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    if done.nothing:
        print(f"error: none of the {done.total:,} images could be read", file=sys.stderr)
    elif done.failed:
        print(f"error: {done.failed:,} of the files named could not be read", file=sys.stderr)
    return 2 if done.nothing or done.failed else 0
