"""Makes the files that ship out of trained ones: their average, in float16, under its name and with a complete card.

    python tools/release_weights.py runs/a/best.safetensors runs/b/best.safetensors \\
        --name ssdlite_mobilenet_v2.mobilessd --parent ssdlite_mobilenet_v2.coco --scores minival.json val500.json

The mean of the weights of runs that began alike is often better than each of them (Wortsman et al. 2022, arXiv
2203.05482). `--scores` are files that `eval --json` wrote; the first words of the card's metrics come from them. The
result lies in detection/weights/ and is found by its name, once detection/weights/records.py lists it. Beside it lies
the network's graph as .onnx without a number of its own: it takes them out of the .safetensors, so that OpenVINO and
onnxruntime run the one file without torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.core.card import Card
from detection.core.errors import BadWeightsError, MobileSSDError

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", metavar="SAFETENSORS")
    parser.add_argument("--name", required=True)
    parser.add_argument("--parent", metavar="NAME", help="published weights that the training began from")
    parser.add_argument("--scores", nargs="*", default=[], metavar="JSON", help="what eval --json wrote")
    parser.add_argument("--output", type=Path, help="default: detection/weights/NAME.safetensors")
    args = parser.parse_args()
    output = args.output or ROOT / "detection" / "weights" / f"{args.name}.safetensors"
    try:
        size = release([Path(path) for path in args.weights], args.name, args.parent, args.scores, output)
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {size / 1e6:.2f} MB")
    return 0


def release(paths: list[Path], name: str, parent: str | None, scores: list[str], output: Path) -> int:
    """Writes the file and its graph, and returns the file's size in bytes. Raises MobileSSDError where the files do not
    belong together."""
    from detection.runtimes import onnx_graph
    from detection.ssd.network import build
    from detection.ssd.spec import SSDSpec
    from detection.weights.checkpoint import load_checkpoint, load_into, load_tensors, read_card, save_checkpoint
    from detection.weights.norms import fold_batch_norms

    card, states = read_card(paths[0]), [load_tensors(path) for path in paths]
    for path, state in zip(paths, states):
        shapes = {key: tensor.shape for key, tensor in state.items()}
        if shapes != {key: tensor.shape for key, tensor in states[0].items()}:
            raise BadWeightsError(f"{path}: is another network than {paths[0]}; only copies of one can be averaged")
    mean = {key: (sum(state[key].double() for state in states) / len(states)).float() for key in states[0]}
    ssd = build(SSDSpec.from_dict(card.spec)).eval()
    load_into(ssd, mean)
    fold_batch_norms(ssd)  # so that the kernels are the ones that run, also of a file that is rounded
    card = described(card, name, parent, paths, scores)
    save_checkpoint(output, ssd, card, half=True)
    graph = onnx_graph.convert(load_checkpoint(output)[0])
    onnx_graph.point_into(graph, output)
    onnx_graph.save(graph, output.with_suffix(".onnx"), replace(card, training_images=()))
    return output.stat().st_size


def described(card: Card, name: str, parent: str | None, paths: list[Path], scores: list[str]) -> Card:
    """The card with name, licence, where it comes from, and what it scores."""
    attribution, source = "the mobilessd authors", "trained from ImageNet weights"
    if parent is not None:
        attribution += f"; began from {parent} (Apache-2.0, The TensorFlow Authors)"
        source = f"fine-tuned from {parent}"
    metrics = []
    for path in scores:
        said = json.loads(Path(path).read_text("utf-8"))
        metrics.append(
            {"data": "COCO", "split": Path(path).stem, "images": said["images"], "protocol": said.get("protocol", "")}
            | {number: round(said[number], 4) for number in NUMBERS}
        )
    return replace(
        card,
        name=name,
        licence="Apache-2.0",
        attribution=attribution,
        source=source,
        recipe=card.recipe | {"averaged": len(paths)},
        metrics=metrics or card.metrics,
        precision="float16",
        folded_norms=True,
    )


if __name__ == "__main__":
    sys.exit(main())
