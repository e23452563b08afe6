"""A Ray cluster, reached or begun, and what it must have. The files of shards come back to this process, which writes them:
workers need to reach the images, and nothing else.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from pathlib import Path

import detection
from detection.bulk.ray_pool import Pool, seats_on
from detection.bulk.shard_worker import Task
from detection.errors import MobileSSDError, install_line, need
from detection.files import expanded
from detection.weights.resolve import Weights

PATIENCE = 10.0  # seconds until a cluster that does not answer is none


class Cluster:
    """A Ray cluster: that of RAY_ADDRESS, else the one that `ray start` made on this machine, else one of this machine
    for as long as the run takes. To be used in a `with` block.

    cores, gpus: of one worker (cores None: all of its machine). workers: at most so many (None: as many as there is room
    for). Raises MissingPackageError without ray, MobileSSDError where the cluster cannot be reached or is too small.
    """

    def __init__(self, cores: int | None, gpus: int, workers: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what it does from 2.60 on, and warns about
        need("--engine ray", "ray")
        import ray

        self._cores, self._gpus, self._workers = cores, gpus, workers
        _lead_to_this_code()
        where = os.environ.get("RAY_ADDRESS") or _started_here()
        if where not in ("", "auto", "local") and not _answers(where):
            if os.environ.get("RAY_ADDRESS"):
                raise MobileSSDError(f"RAY_ADDRESS={where}: no Ray cluster answers there; is it up?")
            where = "local"  # the one of `ray start` is gone, and only its note is left
        ours = {"include_dashboard": False} if where in ("", "local") else {}
        try:
            ray.init(
                where or "local", log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True, **ours
            )
        except Exception as error:  # ray has many, and some are plain RuntimeErrors
            place, reason = where or "this machine", " ".join(str(error).split())[:200]
            hint = "is it up, of the same Ray version, and RAY_AUTH_TOKEN set to its token?"
            raise MobileSSDError(f"no Ray cluster at {place}: {reason}; {hint}") from None
        room = len(seats_on(ray.nodes(), cores, gpus))
        if not room and not workers:  # a cluster that grows on demand shows no room at first
            ray.shutdown()
            each = f"{cores or 1} core{'' if cores in (None, 1) else 's'}"
            what = f"{each} and {gpus} GPU" if gpus else each
            raise MobileSSDError(f"the Ray cluster has no room for a worker of {what}: fewer --threads, or --workers N")
        if problem := _problem_there(0.1 if room else 0.0):
            ray.shutdown()
            raise MobileSSDError(problem)

    def pool(self, task: Task, weights: Weights) -> Pool:
        """Workers for a run, of which the first is ready."""
        pool = Pool(task, weights, self._cores, self._gpus, self._workers)
        pool.wait()
        return pool

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()


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


def _problem_there(cores: float) -> str:
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


def absolute(name: str) -> str:
    """A weights file's path from anywhere; a model's name as it is."""
    return os.path.abspath(name) if expanded(name).exists() else name
