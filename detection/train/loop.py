"""The training loop, from the first step to the last, in one piece.

Everything that decides what a step does is in `Job`; everything that changes is in `Progress` and the modules. A run
that was stopped goes on from its state as if nothing had happened, to the bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detection.core.card import Card
from detection.core.errors import MobileSSDError
from detection.data.batch import Batch
from detection.data.loader import TrainLoader
from detection.ssd.network import SSD, Deployable
from detection.train.config import LossConfig, TrainConfig
from detection.train.distributed import World, total
from detection.train.ema import EMA
from detection.train.freeze import train_mode
from detection.train.history import History
from detection.train.losses import detection_losses, global_positives
from detection.train.schedule import learning_rate, resolve
from detection.train.speed import autocast
from detection.train.optim import set_learning_rate
from detection.train.state import pack, restore_rng, unpack_optimizer, write_state
from detection.train.targets import build_targets

log = logging.getLogger("mobilessd.train")
LOG_EVERY = 20  # steps


@dataclass
class Job:
    """What is trained, on what, how, and where to."""

    config: TrainConfig
    loss: LossConfig  # of `config`, with "auto" settled by the network's scores
    ssd: SSD
    card: Card
    loader: TrainLoader
    anchors: Tensor
    optimizer: torch.optim.Optimizer
    ema: EMA
    world: World
    device: str
    precision: str
    folder: Path
    history: History | None = None
    network: nn.Module | None = None  # what is called: `network_of`
    teacher: Any = None


@dataclass
class Plan:
    """Numbers fixed before the first step and kept in the checkpoint, so that a resumed run follows the same course.

    steps: optimiser steps in all. evaluate_every: steps between evaluations. batch: pictures a step, all processes and
    accumulation together. compiled: whether the network runs compiled.
    """

    steps: int
    evaluate_every: int
    save_every: int
    batch: int
    compiled: bool = False


@dataclass
class Progress:
    """Where a run stands. best: the best AP so far and its step; waited: evaluations since then; seconds: time spent."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    meta: dict[str, Any] = field(default_factory=dict)


class NonFiniteLoss(MobileSSDError):
    """The loss is no number any more; the message names the pictures and the checkpoint from before."""


def fit(job: Job, plan: Plan, progress: Progress, evaluate: Any) -> None:
    """Runs from `progress.step` to `plan.steps`. evaluate(job, progress) -> AP or None is called every
    `plan.evaluate_every` steps and at the end, and keeps the best weights.

    Raises NonFiniteLoss; ends early on Ctrl-C or SIGTERM (KeyboardInterrupt, after the state was written) and when the AP has
    not risen for `config.patience` evaluations.
    """
    config, accumulate = job.config, job.config.accumulate
    network = network_of(job, plan.compiled)
    schedule = resolve(config, len(job.loader.data), plan.steps)
    scaler = torch.amp.GradScaler(enabled=job.precision == "float16")
    meter, started = Meter(plan, job), time.perf_counter() - progress.seconds
    batches = job.loader.batches(progress.step * accumulate, plan.steps * accumulate)
    train_mode(job.ssd, config)
    with stop_signals() as stopped:
        while progress.step < plan.steps:
            rate = learning_rate(schedule, progress.step)
            set_learning_rate(job.optimizer, rate)
            group_batches = [meter.waited_for(batches) for _ in range(accumulate)]
            losses = step_gradients(job, network, group_batches, scaler)
            if not all(math.isfinite(value) for value in losses.values()):
                raise non_finite(job, progress, group_batches, losses)
            scaler.unscale_(job.optimizer)
            if config.clip_norm:
                nn.utils.clip_grad_norm_(job.ssd.parameters(), config.clip_norm)
            scaler.step(job.optimizer)
            scaler.update()
            job.optimizer.zero_grad(set_to_none=True)
            job.ema.update(job.ssd, progress.step)
            progress.step += 1
            progress.seconds = time.perf_counter() - started
            meter.step(progress, losses, rate)
            last = progress.step == plan.steps
            if progress.step % plan.evaluate_every == 0 or last:
                evaluate(job, progress)
                train_mode(job.ssd, config)
            if job.world.first and (progress.step % plan.save_every == 0 or last or stopped()):
                save(job, plan, progress)
            if stopped():
                raise KeyboardInterrupt
            if config.patience and progress.waited >= config.patience:
                log.info("no better AP for %d evaluations: stopping at step %d", progress.waited, progress.step)
                break
    meter.close()


def network_of(job: Job, compiled: bool = False) -> nn.Module:
    """The module that is called, made once: normalisation inside, gradients summed over processes, compiled if wanted."""
    if job.network is None:
        network: nn.Module = Deployable(job.ssd).to(job.device)
        if job.world.size > 1:
            devices = [job.world.local_rank] if job.device.startswith("cuda") else None
            network = nn.parallel.DistributedDataParallel(network, device_ids=devices)
        job.network = torch.compile(network) if compiled else network
    return job.network


def step_gradients(job: Job, network: nn.Module, batches: list[Batch], scaler: Any) -> dict[str, float]:
    """Forward and backward of one optimiser step: the gradients of the loss over the positives of the whole global
    batch, all processes and accumulated parts together. Returns the loss parts as numbers of the global batch."""
    batches = [batch.to(job.device) for batch in batches]
    targets = [targets_of(job, batch) for batch in batches]
    positives = global_positives(torch.stack([t.positives for t in targets]).sum())
    sums: dict[str, Tensor] = {}
    for i, (batch, target) in enumerate(zip(batches, targets)):
        waiting = i < len(batches) - 1 and isinstance(network, nn.parallel.DistributedDataParallel)
        with network.no_sync() if waiting else _nothing():
            with autocast(job.precision, job.device):
                encodings, logits = network(batch.images)
            losses = detection_losses(encodings, logits, target, job.loss, job.anchors, positives, coder=job.ssd.spec.coder)
            if job.teacher is not None:
                losses = job.teacher(losses, batch, target, encodings, logits, positives)
            # DDP divides summed gradients by the number of processes; the loss is divided by all positives already
            scaler.scale(losses.total * job.world.size).backward()
        for name, value in losses.parts().items():
            sums[name] = sums.get(name, 0) + value.detach()
    return {name: float(total(value)) for name, value in sums.items()} | {"positives": float(positives)}


def targets_of(job: Job, batch: Batch) -> Any:
    return build_targets(
        batch.boxes,
        batch.labels,
        batch.scores,
        batch.ignore,
        job.anchors,
        unknown=batch.unknown,
        coder=job.ssd.spec.coder,
        rule=job.loss.matcher,
        threshold=job.loss.match_iou,
    )


def save(job: Job, plan: Plan, progress: Progress) -> None:
    """The state of the run, atomically, the one before it kept."""
    meta = {"plan": asdict(plan), "progress": asdict(progress), "step": progress.step, "config": job.config.to_dict()}
    write_state(job.folder, pack(meta, job.optimizer, model=job.ssd.state_dict(), ema=job.ema.state_dict()))


def load(job: Job, state: Any) -> tuple[Plan, Progress]:
    """Puts everything back as `save` found it."""
    job.ssd.load_state_dict(state.part("model"))
    job.ema.load_state_dict(state.part("ema"))
    unpack_optimizer(state, job.optimizer)
    restore_rng(state)
    return Plan(**state.meta["plan"]), Progress(**state.meta["progress"])


def non_finite(job: Job, progress: Progress, batches: list[Batch], losses: dict[str, float]) -> NonFiniteLoss:
    names = [name for batch in batches for name in job.loader.names(batch)]
    shown = ", ".join(f"{name} (id {int(i)})" for name, i in zip(names[:8], batches[0].image_ids))
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    return NonFiniteLoss(
        f"the loss is not finite at step {progress.step} ({parts}); pictures: {shown}{', ...' if len(names) > 8 else ''}; "
        f"the checkpoint in {job.folder} is from before: lower the learning rate or check the data, then --resume"
    )


class Meter:
    """Loss parts averaged over a log interval, pictures a second, the share of time spent waiting for data."""

    def __init__(self, plan: Plan, job: Job) -> None:
        from tqdm import tqdm

        self.plan, self.job, self.waiting, self.count = plan, job, 0.0, 0
        self.begun = time.perf_counter()
        self.sums: dict[str, float] = {}
        quiet = not job.world.first
        self.bar = tqdm(total=plan.steps, unit="step", disable=None if not quiet else True, dynamic_ncols=True)

    def waited_for(self, batches: Iterator[Batch]) -> Batch:
        begun = time.perf_counter()
        batch = next(batches)
        self.waiting += time.perf_counter() - begun
        return batch

    def step(self, progress: Progress, losses: dict[str, float], rate: float) -> None:
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.bar.n = progress.step
        if progress.step % LOG_EVERY and progress.step != self.plan.steps:
            return
        spent = max(time.perf_counter() - self.begun, 1e-9)
        means = {name: value / self.count for name, value in self.sums.items()}
        speed, waited = self.count * self.plan.batch / spent, self.waiting / spent
        left = (self.plan.steps - progress.step) * spent / self.count
        text = f"loss {means['loss']:.3f} (" + ", ".join(
            f"{name[:4]} {value:.3f}" for name, value in means.items() if name not in ("loss", "positives")
        )
        text += f"), {speed:.1f} pictures/s, {waited:.0%} waiting for data, {left / 60:.0f} min left"
        if self.job.world.first and self.job.history:
            pictures = progress.step * self.plan.batch
            row = {"pictures_per_second": speed, "data_wait": waited, "lr": rate, "seconds": progress.seconds}
            self.job.history.add(step=progress.step, pictures=pictures, **means, **row)
            if self.bar.disable:
                log.info("step %d of %d: %s", progress.step, self.plan.steps, text)
            else:
                self.bar.set_postfix_str(text)
        self.sums, self.count, self.waiting, self.begun = {}, 0, 0.0, time.perf_counter()

    def close(self) -> None:
        self.bar.close()


@contextmanager
def stop_signals() -> Iterator[Any]:
    """Ctrl-C and SIGTERM end the step in hand, not the process; a second Ctrl-C ends at once."""
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        log.warning("stopping after this step; the state is saved, --resume goes on from it")

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs this thread answers signals
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
