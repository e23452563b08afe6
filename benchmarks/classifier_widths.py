"""Fine-tuned classifiers over width and input size, as figure 4 of the V1 paper has them over ImageNet.

    python benchmarks/classifier_widths.py DATA --output DIR --network FILE:SIZE[,SIZE] ... [--epochs 4] [--precision bfloat16]

DATA: detection data of any format; each annotated object (at least 48 pixels, not difficult, no crowd) is cut out, as a
square as far as the image reaches and with a tenth of its longer side around it, into DIR/images/train/CLASS or
.../val/CLASS, a fifth of the images for validation. FILE: the
weights to begin with. Prints a row a network and draws DIR/widths.png. A run that is there already is not made again, one
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from backbones import count
from detection.cli.main import main as mobilessd
from detection.data.open import open_data
from detection.evaluate.report.chart import SERIES, Chart, write_chart
from detection.images.decode import read_image
from detection.weights.classifier import load_classifier

LEAST, MARGIN, SIDE = 48, 0.1, 288


def cut_out(data: str, folder: Path) -> None:
    """The image folder; nothing where it exists."""
    if folder.exists():
        return
    made = folder.with_name(folder.name + ".part")
    found = open_data(data, "all")
    for number in range(len(found)):
        image = found.image(number)
        pixels, split = read_image(image.path), "val" if number % 5 == 0 else "train"
        for index, (box, label) in enumerate(zip(image.boxes, image.labels)):
            x1, y1, x2, y2 = (float(side) for side in box)
            if min(x2 - x1, y2 - y1) < LEAST or image.flags[index]:
                continue
            side = (1 + 2 * MARGIN) * max(x2 - x1, y2 - y1)
            left, right = _span((x1 + x2) / 2, side, pixels.shape[1])
            top, bottom = _span((y1 + y2) / 2, side, pixels.shape[0])
            cut = pixels[top:bottom, left:right]
            factor = min(1.0, SIDE / min(cut.shape[:2]))
            cut = cv2.resize(cut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            target = made / split / found.class_names[label] / f"{Path(image.path).stem}_{index}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), cut[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    made.rename(folder)


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    """The pixels of `length` around `centre`, moved inside 0..limit, or all of them where that is shorter."""
    first = max(0.0, min(centre - length / 2, limit - length))
    return int(first), min(limit, int(first + length) + 1)


def run(
    weights: str, size: int, images: Path, folder: Path, epochs: float, batch: int, precision: str
) -> dict[str, Any]:
    """One training, and what came of it."""
    log = folder / "figures.json"
    if not log.exists():
        resume = ["--resume"] if (folder / "last.state.safetensors").exists() else []
        begun = time.perf_counter()
        command = ["classify", "--train", str(images), "--weights", weights, "--output", str(folder), "--epochs", str(epochs),
                   "--batch", str(batch), "--set", f"input_size={size}", "--precision", precision, *resume]  # fmt: skip
        if code := mobilessd(command):
            raise SystemExit(code)
        network, card = load_classifier(folder / "best.safetensors")
        cost = count(network, size)
        figures = {"network": card.model, "alpha": card.options.get("alpha", 1.0), "size": size, "params": cost.params,
                   "madds": cost.madds, "top1": card.metrics[0]["top1"], "images": card.metrics[0]["images"],
                   "seconds": round(time.perf_counter() - begun)}  # fmt: skip
        log.write_text(json.dumps(figures))
    return json.loads(log.read_text())


def draw(rows: list[dict[str, Any]], figure: Any) -> None:
    axes = figure.add_subplot()
    groups = dict.fromkeys((row["network"], row["alpha"]) for row in rows)
    for (network, alpha), color in zip(groups, SERIES):
        mine = sorted(
            (row["madds"] / 1e6, row["top1"], row["size"])
            for row in rows
            if (row["network"], row["alpha"]) == (network, alpha)
        )
        axes.plot([m for m, _, _ in mine], [t for _, t, _ in mine], "o-", color=color, markersize=4.5, linewidth=1,
                  label=f"{network.replace('mobilenet_', '').upper()} {alpha:g}")  # fmt: skip
        for madds, top1, size in mine:
            axes.annotate(str(size), (madds, top1), (4, -8), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xticks([10, 20, 50, 100, 200, 500], labels=["10", "20", "50", "100", "200", "500"])
    axes.minorticks_off()
    axes.set_xlabel("million multiply-adds")
    axes.set_ylabel("top-1")
    axes.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--network", action="append", required=True, metavar="FILE:SIZE[,SIZE]")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="auto", help="of training, as in classify")
    args = parser.parse_args()
    images = args.output / "images"
    cut_out(args.data, images)
    rows = []
    for item in args.network:
        weights, _, sizes = item.rpartition(":")
        for size in sizes.split(","):
            folder = args.output / f"{Path(weights).stem}-{size}"
            rows.append(run(weights, int(size), images, folder, args.epochs, args.batch, args.precision))
            print(rows[-1], flush=True)
    print(
        "\n| network | alpha | input | parameters | multiply-adds | top-1 |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for row in sorted(rows, key=lambda row: row["madds"]):
        print(
            f"| {row['network']} | {row['alpha']:g} | {row['size']} | {row['params']:,} | {row['madds']:,} | {row['top1']:.3f} |"
        )
    write_chart(Chart("widths", "Width and input size", "", partial(draw, rows)), args.output / "widths.png")


if __name__ == "__main__":
    main()
