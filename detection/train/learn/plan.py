"""The course of a run, fixed before its first step: how many steps, how often evaluated, compiled or not."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import torch

from detection.errors import MobileSSDError
from detection.train.config import TrainConfig
from detection.train.distributed import same_on_all
from detection.train.learn.freeze import train_mode
from detection.train.learn.job import Job, RunPlan
from detection.train.learn.loop import network_of, step_gradients
from detection.train.learn.schedule import resolve
from detection.train.speed import try_compile

log = logging.getLogger("mobilessd.train")
EVALUATE_SECONDS = 0.08  # of an image in an evaluation on a CPU, taken off a time budget
MOST_EVALUATIONS = 20
SAVE_EVERY = 300  # steps; also at every evaluation


def make_plan(job: Job, time_budget: float | None, select_images: int) -> RunPlan:
    """Steps from the config, or from the time that a person has: throughput is measured once, on real batches, turned
    into a fixed number of steps, and kept in the checkpoint, so that seed and resume hold."""
    config, begun = job.config, time.perf_counter()
    batch = config.batch
    guess = resolve(config, len(job.loader.data)).total
    compiled, seconds = False, 0.0
    if config.compile is not False or time_budget is not None:
        compiled, seconds = _trial(job, guess, time_budget)
        seconds = same_on_all(seconds)
    steps = guess
    if time_budget is not None:
        left = time_budget - (time.perf_counter() - begun)
        evaluations = 5
        left -= evaluations * select_images * EVALUATE_SECONDS
        steps = int(left / seconds)
        if steps < 1:
            raise MobileSSDError(
                f"a time budget of {time_budget / 60:.1f} minutes is too short: one step takes {seconds:.1f} s"
            )
        log.info("time budget: %.2f s a step, so %d steps, %d images", seconds, steps, steps * batch)
    every = max(1, steps // 5) if time_budget is not None else evaluations_apart(config, steps, guess)
    keep = max(1, in_steps(config, config.keep_every, guess)) if config.keep_every else 0
    return RunPlan(steps, every, min(SAVE_EVERY, every), batch, compiled, keep)


def changed_plan(config: TrainConfig, began: TrainConfig, plan: RunPlan, step: int, images: int) -> RunPlan:
    """The plan of a resumed run: the stored one, with the lengths that were changed in its config.yaml since.

    began: the config as it was when the state was written; step: where the run stands; images: of the training data.
    Raises MobileSSDError where the new length is over already.
    """
    length, rest = ("steps", "epochs", "samples"), ("evaluate_every", "keep_every")
    longer = any(getattr(config, key) != getattr(began, key) for key in length)
    if not longer and all(getattr(config, key) == getattr(began, key) for key in rest):
        return plan
    guess = resolve(config, images).total
    steps = guess if longer else plan.steps
    if steps <= step:
        raise MobileSSDError(
            f"{config.unit}: {config.length:g} are {steps} steps, but this run has made {step} already"
        )
    every = evaluations_apart(config, steps, guess)
    keep = max(1, in_steps(config, config.keep_every, guess)) if config.keep_every else 0
    return replace(plan, steps=steps, evaluate_every=every, save_every=min(SAVE_EVERY, every), keep_every=keep)


def evaluations_apart(config: TrainConfig, steps: int, length_in_steps: int) -> int:
    """`evaluate_every` in steps; 0 is once, at the end; never more than MOST_EVALUATIONS in all."""
    if not config.evaluate_every:
        return steps
    return max(1, in_steps(config, config.evaluate_every, length_in_steps), steps // MOST_EVALUATIONS)


def in_steps(config: TrainConfig, length: float, length_in_steps: int) -> int:
    """A length in the config's unit as steps; length_in_steps: those of the whole run."""
    return round(length / config.length * length_in_steps)


def _trial(job: Job, steps: int, time_budget: float | None) -> tuple[bool, float]:
    """Whether to compile, and the seconds of a step as the loop will make it, data included. Nothing is learned."""
    batches = job.loader.batches(0)
    first = [next(batches) for _ in range(job.config.accumulate)]
    scaler = torch.amp.GradScaler(enabled=False)
    network = network_of(job)
    rng = torch.get_rng_state()
    if time_budget is not None:
        steps = 10**9 if time_budget > 1200 else 1  # compiling pays from some twenty minutes on

    # without the compiler half a batch says as much, in half the memory (a few images are too few for batch norms)
    parts = 2 if min(map(len, first)) >= 8 else 1
    half = [batch.map(lambda part: part[: len(part) // parts]) for batch in first]

    def whole(module: torch.nn.Module) -> None:
        step_gradients(job, module, first, scaler)

    def part(module: torch.nn.Module) -> None:
        step_gradients(job, module, half, scaler)

    train_mode(job.ssd, job.config)
    # Several processes must make the same steps, so none of them tries things out by the clock.
    wanted = job.config.compile if job.world.size == 1 else job.config.compile is True
    job.network = chosen = try_compile(network, whole, part, parts, steps, wanted)
    seconds = 0.0
    if time_budget is not None:
        kept = {name: value.clone() for name, value in job.ssd.state_dict().items()}
        step_gradients(job, chosen, first, scaler)
        begun, tried = time.perf_counter(), 4
        for _ in range(tried):
            step_gradients(job, chosen, [next(batches) for _ in range(job.config.accumulate)], scaler)
        seconds = (time.perf_counter() - begun) / tried * 1.05  # optimiser and EMA
        job.ssd.load_state_dict(kept)
    job.optimizer.zero_grad(set_to_none=True)
    torch.set_rng_state(rng)
    return chosen is not network, seconds
