"""Folded batch norms get real statistics from images, and the network goes on saying the same."""

import copy

import numpy as np
import pytest
import torch
from oracle import photographs
from torch import nn

from detection.errors import MobileSSDError
from detection.images.preprocess import stretch
from detection.ssd.batch_norms import fold_batch_norms, rebuild_batch_norms
from detection.ssd.network import Deployable, build
from detection.weights.importers.table import import_detector
from detection.weights.names import spec_for


@pytest.fixture(scope="module")
def v1(v1_file):
    """An SSD MobileNet V1 (folded) before and after, and images that were not used for it."""
    ssd, card = import_detector(v1_file)
    assert card.folded_norms
    images = [half for image in photographs(5) for half in (image, image[:, ::-1])]
    pixels = torch.from_numpy(np.stack([stretch(image, ssd.spec.input.size) for image in images]))
    with torch.no_grad():
        x = Deployable(ssd).normalise(pixels)
        before = ssd(x[8:])
    assert rebuild_batch_norms(ssd, (x[i : i + 4] for i in range(0, 8, 4))) == 8
    return ssd, x, before


def norms_of(ssd):
    return [m for m in ssd.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_function_stays(v1):
    ssd, x, before = v1
    with torch.no_grad():
        after = ssd(x[8:])
    for old, new in zip(before, after):
        assert (old - new).abs().max() < 1e-4 * max(1.0, old.abs().max())


def test_statistics_are_those_of_the_images(v1):
    """Each norm's input over the images it was rebuilt on has exactly the running mean and variance."""
    ssd, x, _ = v1
    seen = {}
    hooks = [n.register_forward_pre_hook(lambda m, i: seen.setdefault(m, []).append(i[0])) for n in norms_of(ssd)]
    with torch.no_grad():
        for start in range(0, 8, 4):
            ssd(x[start : start + 4])
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(norms_of(ssd)) == 27 + 8
    for norm, inputs in seen.items():
        values = torch.cat(inputs).double()
        assert torch.allclose(norm.running_mean.double(), values.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
        assert torch.allclose(norm.running_var.double(), values.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-3)


def test_training_mode_no_longer_starts_with_a_shock(v1, v1_file):
    """With trivial statistics the first step in training mode would say something else entirely."""
    ssd, x, _ = v1
    folded, _ = import_detector(v1_file)
    with torch.no_grad():
        wanted = folded.eval()(x[:8])[1]
        shock = (folded.train()(x[:8])[1] - wanted).abs().mean()
        now = (ssd.train()(x[:8])[1] - wanted).abs().mean()
        ssd.eval()
    assert now < shock / 5


def test_a_shared_predictor_has_a_norm_for_each_map():
    torch.manual_seed(0)
    ssd = build(spec_for("ssd_mobilenet_v2_fpnlite", input_size=64, num_classes=2, channels=16)).eval()
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = ssd(x)
    rebuild_batch_norms(ssd, [x])
    with torch.no_grad():
        for old, new in zip(before, ssd(x)):
            assert (old - new).abs().max() < 1e-4
    assert all((norm.running_var != 1).any() for norm in norms_of(ssd.heads))


def test_mode_is_kept_and_no_images_are_refused():
    ssd = build(spec_for("ssd_mobilenet_v1", alpha=0.25, input_size=64)).train()
    rebuild_batch_norms(ssd, [torch.randn(2, 3, 64, 64)])
    assert ssd.training
    with pytest.raises(MobileSSDError, match="without images"):
        rebuild_batch_norms(ssd, [])


def test_folding_is_the_way_back(v1):
    ssd, x, _ = v1
    folded = copy.deepcopy(ssd)
    fold_batch_norms(folded)
    for norm in norms_of(folded):
        assert (norm.running_mean == 0).all() and (norm.weight == 1).all()
        assert (norm.running_var + norm.eps == 1).all()
    with torch.no_grad():
        before, after = ssd(x[8:]), folded(x[8:])
    for old, new in zip(before, after):
        assert (old - new).abs().max() < 1e-4 * max(1.0, old.abs().max())
