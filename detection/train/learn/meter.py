"""What the loop says of itself while it runs: a line and a row of the history for every log interval."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from tqdm import tqdm

from detection.train.input.batch import Batch
from detection.train.learn.job import Job, RunProgress

log = logging.getLogger("mobilessd.train")


class Meter:
    """Loss parts averaged over a log interval, images a second, the share of time spent waiting for data."""

    def __init__(self, job: Job, total: int, batch: int) -> None:
        self.job, self.total, self.batch, self.waiting, self.steps = job, total, batch, 0.0, 0
        self.begun = time.perf_counter()
        self.bar = tqdm(total=total, unit="step", disable=None if job.world.first else True, dynamic_ncols=True)

    def waited_for(self, batches: Iterator[Batch]) -> Batch:
        begun = time.perf_counter()
        batch = next(batches)
        self.waiting += time.perf_counter() - begun
        return batch

    def step(self, progress: RunProgress, losses: dict[str, float], rate: float) -> None:
        self.steps += 1
        progress.count += 1
        for name, value in losses.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value
        self.bar.n = progress.step
        if progress.step % self.job.config.log_every and progress.step != self.total:
            return
        spent = max(time.perf_counter() - self.begun, 1e-9)
        means = {name: value / progress.count for name, value in progress.sums.items()}
        speed, waited = self.steps * self.batch / spent, self.waiting / spent
        left = (self.total - progress.step) * spent / self.steps
        text = f"loss {means['loss']:.3f} (" + ", ".join(
            f"{name} {value:.3f}" for name, value in means.items() if name not in ("loss", "positives")
        )
        text += f"), {speed:.1f} images/s, {waited:.0%} waiting for data, {left / 60:.0f} min left"
        if self.job.world.first and self.job.history:
            images = progress.step * self.batch
            row = {"images_per_second": speed, "data_wait": waited, "lr": rate, "seconds": progress.seconds}
            self.job.history.add(step=progress.step, images=images, **means, **row)
            if self.bar.disable:
                log.info("step %d of %d: %s", progress.step, self.total, text)
            else:
                self.bar.set_postfix_str(text)
        progress.sums, progress.count = {}, 0
        self.steps, self.waiting, self.begun = 0, 0.0, time.perf_counter()

    def close(self) -> None:
        self.bar.close()
