"""model.onnx -> model.hef, with Hailo's Dataflow Compiler: python compile.py IMAGES [hailo8]

IMAGES: a folder of images like those to come, 64 or more, best 300, or an array of them as the network sees them: .npy, uint8
RGB [N, height, width, 3].
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from detection.export.targets.script_images import stretched_images

HERE = Path(__file__).resolve().parent


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    from hailo_sdk_client import ClientRunner

    place, chip = Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "hailo8"
    os.chdir(HERE)  # model.alls names nms_config.json
    size = tuple(json.loads(Path("input.json").read_text(encoding="utf-8"))["input"]["shape"][2:])
    images = np.load(place) if place.suffix == ".npy" else stretched_images(place, size)
    about = json.loads(Path("hailo.json").read_text(encoding="utf-8"))
    runner = ClientRunner(hw_arch=chip)
    ends = [name for pair in about["end_nodes"] for name in pair]
    runner.translate_onnx_model("model.onnx", "mobilessd", start_node_names=["images"], end_node_names=ends)
    # The compiler names layers anew; the configuration of NMS needs its names.
    layers: dict[str, str] = {}
    for key, layer in runner.get_hn()["layers"].items():
        layers |= dict.fromkeys(layer["original_names"], key.split("/")[-1])
    config = json.loads(Path("nms_config.json").read_text(encoding="utf-8"))
    for decoder, (box, score) in zip(config["bbox_decoders"], about["end_nodes"]):
        decoder["reg_layer"], decoder["cls_layer"] = layers[box], layers[score]
    Path("nms_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    runner.load_model_script("model.alls")
    runner.optimize(images)
    Path("model.hef").write_bytes(runner.compile())


if __name__ == "__main__":
    main()
