"""Runs `mobilessd detect --shards` in processes that may die: imports once, then forks for each. A test starts it.

    python tests/bulk_child.py IMAGES WEIGHTS OUT DEATHS

OUT is a folder or an address. Prints JSON: how the killed runs ended, how many shards each left, how the last ended,
and whether torch was imported.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2  # noqa: F401
from children import die_at_rename, ended, fork

import detection.bulk.run  # noqa: F401
from detection.cli.main import main
from detection.runtimes.openvino import OpenVINORuntime

SIZE = 3  # images of a shard
OPTIONS = ["--recursive", "--shard-size", str(SIZE), "--batch", "2", "--score", "0.01"]


def detect(images: str, weights: str, out: str, dies_at_rename: int = 0) -> int:
    if dies_at_rename:
        die_at_rename(dies_at_rename, "part-")
    run = OpenVINORuntime.in_stream

    def slowly(*arguments: Any) -> Any:  # else it would be over before it can be killed
        time.sleep(0.1)
        return run(*arguments)

    OpenVINORuntime.in_stream = slowly  # type: ignore[method-assign]
    code = main(["detect", images, "--weights", weights, "--shards", out, *OPTIONS])
    return code + 100 * ("torch" in sys.modules)


def shards(out: str) -> int:
    if "://" not in out:
        return len(list(Path(out).glob("part-*")))
    bucket, _, folder = out.partition("://")[2].partition(
        "/"
    )  # by hand: fsspec's threads would not survive the next fork
    query = f"{os.environ['AWS_ENDPOINT_URL']}/{bucket}?list-type=2&prefix={folder}/part-"
    return urllib.request.urlopen(query).read().count(b"<Key>")


def killed(images: str, weights: str, out: str, deaths: int) -> dict[str, Any]:
    chance = random.Random(0)
    ends, left = [], []
    for number in range(deaths):
        if number == 0 and "://" not in out:
            child = fork(lambda: detect(images, weights, out, dies_at_rename=2))
        else:
            before = shards(out)
            child = fork(lambda: detect(images, weights, out))
            until = time.monotonic() + 60  # a slow machine may have seen all of them at once, and no more come
            while shards(out) == before and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
        ends.append(ended(child))
        left.append(shards(out))
    return {"ends": ends, "left": left, "end": ended(fork(lambda: detect(images, weights, out)))}


if __name__ == "__main__":
    print(json.dumps(killed(*sys.argv[1:4], int(sys.argv[4]))))
