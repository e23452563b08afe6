"""A run computes in the precision that a short trial of its own steps measures fastest, and so does its continuation."""

import logging

import pytest
import torch
import train_runs as runs

from backbones.convolutions import conv2d
from detection.errors import MobileSSDError
from detection.train import speed
from detection.train.run import train
from detection.train.speed import autocast, fastest_precision, precisions, settled
from detection.train.state import read_state

BOTH = ("float32", "bfloat16")


class Clock:
    """Time that passes only where a step takes it."""

    def __init__(self, **seconds):
        self.at, self.seconds, self.steps = 0.0, seconds, []

    def perf_counter(self):
        return self.at

    def step(self, precision):
        self.steps.append(precision)
        self.at += self.seconds[precision]


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"), [(1.0, 0.6, "bfloat16"), (1.0, 0.97, "float32"), (1.0, 1.4, "float32")]
)
def test_the_faster_one_is_taken_and_said(monkeypatch, caplog, float32, bfloat16, chosen):
    clock = Clock(float32=float32, bfloat16=bfloat16)
    monkeypatch.setattr(speed, "time", clock)
    with caplog.at_level(logging.INFO, "mobilessd.train"):
        best, seconds = fastest_precision(clock.step, BOTH, rounds=2)
    assert best == chosen and seconds == pytest.approx(clock.seconds[chosen])
    assert f"float32 1000 ms, bfloat16 {bfloat16 * 1e3:.0f} ms; {chosen} is used" in caplog.text
    assert clock.steps == [*BOTH] * 3  # in turns, so that what else the machine does slows both alike


@pytest.mark.parametrize(("native", "tried"), [(True, BOTH), (False, ("float32",))])
def test_bfloat16_is_tried_where_the_processor_has_instructions_for_it(monkeypatch, native, tried):
    monkeypatch.setattr(speed, "multiplies_bfloat16", lambda: native)
    assert precisions("auto", "cpu") == tried
    assert precisions("float32", "cpu") == ("float32",) and precisions("bfloat16", "cpu") == ("bfloat16",)
    assert settled("auto", "cpu", tried[-1]) == ("bfloat16" if native else "auto")
    with pytest.raises(MobileSSDError, match="float16 needs a GPU"):
        precisions("float16", "cpu")


def test_a_resumed_run_goes_on_in_what_the_trial_chose_to_the_bit(tmp_path, monkeypatch):
    runs.without_report(monkeypatch)
    runs.shapes(tmp_path / "shapes")
    data = runs.shapes(tmp_path / "shapes", 4, "val")
    monkeypatch.setattr(speed, "multiplies_bfloat16", lambda: True)
    other = {"bfloat16": "float32", "float32": "bfloat16"}

    def choosing(precision):
        def trial(step, tried, rounds):
            assert tried == BOTH and rounds == 1
            step(precision)
            return precision, 1.0

        monkeypatch.setattr("detection.train.learn.plan.fastest_precision", trial)

    choosing("bfloat16")
    whole = train(runs.request(data, tmp_path / "whole", precision="auto"))
    assert read_state(whole).meta["plan"]["precision"] == "bfloat16"
    assert "precision: bfloat16" in (whole / "config.yaml").read_text()
    with monkeypatch.context() as patch:
        runs.interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train(runs.request(data, tmp_path / "half", precision="auto"))
    choosing(other["bfloat16"])
    half = train(runs.request(data, tmp_path / "half", resume=True, precision="auto"))
    runs.assert_same(runs.outcome(whole), runs.outcome(half))
    plain = train(runs.request(data, tmp_path / "plain"))
    with pytest.raises(AssertionError):
        runs.assert_same(runs.outcome(whole), runs.outcome(plain))  # bfloat16 is another run


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_gradients_in_bfloat16_on_a_map_of_one_cell_are_those_of_float32(padding):
    """What memory holds by chance must not be learned: the kernel's rim meets padding alone, so its gradient is 0."""
    torch.manual_seed(0)
    layer = conv2d(16, 32, 3, 2, padding=padding, bias=False)
    x = torch.randn(4, 16, 1, 1)

    def gradient(precision):
        layer.zero_grad()
        with autocast(precision, "cpu"):
            y = layer(x)
        junk = [torch.full((size,), 1e30) for size in (1000, 5000, 18432, 100_000)]
        del junk
        y.float().square().sum().backward()
        return layer.weight.grad.clone()

    wanted = gradient("float32")
    for _ in range(5):
        torch.testing.assert_close(gradient("bfloat16"), wanted, rtol=0.05, atol=0.05 * float(wanted.abs().max()))
