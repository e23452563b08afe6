"""What a run keeps and leaves behind: the best weights with a complete card, the numbers, the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detection.data.overlap import image_hashes
from detection.errors import MissingPackageError
from detection.evaluate.report.write import write_report
from detection.evaluate.tables import Protocol
from detection.evaluate.thresholds import best_thresholds, by_class_name
from detection.evaluate.truth import GroundTruth, ground_truth
from detection.train.distributed import same_on_all, same_weights
from detection.train.history_charts import training_section
from detection.train.learn.clock import Clock
from detection.train.learn.job import Job, RunProgress
from detection.train.learn.loop import keep
from detection.train.request import Data, Evaluation
from detection.train.validate import PROTOCOL, Validation, validate
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint

log = logging.getLogger("mobilessd.train")
BEST, LAST_WEIGHTS = "best.safetensors", "last.safetensors"


class Keeper:
    """Evaluates the averaged weights and keeps the best of them: called by the loop. on_evaluate: as `Request` has it."""

    def __init__(
        self, truth: GroundTruth | None, on_evaluate: Callable[[Evaluation], bool | None] | None = None
    ) -> None:
        self.on_evaluate = on_evaluate
        self.truth = truth
        self.whole = truth
        self.best: Validation | None = None  # of this process's best weights

    def look_at(self, images: int) -> None:
        """Chooses by so many images from now on, the same ones each time, spread over all; 0 is all."""
        if self.whole is not None and 0 < images < len(self.whole.image_ids):
            chosen = np.random.default_rng(0).permutation(len(self.whole.image_ids))[:images]
            self.truth = self.whole.select(images=sorted(chosen.tolist()))

    def __call__(self, job: Job, progress: RunProgress) -> bool:
        """Whether `on_evaluate` wants the run to end."""
        found = None
        if self.truth is not None:
            begun = time.perf_counter()
            same_weights(job.ema.module)
            found = validate(job.ema.module, job.card, self.truth, job.device, job.world)
            ap = same_on_all(found.numbers.AP if found else None)
            ap = ap if ap == ap else -1.0  # no object to find
            better = ap > progress.best or not progress.best_step
        else:
            ap, better = progress.best, True  # nothing to choose by: the latest is the best, whatever its AP
        progress.waited = 0 if better else progress.waited + 1
        if better:
            progress.best, progress.best_step = ap, progress.step
            self.best = found
        if not job.world.first:
            return False
        numbers: dict[str, float] = {}
        if found is not None:
            numbers = found.numbers.twelve()
            assert job.history is not None
            job.history.add(step=progress.step, images=progress.step * job.config.batch, **numbers)
            mark = ", the best so far" if better else f" (best {progress.best:.3f} at step {progress.best_step})"
            spent = time.perf_counter() - begun
            log.info(
                "step %d: AP %.3f, AP50 %.3f%s; %.0f s",
                progress.step,
                found.numbers.AP,
                found.numbers.AP50,
                mark,
                spent,
            )
        if better:
            keep(job, BEST)
        if self.on_evaluate is None:
            return False
        seen = progress.step * job.config.batch
        return bool(self.on_evaluate(Evaluation(progress.step, seen, numbers, better, job.folder)))


def finish(job: Job, progress: RunProgress, keeper: Keeper, data: Data, clock: Clock | None = None) -> None:
    """Scores the best weights once on the validation data, completes their card, draws the report, says where it is.

    clock: of a run with a time budget, which leaves the report out where there is no time for it."""
    best = job.folder / BEST
    keep(job, LAST_WEIGHTS)
    ssd, card = load_checkpoint(best)
    final = data.final if data.final is not None else data.select
    scored: Validation | None = None
    if final is not None:
        truth = ground_truth(final) if data.final is not None else keeper.whole
        assert truth is not None
        if data.final is None and keeper.truth is keeper.whole:
            scored = keeper.best  # none yet, where the best came before a resume
        scored = scored or validate(ssd, card, truth, job.device, type(job.world)())
    card = complete_card(card, job, progress, data, scored, final)
    save_checkpoint(best, ssd, card)
    assert job.history is not None
    if scored is not None and final is not None:
        chosen = "scored once" if data.final is not None else "also used to choose the weights"
        numbers = scored.numbers
        where = f"{len(final):,} images of {final.origin} ({chosen})"
        print(f"AP {numbers.AP:.3f}, AP50 {numbers.AP50:.3f} on {where}")
        if clock is None or clock.report_fits():
            _report(job, scored, card)
        else:
            log.warning("there is no time left for a report; `mobilessd eval --report` writes one")
    print(f"weights: {best} (step {progress.best_step}); everything else beside it; use it with --weights {best}")


def complete_card(
    card: Card, job: Job, progress: RunProgress, data: Data, scored: Validation | None, final: Any
) -> Card:
    """The card with threshold, recipe, metrics, and the hashes of the images that were trained on."""
    metrics = []
    if scored is not None:
        metrics.append(
            {
                "split": str(final.origin),
                "images": len(final),
                "protocol": PROTOCOL,
                "used_to_choose": data.final is None,
            }
            | {name: _rounded(value) for name, value in scored.numbers.twelve().items()}
        )
    threshold, by_class = None, None
    if scored is not None and len(scored.results):
        thresholds = best_thresholds(scored.truth, scored.results)
        threshold = _rounded(thresholds.overall.score)
        by_class = by_class_name(scored.truth.category_names, thresholds.per_class)
    recipe = {
        "config": job.config.to_dict(),
        "images_seen": progress.best_step * job.config.batch,
        "seconds": round(progress.seconds),
        "data": data.train.origin,
        "training_images": len(data.train),
        "processes": job.world.size,
        "precision": job.precision,
    }
    return replace(
        card,
        score_threshold=threshold,
        class_thresholds=by_class,
        recipe=recipe,
        metrics=metrics,
        training_images=tuple(image_hashes(data.train)),
    )


def _report(job: Job, scored: Validation, card: Card) -> None:
    assert job.history is not None
    log.info("writing the report")
    try:
        report = write_report(
            job.folder,
            scored.truth,
            scored.results,
            sections=[training_section(job.history.rows)],
            card=card,
            config=job.config.to_yaml(),
            title=job.folder.name,
            numbers=scored.numbers,
            protocol=Protocol(
                annotations=scored.truth.path,
                split="validation",
                images=len(scored.truth.image_ids),
                score_floor=PROTOCOL["score"],
                nms_iou=PROTOCOL["iou"],
                merge=PROTOCOL["merge"],
                max_detections=PROTOCOL["max_detections"],
                model=card.name,
                runtime=f"torch on {job.device}, float32",
                engine=scored.numbers.engine,
            ),
        )
    except MissingPackageError as error:  # the weights are there; `mobilessd eval --report` can still write the page
        log.warning("no report: %s", error)
        return
    for note in report.notes:
        log.warning("%s", note)


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(float(value), 5)
