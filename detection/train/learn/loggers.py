"""Where the numbers of a run go besides its own files, by name: TensorBoard, MLflow, Weights & Biases.

All of them write into the run's folder unless their own environment variables name a server, and a resumed run goes on in
the same place. One that fails on the way is given up with a warning: no training ends for that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from detection.errors import MobileSSDError, installed, need
from detection.files import write_text

log = logging.getLogger("mobilessd.train")
KEPT = "loggers.json"  # in the run's folder: the runs that a resumed run goes on with, by logger
PROJECT = "mobilessd"  # the experiment of MLflow and the project of Weights & Biases, unless their variables name one


class Logger(Protocol):
    """run: what a resumed run goes on with ("": nothing is needed)."""

    run: str

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, at a step of the optimiser."""

    def close(self) -> None: ...


def chosen(names: Sequence[str] | None) -> list[str]:
    """The loggers of a recipe; None: TensorBoard where it is installed. Raises MissingPackageError, which names the extra."""
    if names is None:
        return ["tensorboard"] if installed("tensorboard") else []
    for name in names:
        need(f"--log {name}", name)
    return list(dict.fromkeys(names))


class Loggers:
    """All that `names` (keys of `OPEN`; None as in `chosen`) mean for a run. resume_step: where a resumed run goes on.
    about: the recipe, by dotted key. Raises MobileSSDError, one line, where one of them cannot begin."""

    def __init__(
        self, names: Sequence[str] | None, folder: Path, resume_step: int | None, about: Mapping[str, Any]
    ) -> None:
        path, self.open = folder / KEPT, dict[str, Logger]()
        kept: dict[str, str] = {}
        if resume_step is not None and path.is_file():
            with contextlib.suppress(ValueError):
                kept = json.loads(path.read_text(encoding="utf-8"))
        for name in chosen(names):
            try:
                self.open[name] = OPEN[name](folder, resume_step, kept.get(name), about)
            except Exception as error:  # whatever a stranger's server or folder makes it raise
                if names is None:
                    log.warning("no %s: %s", name, error or type(error).__name__)
                    continue
                self.close()
                raise MobileSSDError(f"--log {name}: {error or type(error).__name__}") from error
        begun = kept | {name: logger.run for name, logger in self.open.items() if logger.run}
        if begun != kept:
            write_text(path, json.dumps(begun))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._each("add", step, values)

    def close(self) -> None:
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for name, logger in list(self.open.items()):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:
                del self.open[name]
                log.warning(
                    "%s is given up for this run: %s", name, str(error).splitlines()[0][:200] if str(error) else error
                )


class _TensorBoard:
    def __init__(self, folder: Path, resume_step: int | None, run: str | None, about: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_step is None else resume_step + 1
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)
        self.run = ""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _MLflow:
    """MLFLOW_TRACKING_URI says where; without it mlflow/ in the run's folder."""

    def __init__(self, folder: Path, resume_step: int | None, run: str | None, about: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # from 3.13 on it refuses plain folders otherwise
        from mlflow import MlflowClient
        from mlflow.entities import Param

        where = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlflow").absolute().as_uri()
        self.client, name = MlflowClient(tracking_uri=where), os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        if run is None:
            known = self.client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self.client.create_experiment(name)
            run = self.client.create_run(experiment, run_name=folder.name).info.run_id
            self.client.log_batch(run, params=[Param(key, str(value)[:500]) for key, value in about.items()][:100])
        else:
            self.client.update_run(run, status="RUNNING")
        self.run = run

    def add(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.run)


class _WandB:
    """Offline, in wandb/ of the run's folder (`wandb sync` sends it), unless WANDB_MODE or WANDB_API_KEY is set."""

    def __init__(self, folder: Path, resume_step: int | None, run: str | None, about: Mapping[str, Any]) -> None:
        import wandb

        online = os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY")
        self.session = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=folder.name,
            id=run,
            resume="allow",
            dir=str(folder),
            config=dict(about),
            mode=None if online else "offline",
            settings=wandb.Settings(console="off", silent=True),
        )
        self.run = str(self.session.id)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self.session.log({**values, "step": step})  # its own step may not go back, as that of a resumed run does

    def close(self) -> None:
        self.session.finish(quiet=True)


OPEN: dict[str, Callable[[Path, int | None, str | None, Mapping[str, Any]], Logger]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WandB,
}
