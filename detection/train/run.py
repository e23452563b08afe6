"""A training run from its command line to its folder: data, network, plan, loop, and what is left behind.

`train(request)` is what `tools/train_det.py` calls. Each part is a function of its own, in the order in which they run.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from detection.data.dataset import DetectionData
from detection.errors import BadDataError, MissingPackageError, MobileSSDError, quoted
from detection.evaluate.coco import choose_engine
from detection.evaluate.report.page import page_template
from detection.evaluate.truth import ground_truth
from detection.files import write_text
from detection.progress import waiting
from detection.runtimes.torch import choose_device
from detection.ssd.batch_norms import rebuild_batch_norms
from detection.ssd.network import SSD, Deployable
from detection.train.config import TrainConfig
from detection.train.distributed import World, same_on_all, same_weights, world
from detection.train.finalize import Keeper, finish
from detection.train.input.loader import TrainLoader
from detection.train.learn.ema import EMA
from detection.train.learn.freeze import norms_of
from detection.train.learn.history import History
from detection.train.learn.job import Job, RunProgress
from detection.train.learn.loggers import chosen
from detection.train.learn.loop import fit, load, save
from detection.train.learn.losses import CLASSIFICATION, class_weights_of
from detection.train.learn.optimizer import build_optimizer
from detection.train.learn.plan import changed_plan, make_plan, plan_in_time
from detection.train.memory import largest_batch
from detection.train.model import Prepared, from_scratch, from_weights, set_momentum
from detection.train.origin import (
    check_unchanged,
    config_text,
    fingerprint_of,
    flat,
    network_of_state,
    origin_of,
    resumed,
)
from detection.train.request import Data, Request, open_parts
from detection.train.run_folder import run_folder
from detection.train.scales import Scales, scales_of, sizes_of
from detection.train.speed import precisions, settled
from detection.train.state import read_state, restore_threads
from detection.train.teachers.teacher import teacher_for
from detection.weights.names import spec_for

log = logging.getLogger("mobilessd.train")
BAR: dict[str, Any] = {"unit": "batch", "disable": None, "dynamic_ncols": True, "leave": False}  # no terminal: no bar
NORM_SHARE = 0.1  # of a time budget, for the rebuilding of folded norms


def train(request: Request) -> Path:
    """Trains, and returns the folder whose `best.safetensors` is the result. Raises MobileSSDError, one line."""
    began = time.monotonic() if request.began is None else request.began
    device = choose_device(request.device)
    if device == "cpu":
        torch.set_num_threads(
            request.threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        )
    with world(device) as here, run_folder(Path(request.output), request.resume, here) as folder:
        _train(request, folder, device, here, began)
        return folder


def _train(request: Request, folder: Path, device: str, here: World, began: float) -> None:
    config = request.config
    torch.manual_seed(config.seed)
    state = read_state(folder) if request.resume else None
    if state is not None:
        if device == "cpu":
            restore_threads(state, request.threads)
        request = resumed(request, state)
        earlier = check_unchanged(config, state, folder)
    with waiting("reading and checking the data"):
        data = open_parts(request)
    if here.first:
        chosen(config.log)
        check_packages(scored=data.select is not None or data.final is not None)
    fingerprint = fingerprint_of(data.train, data.select)
    if state is not None and fingerprint != state.meta["origin"]["data"]:
        raise BadDataError(
            f"{folder}: this run began with other images or boxes than {request.data} gives now, so it cannot go "
            "on as it was; give it the same data and options, or begin another one from its weights with --weights"
        )
    with waiting("loading the weights"):
        prepared = network_of_state(config, state) if state else network_for(config, data.train, request.class_map)
    ssd = prepared.ssd.to(device)
    scales = scales_of(config, ssd, device)
    _check_norms(config, ssd, here)
    if here.first:
        _say(request, data, prepared, device, here, scales)
    loader = loader_for(config, data.train, ssd.spec.input.size, here, device)
    kept = {*norms_of(ssd, config.freeze), *norms_of(ssd, prepared.fresh)}
    if prepared.folded is not None and any(norm not in kept for norm in norms_of(prepared.folded, ("",))):
        seconds = math.inf if request.time_budget is None else NORM_SHARE * request.time_budget
        config = _with_norms(config, prepared.folded, kept, ssd, loader, device, same_on_all(seconds))
    same_weights(ssd)
    job = Job(
        config=config,
        loss=config.loss.for_scores(ssd.spec.scores),
        ssd=ssd.to(memory_format=torch.channels_last),
        card=prepared.card,
        loader=loader,
        scales=scales,
        optimizer=build_optimizer(config, ssd),
        ema=EMA(ssd, config.ema),
        world=here,
        device=device,
        precision=precisions(config.precision, device)[0],
        folder=folder,
        origin=origin_of(request, fingerprint, prepared.card, state),
        class_weights=class_weights_of(
            config.loss, data.train.class_names, loader.data.class_counts().tolist(), device
        ),
    )
    if config.distillation.teacher is not None:
        focal = not CLASSIFICATION[job.loss.classification].background
        job.teacher = teacher_for(config.distillation, ssd, prepared.card, request.class_map, focal, device, scales)
    if state is None and request.at_batch is not None:
        at_largest_batch(job, request.at_batch, data.train)
    keeper = Keeper(ground_truth(data.select) if data.select is not None else None, request.on_evaluate)
    clock, progress, budget, chosen_by = None, RunProgress(), request.time_budget, len(data.select or ())
    try:
        if state is not None:
            stored, progress = load(job, state)
            if config.precision == "auto":
                job.precision = stored.precision or job.precision
            plan = changed_plan(config, earlier, stored, progress.step, len(data.train), chosen_by)
            job.config = replace(config, replanned=earlier.replanned if plan.steps == stored.steps else ())
            log.info("resuming at step %d of %d", progress.step, plan.steps)
            if budget is not None:
                log.info("--time-budget changes nothing now: it became these %d steps when the run began", plan.steps)
        elif budget is not None:
            plan, clock = plan_in_time(job, budget, began + budget, *map(len, (data.select or (), data.final or ())))
        else:
            plan = make_plan(job, chosen_by)
        job.config = replace(
            job.config, compile=plan.compiled, precision=settled(config.precision, device, job.precision)
        )
        begun_at = progress.step if state is not None else None
        job.history = History(folder, begun_at, here.first, config.log, flat(job.config))
        if here.first and state is None:
            write_text(folder / "config.yaml", config_text(job.config, job.origin))
            save(job, plan, progress)
        keeper.look_at(plan.evaluate_images)
        fit(job, plan, progress, keeper, clock)
    finally:
        job.loader.close()
        if job.history is not None:
            job.history.close()
    if here.first:
        finish(job, progress, keeper, data, clock)


def at_largest_batch(job: Job, at_batch: Callable[[int], TrainConfig], data: DetectionData) -> None:
    """`job` with the largest batch that fits, and its loader and config anew."""
    config = replace(at_batch(largest_batch(job)), norm_images=job.config.norm_images)
    _check_norms(config, job.ssd, job.world)
    job.loader.close()
    job.config, job.loader = config, loader_for(config, data, job.ssd.spec.input.size, job.world, job.device)


def check_packages(scored: bool) -> None:
    """What is needed at the end is looked for at the beginning. MissingPackageError where nothing can score; without a
    report a run is worth its while."""
    if scored:
        choose_engine()
    try:
        page_template()
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingPackageError('its plots need matplotlib: pip install "mobilessd[train]"')
    except MissingPackageError as error:
        log.warning("there will be no report: %s", error)


def network_for(config: TrainConfig, data: DetectionData, class_map: dict[str, str]) -> Prepared:
    """The network to train: `config.weights` fitted to the classes, or `config.model` from scratch or on a backbone."""
    size = config.input_size
    if config.model is None:
        if config.weights is None:
            raise MobileSSDError(
                "neither weights nor a model to train; give --weights NAME_OR_FILE or a config with a model"
            )
        if fixed := sorted(config.options.keys() - {"aspect_ratios", "stride8"}):
            raise MobileSSDError(
                f"options.{fixed[0]}: weights have a network of their own, of which only aspect_ratios and stride8 can "
                "change; name another one with --model"
            )
        pixels = (size, size) if isinstance(size, int) else size
        ratios, finer = config.options.get("aspect_ratios"), config.options.get("stride8", False)
        if not isinstance(finer, bool):
            raise MobileSSDError(f"options.stride8: {quoted(finer)} is neither true nor false")
        prepared = from_weights(
            config.weights, data.class_names, data.numeric_ids(), pixels, class_map, aspect_ratios=ratios, stride8=finer
        )
    else:
        options = dict(config.options) | ({} if size is None else {"input_size": size})
        spec = spec_for(config.model, **options)
        prepared = from_scratch(spec, data.class_names, data.numeric_ids(), config.weights, config.initial)
    set_momentum(prepared.ssd, config.norm_momentum)
    return prepared


def loader_for(
    config: TrainConfig, data: DetectionData, size: tuple[int, int], here: World, device: str
) -> TrainLoader:
    workers = config.workers if isinstance(config.workers, int) else _workers(device, here)
    return TrainLoader(
        data,
        size,
        config.batch // config.accumulate,
        config.augmentation,
        seed=config.seed,
        rank=here.rank,
        world=here.size,
        workers=workers,
        cache_mb=config.cache_mb,
        crowd=config.crowd,
        difficult=config.difficult,
        pin_memory=device.startswith("cuda"),
        sizes=sizes_of(config),
        balanced=config.balanced_sampling,
    )


def _check_norms(config: TrainConfig, ssd: SSD, here: World) -> None:
    """A batch norm in training needs more than one value a channel: a last map of one cell has one an image."""
    images = config.batch // config.accumulate // here.size
    normed = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in ssd.modules())
    if images == 1 and normed and config.norms == "train":
        raise MobileSSDError(
            "one image at a time is too few for batch norms; give a larger --batch, or keep them with --set norms=frozen"
        )


def _workers(device: str, here: World) -> int:
    """Processes that load: on a GPU all cores but one; on a CPU one, which decodes while the network computes."""
    cores = (os.cpu_count() or 1) // here.size
    return max(1, min(8, cores - 1)) if device != "cpu" else 1


def _with_norms(
    config: TrainConfig,
    part: nn.Module,
    kept: Container[nn.Module],
    ssd: SSD,
    loader: TrainLoader,
    device: str,
    seconds: float,
) -> TrainConfig:
    """Rebuilds the norms of the backbone, or of the whole network, but those that are kept, on images of the training data as
    they are; ends behind so many seconds and at least two batches. The config says on how many images."""
    images = min(config.norm_images, len(loader.data))
    log.info("the weights had their batch norms folded: rebuilding them on %d of your images", images)
    deployable = Deployable(ssd).to(device)
    plain = replace(
        loader.source.augmentation,
        crop="none", mosaic=0.0, mixup=0.0, photometric="none", expand=0.0, rotate=0.0, transforms=(),
    )  # fmt: skip
    steps, begun = max(2, -(-images // loader.batch_size)), time.monotonic()

    def batches() -> Iterator[torch.Tensor]:
        for step, batch in enumerate(tqdm(loader.augmented_by(plain).batches(0, steps), "norms", steps, **BAR)):
            if step >= 2 and time.monotonic() - begun > seconds:
                return
            yield deployable.normalise(batch.images.to(device))

    seen = rebuild_batch_norms(part, batches(), kept)
    if seen >= images:
        return config
    log.info("%d of them, as there is not more time", seen)
    return replace(config, norm_images=seen)


def _say(request: Request, data: Data, prepared: Prepared, device: str, here: World, scales: Scales) -> None:
    print(data.report.text())
    parts = f"training on {len(data.train):,} images"
    if data.select is not None:
        parts += f", best weights chosen on {len(data.select):,}"
    if data.final is not None:
        parts += f", {len(data.final):,} scored once at the end"
    print("", parts, *prepared.said, sep="\n")
    if sizes := sizes_of(request.config):
        print("a size a step: " + ", ".join(str(scales[size]) for size in dict.fromkeys(sizes)))
    where = f"{here.size} processes, " if here.size > 1 else ""
    precision = " or ".join(precisions(request.config.precision, device))
    print(f"on {where}{device}, {precision}, {torch.get_num_threads()} threads", flush=True)
