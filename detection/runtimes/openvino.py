"""The OpenVINO runtime: the same network, converted in memory once and kept in the cache by its content's hash."""

from __future__ import annotations

import copy
import math
import os
import sys
import threading
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError, MobileSSDError
from detection.files import atomic_write, drop_damaged, home
from detection.runtimes.base import Runtime
from detection.weights.checkpoint import load_checkpoint
from detection.weights.formats import OPENVINO
from detection.weights.onnx_check import MOST_HELD, MOST_WORK
from detection.weights.openvino_check import check_openvino
from detection.weights.resolve import Weights

PRECISIONS = {"auto": "f32", "float32": "f32", "int8": "f32", "bfloat16": "bf16", "float16": "f16"}
NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
CARD = ["mobilessd", "card"]
OUTPUTS = ("encodings", "logits")
KEPT = 20  # compiled networks in the cache
AHEAD = 4  # images begun for each stream: it need not wait until Python has taken an output away
TRIAL = 4  # images in each of the trials that tell how many streams pay, for each stream
WORTH = 1.03  # so many times the images a second are worth twice the streams


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
        self._requests: _Requests | None = None  # of the network in one-thread streams
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
        many = _Many(self._in_streams(), images, AHEAD * self.threads)
        return many.wait

    def streams(self) -> int:
        """See `Runtime`. The trial takes tens of milliseconds, on an image of zeros."""
        requests = self._in_streams()
        with self._lock:
            if self._allowed is None:
                self._streams = self._that_pay(requests)
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

    def _in_streams(self) -> _Requests:
        """The network in one-thread streams, compiled when it is first asked for."""
        with self._lock:
            if self._requests is None:
                with explained(self._path):
                    compiled = self._core.compile_model(self._read(), "CPU", self._settings("THROUGHPUT", self.threads))
                self._requests = _Requests(compiled)
            return self._requests

    def _that_pay(self, requests: _Requests) -> int:
        """The fewest streams that are as fast as more of them: all, half of them, a quarter, ... are tried, each the same
        network, so that what is found does not depend on it. Cores may be halves of one, or another program's."""
        image = np.zeros(self._shape, np.uint8)
        best, counts = 0.0, [self.threads >> k for k in range(self.threads.bit_length())]
        chosen = counts[0]
        if len(counts) == 1:
            return chosen
        _rate(requests, image, chosen)  # the first images of each stream are slow
        for count in counts:
            rate = max(_rate(requests, image, count) for _ in range(2))
            if rate * WORTH < best:
                break
            best, chosen = max(best, rate), count
        return chosen

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
                return self._core.import_model(blob.read_bytes(), "CPU", settings)
            except (RuntimeError, OSError):  # of another build after all, or damaged
                blob.unlink(missing_ok=True)
        compiled = self._core.compile_model(self._read(), "CPU", settings)
        _keep(compiled, blob)  # before anybody runs it: exporting beside inference is not promised to be safe
        return compiled

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


class _Requests:
    """The requests of a compiled network, each for one image at a time: idle ones, and as many more as are asked for."""

    def __init__(self, compiled: Any) -> None:
        self._compiled, self._idle = compiled, deque[Any]()

    def take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def give(self, request: Any) -> None:
        self._idle.append(request)


class _Many:
    """Images through the one-thread streams, `ahead` of them at once. They begin here; `wait` gives the outputs in the order
    of the images."""

    def __init__(self, requests: _Requests, images: np.ndarray, ahead: int) -> None:
        self._requests, self._images, self._ahead = requests, images, ahead
        self._begun: deque[Any] = deque()
        self._next = 0
        while self._next < min(ahead, len(images)):
            self._start(requests.take())

    def _start(self, request: Any) -> None:
        image = np.ascontiguousarray(self._images[self._next : self._next + 1])
        request.start_async([image], share_inputs=True)
        self._begun.append((request, image))
        self._next += 1

    def wait(self) -> tuple[np.ndarray, np.ndarray]:
        encodings, logits = [], []
        while self._begun:
            request, _ = self._begun.popleft()
            request.wait()
            one = outputs_of(request)
            if self._next < len(self._images):
                self._start(request)
            else:
                self._requests.give(request)
            encodings.append(one[0])
            logits.append(one[1])
        return np.concatenate(encodings), np.concatenate(logits)


def outputs_of(request: Any) -> tuple[np.ndarray, np.ndarray]:
    """Copies of encodings and logits: the request's own memory is written over by its next image."""
    return request.get_output_tensor(0).data.copy(), request.get_output_tensor(1).data.copy()


def _rate(pool: _Requests, image: np.ndarray, at_once: int) -> float:
    """Images a second where so many are computed at once."""
    number = TRIAL * at_once
    requests = [pool.take() for _ in range(at_once)]
    begin = time.perf_counter()
    for request in requests:
        request.start_async([image], share_inputs=True)
    for k in range(number):
        request = requests[k % at_once]
        request.wait()
        if k + at_once < number:
            request.start_async([image], share_inputs=True)
    seconds = time.perf_counter() - begin
    for request in requests:
        pool.give(request)
    return number / seconds


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


def read_model(core: Any, path: Path) -> Any:
    """Raises BadWeightsError, one line, for a file that OpenVINO cannot read, or should not be given."""
    if path.suffix == OPENVINO.ending:
        check_openvino(path)
    with explained(path):
        return core.read_model(path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What OpenVINO says of a file that it cannot read or compile becomes one line; it tells people in RuntimeErrors, and
    names that are no text in UnicodeDecodeErrors."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [""])[-1][:160]
        raise BadWeightsError(f"{path}: OpenVINO cannot read it ({reason}); export it again") from None


def check_model(model: Any, path: Path) -> None:
    """Raises BadWeightsError, one line, for a description with loops or with a step that asks for more memory or work than
    those of detectors do (`weights.onnx_check`), before anything is compiled. Of ours and of anybody's: it costs
    milliseconds."""
    work = 0
    for step in model.get_ops():
        kind = step.get_type_name()
        if kind in ("Loop", "TensorIterator", "If", "ReadValue", "Assign"):
            raise BadWeightsError(f"{path}: was not opened: it holds {kind}, which no detector does; export it again")
        for output in step.outputs():
            if output.get_partial_shape().is_dynamic:
                continue
            if math.prod(output.get_shape()) > MOST_HELD:
                raise BadWeightsError(
                    f"{path}: was not opened: {kind} asks for more than {MOST_HELD:,} numbers at a time"
                )
            if kind in ("Convolution", "GroupConvolution"):  # [out, in, h, w]; [groups, out, in, h, w]
                weight = step.input(1).get_partial_shape()
                work += math.prod(output.get_shape()) * (
                    0 if weight.is_dynamic else math.prod([*weight.to_shape()][1 if kind == "Convolution" else 2 :])
                )
                if work > MOST_WORK:
                    raise BadWeightsError(
                        f"{path}: was not opened: more than {MOST_WORK:,} multiply-adds for one image"
                    )


def only_raw_outputs(model: Any, path: Path) -> Any:
    """The model with the outputs encodings and logits, in that order, and no other (a file may hold NMS behind them).
    BadWeightsError for one that has them not."""
    by_name = {name: output for output in model.outputs for name in output.get_names()}
    if not set(OUTPUTS) <= set(by_name):
        raise BadWeightsError(f"{path}: has no outputs encodings and logits; export it again")
    if [by_name[name].get_index() for name in OUTPUTS] == [0, 1] and len(model.outputs) == 2:
        return model
    return library().Model([by_name[name] for name in OUTPUTS], model.get_parameters(), model.get_name())


def cache_path(weights: Weights) -> Path:
    """Where the OpenVINO form of a checkpoint lies: `MOBILESSD_HOME/openvino/<hash of the weights>-<version>.xml`."""
    from importlib import metadata

    version = ".".join(metadata.version("openvino").split(".")[:3])
    return home() / "openvino" / f"{weights.path.stem[:40]}-{weights.sha256[:16]}-{version}{OPENVINO.ending}"


def converted(weights: Weights) -> Path:
    """The OpenVINO form of a checkpoint, made once and kept at `cache_path`."""
    target = cache_path(weights)
    if not target.exists():
        ssd, _ = load_checkpoint(weights.path)
        save(convert(ssd), target, weights.card.to_json())
    return target


def convert(ssd: Any) -> Any:
    """A network as an `openvino.Model` that takes uint8 RGB [N, h, w, 3], N free."""
    openvino = library()
    import torch

    from detection.runtimes.torch import fuse
    from detection.ssd.network import Deployable

    network = Deployable(fuse(copy.deepcopy(ssd).eval())).eval()
    height, width = ssd.spec.input.size
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    # torch calls tracing deprecated. torch.export and what OpenVINO makes of it give the very same graph, but take 7.4 s
    # for SSDLite MobileNetV2 in the place of 1.0 s (two x86 cores, torch 2.14, OpenVINO 2026.4; 5.7 s of it are OpenVINO's
    # decomposition of the program): the first image of every checkpoint would wait for that.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "`?torch.jit", FutureWarning)
        traced = torch.jit.trace(network, example, check_trace=False)  # the check runs it all again
    with torch.no_grad():
        model = openvino.convert_model(
            traced, example_input=example, input=[([-1, height, width, 3], openvino.Type.u8)]
        )
    for output, name in zip(model.outputs, OUTPUTS):
        output.get_tensor().set_names({name})
    return model


def save(model: Any, target: Path, card: str, half: bool = False) -> None:
    """Writes .bin and .xml beside each other, each whole: the .xml, which is what a reader looks for, last.

    half: weights stored as float16, which every plugin widens at loading."""
    import tempfile

    target.parent.mkdir(parents=True, exist_ok=True)
    model.set_rt_info(card, CARD)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as folder:
        temporary = Path(folder) / target.name
        library().save_model(model, temporary, compress_to_fp16=half)
        target.unlink(missing_ok=True)  # never the old description beside the new numbers
        for written, file in reversed(list(zip(OPENVINO.files(temporary), OPENVINO.files(target)))):
            os.replace(written, file)
