"""What the commands of the pages find: the files that they name, small, and what is put in the place of what is large.

Everything is made, so that no page needs the network, a camera or a folder outside the repository.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

import cv2
import data_sets
import numpy as np
import torch

from detection.boxes.class_names import COCO_80
from detection.ssd.network import build, feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.names import spec_for

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "photos" / "hopper.jpg"

LONGEST = 300  # seconds of a block: on a machine that does much else

# What stands in a page, what runs in its place, and why. Patterns are tried in this order on each command.
SUBSTITUTES: list[tuple[str, str, str]] = [
    (r"(?<!--parent )\b(ssdlite_mobilenet_v2|ssd_mobilenet_v1_075)\.coco\b", "small.safetensors", "18 MB to fetch"),
    (r"\bmobilenet_v1_075\.imagenet\b", "small_v1.safetensors", "10 MB to fetch"),
    (r"(--config \w+_mobilessd|--config \w+_scratch)\b", r"\1 --weights small.safetensors", "the recipe names weights"),
    (r"\b(deimv2_hgnetv2_femto_coco|picodet_s_416_coco|deim)\.onnx\b", "teacher.onnx", "a detector of another project"),
    (r"\bmodel\.xml\b", "small.safetensors", "any weights"),
    (r"\bcoco_val500/instances\.json", "instances.json", "any data"),
    (r"\b(v2|ours|best)\.int8\.xml", "v1.int8.xml", "the one int8 file of the page"),
    (r"\b(a|b)\.int8\.onnx", "ssdlite.int8.onnx", "the one int8 file of the page"),
    (r"--data PATH", "--data coco", "any data"),
    (r"--alphas \S+ --input-sizes \S+", "--alphas 0.35 --input-sizes 96", "a process for each"),
    (r" --peers", "", "torchvision and OpenCV, a process each"),
    (r"--annotations A\.json --images DIR", "--annotations instances.json --images images", "any data"),
    (r"s3://", "bucket://", "no store: a folder"),
    (r"bucket://", "file://$PWD/", "no store: a folder"),
    (r"\brtsp://[\d.]+/main\b", "film.mp4", "no camera"),
    (r"git clone URL mobilessd", f"git clone -q --shared {ROOT} mobilessd", "the address is this checkout"),
    (r"^make demo$", "make demo PYTHON=python", "the environment is there"),
    (r"^\. \.venv/bin/activate$", "true", "the environment is there"),
    (
        r"(--train animals/) --weights mobilenet_v1_025\.imagenet",
        r"\1 --model mobilenet_v1 --set options.alpha=0.25",
        "10 MB",
    ),
    (r"\bmobilenet_v1_050\.imagenet\b", "runs/published/best.safetensors", "5 MB to fetch"),
    (r"(?<=live )0\b", "film.mp4", "no camera"),
    (r"(?<=yard=)0\b", "film.mp4", "no camera"),
    (r"(?<=--no-window)", " film.mp4", "no camera"),
    (r"(?<=mobilessd live)(?=\s*(#.*)?$)", " film.mp4", "no camera"),
    (r"--time-budget \S+", "", "takes as long as it says"),
    (r"--samples \d+", "", "see below: a few steps"),
    (r"--compile yes", "", "takes a minute"),
    (r"--score 0\.4 --labels", "--score 0.001 --labels", "a network of two steps is sure of nothing"),
    (
        r"(?<=tools/release_weights\.py )\S+ (.*--int8 \S+)",
        r"small.safetensors \1 --output released.safetensors",
        "the same",
    ),
    (r"(?<=mobilessd quantize )\S+_scales\.mobilessd", "small.safetensors", "takes a minute"),
    (r"\btrained-on/", "animals/", "any images"),
    (r"(tools/release_weights\.py .*--parent \S+)", r"\1 --output released.safetensors", "would replace what ships"),
]
if find_spec("paho") is None:
    SUBSTITUTES.append((r" --mqtt \S+", "", "paho-mqtt is not installed"))
# What is done before a page's own commands: it begins where other pages have been.
BEFORE = {
    "evaluate.md": "mkdir -p runs/train && cp cells.safetensors runs/train/best.safetensors",
    "classify.md": "mobilessd classify --train animals --model mobilenet_v1 --set options.alpha=0.5 --output runs/published",
}
TRAIN = r"(mobilessd train|tools/train_det\.py)"
# What is added to commands that would take long: the last of two equal options holds.
ADDED: list[tuple[str, str]] = [
    (TRAIN + r"(?!.*--resume)", "--steps 2 --batch 2 --workers 0 --input-size 96 --compile no"),
    (r"mobilessd classify --train", "--steps 2 --batch 2"),
    (TRAIN + r".*(distillation|_mobilessd|_scratch)", "--set distillation.teacher=small.safetensors"),
    (TRAIN + r".*(--model \w+|_scratch |_coco(?!\S))(?!.*alpha)", "--set options.alpha=0.25"),
    (r"mobilessd live", "--frames 2 --port 0"),
    (r"mobilessd benchmark", "--rounds 1 --seconds 0.01 --threads 1 --batch 1 --runtimes openvino"),
    (r"mobilessd quantize", "--samples 4 --force --no-timing"),
]
# Programs that have a stand-in, besides those of command_server.py.
STAND_INS = {
    "scp": 'mkdir -p "${!#%:}" && cp -r "${@:2:$#-2}" "${!#%:}"',
    "notify-send": "true",
    "docker": "true",  # test_docker.py reads what it would build
}


def make(folder: Path) -> Path:
    """The world: each page's commands run in a copy of it."""
    folder.mkdir()
    for name in ("photo.jpg", "street.jpg", "a.jpg", "b.jpg"):
        shutil.copy(PHOTO, folder / name)
    (folder / "list.txt").write_text("photo.jpg\nimages\n")
    for name in ("tools", "benchmarks", "configs", "photos", "docs"):
        (folder / name).symlink_to(ROOT / name)
    boxes = [(1, 1, [10, 10, 30, 30]), (1, 2, [40, 20, 30, 30]), (2, 1, [5, 5, 50, 40]), (3, 3, [20, 10, 40, 40])]
    for where in (folder, folder / "coco"):
        data_sets.coco(where, boxes, number=8, categories=("person", "dog", "cat"))
    shutil.copy(PHOTO, folder / "images")
    found = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9}
    (folder / "new.json").write_text(json.dumps([found]))
    (folder / "minival.json").write_text("[1, 2]")
    cells = {f"Blood_{i}": [("RBC", 5, 5, 40, 40, 0), ("WBC", 30, 10, 70, 50, 0)] for i in range(12)}
    names = list(cells)
    data_sets.voc(folder / "BCCD", cells, {"train": names[:8], "val": names[8:10], "test": names[10:]})
    animals = {f"animal_{i}": [("dog", 5, 5, 40, 40, 0)] for i in range(2)}
    data_sets.voc(folder / "voc2012_animals", animals, {"train": list(animals)})
    for name in ("unlabelled", "coco_unlabelled", "bucket/images"):
        data_sets.make_image(folder / name / f"{Path(name).name}.png", seed=len(name))
    for number in range(12):
        data_sets.make_image(folder / "animals" / ("cat", "dog")[number % 2] / f"{number}.png", seed=number)
    (folder / "imagenet").symlink_to("animals")
    (folder / "data").symlink_to("coco")
    film(folder / "film.mp4")
    network(folder / "small.safetensors", "ssdlite_mobilenet_v2", list(COCO_80.items()))
    network(folder / "cells.safetensors", "ssdlite_mobilenet_v2", list(enumerate(("RBC", "WBC"), 1)))
    network(folder / "small_v1.safetensors", "ssd_mobilenet_v1", [(1, "person")], alpha=0.75)
    shutil.copy(folder / "small.safetensors", folder / "best.safetensors")
    return folder


def film(path: Path) -> None:
    photo = cv2.imread(str(PHOTO))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
    for left in range(0, 60, 20):
        writer.write(cv2.resize(photo[100:400, left : left + 400], (128, 96)))
    writer.release()


def network(path: Path, name: str, classes: list[tuple[int, str]], alpha: float = 0.25) -> None:
    """An untrained detector of 96 pixels."""
    torch.manual_seed(0)
    ssd = build(spec_for(name, num_classes=len(classes), alpha=alpha, input_size=96)).eval()
    ids, names = zip(*classes)
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), names, ids, feature_maps(ssd), name=path.stem))


def teacher(path: Path) -> None:
    """A detector of the DEIM family's form that finds one person in the middle of every image."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("ReduceSum", ["orig_target_sizes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Mul", ["number", "zero"], ["naught"]),
        helper.make_node("Add", ["nothing", "naught"], ["none"]),
        helper.make_node("Add", ["middle", "none"], ["boxes"]),
        helper.make_node("Add", ["sure", "none"], ["scores"]),
        helper.make_node("Cast", ["none_row"], ["labels"], to=TensorProto.INT64),
        helper.make_node("Mul", ["scores", "zero"], ["none_row"]),
    ]
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    constants = {
        "zero": np.float32(0),
        "middle": np.array([[[0.25, 0.25, 0.75, 0.75]]], np.float32),
        "sure": np.array([[0.9]], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "teacher",
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32]),
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 1]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1]),
        ],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def stand_ins(folder: Path) -> None:
    for name, line in STAND_INS.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def as_run(command: str) -> str:
    """A command of a page as it is run here."""
    command = command.partition(" #")[0].rstrip()
    for pattern, instead, _ in SUBSTITUTES:
        command = re.sub(pattern, instead, command, flags=re.DOTALL)
    for pattern, options in ADDED:
        if re.search(pattern, command, re.DOTALL):
            command = f"{command} {options}"
    return command


def run_block(commands: list[tuple[int, str]], folder: Path, environment: dict[str, str]) -> str:
    """Runs the commands (line, text) of a block in one shell; what went wrong, with the line, or ''."""
    lines = [f"echo {line} >&9\n{as_run(command)}" for line, command in commands]
    script = folder / ".block.sh"
    script.write_text("set -euo pipefail\nexec 9>.line\n" + "\n".join(lines) + "\n")
    done = subprocess.run(
        ["timeout", "-k", "1", str(LONGEST), "bash", str(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == 0:
        return ""
    line = int((folder / ".line").read_text().split()[-1])
    return f"line {line}: {dict(commands)[line]}\n  ended with {done.returncode}: {done.stdout.strip()[-1500:]}"
