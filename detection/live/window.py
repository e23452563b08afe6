"""A window, and whether there can be one. OpenCV only."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1); cv2.destroyAllWindows()"


def window_problem() -> str | None:
    """Why no window can be opened here, in a few words; None if one can.

    The last word is a trial in a process of its own: a toolkit that finds no display ends the whole process, which no
    `try` can catch.
    """
    lines = (line.split() for line in cv2.getBuildInformation().splitlines())
    toolkit = next((line[1] for line in lines if len(line) >= 2 and line[0] == "GUI:"), "NONE")
    if toolkit == "NONE":
        return (
            "this OpenCV is built without windows (opencv-python-headless; "
            "`pip install --force-reinstall --no-deps opencv-python` brings them)"
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"
    try:
        trial = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "a trial window did not open"
    return "the display does not let a window open" if trial.returncode else None


class Window:
    """Shows frames; q, Escape or its close button ask for the end."""

    def __init__(self, title: str) -> None:
        self.title = title
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # Qt in OpenCV's wheel complains of missing fonts
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._sized = False

    def show(self, image: np.ndarray) -> bool:
        """Shows a frame, uint8 RGB. False: the person wants to stop."""
        if not self._sized:  # a window of the frame's size, but none that is larger than most screens
            height, width = image.shape[:2]
            scale = min(1.0, 1280 / width, 800 / height)
            cv2.resizeWindow(self.title, round(width * scale), round(height * scale))
            self._sized = True
        cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return self.idle(1)

    def idle(self, milliseconds: int = 5) -> bool:
        """Lets the window live while there is nothing new to show. False: the person wants to stop."""
        key = cv2.waitKey(milliseconds) & 0xFF
        return key not in (ord("q"), ord("Q"), 27) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyWindow(self.title)
        cv2.waitKey(1)  # without another turn of its loop the window stays on some systems
