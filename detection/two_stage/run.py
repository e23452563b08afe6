"""Faster R-CNN trained and measured, in plain loops over the loader, optimiser, schedule and numbers of single-shot training.

Not optimised: one process, float32, no averaged weights, no resuming. The runs of `detection.train` cannot take these
networks: their anchors, targets, losses, teachers and exported files are a single-shot detector's throughout.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from detection.boxes.detections import Detections
from detection.config import build, plain
from detection.data.dataset import DetectionData
from detection.errors import BadDataError, BadImageError, BadWeightsError, MobileSSDError, shown, some
from detection.evaluate.categories import CategoryMap, match_categories
from detection.evaluate.coco import CocoNumbers, evaluate
from detection.evaluate.detect import to_results
from detection.evaluate.results import Results, concatenate
from detection.evaluate.truth import GroundTruth
from detection.files import atomic_write
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.progress import waiting
from detection.train.config import TrainConfig
from detection.train.input.batch import Batch
from detection.train.input.loader import TrainLoader
from detection.train.learn.freeze import train_mode
from detection.train.learn.optimizer import build_optimizer, set_learning_rate
from detection.train.learn.schedule import learning_rate, resolve
from detection.two_stage.card import KEY, TwoStageCard, card_text
from detection.two_stage.network import faster_rcnn
from detection.weights.checkpoint import load_into, load_tensors

log = logging.getLogger("mobilessd.train")


def build_network(card: TwoStageCard, weights: str | os.PathLike | None = None) -> FasterRCNN:
    """The network of a card, its backbone from `weights`, the rest fresh."""
    return faster_rcnn(card.model, len(card.class_names) + 1, card.input_size, weights, **card.options)


def train(
    network: FasterRCNN, card: TwoStageCard, data: DetectionData, config: TrainConfig, device: str = "cpu"
) -> list[dict[str, float]]:
    """Learns from repaired `data`, whose classes are the card's, in place; the losses of each step by torchvision's names.

    Of the config count length, batch, optimiser, schedule, `freeze`, `norms`, `clip_norm`, augmentation, `crowd`,
    `difficult`, `balanced_sampling`, `seed`, `workers` and `log_every`. Regions to ignore are no targets, but background.
    Raises MobileSSDError where the loss is no number any more, and where a class of the data is another.
    """
    if data.class_names != card.class_names:
        raise BadDataError(f"{data.origin}: its classes are not those of the network")
    if len(data.unknown_classes):
        log.warning("classes that are not annotated everywhere count as background: %s", some(data.unknown_classes))
    size = (card.input_size, card.input_size)
    loader = TrainLoader(
        data, size, config.batch, config.augmentation, seed=config.seed, crowd=config.crowd, difficult=config.difficult,
        workers=config.workers if isinstance(config.workers, int) else 0, balanced=config.balanced_sampling,
    )  # fmt: skip
    network.to(device)
    optimizer, schedule = build_optimizer(config, network), resolve(config, len(data))
    train_mode(network, config)
    history = []
    for step, batch in enumerate(loader.batches(0, schedule.total)):
        set_learning_rate(optimizer, learning_rate(schedule, step))
        losses = network(*to_torchvision(batch, device))
        total = torch.stack(list(losses.values())).sum()
        value = float(total.detach())
        if not math.isfinite(value):
            raise MobileSSDError(f"the loss is not finite at step {step}; lower optimizer.lr")
        total.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        if (step + 1) % config.log_every == 0 or step + 1 == schedule.total:
            log.info("step %d of %d, loss %.3f", step + 1, schedule.total, value)
    return history


def to_torchvision(batch: Batch, device: str = "cpu") -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch as torchvision's detectors take it: images float [3, H, W] in 0..1, boxes xyxy in pixels, labels from 1."""
    batch = batch.to(device)
    height, width = batch.images.shape[1:3]
    scale = torch.tensor([width, height, width, height], device=batch.boxes.device)
    targets = []
    for boxes, labels in zip(batch.boxes * scale, batch.labels):
        # torchvision refuses boxes without a width or a height
        kept = (labels >= 0) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        targets.append({"boxes": boxes[kept], "labels": labels[kept] + 1})
    return list(batch.images.permute(0, 3, 1, 2).float() / 255), targets


def detect(network: FasterRCNN, card: TwoStageCard, image: np.ndarray) -> Detections:
    """What is in one image, uint8 RGB [H, W, 3]: stretched as for the single-shot detectors, at most 100 boxes."""
    height, width = image.shape[:2]
    small = torch.from_numpy(stretch(image, (card.input_size, card.input_size))).permute(2, 0, 1).float() / 255
    network.eval()
    with torch.inference_mode():
        found = network([small.to(next(network.parameters()).device)])[0]
    boxes = found["boxes"].cpu().numpy() * (np.array([width, height, width, height], np.float32) / card.input_size)
    labels = found["labels"].cpu().numpy() - 1
    names = card.class_names
    ids = tuple(range(1, len(names) + 1))
    return Detections(boxes, found["scores"].cpu().numpy(), labels, names, (height, width), ids)


def detect_all(
    network: FasterRCNN, card: TwoStageCard, truth: GroundTruth, categories: CategoryMap
) -> tuple[Results, tuple[str, ...]]:
    """The detections of every image of `truth`, and a line for each image that could not be read, which counts as without
    detections; BadDataError if that is all of them."""
    results, unreadable = [], []
    with waiting("detecting"):
        for index, path in enumerate(truth.paths):
            try:
                results.append(to_results(detect(network, card, read_image(path)), index, categories))
            except BadImageError as error:
                unreadable.append(str(error))
    if len(unreadable) == len(truth.paths):
        raise BadDataError(f"{truth.path}: none of the {len(truth.paths)} images can be read")
    return concatenate(results), tuple(unreadable)


def measure(network: FasterRCNN, card: TwoStageCard, truth: GroundTruth) -> CocoNumbers:
    """The twelve COCO numbers, by the code of `mobilessd eval`; what could not be read is logged."""
    results, unreadable = detect_all(network, card, truth, match_categories(card.class_names, None, truth))
    for line in unreadable:
        log.warning("%s", line)
    return evaluate(truth, results)


def save(path: str | os.PathLike, network: nn.Module, card: TwoStageCard) -> None:
    """Writes the weights and the card, atomically. MobileSSDError where the disk does not take it."""
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {KEY: json.dumps(plain(asdict(card)))})
    except (OSError, SafetensorError) as error:
        raise MobileSSDError(f"{path}: cannot be written ({error})") from error


def load(path: str | os.PathLike) -> tuple[FasterRCNN, TwoStageCard]:
    """The network of a file that `save` wrote, in evaluation mode. BadWeightsError, one line, for another file."""
    text = card_text(path)
    if text is None:
        raise BadWeightsError(f"{path}: no weights of a two-stage detector of mobilessd")
    try:
        card = build(TwoStageCard, json.loads(text), "")
        network = build_network(card)
    except (ValueError, RecursionError, MobileSSDError) as error:
        raise BadWeightsError(f"{path}: its card is wrong ({shown(str(error))})") from None
    report = load_into(network, load_tensors(path))
    if not report.complete:
        raise BadWeightsError(f"{path}: does not fit its own card: {report}")
    return network.eval(), card
