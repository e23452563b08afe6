"""mobilessd: SSD and SSDLite object detection on MobileNets.

    from detection import Detector
    print(Detector()("photo.jpg"))

Names are loaded when they are asked for: `import detection` alone imports neither torch nor any runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detection.boxes.detections import Detections
    from detection.detector import Detector
    from detection.weights.checkpoint import load_checkpoint as load
    from detection.weights.names import list_architectures, list_models, list_weights

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "list_architectures", "list_models", "list_weights", "load"]

_WHERE = {
    "Detector": ("detection.detector", "Detector"),
    "Detections": ("detection.boxes.detections", "Detections"),
    "list_architectures": ("detection.weights.names", "list_architectures"),
    "list_models": ("detection.weights.names", "list_models"),
    "list_weights": ("detection.weights.names", "list_weights"),
    "load": ("detection.weights.names", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'detection' has no attribute {name!r}")
    import importlib

    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)
