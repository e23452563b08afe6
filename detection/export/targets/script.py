"""The scripts of folders: what they take of the package stands in them, so that they run where it is not."""

from __future__ import annotations

from pathlib import Path

from detection.export.single_file import inlined


def write_script(folder: Path, name: str = "detect.py", template: str = "detect") -> None:
    """Writes a script of TEMPLATE_template.py beside this file. detect.py runs what gives raw outputs, by the package's own
    post-processing; it imports numpy, OpenCV and, for its files, ncnn."""
    text = Path(__file__).with_name(f"{template}_template.py").read_text(encoding="utf-8")
    (folder / name).write_text(inlined(text), encoding="utf-8")
