"""A candidate as the stages that the worker times: resize, network, and everything behind it to final boxes.

Ours, and other people's detectors, run as their own documents say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from detection.detector import Detector
from detection.images.preprocess import to_batch
from detection.postprocessor import PostProcessor
from detection.runtimes.onnxruntime import converted
from detection.weights.resolve import open_weights

# prepare(images) -> what the network takes; network(that) -> raw outputs; finish(raw, images) -> how many boxes the first
# image has; what runs, in words; and our detector, if it is one: many images go through it as a stream.
Stages = tuple[Callable, Callable, Callable, str, Detector | None]


def open_stages(candidate: dict[str, Any], score: float) -> Stages:
    """The stages of a candidate, as `Candidate.to_dict` writes it; `score`: the score threshold."""
    return {"ours": ours, "torchvision": torchvision, "opencv": opencv}[candidate["kind"]](candidate, score)


def ours(candidate: dict[str, Any], score: float) -> Stages:
    """Our detector in one of the runtimes."""
    detector = Detector(
        candidate["weights"],
        device="cpu",
        runtime=candidate["runtime"],
        precision=candidate["precision"],
        threads=candidate["threads"],
        score=score,
    )
    return detector.prepare, detector.runtime, finish_with(detector.postprocessor), str(detector), detector


def torchvision(candidate: dict[str, Any], score: float) -> Stages:
    """torchvision's ssdlite320_mobilenet_v3_large, `model([image])`: it resizes, decodes and suppresses inside, so
    all of that counts as network. Random weights, with a background bias that leaves few candidates, as training does."""
    import torch
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.set_num_threads(candidate["threads"])
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, score_thresh=score).eval()
    with torch.no_grad():
        for branch in model.head.classification_head.module_list:
            branch[-1].bias.view(-1, 91)[:, 0] += 6

    @torch.inference_mode()
    def network(images: list[np.ndarray]) -> list[dict]:
        return model([torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images])

    return (
        list,
        network,
        lambda found, images: len(found[0]["scores"]),
        "torchvision, as its own documents run it",
        None,
    )


def opencv(candidate: dict[str, Any], score: float) -> Stages:
    """OpenCV's DNN module on our ONNX file, from the network's first convolution on (it takes no bytes)."""
    import cv2

    cv2.setNumThreads(candidate["threads"])
    weights = open_weights(candidate["weights"])
    path = weights.path if weights.exported else converted(weights)
    net = cv2.dnn.readNetFromONNX(str(path))
    postprocessor = PostProcessor.of(weights.card, score=score)
    prepare = partial(to_batch, size=weights.card.input_size)

    def network(images: np.ndarray) -> tuple[np.ndarray, ...]:
        net.setInput(images)
        encodings, logits = net.forward(["encodings", "logits"])
        return encodings.reshape(1, -1, 4), logits.reshape(1, encodings.size // 4, -1)

    return prepare, network, finish_with(postprocessor), f"OpenCV {cv2.__version__} DNN", None


def finish_with(postprocessor: PostProcessor) -> Callable:
    """The post-processing of a batch."""

    def finish(raw: Any, images: list) -> int:
        found = [postprocessor(e, s, image.shape[:2]) for e, s, image in zip(*raw, images)]
        return len(found[0])

    return finish
