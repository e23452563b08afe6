"""What a run needs to go on as if it had never stopped: weights, EMA, optimiser, step, plan, random state.

One safetensors file (tensors, and the rest as JSON in its header): nothing is pickled, nothing is executed on reading.
The new file is written whole before it takes the name `last`; the one before it stays as `previous`. A checksum finds a
bit that flipped since; the run then goes on from `previous`.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detection.errors import BadWeightsError, MobileSSDError
from detection.files import atomic_write

log = logging.getLogger("mobilessd.train")
CHECKSUM = "mobilessd.crc32"  # a key of the header
LAST, PREVIOUS = "last.state.safetensors", "previous.state.safetensors"


@dataclass
class RunState:
    """tensors: named by part (`model.`, `ema.`, `optimizer.`, `rng`). meta: plain data (step, plan, config, ...)."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, without its prefix."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


def pack(
    meta: dict[str, Any], optimizer: torch.optim.Optimizer | None = None, **modules: dict[str, Tensor]
) -> RunState:
    """Collects a state: state dicts by part name, and the optimiser's moments and settings."""
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng_cuda"] = torch.cuda.get_rng_state()
    for part, state in modules.items():
        tensors |= {f"{part}.{name}": value for name, value in state.items()}
    meta = {**meta, "threads": torch.get_num_threads()}
    if optimizer is not None:
        raw = optimizer.state_dict()
        scalars: dict[str, dict[str, Any]] = {}
        for index, values in raw["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value
                elif value is not None:
                    scalars.setdefault(str(index), {})[key] = value
        meta["optimizer"] = {"groups": raw["param_groups"], "scalars": scalars}
    return RunState(tensors, meta)


def unpack_optimizer(state: RunState, optimizer: torch.optim.Optimizer) -> None:
    """Puts the stored moments back, to the bit, and as their parameters lie in memory: in another order the processor
    may round otherwise, and is slower."""
    stored = state.meta["optimizer"]
    moments: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in stored["scalars"].items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in state.part("optimizer").items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        if tensor.shape == like.shape:
            tensor = torch.empty_like(like, requires_grad=False).copy_(tensor)
        moments.setdefault(int(index), {})[key] = tensor
    groups = [
        g | {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in g.items()}
        for g in stored["groups"]
    ]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def restore_threads(state: RunState, asked: int | None) -> None:
    """As many threads on the CPU as the run had: another number sums in another order. Says so where other ones were asked
    for, or this machine has fewer cores."""
    had, here = state.meta.get("threads"), os.cpu_count() or 1
    if had is None or had == torch.get_num_threads():
        return
    if asked is None and had <= here:
        torch.set_num_threads(had)
        return
    why = f"--threads {asked}" if asked else f"this machine has {here} cores"
    log.warning(
        "the run had %d threads and goes on with %d (%s): its weights will differ from those of an unbroken run in their "
        "last bits", had, torch.get_num_threads(), why,
    )  # fmt: skip


def restore_rng(state: RunState) -> None:
    torch.set_rng_state(state.tensors["rng"].to(torch.uint8))
    if "rng_cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["rng_cuda"].to(torch.uint8))


def write_state(folder: Path, state: RunState) -> None:
    """Writes `last` atomically and keeps the one before it. A full disk leaves both as they were: MobileSSDError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.tensors.items()}
    last = folder / LAST
    try:
        with atomic_write(last) as temporary:
            meta = json.dumps(state.meta)
            save_file(tensors, temporary, {"mobilessd": meta, CHECKSUM: _checksum(tensors, meta)})
            if last.exists():
                _keep(last, folder / PREVIOUS)
    except (OSError, SafetensorError) as error:
        kept = "the checkpoint before it is whole" if last.exists() else "there is none before it"
        raise MobileSSDError(
            f"{last}: cannot be written ({error}); {kept}; make room and go on with --resume"
        ) from error


def has_state(folder: Path) -> bool:
    """Whether there is anything to resume from."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def sweep(folder: Path) -> None:
    """Takes away what a killed process was writing: our temporary files, and those of safetensors (.tmpXXXXXX)."""
    for path in (*folder.glob(".*.part*"), *folder.glob(".tmp??????")):
        path.unlink(missing_ok=True)


def read_state(folder: Path) -> RunState:
    """`last`, or `previous` where last is missing or damaged. Raises BadWeightsError, one line, without either."""
    problems = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except Exception as error:  # whatever a damaged file raises
            problems.append(f"{name} is damaged ({error if isinstance(error, _Flipped) else type(error).__name__})")
            continue
        if problems:
            log.warning("%s: %s; going on from %s, step %s", folder, "; ".join(problems), name, state.meta.get("step"))
        return state
    reason = "; ".join(problems) or f"holds no {LAST}"
    raise BadWeightsError(f"{folder}: {reason}, so there is nothing to resume; start without --resume")


def read_meta(folder: Path) -> dict[str, Any]:
    """The plain data of the newest state that can be read, without its tensors; empty where there is none."""
    from safetensors import safe_open

    for name in (LAST, PREVIOUS):
        try:
            with safe_open(folder / name, framework="pt") as file:
                return json.loads(file.metadata()["mobilessd"])
        except Exception:  # whatever a damaged file raises; `read_state` says what is wrong with it
            continue
    return {}


def _read(path: Path) -> RunState:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    older = set(about) == {"mobilessd"}  # written before 0.2; a name that flipped is another one beside it
    if not older and about.get(CHECKSUM) != _checksum(tensors, about["mobilessd"]):
        raise _Flipped("its checksum does not fit its content")
    return RunState(tensors, json.loads(about["mobilessd"]))


class _Flipped(Exception):
    """A state whose bytes are not those that were written."""


def _checksum(tensors: dict[str, Tensor], meta: str) -> str:
    """CRC-32 of all that a state says: it is there to find faults of disks and memory, not of people."""
    found = zlib.crc32(meta.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


def _keep(last: Path, previous: Path) -> None:
    """A second name for the old file: it is never absent, not even between two renames."""
    temporary = previous.with_suffix(".link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(last, temporary)
    except OSError:  # a file system without hard links
        import shutil

        shutil.copyfile(last, temporary)
    os.replace(temporary, previous)
