"""What follows a run: loggers by name, and a function of Python after each evaluation."""

import json
import logging
import sys

import pytest
import train_runs as runs

from detection.errors import MissingPackageError, MobileSSDError
from detection.train.learn import loggers
from detection.train.learn.history import History, read_history
from detection.train.learn.loggers import KEPT, Loggers, chosen
from detection.train.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = runs.shapes(tmp_path_factory.mktemp("shapes"))
    return runs.shapes(folder, 4, "val")


class Spy:
    """A logger that keeps what it is given; it fails where `broken` says."""

    broken = False

    def __init__(self, folder, resume_step, run, about):
        self.run, self.about, self.rows, self.closed = run or "first", about, [], False

    def add(self, step, values):
        if self.broken:
            raise OSError("the server\nis away")
        self.rows.append((step, dict(values)))

    def close(self):
        self.closed = True


@pytest.fixture
def spy(monkeypatch):
    made = []
    monkeypatch.setitem(loggers.OPEN, "mlflow", lambda *given: made.append(Spy(*given)) or made[-1])
    monkeypatch.setattr(loggers, "need", lambda *_: None)
    return made


def test_every_number_of_the_history_reaches_a_logger_and_a_resumed_run_goes_on_in_the_same_place(tmp_path, spy):
    history = History(tmp_path, None, True, ("mlflow",), {"batch": 4})
    history.add(step=4, images=16, loss=1.5, lr=0.1)
    history.close()
    assert spy[0].rows == [(4, {"loss": 1.5, "lr": 0.1})] and spy[0].closed and spy[0].about == {"batch": 4}
    assert json.loads((tmp_path / KEPT).read_text()) == {"mlflow": "first"}
    (tmp_path / KEPT).write_text('{"mlflow": "kept"}')
    assert History(tmp_path, 4, True, ("mlflow",)) and spy[1].run == "kept"
    assert History(tmp_path, None, True, ("mlflow",)) and spy[2].run == "first", "a run begun anew is another one"


def test_a_logger_that_fails_on_the_way_ends_no_training(tmp_path, spy, monkeypatch, caplog):
    monkeypatch.setattr(Spy, "broken", True)
    found = Loggers(("mlflow",), tmp_path, None, {})
    with caplog.at_level(logging.WARNING, "mobilessd.train"):
        found.add(1, {"loss": 1.0})
        found.add(2, {"loss": 1.0})
    assert [record.getMessage() for record in caplog.records] == ["mlflow is given up for this run: the server"]
    found.close()


def test_one_that_cannot_begin_or_is_not_installed_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no such server")

    monkeypatch.setitem(loggers.OPEN, "mlflow", refuse)
    monkeypatch.setattr(loggers, "need", lambda *_: None)
    with pytest.raises(MobileSSDError, match="^--log mlflow: no such server$"):
        Loggers(("mlflow",), tmp_path, None, {})
    monkeypatch.undo()
    for name in ("mlflow", "wandb", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=rf'--log {name} needs .*pip install "mobilessd\[{name}\]"'):
            chosen([name])
    assert chosen(None) == [] and chosen(()) == [], "nothing is asked for"


@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_the_runs_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason='needs mlflow: pip install "mobilessd[mlflow]"')
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "my run"
    for begin in (None, 8):
        history = History(folder, begin, True, ("mlflow",), {"optimizer.lr": 0.1})
        history.add(step=(begin or 0) + 4, images=16, loss=1.5 - (begin or 0), AP=0.25)
        history.close()
    client = mlflow.MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("mobilessd")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "my run" and run.info.status == "FINISHED"
    assert run.data.params == {"optimizer.lr": "0.1"} and run.data.metrics == {"loss": -6.5, "AP": 0.25}
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")] == [
        (4, 1.5),
        (12, -6.5),
    ]


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline_in_the_runs_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason='needs wandb: pip install "mobilessd[wandb]"')
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    history = History(tmp_path, None, True, ("wandb",), {"optimizer.lr": 0.1})
    history.add(step=4, images=16, loss=1.5)
    history.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_tensorboard_by_name(tmp_path):
    pytest.importorskip("tensorboard", reason='needs tensorboard: pip install "mobilessd[tensorboard]"')
    history = History(tmp_path, None, True, ("tensorboard",))
    history.add(step=4, loss=1.5)
    history.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_on_evaluate_hears_of_each_evaluation_and_may_end_the_run(data, tmp_path, monkeypatch):
    runs.without_report(monkeypatch)
    heard = []

    def on_evaluate(evaluation):
        heard.append(evaluation)
        return evaluation.step >= 4

    asked = runs.request(data, tmp_path, evaluate_every=2)
    asked.on_evaluate = on_evaluate
    folder = train(asked)
    assert [(one.step, one.images, one.folder) for one in heard] == [(2, 8, folder), (4, 16, folder)]
    assert set(heard[0].numbers) >= {"AP", "AP50", "AR100"} and heard[0].best
    assert [row["step"] for row in read_history(folder) if "AP" in row] == [2, 4]
    assert (folder / "best.safetensors").exists() and (folder / "last.state.safetensors").exists()
    asked.on_evaluate, asked.resume = None, True
    train(asked)
    assert [row["step"] for row in read_history(folder) if "AP" in row] == [2, 4, 6, 8, 10], "resumed, it goes on"
