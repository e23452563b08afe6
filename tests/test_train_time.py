"""A run keeps the time that it was given, whatever comes in between; and a run's config.yaml is that run again, to the bit."""

import shutil

import pytest
import train_runs as runs
import yaml

from detection.cli.main import main
from detection.train.config import TrainConfig
from detection.train.learn import clock as clocks
from detection.train.learn import loop
from detection.train.learn.clock import Clock
from detection.train.learn.plan import RunPlan, in_steps_alone
from detection.train.learn.schedule import resolve
from detection.train.recipes import list_configs, load_config
from detection.train.run import train
from detection.train.state import read_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    runs.shapes(folder)
    return runs.shapes(folder, 4, "val")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    runs.without_report(monkeypatch)


class Machine:
    """A clock of its own: every step takes `seconds(step)`, an evaluation ten steps' worth."""

    def __init__(self, monkeypatch, seconds):
        self.at, self.seconds, self.steps = 0.0, seconds, 0
        monkeypatch.setattr(clocks, "now", lambda: self.at)
        monkeypatch.setattr(loop, "now", lambda: self.at)
        monkeypatch.setattr(clocks, "busy", lambda seconds: 1.0)
        original = loop.step_gradients

        def step(*arguments):
            self.at += self.seconds(self.at)
            return original(*arguments)

        monkeypatch.setattr(loop, "step_gradients", step)
        monkeypatch.setattr("detection.train.learn.plan.step_gradients", step)


class TestClock:
    """The watch alone: 600 s, an evaluation of 10 s and an end of 7 s where nothing else runs."""

    def end(self, monkeypatch, factor):
        """When a run ends whose every second takes `factor(at)`; and how often it was planned anew."""
        at = 0.0
        monkeypatch.setattr(clocks, "now", lambda: at)
        clock = Clock(600.0, 600.0, 250, 0, 0.5, 5)
        steps = first = clock.steps_that_fit(0, 220)
        every, done, plans = 220, 0, 0
        while done < steps:
            at, done = at + 0.5 * factor(at), done + 1
            if done % every == 0 or done == steps:
                at += 10 * factor(at)
                clock.evaluated(10 * factor(at))
            if (new := clock.step(done, steps, every)) is not None:
                steps, plans = new, plans + 1
        return at + 7 * factor(at), plans, first, steps

    def test_nothing_comes_in_between(self, monkeypatch):
        end, plans, first, steps = self.end(monkeypatch, lambda at: 1.0)
        assert end == pytest.approx(600, rel=0.03) and plans == 0 and first == steps

    @pytest.mark.parametrize("begin", [0, 60, 300, 450])
    @pytest.mark.parametrize("factor", [1.3, 2.0, 3.0])
    def test_another_job_comes(self, monkeypatch, begin, factor):
        end, plans, first, steps = self.end(monkeypatch, lambda at: factor if at >= begin else 1.0)
        assert end == pytest.approx(600, rel=0.08) and 1 <= plans <= 4 and steps < first

    def test_another_job_goes(self, monkeypatch):
        end, plans, first, steps = self.end(monkeypatch, lambda at: 0.5 if at >= 300 else 1.0)
        assert end == pytest.approx(600, rel=0.08) and plans >= 1 and steps > first

    def test_one_comes_at_the_very_end(self, monkeypatch):
        end, *_ = self.end(monkeypatch, lambda at: 2.0 if at >= 560 else 1.0)
        assert end == pytest.approx(600, rel=0.08)

    def test_a_machine_that_is_never_the_same(self, monkeypatch):
        end, plans, *_ = self.end(monkeypatch, lambda at: 1.0 + (int(at) // 100) % 2)
        assert end == pytest.approx(600, rel=0.1)


def budget_run(data, folder, monkeypatch, stop=None):
    """A run of 60 s of which every step takes 1 s, and 2 s from half of the time on."""
    with monkeypatch.context() as patch:
        Machine(patch, lambda at: 2.0 if at > 30 else 1.0)
        if stop is not None:
            runs.interrupt_at(patch, stop)
        asked = runs.request(data, folder, time_budget=60, steps=None, samples=400)
        asked.began = 0.0
        return train(asked)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        runs.without_report(patch)
        return budget_run(data, tmp_path_factory.mktemp("whole") / "run", patch)


class TestBudget:
    def test_it_is_shortened_and_says_so_in_its_config(self, whole):
        config = load_config(whole / "config.yaml")
        step, steps = config.replanned[-1]
        assert 30 < step < steps < config.steps
        meta = read_state(whole).meta
        assert meta["step"] == meta["plan"]["steps"] == steps
        assert meta["config"]["replanned"] == [list(pair) for pair in config.replanned]

    @pytest.mark.parametrize("last", [False, True])
    def test_stopped_and_resumed_it_is_the_same_to_the_bit(self, data, whole, tmp_path, monkeypatch, last):
        """Stopped soon behind the step from which on it was shorter, and just before its end."""
        step, steps = load_config(whole / "config.yaml").replanned[-1]
        with pytest.raises(KeyboardInterrupt):
            budget_run(data, tmp_path, monkeypatch, stop=steps - 1 if last else step + 1)
        assert main(f"train --resume --output {tmp_path} --device cpu --threads 1".split()) == 0
        runs.assert_same(runs.outcome(whole), runs.outcome(tmp_path))

    def test_its_config_is_the_same_run_again(self, whole, tmp_path):
        again = tmp_path / "again"
        line = f"train --config {whole / 'config.yaml'} --output {again} --device cpu --threads 1"
        assert main(line.split()) == 0
        runs.assert_same(runs.outcome(whole), runs.outcome(again))

    def test_a_new_length_in_the_config_of_a_stopped_run_counts(self, whole, tmp_path):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        steps, file = read_state(whole).meta["step"], tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"steps": steps + 3}))
        assert main(f"train --resume --output {tmp_path} --device cpu --threads 1".split()) == 0
        meta = read_state(tmp_path).meta
        assert meta["step"] == steps + 3 and meta["config"]["replanned"] == []


class TestRefused:
    def test_a_second_is_refused_at_once(self, data, tmp_path, capsys):
        assert main(f"train --data {data} --time-budget 1s --output {tmp_path / 'run'}".split()) == 2
        assert "1s is too short" in capsys.readouterr().err and not (tmp_path / "run").exists()

    def test_where_not_even_one_step_fits(self, data, tmp_path, monkeypatch, capsys):
        Machine(monkeypatch, lambda at: 30.0)
        asked = runs.request(data, tmp_path / "run", time_budget=60)
        asked.began = 0.0
        with pytest.raises(Exception, match="a time budget of 60 s is too short: setting up took"):
            train(asked)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list_configs())
def test_a_config_in_steps_alone_has_the_same_schedule(name):
    for changes in ({}, {"batch": 24}):
        config = load_config(name, changes)
        for steps in (37, 5000):
            plan = RunPlan(steps, max(1, steps // 5), 1, config.batch)
            same = in_steps_alone(config, plan, 1234)
            assert TrainConfig.from_dict(yaml.safe_load(same.to_yaml())) == same
            one, other = resolve(config, 1234, steps), resolve(same, 1234)
            assert vars(one) | {"hold": 0} == vars(other) | {"hold": 0} and one.hold == pytest.approx(other.hold)


class TestAgain:
    def test_what_the_command_line_said_of_the_data_stands_in_the_config(self, data, tmp_path):
        recipe = tmp_path / "tiny.yaml"
        recipe.write_text(yaml.safe_dump(runs.config(steps=4, evaluate_every=2).to_dict()))
        first, again = tmp_path / "first", tmp_path / "again"
        common = "--device cpu --threads 1"
        line = f"train --data {data} --config {recipe} --classes square --select 0.25 {common}"
        assert main([*line.split(), "--output", str(first)]) == 0
        section = yaml.safe_load((first / "config.yaml").read_text())["data"]
        assert section == {"path": str(data), "select": 0.25, "classes": ["square"]}
        assert main(f"train --config {first / 'config.yaml'} --output {again} {common}".split()) == 0
        runs.assert_same(runs.outcome(first), runs.outcome(again))

    def test_other_data_take_the_place_of_those_of_the_config(self, data, tmp_path, capsys):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(runs.config(steps=1).to_dict() | {"data": {"path": "gone", "clases": ["a"]}}))
        assert main(f"train --config {file} --output {tmp_path / 'a'}".split()) == 2
        assert "data: unknown key 'clases'; did you mean 'classes'?" in capsys.readouterr().err
        assert main(f"train --config {file} --data {data} --output {tmp_path / 'b'} --device cpu".split()) == 0

    def test_data_that_were_changed_in_the_config_are_refused(self, data, tmp_path, capsys):
        output = tmp_path / "run"
        train(runs.request(data, output, steps=2, evaluate_every=2))
        file = output / "config.yaml"
        file.write_text(file.read_text() + "  select: 0.5\n")
        assert main(f"train --resume --output {output}".split()) == 2
        assert "data.select was None when the run began and cannot change" in capsys.readouterr().err
