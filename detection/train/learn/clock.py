"""A run that was given its time keeps it: where the clock runs away, the schedule is planned anew.

The steps are planned once, from a few measured ones. Other jobs come and go, so the loop asks after every step whether the
run would still end when it should, and where it would not, how many steps there will be. Each answer is kept in the
checkpoint and in config.yaml (`TrainConfig.replanned`): a resumed or repeated run asks no clock and does the same.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

now = time.monotonic

READ_SECONDS = 0.005  # of a processor, to read an image of an evaluation and to score what was found in it
PASS = 0.35  # of an image's share of a training step: what the network takes to look at it
SAVE_SECONDS = 1.5  # of a processor, behind the last evaluation: weights
REPORT_SECONDS = 5.5  # of a processor: plots, thirty drawn images
MOST_REPORT = 0.25  # share of the budget that a report may take
OFF = 0.03  # share of the budget by which the end may be missed before steps are planned anew
WINDOW = 0.05  # share of the budget over which the speed is measured, and between two plans
LATE = 0.05  # share of the budget by which a report may end too late


def busy(seconds: float) -> float:
    """How much slower than alone the process has been since it began, `seconds` ago: 1 to 8. Most of a beginning is the
    work of one thread."""
    return min(max(1.0, seconds / max(time.process_time(), 1e-3)), 8.0)


@dataclass
class Clock:
    """deadline: when everything must be done, in the sense of `now`. budget: seconds from the very beginning to it.
    images, final_images: of an evaluation, and of the one behind the last step. step_seconds: as measured before.
    batch: images of a step. busy: seconds on the clock for one of a processor, of what one thread computes."""

    deadline: float
    budget: float
    images: int
    final_images: int
    step_seconds: float
    batch: int
    busy: float = 1.0
    evaluation: float = 0.0  # in steps of the network: a busy machine slows both
    busy_step: float = 0.0  # seconds of a step when `busy` was measured, at the beginning
    planned: float = 0.0  # when the last plan was made
    ends: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.busy_step = self.step_seconds
        seconds = PASS * self.step_seconds / self.batch + READ_SECONDS * self.busy
        self.evaluation = self.images * seconds / self.step_seconds

    def ending(self, seconds: float) -> float:
        """Seconds on the clock for so many of a processor, at the speed of now."""
        return seconds * min(max(1.0, self.busy * self.step_seconds / self.busy_step), 8.0)

    def reserve(self) -> float:
        """Seconds that the last evaluation and the end of the run take, at the speed of now."""
        final = self.evaluation * self.final_images / max(1, self.images)
        report = self.ending(REPORT_SECONDS)
        end = self.ending(SAVE_SECONDS) + (report if report <= MOST_REPORT * self.budget else 0.0)
        return (self.evaluation + final) * self.step_seconds + end

    def report_fits(self) -> bool:
        """Whether there is time for a report from now on."""
        return now() + self.ending(REPORT_SECONDS) <= self.deadline + LATE * self.budget

    def late(self, done: int, steps: int, every: int) -> float:
        """Seconds by which a run of `steps` steps, `done` of them made, would end behind the deadline; below 0: before."""
        evaluations = (steps - 1) // every - done // every  # the last one is in the reserve
        ahead = (steps - done + evaluations * self.evaluation) * self.step_seconds + self.reserve()
        return now() + ahead - self.deadline

    def steps_that_fit(self, done: int, every: int) -> int:
        """The most steps in all with which the run ends in time, evaluated every `every` steps; at least one more."""
        steps = done + max(1, math.ceil(-self.late(done, done, every) / self.step_seconds))
        while steps > done + 1 and self.late(done, steps, every) > self.step_seconds / 2:
            steps -= 1
        return steps

    def evaluated(self, seconds: float) -> None:
        """An evaluation has taken so long."""
        self.evaluation = seconds / self.step_seconds
        self.ends.clear()  # a step behind it is not timed from before it

    def step(self, done: int, steps: int, every: int) -> int | None:
        """After step `done` of `steps`: the number of steps to plan with from now on, where it is another."""
        at = now()
        self.ends.append(at)
        span = WINDOW * self.budget
        while len(self.ends) > 2 and self.ends[-1] - self.ends[1] >= span:
            self.ends.popleft()
        if self.ends[-1] - self.ends[0] >= span / 2:  # too short a time says nothing of the speed
            # one step may be slow by chance: what was known before counts as another one
            self.step_seconds = (self.ends[-1] - self.ends[0] + self.step_seconds) / len(self.ends)
        off = self.late(done, steps, every)
        over = self.late(done, done + 1, every) > -self.step_seconds / 2  # there is time for one more at most
        if done >= steps or over and steps == done + 1:
            return None
        if not over and (abs(off) <= OFF * self.budget or at - self.planned < span):
            return None
        found = done + 1 if over else self.steps_that_fit(done, every)
        if found == steps:
            return None
        self.planned = at
        self.ends.clear()  # a new plan is written down: that is no part of a step
        return found
