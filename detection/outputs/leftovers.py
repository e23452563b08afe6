"""What recordings left behind that were killed: found at the next start, made playable or removed. OpenCV."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detection.errors import MobileSSDError
from detection.files import locked

# As `Recorder` calls it: .NAME.WIDTHxHEIGHT@FPS.RANDOM.part.ENDING
_PART = re.compile(r"\.(?P<name>.+)\.(?P<w>\d+)x(?P<h>\d+)@(?P<fps>[\d.]+)\.[0-9a-f]{8}\.part\.\w+")
_AFTER_HEAD = b"\x06\x80\x80\x80\x01\x02"  # what follows the stream's head in FFmpeg's esds box
MP4 = (".mp4", ".m4v", ".mov")


def note(size: tuple[int, int], fps: float) -> str:
    """What the name of a recording's temporary file tells of it; size: (width, height)."""
    return f"{size[0]}x{size[1]}@{fps:.3f}."


def leftovers(folder: Path, stem: str, suffix: str) -> list[Path]:
    """What recordings whose names begin with `stem` and end with `suffix` have in a folder, and have not finished."""
    return sorted(folder.glob(f".{glob.escape(stem)}*.part{glob.escape(suffix)}"))


def salvage(folder: Path, stem: str, suffix: str, among: Sequence[Path] | None = None) -> list[str]:
    """Looks at the `leftovers` of a folder, or at those of them that are named: what plays gets a name of its own,
    NAME-recovered; what does not goes. Returns a line for people for each. Recordings that are being written are left alone;
    one that begins at this moment is not known as such before it has its lock, so whoever begins one beside lists first."""
    lines = []
    for left in leftovers(folder, stem, suffix) if among is None else among:
        found = _PART.fullmatch(left.name)
        try:
            with locked(left, "is being written"):
                size = (int(found["w"]), int(found["h"])) if found else (0, 0)
                plays = _plays(left)
                if not plays and found and left.suffix.lower() in MP4:
                    plays = _rebuilt(left, size, float(found["fps"]))
                if not plays:
                    left.unlink(missing_ok=True)
                    lines.append(f"{left}: a killed recording of which nothing plays: removed")
                    continue
        except (MobileSSDError, OSError):  # another process records, or has just done the same
            continue
        target = _free(folder / (found["name"] if found else f"{stem or 'recording'}{suffix}"))
        os.replace(left, target)
        lines.append(f"{target}: recovered from a recording that was killed")
    return lines


def _free(path: Path) -> Path:
    number = 1
    while (target := path.with_stem(f"{path.stem}-recovered{'' if number == 1 else f'-{number}'}")).exists():
        number += 1
    return target


def _plays(path: Path) -> bool:
    return path.stat().st_size > 0 and bool(cv2.VideoCapture(os.fspath(path)).grab())


def _rebuilt(path: Path, size: tuple[int, int], fps: float) -> bool:
    """An .mp4 of OpenCV's MPEG-4 encoder without its index, written anew with one. Its frames follow each other in the file;
    the head of their stream, which stands in the index alone, is that of any video of this size and rate."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".recovering-") as folder:
        sample, stream, whole = (Path(folder) / name for name in ("sample.mp4", "stream.m4v", f"whole{path.suffix}"))
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(os.fspath(sample), code, fps, size)
        writer.write(np.zeros((size[1], size[0], 3), np.uint8))
        writer.release()
        head = sample.read_bytes()
        start = head.find(b"\0\0\1\xb0")
        end = head.find(_AFTER_HEAD, start)
        with open(path, "rb") as source:
            frames = source.read(4096).find(b"mdat") + 4
            if min(start, end, frames - 4) < 0:
                return False
            source.seek(frames)
            with open(stream, "wb") as target:
                target.write(head[start:end])
                shutil.copyfileobj(source, target)
        capture = cv2.VideoCapture(os.fspath(stream))
        writer = cv2.VideoWriter(os.fspath(whole), code, fps, size)
        while capture.read()[0]:
            ok, frame = capture.retrieve()
            if ok:
                writer.write(frame)
        writer.release()
        if not _plays(whole):
            return False
        os.replace(whole, path)
        return True
