"""The course of a run, fixed before its first step: how many steps, how often evaluated, in which form.

Where a person has so much time, `clock.Clock` may change the number of steps on the way.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from detection.errors import MobileSSDError
from detection.train.config import TrainConfig
from detection.train.distributed import same_on_all
from detection.train.learn import clock as clocks
from detection.train.learn.freeze import train_mode
from detection.train.learn.job import Job, RunPlan
from detection.train.learn.loop import network_of, step_gradients
from detection.train.learn.schedule import resolve
from detection.train.speed import fastest_precision, nothing_learned, precisions, trial_rounds, try_compile

log = logging.getLogger("mobilessd.train")
EVALUATIONS, THEIR_SHARE = 5, 0.1  # of a run with a time budget: so many, in at most this share of what is left
TRIED, TRIED_SECONDS = 4, 3.0  # steps by which its speed is measured, or fewer in so much time
NEVER = 10**9  # steps between evaluations: there is but the one at the end, wherever that comes to be
LONG = 1200  # seconds; compiling pays from such a budget on
MOST_EVALUATIONS, ENOUGH, FEWEST_IMAGES = 20, 5, 50
EVALUATED = 0.5  # of an image's share of a training step: what its evaluation takes, read and scored
SAVE_EVERY = 300  # steps; also at every evaluation


def make_plan(job: Job, images: int) -> RunPlan:
    """The steps that the config says. images: of an evaluation on the way."""
    config = job.config
    guess = resolve(config, len(job.loader.data)).total
    _choose_form(job, guess)
    return _plan(config, config.steps_from(guess, guess), evaluations(config, guess, guess, images), guess, _form(job))


def plan_in_time(
    job: Job, budget: float, deadline: float, images: int, final_images: int
) -> tuple[RunPlan, clocks.Clock]:
    """As many steps as fit between now and the deadline, by the speed of a few real ones; and the clock that watches
    over them. images, final_images: of the evaluations on the way, and of the one behind the last step.

    `job.config` gets the length as it is now, in steps. Raises MobileSSDError where not even one step fits.
    """
    config, images_seen = job.config, len(job.loader.data)
    guess = resolve(config, images_seen).total
    _choose_form(job, 10**9 if budget > LONG else 0)
    log.info("timing a few steps")
    seconds = same_on_all(_seconds_a_step(job))
    begun = deadline - budget
    clock = clocks.Clock(
        deadline, budget, images, final_images, seconds, config.batch, clocks.busy(clocks.now() - begun)
    )
    one, left = clock.evaluation * seconds, -clock.late(0, 0, NEVER)
    if same_on_all(left < seconds):
        raise MobileSSDError(
            f"a time budget of {budget:.0f} s is too short: setting up took {clocks.now() - begun:.0f} s, one step "
            f"takes {seconds:.1f} s, the end of the run about {clock.reserve():.0f} s"
        )
    # the first of two says what one takes: better than a guess, as long as it leaves the time to learn
    fewest = 2 if one < left / 4 else 1
    evaluations = max(fewest, min(EVALUATIONS, int(THEIR_SHARE * left / one) if one else EVALUATIONS))
    without = clock.steps_that_fit(0, NEVER) - round((evaluations - 1) * clock.evaluation)
    steps, evaluations = same_on_all((max(1, without), evaluations))
    log.info("time budget: %.2f s a step, so %d steps, %d images", seconds, steps, steps * config.batch)
    every = -(-steps // evaluations) if evaluations > 1 else NEVER
    plan = _plan(config, steps, (every, 0), guess, _form(job))
    job.config = in_steps_alone(config, plan, images_seen)
    return plan, clock


def in_steps_alone(config: TrainConfig, plan: RunPlan, images: int) -> TrainConfig:
    """The config of a run whose steps were planned otherwise than it says, with every length as it is in this run: another
    run of it follows the same course."""
    own = resolve(config, images, plan.steps)
    schedule = replace(
        config.schedule,
        warmup=own.warmup,
        warmup_lr=own.warmup_lr,
        milestones=own.milestones,
        decay_every=own.decay_every,
        hold=own.hold * config.batch / images,
    )
    return replace(
        config,
        steps=plan.steps,
        epochs=None,
        samples=None,
        recipe_batch=None,
        optimizer=replace(config.optimizer, lr=own.lr),
        schedule=schedule,
        evaluate_every=plan.evaluate_every,
        keep_every=plan.keep_every,
    )


def _form(job: Job) -> tuple[bool, str]:
    """Whether the network is compiled, and the precision, as `_choose_form` left them."""
    return job.compiled, job.precision


def _plan(config: TrainConfig, steps: int, evaluated: tuple[int, int], guess: int, form: tuple[bool, str]) -> RunPlan:
    keep = max(1, in_steps(config, config.keep_every, guess)) if config.keep_every else 0
    (every, images), (compiled, precision) = evaluated, form
    return RunPlan(steps, every, min(SAVE_EVERY, every), config.batch, compiled, keep, precision, images)


def changed_plan(
    config: TrainConfig, began: TrainConfig, plan: RunPlan, step: int, images: int, evaluated: int
) -> RunPlan:
    """The plan of a resumed run: the stored one, with the lengths that were changed in its config.yaml since.

    began: the config as it was when the state was written; step: where the run stands; images, evaluated: of the training
    data, and of an evaluation on the way. Raises MobileSSDError where the new length is over already.
    """
    length, rest = ("steps", "epochs", "samples"), ("evaluate_every", "keep_every", "evaluation_share")
    longer = any(getattr(config, key) != getattr(began, key) for key in length)
    if not longer and all(getattr(config, key) == getattr(began, key) for key in rest):
        return plan
    guess = resolve(config, images).total
    steps = guess if longer else plan.steps
    if steps <= step:
        raise MobileSSDError(
            f"{config.unit}: {config.length:g} are {steps} steps, but this run has made {step} already"
        )
    return _plan(config, steps, evaluations(config, steps, guess, evaluated), guess, (plan.compiled, plan.precision))


def evaluations(config: TrainConfig, steps: int, length_in_steps: int, images: int) -> tuple[int, int]:
    """The steps between evaluations on the way, and on how many of the `images` that choose (0: all of them).

    As `evaluate_every` says (0 is once, at the end; never more than MOST_EVALUATIONS), as long as that takes no more than
    `evaluation_share` of the run. Otherwise fewer; and where not even ENOUGH would fit, on a part of the images, the whole
    of which is scored once, behind the last step. Which, it says.
    """
    if not config.evaluate_every:
        return steps, 0
    apart = max(1, in_steps(config, config.evaluate_every, length_in_steps), steps // MOST_EVALUATIONS)
    wanted, whole = -(-steps // apart), EVALUATED * images / config.batch  # steps that one of them takes
    budget = config.evaluation_share * steps
    if wanted * whole <= budget or config.evaluation_share == 1 or wanted == 1:
        return apart, 0
    share = f"{config.evaluation_share * 100:.0f}% of the time"
    if (fitting := int(budget / whole)) >= ENOUGH:
        log.info("evaluated %d times in place of %d, in %s (evaluation_share)", fitting, wanted, share)
        return -(-steps // fitting), 0
    for times in range(min(wanted, ENOUGH), 1, -1):
        part = int((budget - whole) * config.batch / EVALUATED / times)
        if part >= FEWEST_IMAGES:
            said = (times, wanted, share, part, images)
            log.info("evaluated %d times in place of %d, in %s, on %d of %d images; on all at the end", *said)
            return -(-steps // times), part
    log.info("evaluated once, at the end: more would take over %s (evaluation_share)", share)
    return steps, 0


def in_steps(config: TrainConfig, length: float, length_in_steps: int) -> int:
    """A length in the config's unit as steps; length_in_steps: those of the whole run."""
    return round(length / config.length * length_in_steps)


def _choose_form(job: Job, steps: int) -> None:
    """Settles the precision of a run of so many steps and whether its network is compiled, where config leaves that open,
    by making a few steps in each form: `job.precision`, `job.network`. Nothing is learned."""
    tried = precisions(job.config.precision, job.device)
    # Several processes must make the same steps, so none of them tries the compiler by the clock.
    compiling = job.config.compile if job.world.size == 1 else job.config.compile is True
    compiling = compiling if steps or compiling is True else False
    if len(tried) == 1 and compiling is False:
        return
    batches = job.loader.batches(0)
    first = [next(batches) for _ in range(job.config.accumulate)]
    scaler = torch.amp.GradScaler(enabled=False)
    network = network_of(job)

    # without the compiler half a batch says as much, in half the memory (a few images are too few for batch norms)
    parts = 2 if min(map(len, first)) >= 8 else 1
    half = [batch.map(lambda part: part[: len(part) // parts]) for batch in first]

    def whole(module: torch.nn.Module) -> None:
        step_gradients(job, module, first, scaler)

    def part(module: torch.nn.Module) -> None:
        step_gradients(job, module, half, scaler)

    def in_precision(precision: str) -> None:
        job.precision = precision
        part(network)

    train_mode(job.ssd, job.config)
    with nothing_learned(network):
        if len(tried) > 1:
            job.precision = same_on_all(fastest_precision(in_precision, tried, trial_rounds(steps))[0])
        job.network = try_compile(network, whole, part, parts, steps, compiling, len(job.scales))
    job.compiled = job.network is not network


def _seconds_a_step(job: Job) -> float:
    """As the loop will make it, data, optimiser and average included. Nothing is learned."""
    batches, network = job.loader.batches(0), network_of(job)
    scaler = torch.amp.GradScaler(enabled=False)
    train_mode(job.ssd, job.config)
    spans: list[float] = []
    with nothing_learned(job.ssd):
        while len(spans) < 2 or len(spans) <= TRIED and sum(spans) < TRIED_SECONDS:  # the first one gets ready
            begun = clocks.now()
            step_gradients(job, network, [next(batches) for _ in range(job.config.accumulate)], scaler)
            spans.append(clocks.now() - begun)
    return max(sum(spans[1:]) / len(spans[1:]) * 1.05, 1e-6)  # optimiser and EMA
