"""`Detector.stream` over very many images: how fast, and whether memory stays flat.

    python benchmarks/python_stream.py --images photos/ --number 10000 --kind files

The images of a folder are given again and again, as one generator: by their names (files), as arrays decoded anew (arrays), as
Pillow images (pillow). What the process has allocated is read every 50 images; after the first tenth, in which runtimes and
allocators fill their pools, it may rise by 5 %. Prints JSON, and exits with 1 if it rose by more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection import Detector
from detection.benchmark.machine import machine
from detection.benchmark.memory import proportional_mib
from detection.images.decode import read_image
from detection.images.sources import find_sources

FLAT = 0.05  # by how much of it memory may rise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--number", type=int, default=10_000, metavar="N")
    parser.add_argument("--kind", choices=("files", "arrays", "pillow"), default="files")
    parser.add_argument("--weights", metavar="W")
    args = parser.parse_args()
    names = [source.name for source in find_sources([args.images]) if not source.video]
    detector = Detector(args.weights)
    begin, boxes, memory, whole = time.perf_counter(), 0, list[float](), list[float]()
    for number, found in enumerate(detector.stream(images(names, args.number, args.kind))):
        boxes += len(found)
        if number % 50 == 0:
            memory.append(proportional_mib(os.getpid(), "Pss_Anon"))
            whole.append(proportional_mib(os.getpid()))
    seconds = time.perf_counter() - begin
    settled = memory[len(memory) // 10 :]
    tenth = max(len(settled) // 10, 1)
    curve = [statistics.median(settled[i : i + tenth]) for i in range(0, len(settled) - tenth + 1, tenth)]
    rise = curve[-1] / curve[0] - 1
    result = {
        "images": args.number,
        "kind": args.kind,
        "boxes": boxes,
        "images_per_second": round(args.number / seconds, 1),
        "mib": [round(mib, 1) for mib in curve],
        "most_mib": round(max(settled), 1),
        "most_mib_with_libraries": round(max(whole)),
        "rise": round(rise, 4),
        "runtime": str(detector.runtime),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    return 0 if rise <= FLAT else 1


def images(names: list[str], number: int, kind: str) -> Iterator[Any]:
    """So many images, made when they are asked for."""
    for name in itertools.islice(itertools.cycle(names), number):
        if kind == "files":
            yield name
        elif kind == "arrays":
            yield read_image(name)
        else:
            import PIL.Image

            with PIL.Image.open(name) as image:
                image.load()
            yield image


if __name__ == "__main__":
    sys.exit(main())
