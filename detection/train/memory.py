"""The largest batch that the memory takes, by what a few steps of this very run take (`--batch auto`)."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

import torch

from detection.errors import MobileSSDError
from detection.limits import MOST_IMAGES
from detection.train.distributed import gather
from detection.train.input.batch import Batch
from detection.train.learn.freeze import train_mode
from detection.train.learn.job import Job
from detection.train.learn.loop import network_of, step_gradients
from detection.train.speed import nothing_learned

log = logging.getLogger("mobilessd.train")
TAKEN = 0.8  # of the memory that is free; the rest is for what the steps that were measured did not need
TRIED = (2, 6)  # images of the two steps that are compared
FEWEST_STEPS = 100  # of a run whose length is in images or epochs: with fewer it would hardly learn
PASSING = (
    1.25  # times what is kept: with what comes and goes (1.05 to 1.17 in five networks at 200 pixels, by their peaks)
)
SHORTER = 0.9  # of a batch that did not fit after all
CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def largest_batch(job: Job) -> int:
    """Images a step, of all processes and accumulated parts together: as many as fit, but no more than there are, and no
    more than leave FEWEST_STEPS steps. Nothing is learned. Raises MobileSSDError where this machine does not tell what it has,
    and where not even two images fit."""
    config, shares = job.config, job.world.size * job.config.accumulate
    most, why = len(job.loader.data), "all there are"
    if config.unit != "steps":
        images = config.length * (len(job.loader.data) if config.unit == "epochs" else 1)
        if images / FEWEST_STEPS < most:
            most, why = int(images / FEWEST_STEPS), f"with more the run would have fewer than {FEWEST_STEPS} steps"
    most = min(most, MOST_IMAGES) // shares
    fixed, each = _measured(job)
    free = free_memory(job.device) / (
        1 if job.device.startswith("cuda") else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    )
    fitting = min(gather(int((TAKEN * free - fixed) / each)))
    if fitting < 2:
        raise MobileSSDError(
            f"--batch auto: an image takes {each / 2**20:.0f} MB and {free / 2**20:.0f} MB are free, so no batch fits; "
            "a smaller --input-size, or --batch 1 --set norms=frozen"
        )
    found = max(min(fitting, most), 2)
    if job.world.size == 1 and job.device.startswith("cuda"):
        found = _tried(job, found)
    limit = "" if found < most else f"; {why}"
    log.info(
        "batch %d: an image takes %.0f MB, and %.1f GB are free%s", found * shares, each / 2**20, free / 2**30, limit
    )
    return found * shares


def free_memory(device: str) -> int:
    """Bytes that this process may still take, on a GPU or of the machine and its container."""
    if device.startswith("cuda"):
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare
    meminfo = Path("/proc/meminfo")
    told = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE) if meminfo.exists() else None
    if told is None or device != "cpu":
        raise MobileSSDError(
            f"--batch auto: this system does not say how much memory is free for {device}; give a number"
        )
    found = [int(told[1]) * 1024]
    for limit, used in CGROUPS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            root = Path("/sys/fs/cgroup")
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
    return min(found)


def _measured(job: Job) -> tuple[float, float]:
    """Bytes that a step takes besides its images, and for each of them; the data workers' share with it."""
    few, many = TRIED
    took = _peak if job.device.startswith("cuda") else _kept
    took(job, few)  # libraries load what they need once
    less, more = took(job, few), took(job, many)
    each = max((more - less) / (many - few), 1.0)
    # weights' gradients, and two moments of the optimiser at most
    fixed = max(less - few * each, 0.0) + 12.0 * sum(p.numel() for p in job.ssd.parameters() if p.requires_grad)
    if job.device.startswith("cuda"):
        return fixed, each
    height, width = job.loader.source.largest
    waiting = job.loader.workers * job.loader.prefetch + 2  # batches on their way
    cache = job.loader.source.cache  # fills as images are read
    return fixed + (cache.pixels.nbytes if cache is not None else 0), each + waiting * height * width * 3


def _kept(job: Job, images: int) -> float:
    """Bytes that a step on a CPU takes: what it keeps for its backward pass, and PASSING. The process's own size says less:
    what was freed comes back to the system at some time or never."""
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _step(job, images)
    return PASSING * sum(seen.values())


def _peak(job: Job, images: int) -> float:
    """Bytes that a step on a GPU takes at most, above what was in use before."""
    torch.cuda.reset_peak_memory_stats(job.device)
    before = torch.cuda.memory_allocated(job.device)
    _step(job, images)
    return float(torch.cuda.max_memory_allocated(job.device) - before)


def _step(job: Job, images: int) -> None:
    batch, network = _batch_of(job, images), network_of(job)
    train_mode(job.ssd, job.config)
    with nothing_learned(job.ssd):
        step_gradients(job, network, [batch], torch.amp.GradScaler(enabled=False))


def _tried(job: Job, images: int) -> int:
    """As many images, or fewer where a step with them is out of memory."""
    while True:
        try:
            _step(job, images)
            return images
        except torch.OutOfMemoryError:
            images = int(images * SHORTER)
            if images < 2:
                raise
        torch.cuda.empty_cache()


def _batch_of(job: Job, images: int) -> Batch:
    """The first batch of the largest input size, its images as often as need be."""
    sizes = max(1, len(job.loader.source.sizes))
    found = max((next(job.loader.batches(step)) for step in range(sizes)), key=lambda batch: batch.images[0].numel())
    return found.map(lambda part: part[torch.arange(images) % len(part)])
