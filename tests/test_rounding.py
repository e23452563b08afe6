"""Training under the rounding of int8: what is rounded, to how many steps, and that it learns float weights."""

import numpy as np
import pytest
import torch
import train_runs as runs
from random_networks import random_network

from detection.train.learn.rounding import Rounded, round_kernel, round_output
from detection.train.run import train

torch.manual_seed(0)
KERNEL = torch.randn(6, 4, 3, 3) * torch.tensor([1e-3, 0.1, 1, 10, 1e3, 0]).view(-1, 1, 1, 1)


def test_each_output_channel_has_its_own_steps():
    rounded = round_kernel(KERNEL)
    largest = KERNEL.abs().amax((1, 2, 3))
    assert ((rounded - KERNEL).abs().amax((1, 2, 3)) <= 0.5001 * largest / 127 + 1e-9).all()
    assert all(len(channel.unique()) <= 255 for channel in rounded) and (rounded[5] == 0).all()


def test_a_norm_behind_the_kernel_changes_nothing():
    """Scaling the channels, as folding a batch norm does, and rounding may be done in either order."""
    scale = torch.tensor([2.0, 0.3, 1, 5, 0.01, 1]).view(-1, 1, 1, 1)
    assert torch.allclose(round_kernel(KERNEL * scale), round_kernel(KERNEL) * scale, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (-3.0, 1.0), (2.0, 5.0), (0.0, 0.0)])
def test_an_output_has_256_steps_and_zero_is_one_of_them(low, high):
    x = torch.linspace(low, high, 5000)
    rounded = round_output(x)
    step = (max(high, 0) - min(low, 0)) / 255
    assert (rounded - x).abs().max() <= 0.51 * step + 1e-6 and len(rounded.unique()) <= 256
    assert round_output(torch.tensor([low, 0.0, high]))[1] == 0


def test_gradients_pass_as_if_nothing_were_rounded():
    kernel, x = KERNEL.clone().requires_grad_(), torch.linspace(-1, 3, 100).requires_grad_()
    (round_kernel(kernel).sum() + round_output(x).sum()).backward()
    assert (kernel.grad == 1).all() and (x.grad[1:-1] == 1).all()


def test_the_network_is_near_itself_and_its_parameters_are_its_own():
    ssd = random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=96)
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2, 3, 96, 96)).astype(np.float32))
    with torch.no_grad():
        plain = ssd(images)
        names = list(ssd.state_dict())
        rounded = Rounded(ssd)
        found = rounded(images)
    assert list(ssd.state_dict()) == names and {id(p) for p in rounded.parameters()} == {
        id(p) for p in ssd.parameters()
    }
    for a, b in zip(plain, found):
        assert 0 < (a - b).abs().mean() < 0.1 * a.abs().mean()


def test_a_run_learns_under_it(tmp_path, monkeypatch):
    runs.without_report(monkeypatch)
    data = runs.shapes(tmp_path / "data", 8)
    folders = [
        train(runs.request(data, tmp_path / f"{on}", steps=24, round_to_int8=on, select=0.0)) for on in (False, True)
    ]
    plain, rounded = ([row["loss"] for row in runs.read_history(folder) if "loss" in row] for folder in folders)
    assert rounded != plain and rounded[-1] < 0.9 * rounded[0] and rounded[-1] < 1.3 * plain[-1]
