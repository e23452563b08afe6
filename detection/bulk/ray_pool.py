"""Shards given out on a Ray cluster: one actor on each machine for as long as the run takes, a few shards on the way to each.
What a shard holds is made by the code that makes it in one process.

Images travel as their names, shards as the files that they are. An actor that dies is started again where its machine still
is, and what it had is given out once more; a shard is with one actor at a time, so that it is written once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detection.bulk.manifest import hash_of_files
from detection.bulk.shard_worker import Finished, Task, make_shards
from detection.bulk.shards import Shard
from detection.errors import MobileSSDError, warn
from detection.files import atomic_write, home
from detection.stream import for_many_images
from detection.weights.resolve import Weights

AT_ONCE = 2  # shards that an actor makes at a time: while the last images of one are computed, the next has begun
IN_FLIGHT = AT_ONCE + 1  # with the one that it need not wait for
STARTS = 5  # times that an actor may die on a machine without a shard made, before the run gives up
LOOK = 5.0  # seconds between two looks at which machines there are


@dataclass(frozen=True)
class Seat:
    """Room for one actor. node: of the cluster, None for one that is still to come. cores, gpus: what it takes of it."""

    node: str | None
    cores: float
    gpus: int

    @property
    def threads(self) -> int:
        return max(1, int(self.cores))


def seats_on(nodes: Sequence[dict[str, Any]], cores: int | None, gpus: int) -> list[Seat]:
    """Where actors have room. nodes: as `ray.nodes()` says them. cores: of one actor; None: all that a machine has, or its
    share for each GPU. gpus: of one actor. A machine without cores, as the head of many clusters is, has no seat."""
    found = []
    for node in nodes:
        there = node["Resources"] if node["Alive"] else {}
        processors, cards = there.get("CPU", 0.0), int(there.get("GPU", 0.0))
        if gpus:
            count = cards // gpus
            share = cores or max(1, processors // max(count, 1))
            count = min(count, int(processors // share))
        else:
            share = cores or processors
            count = int(processors // share) if share else 0
        found += [Seat(node["NodeID"], share, gpus)] * count
    return found


class Worker:
    """A detector on a machine of the cluster: takes shards, gives their files. What a person can put right comes back as
    an answer, a text: Ray would show an exception with all that it was wrapped in."""

    def __init__(self, task: Task, files: list[Any]) -> None:
        import ray

        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        for_many_images()
        if files[0] is not None:
            task = replace(task, weights=ray.get(files[0]).lay_down())
        self.task, self.failed = task, ""
        try:
            self.detector = task.open()
            if task.batch > 1:
                self.detector.streams()  # compiled and tried here, not while images are waiting
        except MobileSSDError as error:
            self.failed = str(error)

    def ready(self) -> str:
        """Nothing, or why it will make no shard."""
        return self.failed

    def make(self, shard: Shard) -> Finished | str:
        try:
            (made,) = make_shards(self.task, self.detector, [shard])
        except MobileSSDError as error:
            return str(error)
        return made


@dataclass
class _Actor:
    """handle: Ray's. opening: the answer of `ready` to come, None once it is there. flying: how many shards it has."""

    seat: Seat
    handle: Any
    opening: Any
    flying: int = 0


class Pool:
    """The actors of a run. task, weights: what they make. cores, gpus: see `seats_on`; workers: at most so many.

    Actors begin to open the weights here. Raises MobileSSDError, one line, for what is wrong on one of them."""

    def __init__(self, task: Task, weights: Weights, cores: int | None, gpus: int, workers: int | None) -> None:
        import ray

        self._task, self._cores, self._gpus, self._workers = task, cores, gpus, workers
        # What ships with mobilessd is there, with its int8 form; LiteRT reads the file that was imported.
        there = weights.graph is not None or (task.options["runtime"] == "litert" and not weights.exported)
        self._files = None if there else ray.put(Content.of(weights))
        self._actors: list[_Actor] = []
        self._deaths: dict[str | None, int] = {}
        self._flying: dict[Any, tuple[_Actor, Shard]] = {}
        self._looked, self._told = 0.0, False
        self._take_seats()

    def wait(self) -> None:
        """Until the first actor is ready; the others may come while it works."""
        while all(actor.opening is not None for actor in self._actors) and self._actors:
            self._listen()

    def make_shards(self, shards: Sequence[Shard]) -> Iterator[Finished]:
        """The shards as they become ready, in no order."""
        waiting = deque(shards)
        while waiting or self._flying:
            for actor in self._actors:
                while waiting and actor.opening is None and actor.flying < IN_FLIGHT:
                    shard = waiting.popleft()
                    self._flying[actor.handle.make.remote(shard)] = (actor, shard)
                    actor.flying += 1
            for shard, made in self._listen():
                if made is None:
                    waiting.appendleft(shard)
                else:
                    yield made

    def _listen(self) -> list[tuple[Shard, Finished | None]]:
        """What has come within LOOK seconds: shards, each with its file, or None where its actor has died."""
        import ray

        opening = {actor.opening: actor for actor in self._actors if actor.opening is not None}
        asked = [*self._flying, *opening]
        came: list[tuple[Shard, Finished | None]] = []
        if asked:
            done, _ = ray.wait(asked, num_returns=1, timeout=LOOK)
        else:  # nobody is left; machines may come
            if not self._told:
                warn("no Ray worker is left: waiting for the cluster to grow")
            self._told, done = True, []
            time.sleep(LOOK)
        for answer in done:
            if (actor := opening.get(answer)) is not None:
                if self._answer(actor, answer) is not None:
                    actor.opening = None
                continue
            actor, shard = self._flying.pop(answer)
            actor.flying -= 1
            made = self._answer(actor, answer)
            if made is not None:
                self._deaths.pop(actor.seat.node, None)
            came.append((shard, made))
        if not done or time.monotonic() - self._looked > LOOK:
            self._take_seats()
        return came

    def _answer(self, actor: _Actor, answer: Any) -> Any:
        """What an actor says; None where it has died, or its answer with the machine. Raises what went wrong there."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            said = ray.get(answer)
        except RayTaskError:
            raise
        except RayError as error:
            self._lost(actor, error)
            return None
        if isinstance(said, str) and said:
            raise MobileSSDError(f"on a Ray worker: {said}")
        return said

    def _lost(self, actor: _Actor, error: Exception) -> None:
        """Takes an actor out; another takes its seat where the machine still is."""
        import ray

        if actor not in self._actors:
            return  # known since the first of its shards
        self._actors.remove(actor)
        ray.kill(actor.handle)  # where it lives, and only its answer was lost
        node = actor.seat.node
        self._deaths[node] = self._deaths.get(node, 0) + 1
        if self._deaths[node] >= STARTS:
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise MobileSSDError(f"a Ray worker died {STARTS} times without a shard made: {reason}")
        self._take_seats()

    def _take_seats(self) -> None:
        """An actor on every seat that has none, as far as there may be so many."""
        import ray

        self._looked = time.monotonic()
        free = seats_on(ray.nodes(), self._cores, self._gpus)
        for actor in self._actors:
            if actor.seat in free:
                free.remove(actor.seat)
        if self._workers is not None:
            missing = self._workers - len(self._actors)
            # Clusters that grow do so for actors that have no room.
            free = (free + [Seat(None, self._cores or 1, self._gpus)] * missing)[:missing]
        self._actors += map(self._start, free)

    def _start(self, seat: Seat) -> _Actor:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = replace(self._task, cores=seat.threads, options=self._task.options | {"threads": seat.threads})
        handle = (
            ray.remote(Worker)
            .options(
                num_cpus=seat.cores,
                num_gpus=seat.gpus,
                max_concurrency=AT_ONCE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node, soft=False) if seat.node else "DEFAULT",
            )
            # In a list: Ray would put the content in the place of a bare reference.
            .remote(task, [self._files])
        )
        return _Actor(seat, handle, handle.ready.remote())

    def __str__(self) -> str:
        cores = sorted({actor.seat.threads for actor in self._actors})
        each = (
            f"{cores[0]} core{'' if cores[-1] == 1 else 's'}" if len(cores) == 1 else f"{cores[0]} to {cores[-1]} cores"
        )
        each += f" and {self._gpus} GPU" * (self._gpus > 0)
        wait = " (waits for the cluster to grow)" if all(actor.seat.node is None for actor in self._actors) else ""
        return f"{len(self._actors)} Ray worker{'' if len(self._actors) == 1 else 's'} of {each}{wait}"


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
        """Writes them into this machine's cache, where they are not yet; returns the path to open."""
        folder = home() / "bulk" / self.digest[:16]
        for name, data in reversed(self.files):  # what a reader looks for comes last
            if not (folder / name).exists():
                with atomic_write(folder / name) as temporary:
                    temporary.write_bytes(data)
        return str(folder / self.files[0][0])
