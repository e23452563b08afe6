"""What an idle camera costs with `live --motion`, what a moving one does, and how soon somebody who enters is seen.

    python benchmarks/motion.py --images DIR [--cameras 1 2 4 8] [--seconds 30]

Cameras of 1280 x 720 at 15 frames a second, motion JPEG over HTTP from a process of their own: a photograph of DIR with a
sensor's noise. Then nothing moves, or a person, cut out of the photograph in which it is found best, walks through every
eight seconds.
Processor time of live with all of its processes, as a share of one core and a camera, which a busy machine changes less than
the clock; the seconds of opening are left out. Delays are from the frame in which half of the person is there to the
first line of --jsonl that has one; without --motion beside it. Ends with code 1 where a bar is missed: 8 % of a core a
camera with nothing moving, 0.3 s, nobody missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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


def scene(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(a photograph without people, the best person of the others, 300 pixels high), uint8 RGB."""
    detector, best, empty = Detector(score=0.2), (0.0, np.zeros((0, 0, 3), np.uint8)), None
    for source in find_sources([str(folder)], recursive=True)[:200]:
        image = read_image(source.path)
        found = detector(image, classes="person")
        if not len(found) and empty is None:
            empty = image
        for box, score in zip(found.boxes.astype(int), found.scores):
            x1, y1, x2, y2 = box.clip(0)
            if score > best[0] and 1.5 < (y2 - y1) / max(x2 - x1, 1) < 4 and y2 - y1 > 150:
                best = (float(score), image[y1:y2, x1:x2])
    assert empty is not None and best[0], "the folder needs a photograph without people and one with"
    person = best[1]
    person = cv2.resize(person, (300 * person.shape[1] // person.shape[0], 300), interpolation=cv2.INTER_AREA)
    return cv2.resize(empty, SIZE[::-1], interpolation=cv2.INTER_AREA), person


def jpegs(background: np.ndarray, person: np.ndarray) -> tuple[list[bytes], list[bytes]]:
    """A second of stillness, and a walk."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, NOISE, background.shape).astype(np.float32) for _ in range(5)]

    def coded(image: np.ndarray, k: int) -> bytes:
        noisy = np.clip(image + noise[k % 5], 0, 255).astype(np.uint8)
        return cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()

    walk = []
    for k in range(steps := round(WALK * FPS)):
        x = round(-person.shape[1] + (SIZE[1] + person.shape[1]) * (k + 1) / (steps + 1))
        image, left = background.copy(), max(x, 0)
        part = person[:, left - x : left - x + SIZE[1] - left]
        image[380:680, left : left + part.shape[1]] = part
        walk.append(coded(image, k))
    return [coded(background, k) for k in range(FPS)], walk


def serve(still: list[bytes], walk: list[bytes], half: int, port: Any, moving: Any, entered: Any) -> None:
    """The process of the cameras. half: the number of the frame with half of the person; entered: gets when it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            begin, number = time.monotonic(), 0
            try:
                while True:
                    at = number % round(PERIOD * FPS) - round((PERIOD - WALK) * FPS)
                    walks = moving.value and at >= 0
                    jpeg = walk[at] if walks else still[number % len(still)]
                    if walks and at == half:
                        entered.put((self.path, time.time()))
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    self.wfile.write(head + jpeg + b"\r\n")
                    number += 1
                    time.sleep(max(begin + number / FPS - time.monotonic(), 0))
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port.value = server.server_port
    server.serve_forever()


def measure(port: int, cameras: int, seconds: float, motion: bool, entered: Any) -> dict[str, Any]:
    """One run of live: share of a core a camera, delays in seconds, how many came and were not seen."""
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.jsonl"
        sources = [f"cam{k}=http://127.0.0.1:{port}/cam{k}" for k in range(cameras)]
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
    some = [delay for delay in delays if delay is not None]
    return {
        "share": round(share, 4),
        "came": len(delays),
        "missed": delays.count(None),
        "delay": round(statistics.median(some), 3) if some else None,
        "worst": round(max(some), 3) if some else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--cameras", nargs="+", type=int, default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of each run (default: 30)")
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    background, person = scene(args.images)
    still, walk = jpegs(background, person)
    port, moving = multiprocessing.Value("i", 0), multiprocessing.Value("b", False)
    entered: Any = multiprocessing.Queue()
    half = round((person.shape[1] / 2) / (SIZE[1] + person.shape[1]) * (len(walk) + 1))
    server = multiprocessing.Process(target=serve, args=(still, walk, half, port, moving, entered), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.05)
    rows: list[dict[str, Any]] = []
    on = machine()
    try:
        for cameras in args.cameras:
            for moves in (False, True):
                for motion in (False, True):
                    moving.value = moves
                    found = measure(port.value, cameras, args.seconds, motion, entered)
                    rows.append({"cameras": cameras, "moving": moves, "motion": motion, **found})
                    print(rows[-1], file=sys.stderr, flush=True)
    finally:
        server.kill()
    print(
        table([("cameras", "scene", "live", "core a camera", "came", "missed", "delay s", "worst s"), *said(rows)], 3)
    )
    print(*describe(on), sep="\n")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": on, "rows": rows, "bars": BARS}, indent=1) + "\n")
    ours = [row for row in rows if row["motion"]]
    idle = all(row["share"] <= BARS["share"] for row in ours if not row["moving"])
    return 0 if idle and all(not r["missed"] and (r["worst"] or 0) <= BARS["delay"] for r in ours) else 1


def said(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
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
