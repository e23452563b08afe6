"""The public names under the name of the package: `from mobilessd import Detector`.

What they are stands in `detection`; as there, each is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import detection
from detection import __all__, __version__

if TYPE_CHECKING:
    from detection import *  # noqa: F403

__all__ = [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mobilessd' has no attribute {name!r}")
    return getattr(detection, name)


def __dir__() -> list[str]:
    return sorted(__all__)
