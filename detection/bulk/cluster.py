"""Shards made on a Ray cluster, through Ray Data. What a shard holds is made by the code that makes it in one process;
the files come back to this process, which writes them: workers need to reach the images, and nothing else.

A worker that dies is started again by Ray, and its shards are given out once more.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import detection
from detection.bulk.manifest import hash_of_files
from detection.bulk.shard_worker import Finished, Task, make_shards
from detection.bulk.shards import Shard
from detection.errors import MobileSSDError, install_line, need
from detection.files import atomic_write, expanded, home
from detection.weights.resolve import Weights

PATIENCE = 10.0  # seconds until a cluster that does not answer is none
STARTS = 5  # workers that may die one after the other while they start, before the run gives up


class Cluster:
    """A Ray cluster: that of RAY_ADDRESS, else the one that `ray start` made on this machine, else one of this machine
    for as long as the run takes. To be used in a `with` block.

    cores, gpus: of one worker. workers: at most so many (None: as many as there is room for).
    Raises MissingPackageError without ray, MobileSSDError where the cluster cannot be reached or is too small.
    """

    def __init__(self, cores: int, gpus: int, workers: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        need("--engine ray", "ray")
        import ray

        self.cores, self.gpus = cores, gpus
        _lead_to_this_code()
        where = os.environ.get("RAY_ADDRESS") or _started_here()
        if where not in ("", "auto", "local") and not _answers(where):
            if os.environ.get("RAY_ADDRESS"):
                raise MobileSSDError(f"RAY_ADDRESS={where}: no Ray cluster answers there; is it up?")
            where = "local"  # the one of `ray start` is gone, and only its note is left
        try:
            ray.init(where or None, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:  # ray has many, and some are plain RuntimeErrors
            place, reason = where or "this machine", " ".join(str(error).split())[:200]
            hint = "is it up, of the same Ray version, and RAY_AUTH_TOKEN set to its token?"
            raise MobileSSDError(f"no Ray cluster at {place}: {reason}; {hint}") from None
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        there = ray.cluster_resources()
        self.room = int(there.get("CPU", 0) // cores)
        if gpus:
            self.room = min(self.room, int(there.get("GPU", 0) // gpus))
        self.workers = workers or self.room
        if not self.room and not workers:  # a cluster that grows on demand shows no room at first
            ray.shutdown()
            what = f"{cores} cores and {gpus} GPU" if gpus else f"{cores} cores"
            raise MobileSSDError(f"the Ray cluster has no room for a worker of {what}: fewer --threads, or --workers N")
        if problem := _problem_there(min(1, self.room)):
            ray.shutdown()
            raise MobileSSDError(problem)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def __str__(self) -> str:
        each = f"{self.cores} core{'' if self.cores == 1 else 's'}" + (f" and {self.gpus} GPU" if self.gpus else "")
        wait = "" if self.room else " (no room for one yet: waits for the cluster to grow)"
        return f"{self.workers} Ray worker{'' if self.workers == 1 else 's'} of {each}{wait}"

    def make_shards(self, task: Task, weights: Weights, shards: Sequence[Shard]) -> Iterator[Finished]:
        """The shards as they become ready, in no order. What was wrong on a worker is raised here, one line."""
        import ray
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        if hasattr(context, "max_consecutive_actor_init_deaths"):  # a worker may be killed while it starts, too
            context.max_consecutive_actor_init_deaths = STARTS
        files = None if task.options["runtime"] == "litert" and not weights.exported else ray.put(Content.of(weights))
        items = [{"index": shard.index, "names": list(shard.names)} for shard in shards]
        made = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            # In a list: Ray would put the content in the place of a bare reference.
            fn_constructor_args=(task, [files]),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=max(1, min(self.workers, self.room)), max_size=self.workers),
            num_cpus=self.cores,
            num_gpus=self.gpus or None,
        )
        for row in made.iter_rows():
            if row["failed"]:
                raise MobileSSDError(f"on a Ray worker: {row['failed']}")
            problems = tuple((str(name), str(text)) for name, text in zip(row["bad"], row["why"]))
            yield Finished(int(row["index"]), row["data"], int(row["images"]), int(row["objects"]), problems)


class Worker:
    """A detector on a node of the cluster: takes shards, gives their files. What a person can put right comes back as
    an answer: Ray would try an exception again, and show all that it was wrapped in."""

    def __init__(self, task: Task, files: list[Any]) -> None:
        import cv2
        import ray

        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        cv2.setNumThreads(task.cores)
        if files[0] is not None:
            task = replace(task, weights=ray.get(files[0]).lay_down())
        self.task, self.failed = task, ""
        try:
            self.detector = task.open()
        except MobileSSDError as error:
            self.failed = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (index,), (names,) = batch["index"], batch["names"]
        shard = Shard(int(index), tuple(map(str, names)))
        made, failed = Finished(shard.index, b"", 0, 0, ()), self.failed
        if not failed:
            try:
                (made,) = make_shards(self.task, self.detector, [shard])
            except MobileSSDError as error:
                failed = str(error)
        return {
            "failed": [failed],
            "index": [made.index],
            "data": [made.data],
            "images": [made.images],
            "objects": [made.objects],
            "bad": [[name for name, _ in made.problems]],
            "why": [[text for _, text in made.problems]],
        }


def _started_here() -> str:
    """HOST:PORT of the cluster that `ray start` made on this machine, from the note that it leaves; empty if none."""
    folder = os.environ.get("RAY_TMPDIR") or ("/tmp" if os.name == "posix" else tempfile.gettempdir())
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return ""


def _answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT. Asked first, as Ray would wait for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return True  # of a kind that Ray knows better
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError:
        return False
    return True


def _lead_to_this_code() -> None:
    """A cluster that is started here runs the code that runs here, installed or not."""
    root = str(Path(detection.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, known)])


def _problem_there(cores: int) -> str:
    """What a node of the cluster lacks, one line; empty where all is well. Ray itself would say it in pages."""
    import ray

    @ray.remote(num_cpus=cores, max_retries=0)
    def look() -> tuple[str, str]:  # a function inside a function travels as it is: importing it would need us there
        try:
            import detection.bulk.shard_worker

            return detection.__version__, ""
        except ImportError as error:
            return "", str(error)

    there, problem = ray.get(look.remote())
    if problem:
        return f"the nodes of the Ray cluster cannot run mobilessd ({problem}): {install_line('runtime', 'bulk', 'ray')} there"
    if there != detection.__version__:
        return f"the nodes of the Ray cluster have mobilessd {there} and not {detection.__version__}: install the same there"
    return ""


@dataclass(frozen=True)
class Content:
    """Weights on their way to a worker. digest: their hash. files: (name, bytes), the one to open first."""

    digest: str
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, weights: Weights) -> Content:
        files = weights.format.files(weights.path)
        return cls(hash_of_files(weights), tuple((path.name, path.read_bytes()) for path in files))

    def lay_down(self) -> str:
        """Writes them into this node's cache, where they are not yet; returns the path to open."""
        folder = home() / "bulk" / self.digest[:16]
        for name, data in reversed(self.files):  # what a reader looks for comes last
            if not (folder / name).exists():
                with atomic_write(folder / name) as temporary:
                    temporary.write_bytes(data)
        return str(folder / self.files[0][0])


def absolute(name: str) -> str:
    """A weights file's path from anywhere; a model's name as it is."""
    return os.path.abspath(name) if expanded(name).exists() else name
