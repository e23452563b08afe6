"""What the sections share: the shared files, the command line of the tree at hand, hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# An editable install lends the modules that a tree on PYTHONPATH lacks: what still imports a module that is gone would
# pass. Here and in the children a tree has to do with its own.
ALONE = "import sys; sys.meta_path[:] = [finder for finder in sys.meta_path if 'Editable' not in str(finder)]"
exec(ALONE)
try:
    import detection
except ImportError:
    sys.exit("error: no package `detection` on PYTHONPATH; name the tree: PYTHONPATH=TREE python benchmarks/goldens.py")

COMMAND = [sys.executable, "-u", "-c", f"{ALONE}; from detection.cli.main import entry; entry()"]
TREE = Path(detection.__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MOBILESSD_SHARED", Path(__file__).resolve().parents[3] / "shared")).resolve()
DATA, MODELS = SHARED / "data", SHARED / "models"
PHOTO = DATA / "photos" / "yolox_dog.jpg"
Found = dict[str, Any]


def environment(tree: Path = TREE) -> dict[str, str]:
    """Of a child that runs the code of `tree`."""
    return os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "80", "NO_ALBUMENTATIONS_UPDATE": "1"}


def mobilessd(work: Path, *words: object, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Runs the command line of this tree in the folder `work`. SystemExit with its output on an unexpected exit code."""
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True)
    if done.returncode not in codes:
        raise SystemExit(
            f"error: exit code {done.returncode}: mobilessd {' '.join(command[len(COMMAND) :])}\n{done.stderr[-2000:]}"
        )
    return done


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 over shapes, types and bytes, cut to 16 digits."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def by_nms(detector: Any) -> Any:
    """The same detector by plain NMS, the only rule that older trees know."""
    if hasattr(detector.settings, "merge"):
        detector.settings = dataclasses.replace(detector.settings, merge="nms")
    return detector


def merge_words() -> tuple[str, ...]:
    """The same for a command."""
    return ("--merge", "nms") if "merge" in inspect.signature(detection.Detector).parameters else ()


def detections_digest(found: Any) -> str:
    """Of one image's `Detections`, to the bit; their number before it, for people."""
    return f"{len(found)}:{digest(found.boxes, found.scores, found.class_ids)}"


def state_digest(state: Mapping[str, Any]) -> str:
    """Of a state dict of torch tensors: sorted names and bytes."""
    names = sorted(state)
    return f"{len(names)}:{digest(np.array(names), *(state[name].detach().numpy() for name in names))}"


def file_digest(path: Path) -> str:
    """`state_digest` of the tensors of a .safetensors file, whatever its metadata say."""
    from safetensors.torch import load_file

    return state_digest(load_file(path))


def plain(card: Any) -> Found:
    """A card as plain data, but for its rule of merging, which older trees have not."""
    if dataclasses.is_dataclass(card) and not isinstance(card, type):
        data = json.loads(json.dumps(dataclasses.asdict(card)))
    else:
        data = json.loads(card.to_json())
    data.pop("merge", None)
    return data


def numbers_in(text: str) -> list[float]:
    """The numbers of a report, without its words: names of files are taken out first."""
    text = re.sub(r"\S*/\S*|\b[a-z]+\d+\b", " ", text)
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)]


def images() -> list[Path]:
    """Twenty real images: photographs of other cameras, and the first ten of coco_val500."""
    return [*sorted((DATA / "photos").glob("*.jpg")), *sorted((DATA / "coco_val500" / "images").glob("*"))[:10]]


def qfgaohao_state() -> dict[str, Any]:
    """A random state dict with the names and shapes of pytorch-ssd's mb2-ssd-lite, of four classes and background."""
    import torch

    state: dict[str, Any] = {}

    def conv(name: str, out: int, into: int, kernel: int = 1, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, kernel, kernel) * (2 / (into * kernel**2)) ** 0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(out) * 0.1

    def norm(name: str, channels: int) -> None:
        for part, offset in (("weight", 0.5), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 0.5)):
            state[f"{name}.{part}"] = torch.rand(channels) + offset
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def inverted(name: str, into: int, hidden: int, out: int) -> None:
        shapes = ((hidden, into, 1), (hidden, 1, 3), (out, hidden, 1))[into == hidden :]
        for i, shape in enumerate(shapes):
            conv(f"{name}.{3 * i}", *shape, bias=False)
            norm(f"{name}.{3 * i + 1}", shape[0])

    conv("base_net.0.0", 32, 3, 3, bias=False)
    norm("base_net.0.1", 32)
    widths = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
    for i, (into, out) in enumerate(zip(widths, widths[1:]), start=1):
        inverted(f"base_net.{i}.conv", into, into * (1 if i == 1 else 6), out)
    conv("base_net.18.0", 1280, 320, bias=False)
    norm("base_net.18.1", 1280)
    for i, shape in enumerate(((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 64))):
        inverted(f"extras.{i}.conv", *shape)
    for name, numbers in (("classification_headers", 5), ("regression_headers", 4)):
        for i, into in enumerate((576, 1280, 512, 256, 256)):
            conv(f"{name}.{i}.0", into, 1, 3)
            norm(f"{name}.{i}.1", into)
            conv(f"{name}.{i}.3", 6 * numbers, into)
        conv(f"{name}.5", 6 * numbers, 64)
    return state
