"""docs/benchmarks.md by one command: runs the measurements, and writes what they said, and which bars were met.

    python benchmarks/report.py --annotations instances.json --images images/ --tflite detect.tflite [--output docs/benchmarks.md]
    python benchmarks/report.py ... --only stages,coco      these anew, the others as they were

Every part is a script of benchmarks/ with short settings, run after the others, its words and its exit code kept in
--kept, from which the page is made: a part that was not asked for stands there as it was measured last, with its date and
load. All of them take 15 to 18 minutes on two quiet cores. `bulk-ray` needs ray, `motion` the program ffmpeg; what cannot run
is said so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection import __version__
from detection.benchmark.harness import ROOT, run_script
from detection.benchmark.machine import describe, machine
from detection.processor import multiplies_bfloat16

INT8 = "v1.int8.xml"  # made of --tflite, once, into --kept
SHIPPED = "detection/weights/ssdlite_mobilenet_v2.mobilessd.int8.xml"
PATHS = {"ANNOTATIONS": "instances.json", "IMAGES": "images/", "TFLITE": "detect.tflite", "INT8": INT8}  # on the page
VERDICT = re.compile(r"(?<!\")\b(met|MISSED)\b")  # no key of JSON


@dataclass(frozen=True)
class Part:
    """title: of its section. words: what its bars are. command: of the script; capital words are those of the person."""

    title: str
    words: str
    command: str


# Of two cores: minutes on the right.
PARTS = {
    "train": Part(
        "Training",
        "Images a second of whole loops, beside torchvision's reference.",
        "train_throughput.py --annotations ANNOTATIONS --images IMAGES --steps 30 --rounds 1 --precision PRECISION",  # 2.5
    ),
    "stages": Part(
        "One image to its boxes",
        "Milliseconds of resizing, network and post-processing, beside LiteRT. SSD V1 in int8, then the default weights "
        "in int8 and in float32.",
        "stages.py --images IMAGES --weights INT8 SHIPPED ssdlite_mobilenet_v2.mobilessd --tflite TFLITE --number 40 --rounds 5 "
        "--limits 0.40 --post 0.25 0.08",  # 1
    ),
    "files": Part(
        "Files to boxes",
        "Many images with all cores, and one from the start of the process, beside LiteRT.",
        "detect_files.py --weights INT8 --tflite TFLITE --images IMAGES --rounds 5",  # 2
    ),
    "eval": Part(
        "Evaluation",
        "From JPEG files to the twelve COCO numbers, whole processes.",
        "evaluate_wall.py --weights TFLITE --int8 INT8 --annotations ANNOTATIONS --images IMAGES --rounds 1",  # 1.5
    ),
    "coco": Part(
        "COCO numbers of 95,000 boxes", "Both engines, and how far they are apart.", "coco_numbers.py --rounds 3"
    ),
    "ray": Part(
        "Bulk detection through Ray",
        "Beside the same without Ray, and a cluster of four of which one dies.",
        "bulk_ray.py --images IMAGES --count 1500 --rounds 2",  # 3
    ),
    "motion": Part(
        "Cameras in which nothing moves",
        "`live --motion`, of 720p at 15 frames a second.",
        "motion.py --images IMAGES --cameras 1 2 4 8 --codecs h264 --seconds 8 --rounds 1",  # 7
    ),
}


@dataclass
class Said:
    """What a part said. command: as the page has it. code: of its process; None where it took too long. load: before."""

    command: str
    text: str
    code: int | None
    seconds: float
    date: str
    load: float | None
    machine: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True, metavar="A.json", help="COCO ground truth of the images")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--tflite", required=True, metavar="FILE", help="SSD MobileNet V1 in int8, as LiteRT runs it")
    parser.add_argument("--only", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}, with commas")
    parser.add_argument("--limit", type=float, default=600.0, metavar="S", help="of a part (default: 600)")
    parser.add_argument("--kept", type=Path, default=Path("runs/report"), metavar="DIR", help="(default: runs/report)")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"), metavar="OUT")
    args = parser.parse_args()
    wanted = [name for name in args.only.split(",") if name]
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"error: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    args.kept.mkdir(parents=True, exist_ok=True)
    if wanted and not (args.kept / INT8).exists():
        quantise(args)
    for name in wanted:
        said = run(PARTS[name], args)
        (args.kept / f"{name}.json").write_text(json.dumps(asdict(said), indent=1) + "\n")
        print(f"{name}: {verdict(said)}, {said.seconds:.0f} s", file=sys.stderr, flush=True)
    kept = {name: args.kept / f"{name}.json" for name in PARTS}
    found = {name: Said(**json.loads(file.read_text())) for name, file in kept.items() if file.exists()}
    args.output.write_text(page(found))
    print(f"{args.output}: {', '.join(f'{name} {verdict(said)}' for name, said in found.items())}")
    return 0 if all(said.code == 0 for said in found.values()) else 1


def quantise(args: argparse.Namespace) -> None:
    words = ["quantize", args.tflite, "--images", args.images, "--output", str((args.kept / INT8).resolve())]
    command = [sys.executable, "-m", "detection.cli.main", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {args.tflite} was not quantised:\n{done.stderr[-2000:]}")


def run(part: Part, args: argparse.Namespace) -> Said:
    given = {
        "ANNOTATIONS": str(Path(args.annotations).resolve()),
        "IMAGES": str(Path(args.images).resolve()),
        "TFLITE": str(Path(args.tflite).resolve()),
        "INT8": str((args.kept / INT8).resolve()),
        "PRECISION": precision(),
        "SHIPPED": SHIPPED,
    }
    script, *words = part.command.split()
    command = [sys.executable, str(ROOT / "benchmarks" / script), *(given.get(word, word) for word in words)]
    on, begin = machine(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        code: int | None
        try:
            _, complaints = process.communicate(timeout=args.limit)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            _, complaints = process.communicate()
            code = None
        except KeyboardInterrupt:  # it is in a session of its own, where Ctrl-C does not come
            os.killpg(process.pid, signal.SIGKILL)
            raise
        output.seek(0)
        text = output.read().strip("\n")
    if not text:  # it did not come as far as its table
        text = (complaints.strip().splitlines() or ["no word"])[-1]
    for word in PATHS:  # the page holds no path of this machine
        text = text.replace(given[word], shown(word)).replace(f"{Path(given[word]).parent.as_posix()}/", "")
    return Said(
        shlex.join(map(shown, part.command.split())),
        text,
        code,
        time.perf_counter() - begin,
        time.strftime("%Y-%m-%d"),
        on["load"],
        describe(on),
    )


def precision() -> str:
    """What training is measured in: the faster one that this processor has instructions for."""
    return "bfloat16" if multiplies_bfloat16() else "float32"


def shown(word: str) -> str:
    if word == "SHIPPED":
        return SHIPPED
    return precision() if word == "PRECISION" else PATHS.get(word, word)


def verdict(said: Said) -> str:
    if said.code is None:
        return "not finished in time"
    if "rror" in said.text[:200]:
        return "did not run"
    found = VERDICT.findall(said.text) or ["met" if said.code == 0 else "MISSED"]
    return f"{found.count('met')} of {len(found)} met"


def page(found: dict[str, Said]) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        *textwrap.wrap(
            "Made by `python benchmarks/report.py --annotations instances.json --images images/ --tflite detect.tflite` "
            f"(mobilessd {__version__}), which runs the scripts below on one machine, one after the other. Every figure that is "
            "held against another comes from runs in turns; a busy machine changes ratios less than speeds. `MISSED` is a bar "
            "that was not reached there and then.",
            128,
            break_on_hyphens=False,
        ),
        "",
        "| part | bars | measured | minutes | load before |",
        "|---|---|---|---|---|",
    ]
    for name, said in found.items():
        before = "" if said.load is None else f"{said.load:.1f}"
        anchor = re.sub(r"[^a-z0-9 ]", "", PARTS[name].title.lower()).replace(" ", "-")
        title = f"[{PARTS[name].title}](#{anchor})"
        lines.append(f"| {title} | {verdict(said)} | {said.date} | {said.seconds / 60:.1f} | {before} |")
    for name, said in found.items():
        part = PARTS[name]
        lines += ["", f"## {part.title}", "", part.words, "", f"`python benchmarks/{said.command}`", ""]
        if any("NOT A QUIET" in line for line in said.machine):
            lines += ["**A busy machine.**", ""]
        lines += ["```", said.text, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_script(main)
