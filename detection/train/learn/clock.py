"""A run that was given its time keeps it: where the clock runs away, the schedule is planned anew.

The steps are planned once, from a few measured ones. Other jobs come and go, so the loop asks after every step whether the
run would still end when it should, and where it would not, how many steps there will be. Each answer is kept in the
checkpoint and in config.yaml (`TrainConfig.replanned`): a resumed or repeated run asks no clock and does the same.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

now = time.monotonic

READ_SECONDS = 0.01  # of a processor, to read an image of an evaluation and to score what was found in it
PASS = 0.5  # of an image's share of a training step: what the network takes to look at it
SAVE_SECONDS, REPORT_SECONDS = (
    1.5,
    5.5,
)  # of a processor, behind the last evaluation: weights; plots, thirty drawn images
MOST_REPORT = 0.25  # share of the budget that a report may take
OFF = 0.04  # share of the budget by which the end may be missed before steps are planned anew
WINDOW = 0.08  # share of the budget over which the speed is measured; it must have been wrong for as long
MOST_PLANS = 5  # plans after the first; behind them only the end itself is kept


def busy(seconds: float) -> float:
    """How much slower than alone the process has been since it began, `seconds` ago: 1 to 8. Most of a beginning is the
    work of one thread."""
    return min(max(1.0, seconds / max(time.process_time(), 1e-3)), 8.0)


@dataclass
class Clock:
    """deadline: when everything must be done, in the sense of `now`. budget: seconds from the very beginning to it.
    busy: seconds on the clock for one of a processor, of what one thread computes.
    batch: images of a step.
    images, final_images: of an evaluation, and of the one behind the last step. step_seconds: as measured before."""

    deadline: float
    budget: float
    images: int
    final_images: int
    step_seconds: float
    batch: int
    busy: float = 1.0
    plans: int = 0
    evaluation: float = 0.0  # in steps of the network: a busy machine slows both
    fastest: float = 0.0
    since: float | None = None  # the plan has been wrong since then
    ends: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.fastest = self.step_seconds
        seconds = PASS * self.step_seconds / self.batch + READ_SECONDS * self.busy
        self.evaluation = self.images * seconds / self.step_seconds

    def reserve(self) -> float:
        """Seconds that the last evaluation and the end of the run take, at the speed of now."""
        final = self.evaluation * self.final_images / max(1, self.images)
        slower = min(max(1.0, self.step_seconds / self.fastest), 2.0)
        end = SAVE_SECONDS + (REPORT_SECONDS if self.report else 0.0)
        return (self.evaluation + final) * self.step_seconds + end * self.busy * slower

    @property
    def report(self) -> bool:
        """Whether there is time for a report at the end."""
        return REPORT_SECONDS * self.busy <= MOST_REPORT * self.budget

    def steps_that_fit(self, evaluations: int) -> int:
        """From now on, with so many evaluations on the way, the last one not counted. May be below 1."""
        left = self.deadline - now() - self.reserve() - evaluations * self.evaluation * self.step_seconds
        return int(left / self.step_seconds)

    def evaluated(self, seconds: float) -> None:
        """An evaluation has taken so long."""
        self.evaluation = seconds / self.step_seconds
        self.ends.clear()  # a step behind it is not timed from before it

    def step(self, done: int, steps: int, evaluate_every: int) -> int | None:
        """After step `done` of `steps`: the number of steps to plan with from now on, where it is another."""
        at = now()
        self.ends.append(at)
        span = WINDOW * self.budget
        while len(self.ends) > 2 and self.ends[-1] - self.ends[1] >= span:
            self.ends.popleft()
        if self.ends[-1] - self.ends[0] < span / 2 or done >= steps:  # too short a time says nothing of the speed
            return None
        self.step_seconds = (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)
        if self.ends[-1] - self.ends[0] >= span:
            self.fastest = min(self.fastest, self.step_seconds)
        evaluations = (steps - 1) // evaluate_every - done // evaluate_every
        room = self.steps_that_fit(evaluations)
        off = (steps - done - room) * self.step_seconds
        if room < 1 and off > OFF * self.budget:  # the time is up
            return done + 1 if steps > done + 1 else None
        if abs(off) <= OFF * self.budget or self.plans >= MOST_PLANS:
            self.since = None
            return None
        self.since = at if self.since is None else self.since
        if at - self.since < span:
            return None
        self.plans, self.since = self.plans + 1, None
        return done + room
