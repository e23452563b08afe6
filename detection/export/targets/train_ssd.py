"""pytorch-ssd's train_ssd.py (qfgaohao, dusty-nv): a state dict under its own names, so that people go on with a network
there, the way back of `detection.weights.importers.qfgaohao`; labels.txt begins with BACKGROUND."""

from __future__ import annotations

import torch

from detection.export.targets.base import Job, Written
from detection.weights.importers.qfgaohao import kind_of, state_of


def write(job: Job) -> Written:
    """NET.pth, NET being the name of the network in train_ssd.py. Raises BadWeightsError, one line, for a network that it
    does not have."""
    kind = kind_of(job.spec, job.source.source)
    file = f"{kind}.pth"
    torch.save(state_of(job.network), job.folder / file)
    alpha = job.spec.backbone_options["alpha"]
    width = f" --mb2-width-mult={alpha:g}" if alpha != 1 else ""
    return Written(
        file,
        (
            f"To go on training: `train_ssd.py --net={kind}{width} --resume={file} --data=DATA` for the same classes in the",
            f"same order, `--pretrained-ssd={file}` for others, whose heads begin anew.",
            f"To try it: `run_ssd_example.py {kind} {file} labels.txt image.png`. To export it there:",
            f"`onnx_export.py --net={kind} --input={file} --labels=labels.txt`.",
            "Raw outputs are equal; its own NMS differs (IoU 0.45, boxes not cut at the border, 1e-5 added to each union).",
        ),
        background="BACKGROUND",
    )
