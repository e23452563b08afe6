"""Watches `mobilessd live` for a long time: two cameras of 30 frames a second, speed, delay, memory, and a clean end.

The cameras are a process of their own on this machine: motion JPEG of 640 x 480 over HTTP, paced as cameras are, made
from a folder of images that the process pans over. `mobilessd live --page` is run as people run it and asked for its
/metrics; with --viewers, so many WebSocket clients watch in the second half, and both halves are compared.

    python benchmarks/live_soak.py --weights ssdlite_mobilenet_v2.coco --images photos/ --minutes 20
    python benchmarks/live_soak.py --weights ... --images photos/ --minutes 2 --viewers 10

Prints JSON, and exits with 1 if a bar was missed: each source at 15 frames a second or more, delay p95 of 120 ms or
less, memory that grows by 5 % or less after the first minute, no thread or process left, at most 10 % slower with viewers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.camera_server import serve
from detection.benchmark.harness import ROOT
from detection.benchmark.machine import machine
from detection.benchmark.memory import family, proportional_mib

PAGE = re.compile(r"^(\w+)(?:\{(.*)\})? ([-+.e0-9]+)$")


def camera(images: list[str], port: multiprocessing.Value, fps: int = 30, size: tuple[int, int] = (640, 480)) -> None:
    """The process of the cameras: any number of clients get the same endless stream, each at `fps`."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    jpegs = []
    for path in images:
        image = cv2.imread(path)
        scale = 1.15 * max(size[0] / image.shape[1], size[1] / image.shape[0])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        free_y, free_x = image.shape[0] - size[1], image.shape[1] - size[0]
        for k in range(60):
            turn = 2 * np.pi * k / 60
            y, x = int(free_y * (0.5 + 0.5 * np.sin(turn))), int(free_x * (0.5 + 0.5 * np.cos(turn)))
            crop = image[y : y + size[1], x : x + size[0]]
            jpegs.append(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())

    serve(lambda path, number: jpegs[(hash(path) + number) % len(jpegs)], port, fps)


def viewers(url: str, keys: list[str], count: int, taken: multiprocessing.Value) -> None:
    """The process of the viewers: each takes frames as a browser does, and says when it is done with one."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    def watch(key: str) -> None:
        with (
            contextlib.suppress(ConnectionClosed),
            connect(f"{url.replace('http', 'ws')}ws/view/{key}", compression=None, max_size=None) as socket,
        ):
            while True:
                if isinstance(socket.recv(), bytes):
                    with taken.get_lock():
                        taken.value += 1
                    socket.send("next")

    threads = [threading.Thread(target=watch, args=(keys[i % len(keys)],), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def read_metrics(url: str) -> dict[str, dict[str, float]]:
    """{metric: {labels: value}} of /metrics."""
    text = urllib.request.urlopen(f"{url}metrics", timeout=10).read().decode()
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if match := PAGE.match(line):
            found.setdefault(match[1].removeprefix("mobilessd_"), {})[match[2] or ""] = float(match[3])
    return found


def memory(pid: int) -> tuple[float, int]:
    """(MiB, threads) of a process and all below it."""
    every = family(pid)
    threads = sum(len(list(Path(f"/proc/{one}/task").glob("*"))) for one in every)
    return sum(map(proportional_mib, every)), threads


def processor_seconds(pid: int) -> float:
    """What a process and all below it have used of the processor so far."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True, type=Path, help="a folder of photos for the cameras to show")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--sources", type=int, default=2)
    parser.add_argument("--viewers", type=int, default=0)
    parser.add_argument("--track", action="store_true")
    args = parser.parse_args()
    images = [str(path) for path in sorted(args.images.iterdir()) if path.suffix in (".jpg", ".png")][:12]
    port, taken = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    cameras = multiprocessing.Process(target=camera, args=(images, port), daemon=True)
    cameras.start()
    while not port.value:
        time.sleep(0.05)
    sources = [f"cam{i}=http://127.0.0.1:{port.value}/{i}.mjpg" for i in range(args.sources)]
    command = [sys.executable, "-m", "detection.cli.main", "live", *sources, "--page", "--port", "0"]
    command += ["--weights", args.weights, *(["--track"] if args.track else [])]
    program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    url = next(line.split()[-1] for line in program.stdout if line.startswith("watch it at"))
    keys = [f"cam{i}" for i in range(args.sources)]
    rows: list[dict] = []
    audience = None
    begin, last = time.monotonic(), read_metrics(url)
    on, used = machine(), processor_seconds(program.pid)
    try:
        while (now := time.monotonic() - begin) < args.minutes * 60:
            time.sleep(1)
            if args.viewers and audience is None and now > args.minutes * 30:
                audience = multiprocessing.Process(target=viewers, args=(url, keys, args.viewers, taken), daemon=True)
                audience.start()
            new = read_metrics(url)
            seconds = new["uptime_seconds"][""] - last["uptime_seconds"][""]
            rates = {k: (new["frames_total"][k] - v) / seconds for k, v in last["frames_total"].items()}
            delay = {k: v for k, v in new["stage_seconds"].items() if 'stage="total"' in k and '"0.95"' in k}
            size, threads = memory(program.pid)
            row = {"t": now, "fps": min(rates.values()), "p95": max(delay.values()), "mb": size, "threads": threads}
            rows.append(row | {"watched": audience is not None})
            last = new
    finally:
        below = family(program.pid)[1:]
        used = processor_seconds(program.pid) - used
        program.send_signal(signal.SIGTERM)
        code = program.wait(30)
        if audience:
            audience.kill()
        cameras.kill()
    left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
    settled = [row for row in rows if row["t"] > min(60, args.minutes * 15)]
    alone = [row for row in settled if not row["watched"]]
    watched = [row for row in settled if row["watched"] and row["t"] > args.minutes * 30 + 5]
    first, final = settled[: max(len(settled) // 10, 1)], settled[-max(len(settled) // 10, 1) :]
    report = {
        "minutes": args.minutes,
        "fps_slowest_source": round(statistics.median(row["fps"] for row in alone), 1),
        "delay_p95_ms": round(1000 * statistics.median(row["p95"] for row in alone), 1),
        "delay_p95_worst_ms": round(1000 * max(row["p95"] for row in alone), 1),
        "memory_mb": [round(statistics.mean(row["mb"] for row in part), 1) for part in (first, final)],
        "threads": [first[0]["threads"], final[-1]["threads"]],
        "dropped": last.get("dropped_frames_total"),
        "reconnects": last.get("source_reconnects_total"),
        "exit_code": code,
        "left_behind": left,
        "machine": on,
        "processor_ms_per_frame": round(1000 * used / max(sum(last["frames_total"].values()), 1), 1),
    }
    if watched:
        report["fps_with_viewers"] = round(statistics.median(row["fps"] for row in watched), 1)
        report["frames_to_viewers"] = taken.value
    grown = report["memory_mb"][1] / report["memory_mb"][0] - 1
    bars = {
        "15 fps": report["fps_slowest_source"] >= 15,
        "p95 120 ms": report["delay_p95_ms"] <= 120,
        "memory 5 %": grown <= 0.05,
        "clean end": code == 0 and not left,
    }
    if watched:
        bars["viewers 10 %"] = report["fps_with_viewers"] >= 0.9 * report["fps_slowest_source"]
    print(json.dumps(report | {"memory_growth": round(grown, 4), "bars": bars}, indent=1))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
