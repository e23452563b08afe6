"""The script of folders whose system gives raw outputs: the package's own post-processing in one file."""

from __future__ import annotations

from pathlib import Path

from detection.export.single_file import inlined

TEMPLATE = Path(__file__).with_name("detect_template.py")


def write_script(folder: Path) -> None:
    """Writes detect.py, which imports numpy, OpenCV and, for its files, ncnn."""
    (folder / "detect.py").write_text(inlined(TEMPLATE.read_text(encoding="utf-8")), encoding="utf-8")
