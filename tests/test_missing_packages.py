"""What is not installed: every command, without each package that it asks for, says in one line which extra brings it."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import children
import pytest

from detection.errors import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
TRAIN = "--data BCCD --steps 1 --batch 2 --workers 0 --compile no --device cpu --input-size 64 --set precision=float32"
COMMANDS = [
    "detect photo.jpg --weights small.safetensors",
    "detect photo.jpg",
    "detect photo.jpg --weights detect.tflite",
    "detect images --shards shards",
    "detect memory://bucket/a.jpg",
    "detect images --shards cluster --engine ray",
    "live film.mp4 --headless --frames 1",
    "live film.mp4 --page --port 0 --frames 1",
    "live film.mp4 --headless --frames 1 --track",
    "live film.mp4 --headless --frames 1 --mqtt mqtt://127.0.0.1:9",
    "eval --data BCCD --weights cells.safetensors",
    "eval --data coco/instances.json --results new.json --engine faster --report report",
    f"train {TRAIN} --weights small.safetensors --output run",
    "classify --train animals --model mobilenet_v1 --set options.alpha=0.25 --steps 1 --batch 2 --output named",
    "info ssdlite_mobilenet_v2",
    "tables --plot plot.png",
    "export small.safetensors --output small.onnx",
    "export small.safetensors --output small.xml",
    "quantize small.safetensors --images images --output int8.xml --samples 2 --force --no-timing",
    "benchmark small.safetensors --runtimes openvino --rounds 1 --seconds 0.01 --threads 1",
    "pseudo-label unlabelled --teacher teacher.onnx --output pseudo.json",
    "data check BCCD",
    "data convert BCCD --split test --to coco --output test.json",
]
# What a command cannot do without, and the extra that brings all it needs.
NEEDED = [
    ("train", "torch", "train"),
    ("classify", "torch", "torch"),
    ("detect photo.jpg --weights detect.tflite", "tflite", "tflite"),
    ("detect images --shards shards", "pyarrow", "bulk"),
    ("detect memory", "fsspec", "bulk"),
    ("live film.mp4 --page", "uvicorn", "live"),
    ("live film.mp4 --headless --frames 1 --mqtt", "paho.mqtt", "mqtt"),
    ("eval --data BCCD", "pycocotools", None),
    ("eval --data coco", "faster_coco_eval", "eval"),
    ("eval --data coco", "jinja2", "eval"),
    ("info ssdlite", "torch", "torch"),
    ("tables", "torch", "torch"),
    ("export small.safetensors --output small.onnx", "onnx", "export"),
    ("export small.safetensors --output small.xml", "openvino", "export"),
    ("quantize small.safetensors --images images --output int8.xml", "nncf", "export"),
    ("pseudo-label", "openvino", "runtime"),
]


def extras_of_setup() -> dict[str, list[str]]:
    import setuptools

    with mock.patch.object(setuptools, "setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return setup.call_args.kwargs["extras_require"]


def test_every_extra_that_a_message_may_name_brings_the_package():
    extras = extras_of_setup()
    for module, extra in EXTRAS.items():
        other = {"google.protobuf": "protobuf", "mlflow": "mlflow-skinny", "paho.mqtt": "paho-mqtt"}
        package = other.get(module, module.replace("_", "-"))
        assert any(re.split(r"[\[<>=]", wanted)[0] == package for wanted in extras[extra]), (module, extra)


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """[(command, missing package or None, exit code, stderr)]"""
    import shutil

    folder = tmp_path_factory.mktemp("missing") / "here"
    shutil.copytree(world, folder, symlinks=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MOBILESSD_HOME": str(folder / "home"),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "missing_child.py"), str(folder)],
        input=json.dumps([command.split() for command in COMMANDS]),
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert done.returncode == 0
    return [(" ".join(words), *rest) for words, *rest in map(json.loads, done.stdout.splitlines())]


def test_without_a_package_a_command_works_or_says_in_one_line_which_extra_brings_it(runs):
    extras, wrong = extras_of_setup(), []
    worked = {command for command, missing, code, _ in runs if missing is None and code == 0}
    for command, missing, code, said in runs:
        if missing is None or command not in worked:
            continue
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        named = re.findall(r'pip install "mobilessd\[([\w,]+)\]"', " ".join(errors))
        told = code == 2 and len(errors) == 1 and len(named) == 1 and set(named[0].split(",")) <= set(extras)
        if code != 0 and not told:
            wrong.append(f"{command} without {missing}: {code}: {said[-300:]}")
        if "Traceback" in said:
            wrong.append(f"{command} without {missing}: a traceback: {said[-300:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("command", "package", "extra"), NEEDED)
def test_the_line_names_the_extra(runs, command, package, extra):
    found = [(code, said) for words, missing, code, said in runs if words.startswith(command) and missing == package]
    assert found, "the command does not ask for it"
    for code, said in found:
        if extra is not None:
            assert code == 2 and f"mobilessd[{extra}]" in said.splitlines()[-1], said


def test_a_machine_without_libgl_is_told_which_opencv_to_take(tmp_path):
    (tmp_path / "cv2.py").write_text(
        'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")\n'
    )
    done = children.run(
        [sys.executable, "-m", "detection.cli.main", "detect", "photo.jpg"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert done.returncode == 2 and done.stderr == (
        "error: OpenCV cannot be loaded, as this machine lacks libGL.so.1: "
        "pip install --force-reinstall --no-deps opencv-python-headless\n"
    )
