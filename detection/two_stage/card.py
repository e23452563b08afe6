"""What a two-stage detector's file says about itself, in its safetensors header. Without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

KEY = "two_stage"  # of the header


@dataclass(frozen=True)
class TwoStageCard:
    """What rebuilds a network: `faster_rcnn(model, len(class_names) + 1, input_size, **options)`."""

    model: str
    class_names: tuple[str, ...]
    input_size: Annotated[int, Meta(ge=32, le=4096)] = 300
    options: dict[str, Any] = field(default_factory=dict)


def card_text(path: str | os.PathLike) -> str | None:
    """The card of a file as text; None for a file that is none of these."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return None
    from safetensors import SafetensorError, safe_open  # which exported files do not need

    try:
        with safe_open(Path(path), framework="numpy") as file:
            return (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError):
        return None  # whoever reads weights of all kinds says what is wrong with it
