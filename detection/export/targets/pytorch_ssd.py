"""State dicts for qfgaohao/pytorch-ssd and jetson-inference's train_ssd.py: mb1-ssd, mb1-ssd-lite and mb2-ssd-lite alone."""

from __future__ import annotations

import torch

from detection.errors import MobileSSDError
from detection.export.targets.base import Job, Written
from detection.weights.importers.qfgaohao import network_name, state_of


def write(job: Job) -> Written:
    """model.pth. Raises MobileSSDError for a network that their code does not build."""
    name = network_name(job.spec)
    if name is None:
        raise MobileSSDError(
            f"{job.source.source}: not of the layout of pytorch-ssd (mb1-ssd, mb1-ssd-lite, mb2-ssd-lite), so its code "
            "cannot load it; train one that is (--set options.layout=qfgaohao), or begin from one of their files"
        )
    torch.save(state_of(job.network), job.folder / "model.pth")
    labels = "labels.txt"
    width = dict(job.spec.backbone_options).get("alpha", 1.0)
    wide = f", --mb2-width-mult={width:g}" if name == "mb2-ssd-lite" and width != 1 else ""
    return Written(
        "model.pth",
        (
            f"The network is {name}{wide}.",
            f"`python train_ssd.py --net={name} --pretrained-ssd=model.pth ...` goes on with it, with the same classes;",
            f"`python run_ssd_example.py {name} model.pth {labels} image.png` detects.",
        ),
        background="BACKGROUND",
    )
