"""Names -> networks and published weights.

A bare name (`ssdlite_mobilenet_v2`) is an architecture; a name with a recipe (`ssdlite_mobilenet_v2.coco`) has weights.
Wherever a name is taken, a path is taken too.
"""

from __future__ import annotations

from pathlib import Path

from detection.core.errors import BadWeightsError

DEFAULT = "ssdlite_mobilenet_v2.coco"


def resolve(name_or_path: str) -> Path:
    """The file or folder that a path or a zoo name with a recipe means; raises MobileSSDError, one line, if none."""
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    raise BadWeightsError(f"{name_or_path}: no such file")
