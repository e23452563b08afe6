"""Top-1 and top-5 of a classifier on an image folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detection.boxes.class_names import match
from detection.classify.images import ImageSet, evaluation_batches
from detection.errors import MobileSSDError, some

SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Score:
    """top1, top5: shares of `images` whose class is the best, among the best five. by_class: top-1 of each folder."""

    images: int
    top1: float
    top5: float
    by_class: dict[str, float]

    def text(self) -> str:
        """One line."""
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f} on {self.images:,} images"


def columns_of(folders: tuple[str, ...], class_names: tuple[str, ...]) -> list[int]:
    """The column of the network for each folder, by name; ImageNet's 1,000 synset folders (n01440764 ...) by their order,
    behind "background" where the network has 1,001 columns. Raises MobileSSDError for folders that are no class of it."""
    if len(folders) == 1000 and all(SYNSET.fullmatch(name) for name in folders) and len(class_names) in (1000, 1001):
        return [i + len(class_names) - 1000 for i in range(1000)]
    found = list(match(folders, class_names).to)
    missing = [name for name, column in zip(folders, found) if column is None]
    if missing:
        synsets = "; synset names are understood only where all 1,000 are there" if SYNSET.match(missing[0]) else ""
        raise MobileSSDError(
            f"{len(missing)} of {len(folders)} folders are no class of these weights: {some(missing, 3)}{synsets}"
        )
    return [column for column in found if column is not None]


@torch.inference_mode()
def score(
    network: Callable[[Tensor], Tensor],
    images: ImageSet,
    columns: list[int],
    size: int,
    crop: float,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 1,
    add: Callable[[Tensor], Tensor] = lambda counts: counts,
    say: bool = False,
) -> Score:
    """network: uint8 [N, 3, S, S] -> logits. Each of `world` processes does its share; `add` sums over them."""
    counts = torch.zeros(3, len(columns), dtype=torch.float64)  # images, top-1, top-5 of each folder
    done = 0
    for batch, labels in evaluation_batches(images, size, crop, range(rank, len(images), world), workers):
        wanted = torch.tensor(columns)[labels]
        best = network(batch).float().cpu().topk(min(5, max(columns) + 1), 1).indices
        hits = best == wanted[:, None]
        for row, found in enumerate((torch.ones(len(labels)), hits[:, 0], hits.any(1))):
            counts[row].index_add_(0, labels, found.double())
        done += len(labels)
        if say and sys.stderr.isatty():
            print(f"\r{done * world:,} of {len(images):,} images", end="", file=sys.stderr, flush=True)
    if say and sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    counts = add(counts)
    total, top1, top5 = counts.sum(1).tolist()
    by_class = {
        name: float(hit / n) for name, n, hit in zip(images.class_names, counts[0].tolist(), counts[1].tolist()) if n
    }
    return Score(int(total), top1 / total, top5 / total, by_class)
