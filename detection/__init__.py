"""mobilessd: SSD and SSDLite object detection on MobileNets.

    from detection import Detector
    print(Detector()("photo.jpg"))

Names are loaded when they are asked for: `import detection` alone imports neither torch nor any runtime, nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detection.public import *  # noqa: F403

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "list_architectures", "list_models", "list_weights", "load"]  # noqa: F405


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'detection' has no attribute {name!r}")
    from detection import public

    return getattr(public, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
