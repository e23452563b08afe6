"""Core ML, by coremltools: a model that takes images and gives encodings and logits, with the core graph in ONNX beside it,
which is what can be compared and run where there is no Core ML (it runs on Apple's systems alone)."""

from __future__ import annotations

from detection.export.int8 import quiet
from detection.export.targets.base import Job, Written
from detection.export.targets.core import write_parts
from detection.export.targets.graphs import Core
from detection.runtimes.interfaces import CENTRE

NAME = "model.mlmodel"


def write(job: Job) -> Written:
    """model.mlmodel, model.onnx, anchors.npy, input.json."""
    write_parts(job)
    _convert(job)
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            f"{NAME}: input `images`, an image of {width} x {height} (normalisation is inside); outputs `encodings` and",
            "`logits`, decoded by input.json and anchors.npy. model.onnx is the same graph, and was compared with the source;",
            f"{NAME} was not run: Core ML is there on Apple's systems alone. It holds the names of the classes, too.",
        ),
    )


def _convert(job: Job) -> None:
    import torch

    with quiet():
        import coremltools

    module = Core(job.network).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    shape = (1, 3, *job.spec.input.size)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(module, torch.zeros(shape))
        model = coremltools.convert(
            traced,
            convert_to="neuralnetwork",  # one file; its other form is a folder
            inputs=[coremltools.ImageType("images", shape, scale=1 / CENTRE, bias=[-1.0] * 3)],
            outputs=[coremltools.TensorType("encodings"), coremltools.TensorType("logits")],
        )
    model.short_description = job.source.card.name or "mobilessd"
    model.license = job.source.card.licence
    model.user_defined_metadata["classes"] = job.labels()
    model.user_defined_metadata["mobilessd_card"] = job.card("core").to_json()
    model.save(str(job.folder / NAME))
