"""Who encodes a video: the first of several that this machine has, so that it plays in a browser where it can.

H.264 by OpenCV's own encoder (macOS, distributions; the wheels of opencv-python have none), else by the program ffmpeg if it
is installed; else VP9, which browsers play too but which takes thirty times as long as MPEG-4; else MPEG-4 Part 2, for
players such as VLC.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

H264, FFMPEG, VP9, VP8, MPEG4, MJPEG = "avc1", "ffmpeg", "vp09", "VP80", "mp4v", "MJPG"
# quick: as fast as frames come from a camera. VP9 at 1280 x 720 takes a core 150 ms a frame, MPEG-4 5 ms.
ENCODERS: dict[str, tuple[str, ...]] = {
    ".mp4": (H264, FFMPEG, VP9, MPEG4),
    ".m4v": (H264, FFMPEG, MPEG4),
    ".mov": (H264, FFMPEG, MPEG4),
    ".mkv": (H264, FFMPEG, MPEG4),
    ".webm": (VP8,),
    ".avi": (MJPEG,),
}
BROWSERS = (H264, FFMPEG, VP9, VP8)  # play these, in .mp4, .mov and .webm


def open_encoder(path: Path, fps: float, size: tuple[int, int], quick: bool) -> tuple[Any, str] | None:
    """(something with `write(bgr)` and `release()`, its name in ENCODERS) for a file of `size` (width, height); None where
    nobody here writes such a video."""
    for name in ENCODERS[path.suffix.lower()]:
        if quick and name == VP9:
            continue
        if name == FFMPEG:
            writer = _FFmpeg(path, fps, size) if ffmpeg_writes_h264() else None
        else:
            writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter.fourcc(*name), fps, size)
        if writer is not None and writer.isOpened():
            return writer, name
    return None


@cache
def ffmpeg_writes_h264() -> bool:
    """Whether the program ffmpeg is here and encodes H.264."""
    import shutil
    import subprocess

    program = shutil.which("ffmpeg")
    if program is None:
        return False
    command = [program, "-v", "quiet", "-h", "encoder=libx264"]
    try:
        told = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"Encoder libx264" in told


class _FFmpeg:
    """The program ffmpeg, as a cv2.VideoWriter."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        import subprocess

        self._size = size[0] & ~1, size[1] & ~1  # H.264 needs even sides
        raw = [
            "-f",
            "rawvideo",
            "-pix_fmt",
            "bgr24",
            "-s",
            f"{self._size[0]}x{self._size[1]}",
            "-r",
            f"{fps:.6f}",
            "-i",
            "-",
        ]
        coded = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p"]
        self._path, self._indexed = path.absolute(), path.suffix.lower() != ".mkv"
        if (
            self._indexed
        ):  # in parts of half a second, each of which plays without those that a kill has kept from coming
            coded += ["-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "500000"]
        # In a session of its own: Ctrl-C is for us, who then finish the file.
        self._process = subprocess.Popen(
            ["ffmpeg", "-v", "quiet", "-y", *raw, *coded, os.fspath(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def isOpened(self) -> bool:  # OpenCV's name
        return self._process.poll() is None

    def write(self, bgr: np.ndarray) -> None:
        """A write that fails shows when the file is looked at in the end, as with OpenCV."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(np.ascontiguousarray(bgr[: self._size[1], : self._size[0]]).data)

    def release(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        if self._indexed:
            self._index()

    def _index(self) -> None:
        """One part in the place of many, its index at the beginning, as players like it best; copied, not coded again. Where
        that fails the parts stay, which play too."""
        import subprocess

        whole = self._path.with_stem(f"{self._path.stem}.whole")
        command = ["ffmpeg", "-v", "quiet", "-y", "-i", os.fspath(self._path), "-c", "copy", "-movflags", "+faststart"]
        try:
            done = subprocess.run([*command, os.fspath(whole)], stdin=subprocess.DEVNULL, check=False)
            if done.returncode == 0 and whole.stat().st_size:
                os.replace(whole, self._path)
        except OSError:
            pass
        finally:
            whole.unlink(missing_ok=True)
