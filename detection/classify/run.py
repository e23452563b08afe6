"""The training of a classifier: image folder -> best.safetensors, resumable to the bit on a CPU."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.classify.config import ClassifierConfig
from detection.classify.images import ImageSet, evaluation_batches, open_splits, training_batches
from detection.classify.learner import Learner, Progress, Teacher, check_unchanged, fingerprint, load, save
from detection.classify.network import Beginning, Normalised, begin, open_classifier
from detection.classify.score import score
from detection.errors import BadDataError, MobileSSDError
from detection.files import write_text
from detection.runtimes.torch import choose_device
from detection.ssd.batch_norms import rebuild_batch_norms
from detection.train.distributed import World, any_of, same_on_all, same_weights, total, world
from detection.train.learn.ema import EMA
from detection.train.learn.freeze import train_mode
from detection.train.learn.history import History
from detection.train.learn.loop import stop_signals
from detection.train.learn.optimizer import build_optimizer, set_learning_rate
from detection.train.learn.schedule import learning_rate, resolve
from detection.train.run_folder import run_folder
from detection.train.speed import autocast, fastest_precision, nothing_learned, precisions, settled, trial_rounds
from detection.train.state import read_state, restore_threads
from detection.weights.classifier import save_classifier

log = logging.getLogger("mobilessd.train")
SAVE_SECONDS = 60.0  # between two states
LOG_STEPS = 20
NORM_IMAGES = 256  # on which folded batch norms are rebuilt


@dataclass
class Request:
    """What `mobilessd classify --train` asks for. data: the image folder; val: another for validation."""

    data: str
    config: ClassifierConfig
    output: Path
    val: str | None = None
    val_share: float = 0.2
    device: str = "auto"
    threads: int | None = None
    resume: bool = False


def train(request: Request) -> Path:
    """Trains, and returns the folder whose `best.safetensors` is the result. Raises MobileSSDError, one line."""
    device, config = choose_device(request.device), request.config
    if device == "cpu":
        share = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        torch.set_num_threads(request.threads or share)
    with world(device) as here, run_folder(Path(request.output), request.resume, here) as folder:
        state = read_state(folder) if request.resume else None
        if state is not None:
            if device == "cpu":
                restore_threads(state, request.threads)
            check_unchanged(config, state, folder)
        images, val = open_splits(Path(request.data), request.val, request.val_share, config.seed)
        origin = {"data": fingerprint(images, val), "config": config.to_dict()}
        if state is not None and state.meta["origin"]["data"] != origin["data"]:
            raise BadDataError(f"{folder}: this run began with other images than {request.data} holds now")
        torch.manual_seed(config.seed)
        begun = begin(config, images.class_names)
        learner = _learner(request, begun, images, val, here, device, folder, origin)
        if here.first:
            for line in (*images.said, *begun.said):
                print(line)
            print(f"{len(images):,} images to train on, {len(val):,} choose the best", flush=True)
        progress = Progress()
        if state is not None:
            progress = load(learner, state)
            log.info("resuming at step %d", progress.step)
        else:
            _rebuild_norms(learner)
            same_weights(begun.network)
            _choose_precision(learner)
            if here.first:
                said = settled(config.precision, device, learner.precision)
                write_text(folder / "config.yaml", replace(config, precision=said).to_yaml())
        history = History(folder, progress.step if state is not None else None, write=here.first)
        with closing(history):
            _fit(learner, progress, history)
        return folder


def _learner(
    request: Request, begun: Beginning, images: ImageSet, val: ImageSet, here: World, device: str, folder: Path,
    origin: dict[str, Any],
) -> Learner:  # fmt: skip
    config = request.config
    begun.network.to(device).to(memory_format=torch.channels_last)
    teacher = None
    if config.distillation.teacher is not None:
        teacher = Teacher(open_classifier(config.distillation.teacher), images.class_names, config.distillation, device)
    return Learner(
        config, images, val, begun, here, device, precisions(config.precision, device)[0], folder,
        build_optimizer(config, begun.network), EMA(begun.network, config.ema), origin, teacher,
    )  # fmt: skip


def _fit(learner: Learner, progress: Progress, history: History) -> None:
    config, here, network = learner.config, learner.here, learner.begun.network
    schedule = resolve(config, len(learner.images))
    model: nn.Module = Normalised(network, learner.card.mean, learner.card.std).to(learner.device)
    if here.size > 1:
        model = nn.parallel.DistributedDataParallel(model)
    epoch = len(learner.images) / config.batch
    every = max(1, round(config.evaluate_every * epoch)) if config.evaluate_every else schedule.total
    batches = training_batches(
        learner.images, config, learner.card.input_size, progress.step, schedule.total, here.rank, here.size
    )
    iterator: Iterator[tuple[Tensor, Tensor]] = iter(batches)
    train_mode(network, config)
    saved, started = time.monotonic(), time.perf_counter() - progress.seconds
    with stop_signals(here.first) as stopped:
        for images, labels in iterator:
            rate = learning_rate(schedule, progress.step)
            set_learning_rate(learner.optimizer, rate)
            loss = _step(learner, model, images.to(learner.device), labels.to(learner.device))
            if not math.isfinite(loss):
                raise MobileSSDError(
                    f"the loss is not finite at step {progress.step}; lower optimizer.lr and go on with --resume"
                )
            learner.ema.update(network, progress.step)
            progress.step += 1
            progress.loss, progress.counted = progress.loss + loss, progress.counted + 1
            progress.seconds = time.perf_counter() - started
            last = progress.step == schedule.total
            if progress.step % LOG_STEPS == 0 or last:
                _log(learner, progress, history, schedule.total, rate)
            if progress.step % every == 0 or last:
                _evaluate(learner, progress, history)
                train_mode(network, config)
            stop = any_of(stopped(), learner.device)
            if here.first and (stop or last or time.monotonic() - saved > SAVE_SECONDS):
                save(learner, progress)
                saved = time.monotonic()
            if stop:
                if here.first:
                    log.warning("stopped at step %d of %d; go on with --resume", progress.step, schedule.total)
                raise KeyboardInterrupt


def _choose_precision(learner: Learner) -> None:
    """A few steps on noise in each precision that this processor has; nothing is learned."""
    config, network = learner.config, learner.begun.network
    tried = precisions(config.precision, learner.device)
    if len(tried) == 1:
        return
    size = learner.card.input_size
    model: nn.Module = Normalised(network, learner.card.mean, learner.card.std)
    train_mode(network, config)

    def step(precision: str) -> None:
        with autocast(precision, learner.device):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        logits.float().square().mean().backward()

    rounds = trial_rounds(resolve(config, len(learner.images)).total)
    with nothing_learned(network):
        images = torch.randint(256, (max(2, config.batch // 2), 3, size, size), dtype=torch.uint8)
        learner.precision = same_on_all(fastest_precision(step, tried, rounds)[0])


def _step(learner: Learner, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Forward, backward, update; the loss of this process's share of the batch."""
    config = learner.config
    with autocast(learner.precision, learner.device):
        logits = model(images.contiguous(memory_format=torch.channels_last))
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    if learner.teacher is not None:
        loss = learner.teacher.blend(loss, logits, images)
    loss.backward()
    if config.clip_norm:
        nn.utils.clip_grad_norm_(learner.begun.network.parameters(), config.clip_norm)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _rebuild_norms(learner: Learner) -> None:
    """Of a backbone whose file had folded them, on images as evaluation sees them."""
    part = learner.begun.folded
    if part is None:
        return
    count = min(NORM_IMAGES, len(learner.images))
    log.info("the weights had their batch norms folded: rebuilding them on %d of your images", count)
    generator = torch.Generator().manual_seed(learner.config.seed)
    chosen = torch.randperm(len(learner.images), generator=generator)[:count].tolist()
    card = learner.card
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (card.mean, card.std))
    loaded = evaluation_batches(learner.images, card.input_size, card.crop, chosen, learner.config.workers)
    rebuild_batch_norms(part, (((batch.float() - mean) / std).to(learner.device) for batch, _ in loaded))
    learner.ema = EMA(learner.begun.network, learner.config.ema)


def _evaluate(learner: Learner, progress: Progress, history: History) -> None:
    """Scores the averaged weights, and keeps them where they are the best so far."""
    card, here = learner.card, learner.here
    model = Normalised(learner.ema.module, card.mean, card.std).to(learner.device).eval()
    found = score(
        lambda images: model(images.to(learner.device)), learner.val, list(range(len(card.class_names))), card.input_size,
        card.crop, rank=here.rank, world=here.size, workers=learner.config.workers, add=total,
    )  # fmt: skip
    better = found.top1 > progress.best
    progress.best = max(progress.best, found.top1)
    if here.first:
        log.info("step %d: %s%s", progress.step, found.text(), ", the best so far" if better else "")
        history.add(step=progress.step, top1=found.top1, top5=found.top5)
        metric = {"top1": round(found.top1, 4), "top5": round(found.top5, 4), "images": found.images,
                  "data": "validation images of the training data", "step": progress.step}  # fmt: skip
        kept = replace(card, metrics=(metric,))
        for name in ["last.safetensors", *(["best.safetensors"] if better else [])]:
            save_classifier(learner.folder / name, learner.ema.module.state_dict(), kept)


def _log(learner: Learner, progress: Progress, history: History, steps: int, rate: float) -> None:
    if learner.here.first:
        loss, speed = progress.loss / progress.counted, progress.step * learner.config.batch / progress.seconds
        left = (steps - progress.step) * progress.seconds / progress.step
        log.info("step %d of %d, loss %.4f, %.1f images/s, %.0f s to go", progress.step, steps, loss, speed, left)
        history.add(step=progress.step, loss=loss, lr=rate)
    progress.loss, progress.counted = 0.0, 0
