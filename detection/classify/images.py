"""Image folders: a folder a class, in ImageNet's layout (train/CLASS, val/CLASS) or without splits.

torchvision's ImageFolder lists, our reader decodes, torchvision's transforms crop, flip and colour.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from detection.boxes.drawing import scaled_down
from detection.classify.config import ClassifierConfig
from detection.errors import BadDataError, some
from detection.images.decode import read_image
from detection.images.header import read_header
from detection.images.preprocess import stretch
from detection.images.sources import IMAGES
from detection.train.input.workers import quiet_worker

TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test")
HEADER = 1 << 16  # bytes of a file in which its header is looked for


@dataclass
class ImageSet:
    """Images with one class each. samples: (path, class index). said: what was left out, in plain lines."""

    root: Path
    class_names: tuple[str, ...]
    samples: list[tuple[str, int]]
    said: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)


def open_image_folder(root: Path) -> ImageSet:
    """A folder with a folder of images for each class, of any depth below.

    Files that are no images, and images that are broken, are left out and named in `said`. Raises BadDataError, one line,
    for no such folder, no or one class, and a class without images.
    """
    if not root.is_dir():
        raise BadDataError(f"{root}: no such folder; name one with a folder of images for each class")
    if not any(entry.is_dir() for entry in root.iterdir()):
        raise BadDataError(f"{root}: holds no folders; it needs a folder of images for each class")
    listed = ImageFolder(str(root), allow_empty=True, is_valid_file=lambda path: Path(path).suffix.lower() in IMAGES)
    known = {path for path, _ in listed.samples}
    others = [p for p in sorted(root.rglob("*")) if p.is_file() and str(p) not in known and not p.name.startswith(".")]
    broken = [path for path in sorted(known) if not _is_image(path)]
    samples = [(path, label) for path, label in listed.samples if path not in set(broken)]
    said = []
    for what, files in (("that are no images of a class", others), ("that cannot be read as images", broken)):
        if files:
            names = some([str(Path(file).relative_to(root)) for file in files], 3)
            said.append(f"{root}: {len(files)} files {what} left out: {names}")
    counts = Counter(label for _, label in samples)
    empty = [name for i, name in enumerate(listed.classes) if not counts[i]]
    if empty:
        why = f" ({said[-1]})" if said else ""
        raise BadDataError(f"{root}: no image in {some(empty, 3)}; fill or remove such folders{why}")
    if len(listed.classes) < 2:
        raise BadDataError(f"{root}: only one class ({listed.classes[0]}); a classifier needs at least two folders")
    return ImageSet(root, tuple(listed.classes), samples, said)


def _is_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return read_header(file.read(HEADER)) is not None
    except ValueError:
        return False  # cut short inside its header
    except OSError:
        return False


def open_splits(root: Path, val: str | None, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images. val: a folder of its own; else root/val (or valid, validation, test) beside
    root/train; else `share` of each class, at least one image. Both have the classes of the training images."""
    inside = next((root / name for name in TRAIN if (root / name).is_dir()), None)
    train = open_image_folder(inside or root)
    found = Path(val) if val else next((root / name for name in VAL if inside and (root / name).is_dir()), None)
    if found is not None:
        other = open_image_folder(found)
        if other.class_names != train.class_names:
            different = sorted(set(other.class_names) ^ set(train.class_names))
            raise BadDataError(f"{found}: has other classes than {train.root} ({some(different, 3)})")
        return train, other
    kept: list[tuple[str, int]] = []
    rest: list[tuple[str, int]] = []
    choice = random.Random(seed)
    for label, name in enumerate(train.class_names):
        own = [sample for sample in train.samples if sample[1] == label]
        if len(own) < 2:
            raise BadDataError(f"{train.root}: {name} has one image; two are needed to train and to choose the best")
        choice.shuffle(own)
        count = min(max(1, round(share * len(own))), len(own) - 1)
        kept += own[:count]
        rest += own[count:]
    said = [f"{len(kept)} of {len(train)} images are kept back to choose the best weights"]
    return ImageSet(train.root, train.class_names, sorted(rest), train.said + said), ImageSet(
        train.root, train.class_names, sorted(kept)
    )


def middle(image: np.ndarray, size: int, crop: float) -> np.ndarray:
    """The middle square of `crop` of the shorter side, stretched to size x size: uint8 [size, size, 3]. crop 1: the whole
    image, stretched, as TensorFlow Lite's published classifiers are run."""
    if crop < 1:
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * crop))
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return stretch(image, (size, size))


class Middles(Dataset):
    """Images as evaluation sees them: (uint8 [3, S, S], class index)."""

    def __init__(self, images: ImageSet, size: int, crop: float) -> None:
        self.images, self.size, self.crop = images, size, crop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.images.samples[index]
        pixels = middle(read_image(path), self.size, self.crop)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1), label


class RandomCrops(Dataset):
    """Images as training sees them. An item is asked for with the seed of its randomness, so that an image of a resumed
    run is cut as it would have been: ds[index, seed] -> (uint8 [3, S, S], class index)."""

    def __init__(self, images: ImageSet, size: int, config: ClassifierConfig) -> None:
        self.images, self.size = images, size
        steps: list[v2.Transform] = [v2.RandomResizedCrop(size, scale=(config.least_area, 1.0), antialias=True)]
        if config.flip:
            steps.append(v2.RandomHorizontalFlip())
        if config.jitter:
            steps.append(v2.ColorJitter(config.jitter, config.jitter, config.jitter))
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        path, label = self.images.samples[index]
        image = _at_most(read_image(path), 2 * self.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.transform(torch.from_numpy(image).permute(2, 0, 1)), label


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    """The same image with a shorter side of at most `side` pixels: less to cut from, and averaged, not skipped."""
    return np.ascontiguousarray(scaled_down(image, side / min(image.shape[:2])))


class _Order:
    """The batches of one process, (index, seed) by (index, seed), from step `first` on; every epoch in an order of its
    own that only the seed decides, and whole batches across its end."""

    def __init__(self, count: int, batch: int, seed: int, first: int, last: int, rank: int, world: int) -> None:
        self.count, self.batch, self.seed, self.first, self.last = count, batch, seed, first, last
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        orders: dict[int, list[int]] = {}
        for step in range(self.first, self.last):
            places = range(step * self.batch + self.rank, (step + 1) * self.batch, self.world)
            keys = []
            for place in places:
                epoch, within = divmod(place, self.count)
                if epoch not in orders:
                    orders = {e: order for e, order in orders.items() if e >= epoch - 1}
                    generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                    orders[epoch] = torch.randperm(self.count, generator=generator).tolist()
                keys.append((orders[epoch][within], self.seed * 1_000_003 + place))
            yield keys

    def __len__(self) -> int:
        return self.last - self.first


def training_batches(
    images: ImageSet, config: ClassifierConfig, size: int, first: int, last: int, rank: int, world: int
) -> DataLoader:
    """Batches of steps `first` to `last` for one of `world` processes: (uint8 [N, 3, S, S], int64 [N])."""
    order = _Order(len(images), config.batch, config.seed, first, last, rank, world)
    # A generator of its own: a loader otherwise takes a number from the global one, and a resumed run one too many.
    return DataLoader(
        RandomCrops(images, size, config),
        batch_sampler=order,
        num_workers=config.workers,
        generator=torch.Generator().manual_seed(config.seed),
        worker_init_fn=quiet_worker,
        prefetch_factor=4 if config.workers else None,
    )


def evaluation_batches(images: ImageSet, size: int, crop: float, indices: Sequence[int], workers: int) -> DataLoader:
    """Batches of these images, in order."""
    batches = [list(indices[start : start + 32]) for start in range(0, len(indices), 32)]
    return DataLoader(
        Middles(images, size, crop),
        batch_sampler=batches,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=quiet_worker,
    )
