"""The library OpenVINO: imported without what it does not need, with one `Core` for the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


def library() -> Any:
    """The module openvino, without what only converting needs: that is half of its import, and comes when it is called."""
    if "openvino" not in sys.modules:
        with without("openvino_telemetry", "openvino.tools.ovc"):
            import openvino
        if not hasattr(openvino, "convert_model"):
            openvino.convert_model = _convert_model
    return sys.modules["openvino"]


def core() -> Any:
    """The one `openvino.Core` of this process, which lives as long as it; a forked process has one of its own.

    The CPU plugin of each Core gives its thread a signal stack and, when the Core goes, puts back the one it found, which
    is freed memory if Cores go in another order than they came. The next Ctrl-C would then be a segmentation fault.
    """
    return _core_of(os.getpid())


@cache  # the parent's is kept: taking it apart would wait for threads that a fork leaves behind
def _core_of(process: int) -> Any:
    return library().Core()


def _convert_model(*arguments: Any, **options: Any) -> Any:
    import openvino

    with without("openvino_telemetry"):
        from openvino.tools.ovc import convert_model
    openvino.convert_model = convert_model
    return convert_model(*arguments, **options)


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Inside, these modules cannot be imported. OpenVINO and NNCF do without openvino_telemetry, and report to nobody."""
    missing = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
