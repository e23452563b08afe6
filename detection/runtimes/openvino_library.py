"""The library OpenVINO: imported without what it does not need, with one `Core` for the process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

_importing = threading.RLock()
if hasattr(os, "register_at_fork"):  # held over a fork, so that no child is born in the middle of an import
    os.register_at_fork(
        before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
    )


def library() -> Any:
    """The module openvino, without what only converting needs: that is half of its import, and comes when it is called."""
    with _importing:  # another thread may be in the middle of it
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
    with _importing:
        return _core_of(os.getpid())


@cache  # the parent's is kept: taking it apart would wait for threads that a fork leaves behind
def _core_of(process: int) -> Any:
    openvino = library()
    # The first array that OpenVINO is given makes it look numpy up, in Python and inside a C++ guard: a second thread with an
    # array would wait for that guard while it holds Python's own lock, and so for ever. One is given here, where nobody has a
    # network to run yet.
    openvino.Tensor(np.zeros(1, np.uint8)).data  # noqa: B018
    return openvino.Core()


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
