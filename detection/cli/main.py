"""The command `mobilessd`: finds the module of a subcommand, runs it, and turns errors for people into one line.

Each command is a module of `detection.cli` with `add_arguments(parser)` and `run(args) -> int` (the exit code), and
optionally an `EPILOG` of examples and `explain_option(name)`, for what it has under another name. Only the chosen module
is imported, so `mobilessd --help` stays instant. Standard library only; `tools/*.py` call `main(["detect", ...])` and add
nothing.

Exit codes: 0 done, 2 something a person can put right (one `error:` line on stderr), 130 stopped by Ctrl-C, 141 stopped
because nobody reads what is printed any more (`| head`). A file that a stopped command was to write is not there.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from detection.cli.pipes import SIGPIPE, printable_streams, stop_printing
from detection.errors import MobileSSDError, MobileSSDWarning, UsageError, import_trouble, nearest

if TYPE_CHECKING:
    from detection.cli.parser import Parser

COMMANDS: dict[str, tuple[str, str]] = {
    "detect": ("detection.cli.detect", "find objects in images, folders and videos"),
    "live": ("detection.cli.live", "find objects in a webcam, a stream or a video, as it plays"),
    "eval": ("detection.cli.eval", "measure the COCO mAP of weights or of a results file"),
    "train": ("detection.cli.train", "train on your own images, or go on with a run"),
    "classify": ("detection.cli.classify", "name what an image shows; measure and train classifiers"),
    "info": ("detection.cli.info", "show a model's parameters, multiply-adds, anchors and layers"),
    "tables": ("detection.cli.tables", "print every figure of the papers beside ours, as docs/tables.md"),
    "export": ("detection.cli.export", "write ONNX, OpenVINO, TFLite and other deployable files"),
    "quantize": ("detection.cli.quantize", "make a smaller and faster int8 file, and measure what it costs"),
    "benchmark": ("detection.cli.benchmark", "time a model on this machine, runtime by runtime"),
    "pseudo-label": ("detection.cli.pseudo_label", "label images that nobody annotated, with a stronger detector"),
    "data": ("detection.cli.data", "check a data set before a training, or convert it"),
}
# What brings all that a command imports without asking first.
EXTRA_OF_COMMAND = {"train": "train", "export": "export", "quantize": "export"}
ALIASES = {"teach": "pseudo-label"}  # former names of commands


def entry() -> NoReturn:
    """The command `mobilessd`: `main`, and the end of the process."""
    # What imports make stays: a collector that walks over it again and again costs a start a twentieth.
    gc.set_threshold(50_000, 20, 20)
    code = main()
    if sys.argv[1:2] in (["detect"], ["train"]):
        # All files are closed by now. What is left is that libraries take themselves apart: a tenth of a short run.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `mobilessd ARGV...` (default: the process's own arguments) and returns the exit code."""
    # OpenCV and FFmpeg explain every broken file on stderr, beside our one line; whoever wants that sets these himself.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    for stream in (sys.stdout, sys.stderr):  # a file name that is no valid text must not end a run of thousands
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _one_line
    with printable_streams():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(words: list[str]) -> int:
    code = SIGPIPE
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except MobileSSDError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `mobilessd ... | head` is no error; keep Python from complaining again at exit
        stop_printing()
        return code  # of the command, where it was done and only its last lines went nowhere
    except ImportError as error:
        line = import_trouble(
            error, " ".join(["mobilessd", *words[:1]]), EXTRA_OF_COMMAND.get(words[0] if words else "")
        )
        if line is None:
            raise
        return _complain(line)
    except OSError as error:  # no permission, no space left, a name too long: the machine's state, not a bug
        if error.errno is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))


def available_commands() -> dict[str, str]:
    """The commands whose module is part of this installation, with their one-line help, in order. Imports none."""
    return {name: text for name, (module, text) in COMMANDS.items() if importlib.util.find_spec(module)}


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in ("-V", "--version"):
        print(f"mobilessd {_version()}")
        return 0
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    name, rest = ALIASES.get(argv[0], argv[0]), argv[1:]
    commands = available_commands()
    if name not in commands:
        if name in COMMANDS:
            raise UsageError(f"the command {name!r} is not part of this installation")
        near = nearest(name, commands, 3, 0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"commands: {', '.join(commands)}"
        raise UsageError(f"unknown command {name!r}: {hint}")
    module, parser = importlib.import_module(COMMANDS[name][0]), parser_of(name)
    try:
        args = parser.parse_args(rest)
    except SystemExit as end:  # --help
        return end.code if isinstance(end.code, int) else 0
    return int(module.run(args) or 0)


def parser_of(name: str) -> Parser:
    """The parser of a command."""
    from detection.cli.parser import Parser  # argparse: not for --help

    module, text = importlib.import_module(COMMANDS[name][0]), COMMANDS[name][1]
    parser = Parser(
        prog=f"mobilessd {name}",
        description=text[0].upper() + text[1:] + ".",
        epilog=getattr(module, "EPILOG", None),
        explain=getattr(module, "explain_option", None),
    )
    module.add_arguments(parser)
    return parser


def _overview() -> str:
    commands = available_commands()
    width = max(map(len, commands), default=0)
    lines = [f"  {name:<{width}}  {text}" for name, text in commands.items()]
    return "\n".join(
        [
            "usage: mobilessd COMMAND [options]",
            "",
            "Object detection with SSD and SSDLite on MobileNets.",
            "",
            *lines,
            "",
            "`mobilessd COMMAND --help` shows the options of a command.",
        ]
    )


def _version() -> str:
    import detection

    if version := getattr(detection, "__version__", None):
        return version
    from importlib import metadata

    try:
        return metadata.version("mobilessd")
    except metadata.PackageNotFoundError:
        return "(not installed; run from the source tree)"


def _one_line(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    """Our own warnings as they are for people; those of others with their place in the code."""
    return (
        f"warning: {message}\n"
        if issubclass(category, MobileSSDWarning)
        else _usual_form(message, category, *place, **line)
    )


_usual_form = warnings.formatwarning


def _complain(message: str) -> int:
    from detection.masking import without_secrets  # not for --help

    print(f"error: {without_secrets(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    entry()
