"""Cameras of this machine: what a person may call them, and how they are opened. OpenCV is imported when one is."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from typing import Any

import numpy as np

from detection.errors import BadImageError, MobileSSDError

WARM_UP = 10  # frames until a camera has set its exposure


def camera_of(word: str) -> int | str | None:
    """What OpenCV opens for `0`, `/dev/video2`, `/dev/v4l/by-id/...`, `v4l2:///dev/video0` or any link to a device: a number
    or a path, also where the camera is absent; None for what is no camera. A file of such a name is a file."""
    scheme, _, rest = word.partition("://")
    if scheme in ("v4l2", "v4l"):
        inner = rest if rest.startswith("/") or rest.isdecimal() else f"/dev/{rest}"
        camera = camera_of(inner)
        return inner if camera is None else camera
    if "://" in word or not word or "\0" in word:
        return None
    try:
        kind = os.stat(word).st_mode
    except OSError:
        kind = 0  # absent
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        return None
    if word.isascii() and word.isdecimal():
        return int(word)
    if not kind and "*" in word:
        return None
    target = os.path.realpath(word)
    if not (stat.S_ISCHR(kind) or (not kind and re.match("/dev/(?!shm/)", target))):
        return None
    number = re.fullmatch("/dev/video([0-9]+)", target)
    return int(number[1]) if number else target


def is_present(camera: int | str) -> bool:
    """Whether there is such a device; True where that cannot be told."""
    if isinstance(camera, str):
        return os.path.exists(camera)
    return not sys.platform.startswith("linux") or os.path.exists(f"/dev/video{camera}")


def cameras_here() -> str:
    """The cameras of this machine in words, or what to do where there is none."""
    found = sorted(glob.glob("/dev/video*")) + sorted(glob.glob("/dev/v4l/by-id/*"))
    return f"cameras here: {', '.join(found)}" if found else "no camera here: plug one in, or name a video file or URL"


def open_camera(camera: int | str, size: tuple[int, int] | list[int] | None = None) -> Any:
    """An opened cv2.VideoCapture. size: (width, height) to ask it for. MobileSSDError, one line without the camera's name,
    where it cannot be opened."""
    import cv2

    if isinstance(camera, str) or (sys.platform.startswith("linux") and is_present(camera)):
        # By its own interface alone: others would read /dev/zero for ever, or try every driver there is.
        capture = cv2.VideoCapture(camera, cv2.CAP_V4L2)
    else:
        capture = cv2.VideoCapture(camera)
    if isinstance(camera, int) and is_present(camera) and not capture.isOpened():  # an OpenCV without Video4Linux
        capture = cv2.VideoCapture(camera)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if not capture.isOpened():
        why = "in use, no camera, or no permission" if is_present(camera) else "absent"
        raise MobileSSDError(f"the camera cannot be opened ({why}); {cameras_here()}")
    return capture


def photograph(word: str) -> np.ndarray:
    """One image of a camera, uint8 RGB [H, W, 3], once it has set its exposure. BadImageError, one line, where there is
    none."""
    import cv2

    from detection.images.decode import check_pixels

    camera = camera_of(word)
    assert camera is not None
    try:
        capture = open_camera(camera)
    except MobileSSDError as error:
        raise BadImageError(f"{camera_name(camera)}: {error}") from None
    check_pixels(capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT), camera_name(camera))
    images = [image for ok, image in (capture.read() for _ in range(WARM_UP)) if ok]
    capture.release()
    if not images:
        raise BadImageError(f"{camera_name(camera)}: it opens, but no frame can be read; is another program using it?")
    return cv2.cvtColor(images[-1], cv2.COLOR_BGR2RGB)


def camera_name(camera: int | str) -> str:
    """`camera 0`, or the name of its device."""
    return f"camera {camera}" if isinstance(camera, int) else os.path.basename(camera)
