"""What a `.pth` file would do to memory, looked at before torch reads it: a few bytes of a pickle may ask for any size.

`weights_only` keeps code from running; it builds what the pickle says all the same, however much that is, and takes a zip
apart that unfolds to any size.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from detection.errors import BadWeightsError
from detection.files import open_regular
from detection.weights.zips import open_zip

LARGEST_PICKLE = 1 << 24  # bytes of what is said about the tensors
MOST_STEPS = 1_000_000  # of a pickle
MOST_OBJECTS = 100_000  # that it builds by calling something
FACTOR = 2  # how much larger what a zip holds may be: torch.save folds nothing
SPARE = 1 << 20
PARTS = 5  # pickles of the form before zips: mark, version, system, content, keys
# Beside what torch itself refuses: a bytearray may be of any length, and an encoding take any time. No tensor needs them.
_REFUSED = re.compile(r"(__builtin__|builtins) bytearray|_codecs encode")


def check_pickle(path: Path) -> None:
    """Raises BadWeightsError, one line, for a file of torch.save that would take far more memory than it has bytes.
    Whatever is no such file at all is left to torch to explain."""
    with open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            _walk(file, path, PARTS)
            return
        try:
            with open_zip(path) as archive:
                members = archive.infolist()
                size, unfolded = path.stat().st_size, sum(member.file_size for member in members)
                if unfolded > FACTOR * size + SPARE:
                    raise BadWeightsError(f"{path}: unfolds from {size:,} to {unfolded:,} bytes, which no weights do")
                for member in members:
                    if member.filename.endswith(".pkl"):
                        if member.file_size > LARGEST_PICKLE:
                            raise BadWeightsError(
                                f"{path}: says {member.file_size:,} bytes about its tensors, which no state dict does"
                            )
                        with archive.open(member) as pickle:
                            _walk(pickle, path, 1)  # type: ignore[arg-type]
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError):
            return


def _walk(pickle: BinaryIO, path: Path, parts: int) -> None:
    """Goes over the steps of pickles, of which none is taken."""
    steps = objects = 0
    try:
        for _ in range(parts):
            for code, argument, at in pickletools.genops(pickle):
                steps += 1
                objects += code.name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD")
                if code.name == "GLOBAL" and _REFUSED.match(str(argument)):
                    raise BadWeightsError(f"{path}: holds code or objects beside its tensors, so it was refused")
                if steps > MOST_STEPS or objects > MOST_OBJECTS or (at or 0) > LARGEST_PICKLE:
                    raise BadWeightsError(f"{path}: describes more objects than any state dict has; it was not read")
    except BadWeightsError:
        raise
    except Exception:  # no pickle, or cut short: torch says so
        return


def check_sizes(tensors: Mapping[str, Any], path: Path) -> None:
    """Raises BadWeightsError, one line, where tensors have more numbers than their file has bytes: one number may stand for
    a tensor of any shape."""
    numbers, size = sum(tensor.numel() for tensor in tensors.values()), path.stat().st_size
    if numbers > size:
        raise BadWeightsError(f"{path}: {numbers:,} numbers in {size:,} bytes, which no weights are")
