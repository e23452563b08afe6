"""What the tests of bulk detection share: images, a tiny network that runs without torch, and all rows of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

KEYS = ("name", "class_id", "category_id", "score", "x1", "y1", "x2", "y2")


def save_images(folder: Path, number: int, start: int = 0) -> Path:
    """So many small JPEG files of different sizes, `000.jpg` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + number):
        chance = np.random.default_rng(i)
        blocks = chance.integers(0, 256, (5 + i % 3, 7 + i % 2, 3), np.uint8)
        image = cv2.resize(blocks, None, fx=12, fy=12, interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(folder / f"{i:03d}.jpg"), image)
    return folder


def tiny_weights(folder: Path) -> Path:
    """A network with random weights in OpenVINO's form, so that a child process starts quickly."""
    pytest.importorskip("openvino", reason="needs openvino")
    import torch

    from detection.runtimes.openvino_model import converted
    from detection.ssd.network import build, feature_maps
    from detection.weights.card import Card
    from detection.weights.checkpoint import save_checkpoint
    from detection.weights.names import spec_for
    from detection.weights.resolve import open_weights

    torch.manual_seed(1)
    ssd = build(spec_for("ssdlite_mobilenet_v2", alpha=0.35, input_size=96, num_classes=3)).eval()
    with torch.no_grad():
        for parameter in ssd.parameters():  # so that scores differ from each other by more than rounding
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 7), feature_maps(ssd), name="tiny")
    save_checkpoint(folder / "tiny.safetensors", ssd, card)
    xml = converted(open_weights(folder / "tiny.safetensors"))
    for suffix in (".bin", ".xml"):
        (folder / "tiny").with_suffix(suffix).write_bytes(xml.with_suffix(suffix).read_bytes())
    return folder / "tiny.xml"


def rows_of(folder: Path) -> list[dict]:
    """The rows of every shard, in the order of the images."""
    rows: list[dict] = []
    for file in sorted(folder.glob("part-*")):
        if file.suffix == ".jsonl":
            rows += [json.loads(line) for line in file.read_text().splitlines()]
        else:
            from pyarrow import parquet

            rows += parquet.read_table(file).to_pylist()
    return rows


def shards_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("part-*"))}


def boxes_of(row: dict) -> np.ndarray:
    """score, x1, y1, x2, y2 of each detection, float32 [n, 5]."""
    return np.array([[one[key] for key in KEYS[3:]] for one in row["detections"]], np.float32).reshape(-1, 5)


def moto_server() -> Iterator[dict[str, str]]:
    """An S3 store on loopback with a bucket named `bucket`, and the environment that leads to it."""
    server = pytest.importorskip(
        "moto.server", reason="needs moto[s3], flask and flask-cors for an S3 store of our own"
    )
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs for s3:// addresses")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield environment
    s3fs.S3FileSystem.clear_instance_cache()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})
    store.stop()
