"""What is frozen: a function per section, from an empty folder to plain data. Only what outlives a move of modules is used:
the command line, `Detector` and `load`."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from golden.tools import (
    COMMAND,
    DATA,
    MODELS,
    PHOTO,
    Found,
    by_nms,
    detections_digest,
    environment,
    file_digest,
    images,
    merge_words,
    mobilessd,
    numbers_in,
    plain,
    qfgaohao_state,
    state_digest,
)

DEFAULT = "ssdlite_mobilenet_v2.mobilessd"
TFLITE = MODELS / "coco_ssd_mobilenet_v1" / "detect.tflite"
TFJS = MODELS / "ssdlite_mobilenet_v2_coco_tfjs"
FPNLITE = MODELS / "teachers" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_dr.tflite"
TEACHERS = [MODELS / "teachers" / f"{name}_coco.onnx" for name in ("picodet_s_416", "deimv2_hgnetv2_femto")]
TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def detections(work: Path) -> Found:
    """Images -> boxes, scores and classes to the bit: by file and runtime, one by one and as a batch."""
    from detection import Detector

    found: Found = {}
    for weights, runtimes in (
        (None, ("openvino", "onnxruntime", "torch")),
        (TFLITE, ("openvino", "onnxruntime", "torch", "litert")),
        (FPNLITE, ("torch", "litert")),
        (TFJS, ("torch",)),
    ):
        chosen = images() if weights is None else images()[:3]
        for runtime, score in product(runtimes, (0.01, 0.3)):
            detector = by_nms(Detector(weights, device="cpu", runtime=runtime, threads=1, score=score))
            name = f"{Path(weights).stem if weights else 'default'} {runtime} {score}"
            found[name] = {image.name: detections_digest(detector(image)) for image in chosen}
            found[name]["batch"] = " ".join(detections_digest(one) for one in detector(chosen[:3]))
    only = by_nms(Detector(device="cpu", threads=1, score=0.05, iou=0.45, max_detections=7, classes=["Dog", "person"]))
    found["own rules"] = {image.name: detections_digest(only(image)) for image in images()}
    mobilessd(
        work,
        "detect",
        DATA / "photos",
        "--no-draw",
        "--threads",
        1,
        "--json",
        "d.json",
        "--csv",
        "d.csv",
        *merge_words(),
    )
    rows = json.loads((work / "d.json").read_text())
    found["command"] = {"json": rows[:3], "json rows": len(rows), "json sum": sum(row["score"] for row in rows)}
    found["command"]["csv"] = list(csv.reader((work / "d.csv").open()))[:4]
    return found


def postprocess(work: Path) -> Found:
    """Random raw outputs -> detections to the bit, under many settings; rounded logits, so that scores are equal, too."""
    from detection import Detector

    detector, rng = by_nms(Detector(device="cpu", threads=1)), np.random.default_rng(0)
    anchors, columns = (part[0].shape for part in detector.runtime(np.zeros((1, 300, 300, 3), np.uint8)))
    encodings = rng.normal(0, 1, anchors).astype(np.float32)
    logits = rng.normal(-4, 2, columns).astype(np.float32)
    raw = {"exact": logits, "ties": np.round(logits, 1), "weak": logits - 9}
    found, usual = {}, detector.settings
    for activation, score, per_class, classes, most, iou in product(
        ("sigmoid", "softmax"), (0.0, 0.01, 0.3), (None, 20), (None, (0, 17, 89)), (10, 100), (0.45, 0.6)
    ):
        rules: Found = {"score": score, "per_class": per_class, "classes": classes, "max_detections": most, "iou": iou}
        detector.settings = dataclasses.replace(usual, activation=activation, **rules)
        for name, values in raw.items():
            key = f"{activation} {name} " + " ".join(f"{rule}={value}" for rule, value in rules.items())
            found[key] = detections_digest(detector.finish(encodings, values, (427, 640)))
    return found


def evaluation(work: Path) -> Found:
    """The COCO numbers of `mobilessd eval` on coco_val500."""
    found: Found = {}
    for name, options in {
        "default": (),
        "default onnxruntime, best": ("--runtime", "onnxruntime", "--score", 0.3, "--classes", "person,dog"),
        TFJS.name: ("--weights", TFJS),
        TFLITE.name: ("--weights", TFLITE),
        "self-test": ("--self-test",),
    }.items():
        data = DATA / "coco_val500"
        mobilessd(work, "eval", "--annotations", data, "--quiet", "--json", "numbers.json", *merge_words(), *options)
        said = json.loads((work / "numbers.json").read_text())
        found[name] = {key: said[key] for key in (*TWELVE, "images", "detections")}
        found[name] |= {f"best F1 {key}": value for key, value in said["best_f1"].items()}
        found[name]["AP by class"] = {key: row["AP"] for key, row in said["per_class"].items()}
    return found


def importers(work: Path) -> Found:
    """Published files -> the network's tensors and the card, from an empty cache; classifiers -> what a training begins
    with; teachers -> the boxes that they write."""
    import torch
    from torchvision.models import detection as theirs

    from detection import load

    files: dict[str, Any] = {"default": DEFAULT, "detect.tflite": TFLITE, "fpnlite.tflite": FPNLITE, "tfjs": TFJS}
    untrained = {"weights": None, "weights_backbone": None}
    for name, make in {
        "torchvision_ssdlite.pth": lambda: theirs.ssdlite320_mobilenet_v3_large(**untrained).state_dict(),
        "torchvision_ssd300.pth": lambda: theirs.ssd300_vgg16(**untrained).state_dict(),
        "mb2-ssd-lite.pth": qfgaohao_state,
    }.items():
        torch.manual_seed(0)
        files[name] = work / name
        torch.save(make(), files[name])
    found: Found = {}
    for name, file in files.items():
        network, card = load(file)
        found[name] = {"state": state_digest(network.state_dict()), "card": plain(card)}
    for file in sorted((MODELS / "imagenet").glob("*.tflite")):
        first = "_v1_" in file.name
        width = next((part for part in ("0.25", "0.5", "0.75") if f"_{part}_" in file.name), "1.0")
        model = ["--model", "ssd_mobilenet_v1" if first else "ssdlite_mobilenet_v2", "--set", f"options.alpha={width}"]
        narrow = ["--set", "options.min_depth=8"] if first else []
        run = work / file.stem
        short_training(run, *model, *narrow, "--weights", file, "--steps", 1)
        found[file.name] = {"after a step": file_digest(run / "last.safetensors")}
        found[file.name]["info"] = json.loads(mobilessd(work, "info", file, "--json").stdout)
    words = ("--teacher", ",".join(map(str, TEACHERS)), "--threads", 1, "--output", "teacher.json")
    mobilessd(work, "teach", PHOTO, DATA / "photos" / "coral_pets.jpg", *words)
    found["teachers"] = json.loads((work / "teacher.json").read_text())["annotations"]
    return found


SHORT = (
    *("--input-size", 96, "--batch", 4, "--workers", 0, "--seed", 0),
    *("--device", "cpu", "--threads", 1, "--precision", "float32", "--compile", "no"),
)
QUARTER = ("--model", "ssd_mobilenet_v1", "--set", "options.alpha=0.25")
FORTY = (*QUARTER, "--steps", 40, "--set", "evaluate_every=20", "--set", "log_every=1")


def short_training(run: Path, *words: object) -> None:
    """A few steps on one thread in float32, on blood cells, into the folder `run`."""
    mobilessd(run.parent, "train", "--data", DATA / "bccd" / "BCCD", "--output", run, *SHORT, *words)


def resume(work: Path) -> Found:
    """A training that is stopped and resumed ends where the one ends that ran through: weights, state and history. So
    does the run that was stopped by the recorded tree, which lies in `recorded`."""
    short_training(work / "whole", *FORTY)
    stopped_training(work / "stopped")
    short_training(work / "stopped", *FORTY, "--resume")
    short_training(work / "recorded", *FORTY, "--resume")
    whole, stopped, recorded = (run_digests(work / name) for name in ("whole", "stopped", "recorded"))
    found: Found = {"whole": whole, "resumed is whole": stopped == whole, "run of the recording, resumed": recorded}
    for name, words in {
        "from a detector": ("--weights", TFLITE),
        "from the default": ("--weights", DEFAULT, "--set", "optimizer.kind=sgd", "--set", "optimizer.lr=0.01"),
        "of 20 classes": (*QUARTER, "--data", DATA / "voc2012_full108", "--unknown", "person,car"),
        "rounded to int8": (*QUARTER, "--set", "round_to_int8=true"),
    }.items():
        short_training(work / name, *words, "--steps", 3, "--set", "log_every=1")
        found[name] = run_digests(work / name)
    return found


def stopped_training(run: Path) -> None:
    """Interrupts a run of 40 steps in the second half, as Ctrl-C does. SystemExit if it was at its end before that."""
    words = ["train", "--data", DATA / "bccd" / "BCCD", "--output", run, *SHORT, *FORTY]
    command = [*COMMAND, *map(str, words)]
    with subprocess.Popen(
        command, cwd=run.parent, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if (step := re.match(r"step (\d+) of", line)) and int(step[1]) == 23:
                process.send_signal(signal.SIGINT)
    if process.returncode != 130:
        raise SystemExit(f"error: {run}: exit code {process.returncode}, but a stopped run ends with 130")


def run_digests(run: Path) -> Found:
    """Of a run's weights and state, and the losses of its history, without what the clock and an interruption decide."""
    names = ("best.safetensors", "last.safetensors", "last.state.safetensors")
    found: Found = {name: file_digest(run / name) for name in names}
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    found["history"] = {row["step"]: {key: row[key] for key in row if "loss" in key or "AP" in key} for row in rows}
    return found


def exports(work: Path) -> Found:
    """How far exported files are from their source, by the command's own words, and what they detect."""
    from detection import Detector, load

    found: Found = {}
    for name, words in {
        "ssd.onnx": (),
        "ssd.xml": (),
        "half.xml": ("--precision", "float16"),
        "nms.onnx": ("--nms", "--score", 0.2),
        "small.onnx": ("--input-size", 236),
        "smaller.safetensors": ("--input-size", "160x224"),
        "ssd.tflite": (),  # exit code 2 where the package that writes it is not installed
    }.items():
        codes = (0, 2) if name == "ssd.tflite" else (0,)
        done = mobilessd(work, "export", DEFAULT, "--threads", 1, "--output", work / name, *words, codes=codes)
        found[name] = {"exit code": done.returncode, "numbers": numbers_in(done.stdout)}
        if done.returncode == 0 and "--nms" not in words:
            found[name]["detections"] = detections_digest(Detector(work / name, device="cpu", threads=1)(PHOTO))
    found["smaller.safetensors"]["state"] = state_digest(load(work / "smaller.safetensors")[0].state_dict())
    mobilessd(work, "export", work / "ssd.onnx", "--bundle", work / "bundle", "--threads", 1)
    found["bundle"] = sorted(file.name for file in (work / "bundle").iterdir())
    command = [sys.executable, "detect.py", str(PHOTO), "--threads", "1", "--output", str(work / "drawn.jpg")]
    said = subprocess.run(command, cwd=work / "bundle", capture_output=True, text=True, check=True).stdout
    return found | {"bundle detects": said.splitlines()[0]}


def data_checks(work: Path) -> Found:
    """The reports of `mobilessd data check`."""
    found: Found = {}
    for name in ("bccd/BCCD", "coco_val500", "coco_pool", "voc2012_animals", "voc2012_full108"):
        done = mobilessd(work, "data", "check", DATA / name, "--json", "--model", DEFAULT)
        found[name] = json.loads(done.stdout.replace(str(DATA), "DATA"))
    return found


def texts(work: Path) -> Found:
    """The help of every command, whole, and the list of models."""
    found = {"": mobilessd(work, "--help").stdout}
    for command in (*re.findall(r"^  ([a-z]+)  ", found[""], re.MULTILINE), "data check"):
        found[command] = mobilessd(work, *command.split(), "--help").stdout
    return found | {"info --list": mobilessd(work, "info", "--list").stdout}


SECTIONS: dict[str, Callable[[Path], Found]] = {
    part.__name__: part
    for part in (postprocess, detections, data_checks, importers, exports, resume, evaluation, texts)
}
