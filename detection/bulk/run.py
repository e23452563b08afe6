"""A bulk run: lists the images, looks at what the folder holds already, and fills in the shards that are missing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detection.bulk.cluster import Cluster, absolute
from detection.bulk.finished import Finished
from detection.bulk.folder import Folder, open_folder
from detection.bulk.listing import Images, list_images
from detection.bulk.manifest import Manifest, agree, hash_of_names, hash_of_weights, shown_name
from detection.bulk.progress import Progress
from detection.bulk.shard_worker import Finished as Made
from detection.bulk.shard_worker import Task, make_shards
from detection.bulk.shards import FORMATS, Shard, check_format, cut, file_name
from detection.errors import some, warn
from detection.masking import without_secrets
from detection.postprocessor import PostProcessor
from detection.runtimes.open import choose
from detection.views import joined, parse
from detection.weights.card import Card
from detection.weights.resolve import Weights, open_weights

ENGINES = ("local", "ray")
KEPT_APART = (
    "runtime",
    "device",
    "precision",
    "threads",
    "views",
    "tiles",
)  # options of a Detector that are no rule of post-processing


@dataclass(frozen=True)
class BulkOrder:
    """What is asked for. sources, recursive: see `list_images`. place: folder or address of the shards. options: of
    `Detector`, by name. workers: of the cluster."""

    sources: Sequence[str]
    place: str
    weights: str | None
    options: dict[str, Any]
    recursive: bool = False
    kind: str = "parquet"
    size: int = 1000
    batch: int = 16
    engine: str = "local"
    workers: int | None = None


@dataclass
class Outcome:
    """Of this run: shards and images made, objects found, images that could not be read, seconds of making. total: images
    of the whole folder; present: of these, from earlier runs. stopped: by Ctrl-C. failed: images that the person
    named as single files and that could not be read, in any run; nothing: not one of all images could be read."""

    shards: int
    total: int
    present: int
    made: int = 0
    objects: int = 0
    bad: int = 0
    seconds: float = 0.0
    stopped: bool = False
    failed: int = 0
    nothing: bool = False


def detect_in_bulk(order: BulkOrder, say: Callable[[str], Any] = print) -> Outcome:
    """Makes every shard that is missing; `say` gets a few lines for the person, warnings go to stderr.

    Ctrl-C ends it after nothing is half-written, with `stopped` in the outcome. Raises MobileSSDError, one line, where
    the folder was begun with something else, something is missing, or a store cannot be reached.
    """
    check_format(order.kind)
    folder = open_folder(order.place)
    weights = open_weights(order.weights)
    options = _resolved(order)
    runtime = choose(weights, options["device"]) if options["runtime"] == "auto" else options["runtime"]
    with contextlib.ExitStack() as stack:
        engine, words = _engine(order, weights, options, runtime, stack)
        say(words)
        images = list_images(order.sources, order.recursive)
        shards = cut(images.names, order.size)
        stack.enter_context(folder.alone())
        present = folder.sizes()
        manifest = _manifest(order, weights, options | {"runtime": runtime}, images, len(shards))
        agree(folder, manifest, present)
        finished = Finished(folder, manifest, order.kind)
        whole, damaged = finished.whole(shards, present)
        missing = [shard for shard in shards if shard.index not in whole]
        if damaged:
            warn(f"{folder}: {some(damaged, 3)}: emptied, cut short or damaged since: made anew")
        outcome = Outcome(len(shards), len(images.names), len(images.names) - sum(len(s.names) for s in missing))
        say(_plan(order, images, len(shards), len(missing)))
        try:
            good = _make(order, folder, engine, missing, outcome, finished)
        finally:
            finished.write()
        if not outcome.stopped:
            _look_back(order, folder, images, shards, good, outcome)
    return outcome


def _make(
    order: BulkOrder, folder: Folder, engine: Any, missing: list[Shard], outcome: Outcome, finished: Finished
) -> bool:
    """Fills in the missing shards and the outcome; returns whether any image of theirs could be read."""
    good, start = False, time.perf_counter()
    with Progress(outcome.total, outcome.present) as progress:
        try:
            for done in engine(missing, progress) if missing else ():
                name = file_name(done.index, order.kind)
                folder.write(name, done.data)
                finished.add(name, done.data)
                for image, problem in done.problems:
                    progress.warn(f"warning: {image}: {problem}")
                good = good or len(done.problems) < done.images
                outcome.made += done.images
                outcome.objects += done.objects
                outcome.bad += len(done.problems)
        except KeyboardInterrupt:
            outcome.stopped = True
    outcome.seconds = time.perf_counter() - start
    return good


def _engine(
    order: BulkOrder, weights: Weights, options: dict[str, Any], runtime: str, stack: contextlib.ExitStack
) -> tuple[Any, str]:
    """What makes shards: (missing, progress) -> the finished ones; and a line that says what that is."""
    name = weights.source
    if order.engine == "local":
        cores = os.cpu_count() or 1
        task = Task(name, options, "", order.batch, cores, order.kind)
        detector = task.open()
        if order.batch > 1:
            detector.streams()  # compiled and tried here, not while images are waiting

        def here(missing: list[Shard], progress: Progress) -> Iterator[Made]:
            return make_shards(task, detector, missing, progress)

        return here, str(detector)
    cluster = stack.enter_context(Cluster(options["threads"], int(options["device"].startswith("cuda")), order.workers))
    options = options | {"runtime": runtime}  # the same on all workers, whatever is installed there
    pool = cluster.pool(Task(absolute(name), options, os.getcwd(), order.batch, 1, order.kind), weights)

    def there(missing: list[Shard], progress: Progress) -> Iterator[Made]:
        for done in pool.make_shards(missing):
            yield done
            progress(done.images)

    return there, f"{weights.source} with {runtime} on {options['device']}, {pool}"


def _resolved(order: BulkOrder) -> dict[str, Any]:
    """The options of every Detector of this run."""
    options = {"runtime": "auto", "device": "auto", "precision": "auto", "threads": None} | order.options
    if order.engine == "ray" and options["device"] == "auto":
        options["device"] = "cpu"  # Ray hides the GPUs that were not asked for
    return options


def _manifest(order: BulkOrder, weights: Weights, options: dict[str, Any], images: Images, shards: int) -> Manifest:
    card = weights.card
    rules = _rules(card, {key: value for key, value in options.items() if key not in KEPT_APART})
    kept = {key: rules[key] for key in ("score", "iou", "max_detections", "classes", "merge")}
    kept["views"] = joined(options.get("views"), options.get("tiles"))
    if kept["views"] is not None and not parse(kept["views"]).plain and options.get("merge") is None:
        kept["merge"] = "vote"  # as the Detector has it
    if rules["class_scores"] is not None:
        kept["class_scores"] = list(rules["class_scores"])
    if kept["classes"] is not None:
        kept["classes"] = [card.class_names[i] for i in sorted(set(kept["classes"]))]
    how = {"runtime": options["runtime"], "precision": options["precision"], "batch": order.batch}
    return Manifest(
        {"name": shown_name(weights), "sha256": hash_of_weights(weights)},
        kept | how,
        {"format": order.kind, "size": order.size, "count": shards},
        {"count": len(images.names), "sha256": hash_of_names(images.names)},
        card.class_names,
        card.category_ids,
    )


def _rules(card: Card, rules: dict[str, Any]) -> dict[str, Any]:
    """The rules of post-processing as a detector takes them: defaults filled in, class names checked. No runtime is
    opened for that: on a cluster it may not even be installed here."""
    return asdict(PostProcessor.of(card, **rules).settings)


def _plan(order: BulkOrder, images: Images, shards: int, missing: int) -> str:
    words = f"{len(images.names):,} images in {shards:,} shard{'' if shards == 1 else 's'} ({order.kind})"
    if images.videos:
        words += f"; {images.videos:,} videos left out"
    return f"{words}; {shards - missing:,} there already" if missing < shards else words


def _look_back(
    order: BulkOrder, folder: Folder, images: Images, shards: list[Shard], good: bool, outcome: Outcome
) -> None:
    """Sets `failed` and `nothing`, which depend on earlier runs too. Reads shards only where the answer needs them."""
    for shard in shards:
        named = images.named.intersection(shard.names)
        if not named and good:
            continue
        errors = FORMATS[order.kind].errors_in(folder.read(file_name(shard.index, order.kind)))
        outcome.failed += sum(bool(errors.get(without_secrets(name))) for name in named)
        good = good or not all(errors.values())
    outcome.nothing = not good
