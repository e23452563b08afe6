"""What an idle camera costs with `live --motion`, what a moving one does, and how soon somebody who enters is seen.

    python benchmarks/motion.py --images DIR [--cameras 1 2 4 8] [--codecs mjpeg h264] [--seconds 16] [--rounds 3]

Cameras of 1280 x 720 at 15 frames a second over HTTP from a process of their own (camera_server.py), motion JPEG or H.264:
photographs of DIR with a sensor's noise, one for each camera. Then nothing moves, or a person, cut out of the photograph
in which it is found best, walks through every eight seconds; each camera has a person of its own.
Processor time of live with all of its processes, as a share of one core and a camera, which a busy machine changes less than
the clock; the seconds of opening are left out. Delays are from the frame in which half of the person is there to the
first line of --jsonl that has one, so that they hold what the network itself does not recognise before more of the person
is there: without --motion beside it. All settings in turns, --rounds times; shares are medians, delays of all rounds.
Ends with code 1 where a bar is missed: 8 % of a core a camera with nothing moving, 0.3 s, and nobody missed whom live
without --motion sees.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.camera_server import FLV, h264_tags, serve
from benchmarks.live_soak import ROOT, processor_seconds
from detection import Detector
from detection.benchmark.harness import run_script, table
from detection.benchmark.machine import describe, machine
from detection.images.decode import read_image
from detection.images.sources import find_sources

SIZE = (720, 1280)
FPS, NOISE = 15, 4.0
PERIOD, WALK = 8.0, 4.0  # seconds: a person comes every PERIOD and is there for WALK
SETTLE = 8.0  # seconds after the first image: opening, and the first looks
BARS = {"share": 0.08, "delay": 0.3}
ENDINGS = {"mjpeg": "", "h264": FLV}


@dataclass
class Scene:
    """What a camera shows. still: a second, or of H.264 a PERIOD, in which nothing moves; walks: a PERIOD with the person at
    its end, in each of the codecs. half: number of the frame of a PERIOD with half of the person. head: see `h264_tags`."""

    half: int
    still: dict[str, list[bytes]] = field(default_factory=dict)
    walks: dict[str, list[bytes]] = field(default_factory=dict)
    head: bytes = b""


def cuttings(folder: Path, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(a photograph without people, a person of 300 pixels' height), uint8 RGB: the best people that are found."""
    detector, people, empty = Detector(score=0.2), list[tuple[float, np.ndarray]](), list[np.ndarray]()
    for source in find_sources([str(folder)], recursive=True)[:200]:
        image = read_image(source.path)
        found = detector(image, classes="person")
        if not len(found) and len(empty) < number:
            empty.append(cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA))
        for box, score in zip(found.boxes.astype(int), found.scores):
            x1, y1, x2, y2 = box.clip(0)
            if 1.5 < (y2 - y1) / max(x2 - x1, 1) < 4 and y2 - y1 > 150:
                people.append((float(score), image[y1:y2, x1:x2]))
    people.sort(key=lambda one: -one[0])
    assert empty and people, "the folder needs photographs without people and some with"
    cut = [
        cv2.resize(p, (300 * p.shape[1] // p.shape[0], 300), interpolation=cv2.INTER_AREA) for _, p in people[:number]
    ]
    return [(empty[k % len(empty)], cut[k % len(cut)]) for k in range(number)]


def staged(background: np.ndarray, person: np.ndarray, codecs: Sequence[str]) -> Scene:
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, NOISE, background.shape).astype(np.float32) for _ in range(5)]
    width, steps, before = person.shape[1], round(WALK * FPS), round((PERIOD - WALK) * FPS)

    def noisy(image: np.ndarray, k: int) -> np.ndarray:
        return np.clip(image + noise[k % 5], 0, 255).astype(np.uint8)

    def walking() -> Iterable[np.ndarray]:
        for k in range(steps):
            x = round(-width + (SIZE[1] + width) * (k + 1) / (steps + 1))
            image, left = background.copy(), max(x, 0)
            part = person[:, left - x : left - x + SIZE[1] - left]
            image[380:680, left : left + part.shape[1]] = part
            yield noisy(image, k)

    scene = Scene(before + round(width / 2 / (SIZE[1] + width) * (steps + 1)))
    still, walk = [noisy(background, k) for k in range(before)], list(walking())
    if "mjpeg" in codecs:
        scene.still["mjpeg"] = [_jpeg(image) for image in still[:FPS]]
        scene.walks["mjpeg"] = [*map(_jpeg, still), *map(_jpeg, walk)]
    if "h264" in codecs:
        scene.head, scene.still["h264"] = h264_tags((still * 3)[: before + steps], FPS)
        _, scene.walks["h264"] = h264_tags([*still, *walk], FPS)
    return scene


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def show(scenes: list[Scene], port: Any, moving: Any, entered: Any) -> None:
    """The process of the cameras. entered: gets who came where, and when half of it was sent."""

    def frame_of(path: str, number: int) -> bytes:
        codec = "h264" if path.endswith(FLV) else "mjpeg"
        scene = scenes[int(path.removeprefix("/cam").removesuffix(FLV)) % len(scenes)]
        if not moving.value:
            return scene.still[codec][number % len(scene.still[codec])]
        at = number % len(scene.walks[codec])
        if at == scene.half:
            entered.put((path.removesuffix(FLV), time.time()))
        return scene.walks[codec][at]

    serve(frame_of, port, FPS, scenes[0].head)


def measure(port: int, cameras: int, codec: str, seconds: float, motion: bool, entered: Any) -> dict[str, Any]:
    """One run of live: share of a core a camera, the delay in seconds of each who came, None of those that were not seen."""
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.jsonl"
        sources = [f"cam{k}=http://127.0.0.1:{port}/cam{k}{ENDINGS[codec]}" for k in range(cameras)]
        command = [sys.executable, "-m", "detection.cli.main", "live", *sources, "--headless", "--jsonl", str(seen)]
        program = subprocess.Popen(command + ["--motion"] * motion, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            while not seen.exists() or not seen.stat().st_size:
                time.sleep(0.1)
            time.sleep(SETTLE)
            while not entered.empty():
                entered.get()
            begin, used = time.monotonic(), processor_seconds(program.pid)
            time.sleep(seconds)
            used = processor_seconds(program.pid) - used
            share = used / (time.monotonic() - begin) / cameras
            came = []
            while not entered.empty():
                came.append(entered.get())
            time.sleep(WALK)
        finally:
            program.terminate()
            program.wait(30)
        rows = [json.loads(line) for line in seen.read_text().splitlines()]
    people = [
        (f"/{row['source']}", datetime.fromisoformat(row["at"].replace("Z", "+00:00")).timestamp())
        for row in rows
        if any(one["name"] == "person" for one in row["detections"])
    ]
    delays = []
    for camera, when in came:
        # Somebody may be seen before half of them is there.
        after = [at - when for name, at in people if name == camera and when - 1 < at < when + WALK]
        delays.append(max(min(after), 0.0) if after else None)
    return {"share": round(share, 4), "delays": delays}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--cameras", nargs="+", type=int, default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--codecs", nargs="+", choices=ENDINGS, default=list(ENDINGS))
    parser.add_argument("--seconds", type=float, default=16.0, metavar="S", help="of each run (default: 16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    scenes = [staged(*one, args.codecs) for one in cuttings(args.images, max(args.cameras))]
    port, moving = multiprocessing.Value("i", 0), multiprocessing.Value("b", False)
    entered: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=show, args=(scenes, port, moving, entered), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.05)
    settings = list(itertools.product(args.codecs, args.cameras, (False, True), (False, True)))
    runs: dict[Any, list[dict[str, Any]]] = {setting: [] for setting in settings}
    on = machine()
    try:
        for number in range(args.rounds):
            for setting in settings[number % len(settings) :] + settings[: number % len(settings)]:
                codec, cameras, moving.value, motion = setting
                runs[setting].append(measure(port.value, cameras, codec, args.seconds, motion, entered))
                print(setting, runs[setting][-1], file=sys.stderr, flush=True)
    finally:
        server.kill()
    rows = [summed(*setting, found) for setting, found in runs.items()]
    head = ("codec", "cameras", "scene", "live", "core a camera", "came", "missed", "delay s", "worst s")
    print(table([head, *said(rows)], 4))
    print(*describe(on), sep="\n")
    bars = judged(rows)
    print(*(f"{name}: {'met' if met else 'MISSED'}" for name, met in bars.items()), sep="\n")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": on, "rows": rows, "met": bars}, indent=1) + "\n")
    return 0 if all(bars.values()) else 1


def summed(codec: str, cameras: int, moving: bool, motion: bool, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    delays = [delay for run in runs for delay in run["delays"]]
    some = [delay for delay in delays if delay is not None]
    return {
        "codec": codec,
        "cameras": cameras,
        "moving": moving,
        "motion": motion,
        "share": statistics.median(run["share"] for run in runs),
        "came": len(delays),
        "missed": delays.count(None),
        "delay": round(statistics.median(some), 3) if some else None,
        "worst": round(max(some), 3) if some else None,
    }


def judged(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    ours = [row for row in rows if row["motion"]]
    walks = [row for row in ours if row["moving"]]
    without = {(row["codec"], row["cameras"]): row["missed"] for row in rows if row["moving"] and not row["motion"]}
    return {
        "idle, 8 % of a core a camera": all(row["share"] <= BARS["share"] for row in ours if not row["moving"]),
        "seen within 0.3 s, worst": all((row["worst"] or 0) <= BARS["delay"] for row in walks),
        "nobody missed": all(row["missed"] <= without[row["codec"], row["cameras"]] for row in walks),
    }


def said(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            row["codec"],
            str(row["cameras"]),
            "somebody walks" if row["moving"] else "nothing moves",
            "--motion" if row["motion"] else "",
            f"{row['share']:.1%}",
            *(str(row[name]) if row["came"] else "" for name in ("came", "missed", "delay", "worst")),
        )
        for row in rows
    ]


if __name__ == "__main__":
    run_script(main)
