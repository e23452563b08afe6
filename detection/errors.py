"""The errors that people see: one clear line that names the file and the way out, no traceback, exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Sequence

LONGEST = 500  # characters of a message: what it quotes of somebody's file may be of any length


class MobileSSDError(Exception):
    """Something a person can put right. Its message is one line of at most `LONGEST` printable characters: what is wrong,
    with which file, and what to do. What it quotes of a file, or a file's name, may hold line ends and the escapes by which
    terminals are told things: they are spelt out here, so that no place forgets it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class BadImageError(MobileSSDError):
    """A file that is no image, or a broken, empty or unreasonably large one."""


class BadWeightsError(MobileSSDError):
    """A weights file that is broken, of another kind, or does not fit the network asked for."""


class BadDataError(MobileSSDError):
    """Annotations or results that cannot be read, or do not fit together."""


class MissingPackageError(MobileSSDError):
    """An optional library that is not installed; the message holds the command that installs it."""


class UsageError(MobileSSDError):
    """A command line that cannot be understood."""


class MobileSSDWarning(UserWarning):
    """Something that a person should hear of while the work goes on: one line. The commands print it as `warning: ...`."""


def warn(text: str) -> None:
    """Says a MobileSSDWarning by way of Python's warnings."""
    warnings.warn(text, MobileSSDWarning, stacklevel=3)


# The modules that an installation may lack, and the extra of setup.py that brings each (and what it needs beside it).
EXTRAS = {
    "torch": "torch",
    "torchvision": "torch",
    "openvino": "runtime",
    "onnxruntime": "onnxruntime",
    "ai_edge_litert": "litert",
    "tflite": "tflite",
    "google.protobuf": "protobuf",
    "h5py": "keras",
    "onnx": "export",
    "nncf": "export",
    "ai_edge_quantizer": "tflite-int8",
    "coremltools": "coreml",
    "pycocotools": "eval",
    "faster_coco_eval": "eval",
    "jinja2": "eval",
    "matplotlib": "eval",
    "albumentations": "train",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "starlette": "live",
    "uvicorn": "live",
    "websockets": "live",
    "paho.mqtt": "mqtt",
    "pyarrow": "bulk",
    "fsspec": "bulk",
    "s3fs": "bulk",
    "ray": "ray",
}
LITERT_TORCH = 'pip install "mobilessd[torch]" litert-torch in an environment of its own, as it wants an older torch'


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    from importlib.util import find_spec  # not for --help

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def package_of(module: str) -> str:
    """As pip calls it."""
    return {"google.protobuf": "protobuf", "paho.mqtt": "paho-mqtt"}.get(module, module.replace("_", "-"))


def install_line(*extras: str) -> str:
    """The command that brings these extras."""
    return f'pip install "mobilessd[{",".join(extras)}]"'


def need(why: str, *modules: str, extra: str | None = None) -> None:
    """Raises MissingPackageError, one line, unless all modules can be imported; none is. why: what needs them.
    extra: the one that brings all that `why` needs, where that is more than what the modules' own bring."""
    missing = [module for module in modules if not installed(module)]
    if missing:
        names = ", ".join(map(package_of, missing))
        if "litert_torch" in missing:
            raise MissingPackageError(f"{why} needs {names}: {LITERT_TORCH}")
        extras = [extra] if extra else list(dict.fromkeys(EXTRAS[module] for module in missing if module in EXTRAS))
        raise MissingPackageError(f"{why} needs {names}: {install_line(*extras) if extras else 'pip install ' + names}")


def import_trouble(error: ImportError, why: str, extra: str | None = None) -> str | None:
    """The line for an import that failed for want of an optional package, or of what OpenCV finds in the system; None
    for any other. why, extra: as in `need`."""
    module = next((each for each in EXTRAS if f"{error.name}.".startswith(f"{each}.")), None)
    if isinstance(error, ModuleNotFoundError) and module:
        return f"{why} needs {package_of(module)}: {install_line(extra or EXTRAS[module])}"
    reason = str(error)
    if sys.platform == "linux" and ".so" in reason and "cannot open shared object file" in reason and _in_opencv(error):
        library = reason.partition(":")[0]
        return (
            f"OpenCV cannot be loaded, as this machine lacks {library}: "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        )
    return None


def _in_opencv(error: ImportError) -> bool:
    trace = error.__traceback__
    while trace:
        if "cv2" in trace.tb_frame.f_code.co_filename or trace.tb_frame.f_globals.get("__name__") == "cv2":
            return True
        trace = trace.tb_next
    return error.name == "cv2"


def nearest(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of the known words that are most like `word`, the best first, whatever their case; at most `most`, and none
    that is less alike than `cutoff` (0 to 1, `difflib`'s ratio)."""
    import difflib  # only where something went wrong

    by_lower = {other.lower(): other for other in known}
    return [by_lower[found] for found in difflib.get_close_matches(word.lower(), by_lower, most, cutoff)]


def shown(name: str | os.PathLike) -> str:
    """A file's name or address as one line can hold it: line ends, and bytes that are no text, are spelt out, passwords of
    addresses are left out."""
    from detection.masking import without_secrets  # not for --help

    text = without_secrets(os.fsdecode(name))
    return text if text.isprintable() else ascii(text)


# What terminals take for orders, and what turns the direction of a line around: controls of ASCII and Latin-1, line ends of
# Unicode, marks of direction, halves of surrogate pairs.
UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"


def printable(text: str, but: str = "") -> str:
    """A text of somebody's file (a class's name, a file's, a camera's) as people may read it: whatever is no text to be seen
    is spelt out, as \\x1b. but: characters that are left as they are."""
    if text.isprintable():
        return text
    import re  # not for --help

    return re.sub(UNPRINTABLE, lambda found: found[0] if found[0] in but else ascii(found[0])[1:-1], text)


def one_line(text: str, most: int = LONGEST) -> str:
    """A text as one `printable` line of at most `most` characters; its middle is left out where it is longer, as what is
    wrong stands at its beginning and the way out at its end."""
    text = str(text)
    if len(text) > most:
        kept = most - 5
        text = f"{text[: kept * 3 // 5]} ... {text[len(text) - kept * 2 // 5 :]}"
    spelt = printable(text)
    return one_line(spelt, most) if len(spelt) > most else spelt


def quoted(value: object) -> str:
    """A value of somebody's file as a message shows it: at most 60 characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def some(names: Sequence[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
