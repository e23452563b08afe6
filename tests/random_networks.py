"""Networks drawn by chance, for tests of what becomes of a network whatever it has learned."""

import torch

from detection.ssd.network import build
from detection.weights.names import spec_for


def random_network(name, seed=0, variances=(0.5, 1.5), **options):
    """A detector of three classes, with heads large enough that scores differ, and batch norms that have seen something."""
    torch.manual_seed(seed)
    ssd = build(spec_for(name, num_classes=3, **options)).eval()
    with torch.no_grad():
        for module in ssd.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(*variances)
        for head in ssd.heads:
            for parameter in head.score.parameters():
                parameter.mul_(3)
    return ssd
