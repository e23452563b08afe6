"""The OpenVINO runtime: the same network, converted in memory once and kept in the cache by its content's hash."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError, MobileSSDError
from detection.files import atomic_write, drop_damaged, home
from detection.runtimes.base import Runtime
from detection.runtimes.openvino_library import core, library
from detection.runtimes.openvino_model import check_model, converted, explained, only_raw_outputs, read_model
from detection.runtimes.openvino_streams import AHEAD, Many, Requests, outputs_of, that_pay
from detection.weights.formats import OPENVINO
from detection.weights.resolve import Weights

PRECISIONS = {"auto": "f32", "float32": "f32", "int8": "f32", "bfloat16": "bf16", "float16": "f16"}
NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
KEPT = 20  # compiled networks in the cache


class OpenVINORuntime(Runtime):
    """See `detection.runtimes.base.Runtime`. One image runs with all threads; several are spread over the cores, one each,
    which is the faster way to do many."""

    name, device = "openvino", "cpu"

    def __init__(
        self, weights: Weights, device: str = "cpu", precision: str = "auto", threads: int | None = None
    ) -> None:
        self.threads = threads or os.cpu_count() or 1
        self._hint = PRECISIONS[precision]
        self._core = core()
        self._able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if CAPABILITIES[self._hint] not in self._able:
            raise MobileSSDError(f"this processor computes no {NAMES[self._hint]} by itself; leave --precision out")
        # What an int8 file does not hold in int8 is computed in float32.
        self.precision = "int8" if weights.card.precision == "int8" else NAMES[self._hint]
        self._weights, self._path = weights, weights.ready or converted(weights)
        self._numbers = weights.path  # of the network, where they lie in a file of their own
        self._shape = [1, *weights.card.input_size, 3]
        self._model: Any = None
        self._requests: Requests | None = None  # of the network in one-thread streams
        self._allowed: threading.BoundedSemaphore | None = None  # as many as there are streams that pay
        self._streams = 0
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._local = threading.local()
        if not self._blob().exists():  # else it may not be needed; and a bad file is found out at once
            self._read()
        self._compiling: threading.Thread | None = None
        self._compiled: Any = None  # or the exception that ended the thread

    def start(self) -> None:
        """Begins to compile for one image at a time, which takes long and needs no Python, and returns at once."""
        with self._lock:
            if self._compiling is None:
                self._compiling = threading.Thread(target=self._compile, name="compile")
                self._compiling.start()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.begin(images)()

    def begin(self, images: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """See `Runtime`. A single image begins when it is waited for: it has all threads to itself."""
        if len(images) == 1:
            return lambda: self._one(images)
        many = Many(self._in_streams(), images, AHEAD * self.threads)
        return many.wait

    def streams(self) -> int:
        """See `Runtime`. The trial takes tens of milliseconds, on an image of zeros."""
        requests = self._in_streams()
        with self._lock:
            if self._allowed is None:
                self._streams = that_pay(requests, self.threads, np.zeros(self._shape, np.uint8))
                self._allowed = threading.BoundedSemaphore(self._streams)
        return self._streams

    def in_stream(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.streams()
        assert self._allowed is not None
        requests = self._in_streams()
        with self._allowed:
            request = requests.take()
            request.infer([np.ascontiguousarray(image)], share_inputs=True)
            outputs = outputs_of(request)
            requests.give(request)
            return outputs

    def _one(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        request = getattr(self._local, "request", None)
        if request is None:  # a request of its own for each thread: requests are not shared safely
            self.start()
            assert self._compiling is not None
            self._compiling.join()
            if isinstance(self._compiled, BaseException):
                with explained(self._path):
                    raise self._compiled
            request = self._local.request = self._compiled.create_infer_request()
        request.infer([np.ascontiguousarray(image)], share_inputs=True)
        return outputs_of(request)

    def _in_streams(self) -> Requests:
        """The network in one-thread streams, compiled when it is first asked for."""
        with self._lock:
            if self._requests is None:
                with explained(self._path):
                    compiled = self._core.compile_model(self._read(), "CPU", self._settings("THROUGHPUT", self.threads))
                self._requests = Requests(compiled)
            return self._requests

    def _read(self) -> Any:
        with self._reading:
            if self._model is None:
                try:
                    model = only_raw_outputs(read_model(self._core, self._path), self._path)
                except BadWeightsError:
                    if self._weights.ready is not None:
                        raise
                    drop_damaged(self._path)
                    model = read_model(self._core, converted(self._weights))
                with explained(self._path):
                    model.reshape(self._shape)
                    check_model(model, self._path)
                self._model = model
            return self._model

    def _compile(self) -> None:
        try:
            self._compiled = self._compile_for_one()
        except BaseException as error:  # whoever needs the network is told
            self._compiled = error

    def _compile_for_one(self) -> Any:
        """The network ready to run one image. What was compiled is kept, which halves the time of the next start."""
        blob, settings = self._blob(), self._settings("LATENCY", 1)
        if blob.exists():
            try:
                return self._core.import_model(self._mapped(blob), "CPU", settings)
            except (RuntimeError, OSError):  # of another build after all, or damaged
                blob.unlink(missing_ok=True)
        compiled = self._core.compile_model(self._read(), "CPU", settings)
        _keep(compiled, blob)  # before anybody runs it: exporting beside inference is not promised to be safe
        return compiled

    def _mapped(self, blob: Path) -> Any:
        """What OpenVINO imports of a file in the cache. Mapped, most of its 17 MB (of SSDLite V2) is never copied; it is only
        ever replaced as a whole, so that what is mapped stays. Windows could not replace it while it is."""
        if os.name != "posix":
            return blob.read_bytes()
        self._kept = np.memmap(blob, np.uint8, "c")  # OpenVINO takes no array that is read-only
        return library().Tensor(self._kept, shared_memory=True)

    def _settings(self, mode: str, streams: int) -> dict[str, str]:
        return {
            "PERFORMANCE_HINT": mode,
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(self.threads),
            "INFERENCE_PRECISION_HINT": self._hint,
        }

    def _blob(self) -> Path:
        """Where the compiled network lies: named by the file as it is now, the settings, the processor and the version."""
        files = OPENVINO.files(self._path) if self._path.suffix == OPENVINO.ending else [self._path, self._numbers]
        marks = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
        processor = self._core.get_property("CPU", "FULL_DEVICE_NAME"), *self._able
        known = (marks, self._shape, self._settings("LATENCY", 1), processor, library().__version__)
        digest = zlib.crc32(repr(known).encode()), zlib.adler32(repr(known).encode())  # hashlib would load OpenSSL
        return home() / "openvino" / "compiled" / f"{self._path.stem[:40]}-{digest[0]:08x}{digest[1]:08x}.blob"


def _keep(compiled: Any, blob: Path) -> None:
    """Writes a compiled network into the cache, and takes out the oldest. A cache that cannot be written is no error."""
    try:
        with atomic_write(blob) as temporary:
            temporary.write_bytes(compiled.export_model().getvalue())
        old = sorted(blob.parent.glob("[!.]*.blob"), key=lambda file: file.stat().st_mtime)[:-KEPT]
        for file in old:
            file.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        pass
