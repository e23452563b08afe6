"""The training loop, from the first step to the last, in one piece.

Everything that decides what a step does is in `Job`; everything that changes is in `RunProgress` and the modules. A run
that was stopped goes on from its state as if nothing had happened, to the bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from detection.errors import MobileSSDError
from detection.files import write_text
from detection.ssd.network import Deployable
from detection.train.config import TrainConfig
from detection.train.distributed import any_of, global_positives, same_on_all, total
from detection.train.input.batch import Batch
from detection.train.learn.clock import Clock, now
from detection.train.learn.freeze import train_mode
from detection.train.learn.history import FORMER_NAMES
from detection.train.learn.job import Job, RunPlan, RunProgress
from detection.train.learn.losses import detection_losses
from detection.train.learn.meter import Meter
from detection.train.learn.optimizer import set_learning_rate
from detection.train.learn.rounding import Rounded
from detection.train.learn.schedule import Schedule, learning_rate, resolve
from detection.train.learn.targets import build_targets
from detection.train.origin import config_text
from detection.train.speed import autocast, compile_network
from detection.train.state import pack, restore_rng, unpack_optimizer, write_state
from detection.weights.checkpoint import save_checkpoint

log = logging.getLogger("mobilessd.train")


class NonFiniteLoss(MobileSSDError):
    """The loss is no number any more; the message names the images and the checkpoint from before."""


def fit(
    job: Job,
    plan: RunPlan,
    progress: RunProgress,
    evaluate: Callable[[Job, RunProgress], bool],
    clock: Clock | None = None,
) -> None:
    """Runs from `progress.step` to `plan.steps`. evaluate(job, progress) is called every `plan.evaluate_every` steps
    and at the end; it keeps the best weights, counts in `progress` how long there were none better, and says whether to end
    here. clock: may change `plan.steps` on the way.

    Raises NonFiniteLoss; ends early on Ctrl-C or SIGTERM (KeyboardInterrupt, after the state was written) and when the
    AP has not risen for `config.patience` evaluations.
    """
    config, accumulate = job.config, job.config.accumulate
    network = network_of(job, plan.compiled)
    if job.teacher is not None and plan.compiled:
        job.teacher = job.teacher.compiled(len(job.scales))
    scaler = torch.amp.GradScaler(job.device.split(":")[0], enabled=job.precision == "float16")
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    started = time.perf_counter() - progress.seconds
    batches = job.loader.batches(progress.step * accumulate, None if clock else plan.steps * accumulate)
    train_mode(job.ssd, config)
    with stop_signals(job.world.first) as stopped, closing(Meter(job, plan.steps, plan.batch)) as meter:
        while progress.step < plan.steps and not waited_enough(config, progress):
            rate = learning_rate(schedule_at(job, plan, progress.step), progress.step)
            set_learning_rate(job.optimizer, rate)
            parts = [meter.waited_for(batches) for _ in range(accumulate)]
            losses = step_gradients(job, network, parts, scaler)
            scaler.unscale_(job.optimizer)
            norm = nn.utils.clip_grad_norm_(job.ssd.parameters(), config.clip_norm or math.inf)
            # float16's scaler leaves out a step whose gradients overflowed
            if not all(map(math.isfinite, losses.values())) or not (norm.isfinite() or scaler.is_enabled()):
                raise non_finite(job, progress, parts, losses | {"gradient": float(norm)})
            scaler.step(job.optimizer)
            scaler.update()
            job.optimizer.zero_grad(set_to_none=True)
            job.ema.update(job.ssd, progress.step)
            progress.step += 1
            progress.seconds, progress.scaler = time.perf_counter() - started, scaler.state_dict()
            meter.step(progress, losses, rate)
            last, ended = progress.step == plan.steps, False
            if progress.step % plan.evaluate_every == 0 or last:
                begun = now()
                ended = any_of(evaluate(job, progress), job.device)
                train_mode(job.ssd, config)
                if clock is not None:
                    clock.evaluated(now() - begun)
            if clock is not None and (steps := same_on_all(clock.step(progress.step, plan.steps, plan.evaluate_every))):
                replan(job, plan, progress, steps)
                meter.total = steps
            if plan.keep_every and progress.step % plan.keep_every == 0 and job.world.first:
                keep(job, f"step-{progress.step:07d}.safetensors")
            stop = any_of(stopped(), job.device)
            enough = ended or waited_enough(config, progress)
            if job.world.first and (progress.step % plan.save_every == 0 or last or stop or enough):
                save(job, plan, progress)
            if stop:
                if job.world.first:
                    where = (progress.step, plan.steps, job.folder)
                    log.warning("stopped at step %d of %d; go on with --resume --output %s", *where)
                raise KeyboardInterrupt
            if ended and not last:
                log.info("on_evaluate ends the run at step %d", progress.step)
                return
            if enough and not last:
                log.info("no better AP for %d evaluations: stopping at step %d", progress.waited, progress.step)


def schedule_at(job: Job, plan: RunPlan, step: int) -> Schedule:
    """The schedule as it was known at this step."""
    images = len(job.loader.data)
    planned = resolve(job.config, images).total if job.config.replanned else plan.steps
    return resolve(job.config, images, job.config.steps_from(step, planned))


def replan(job: Job, plan: RunPlan, progress: RunProgress, steps: int) -> None:
    """From this step on the run has so many steps in all: said, and kept, so that a resumed run goes on like this one."""
    change = "shortened" if steps < plan.steps else "lengthened"
    log.info("step %d: %s from %d steps to %d, to end in time", progress.step, change, plan.steps, steps)
    plan.steps = steps
    job.config = replace(job.config, replanned=(*job.config.replanned, (progress.step, steps)))
    if job.world.first:
        save(job, plan, progress)
        write_text(job.folder / "config.yaml", config_text(job.config, job.origin))


def waited_enough(config: TrainConfig, progress: RunProgress) -> bool:
    """Whether the run's patience is at its end."""
    return 0 < config.patience <= progress.waited


def network_of(job: Job, compiled: bool = False) -> nn.Module:
    """The module that is called, made once: normalisation inside, gradients shared by processes, compiled if wanted."""
    if job.network is None:
        network: nn.Module = Deployable(job.ssd).to(job.device)
        if job.config.round_to_int8:
            network = Rounded(network)
        if job.world.size > 1:
            devices = [job.world.local_rank] if job.device.startswith("cuda") else None
            network = nn.parallel.DistributedDataParallel(network, device_ids=devices)
        job.network = compile_network(network, len(job.scales)) if compiled else network
    return job.network


def step_gradients(job: Job, network: nn.Module, batches: list[Batch], scaler: Any) -> dict[str, float]:
    """Forward and backward of one optimiser step: the gradients of the loss over the positives of the whole global
    batch, all processes and accumulated parts together. Returns the loss parts as numbers of the global batch."""
    batches = [batch.to(job.device) for batch in batches]
    targets = [targets_of(job, batch) for batch in batches]
    positives = global_positives(torch.stack([t.positives for t in targets]).sum())
    predicted = job.teacher.predict(batches, job.precision, job.scales) if job.teacher is not None else None
    sums: dict[str, Tensor] = {}
    for i, (batch, target) in enumerate(zip(batches, targets)):
        waiting = i < len(batches) - 1 and isinstance(network, nn.parallel.DistributedDataParallel)
        with network.no_sync() if waiting else nullcontext():
            with autocast(job.precision, job.device):
                encodings, logits = network(batch.images)
            losses = detection_losses(
                encodings,
                logits,
                target,
                job.loss,
                job.scale(batch).anchors,
                positives,
                coder=job.ssd.spec.coder,
                class_weights=job.class_weights,
            )
            if predicted is not None:
                losses = losses.with_distillation(predicted[i].loss(encodings, logits))
            # DDP divides summed gradients by the number of processes; the loss is divided by all positives already
            scaler.scale(losses.total * job.world.size).backward()
        for name, value in losses.parts().items():
            sums[name] = sums.get(name, 0) + value.detach()
    values = total(torch.stack([*sums.values()])).tolist()  # one sum over processes, one wait for the device
    return dict(zip(sums, values)) | {"positives": float(positives)}


def targets_of(job: Job, batch: Batch) -> Any:
    scale = job.scale(batch)
    trusted = scale.trusts(batch.boxes)
    return build_targets(
        batch.boxes,
        batch.labels,
        batch.scores,
        batch.ignore,
        scale.anchors,
        unknown=batch.unknown,
        untrusted=None if trusted is None else ~trusted,
        coder=job.ssd.spec.coder,
        rule=job.loss.matcher,
        threshold=job.loss.match_iou,
    )


def keep(job: Job, name: str) -> None:
    """The averaged weights as a checkpoint of their own in the run's folder."""
    save_checkpoint(job.folder / name, job.ema.module, replace(job.card, name=job.folder.name))  # type: ignore[arg-type]


def save(job: Job, plan: RunPlan, progress: RunProgress) -> None:
    """The state of the run, atomically, the one before it kept. Raises NonFiniteLoss for a state not worth keeping."""
    meta = {"plan": asdict(plan), "progress": asdict(progress), "step": progress.step, "config": job.config.to_dict()}
    meta["origin"] = job.origin
    state = pack(meta, job.optimizer, model=job.ssd.state_dict(), ema=job.ema.state_dict())
    finite = {name: tensor.isfinite().all() for name, tensor in state.tensors.items() if tensor.is_floating_point()}
    if not torch.stack([found.to(job.device) for found in finite.values()]).all():
        broken = next(name for name, found in finite.items() if not found)
        raise NonFiniteLoss(f"{broken} is not finite behind step {progress.step}; {way_out(job)}")
    write_state(job.folder, state)


def load(job: Job, state: Any) -> tuple[RunPlan, RunProgress]:
    """Puts everything back as `save` found it."""
    job.ssd.load_state_dict(state.part("model"))
    job.ema.load_state_dict(state.part("ema"))
    unpack_optimizer(state, job.optimizer)
    restore_rng(state)
    progress = RunProgress(**state.meta["progress"])
    progress.sums = {FORMER_NAMES.get(name, name): value for name, value in progress.sums.items()}
    return RunPlan(**state.meta["plan"]), progress


def non_finite(job: Job, progress: RunProgress, batches: list[Batch], losses: dict[str, float]) -> NonFiniteLoss:
    images = [
        f"{os.path.basename(name)} (id {int(number)})"  # whole paths leave no room for eight in one line
        for batch in batches
        for name, number in zip(job.loader.names(batch), batch.image_ids)
    ]
    shown = ", ".join(images[:8]) + (", ..." if len(images) > 8 else "")
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    return NonFiniteLoss(f"the loss is not finite at step {progress.step} ({parts}); images: {shown}; {way_out(job)}")


def way_out(job: Job) -> str:
    config = job.folder / "config.yaml"
    return f"the checkpoint in {job.folder} is from before: mend the data, or lower optimizer.lr in {config}, then --resume"


@contextmanager
def stop_signals(loud: bool = True) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the step in hand, not the process; a second Ctrl-C ends at once.

    torchrun passes on what the terminal has sent already, so what comes within two seconds is the same Ctrl-C.
    """
    seen: list[float] = []

    def note(number: int, _: Any) -> None:
        if seen and time.monotonic() - seen[0] > 2:
            raise KeyboardInterrupt
        if not seen and loud:  # not through logging or print, which may be in the middle of a line of their own
            os.write(2, b"\nstopping after this step; Ctrl-C again: at once, from the last checkpoint then\n")
        seen.append(time.monotonic())

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs this thread answers signals
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
