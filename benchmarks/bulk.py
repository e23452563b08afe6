"""Bulk detection that is killed: the same rows as a run left alone, and its images a second.

    python benchmarks/bulk.py --weights W --images DIR [--count 2000] [--parts plain,killed,s3,ray]

plain: `mobilessd detect DIR --shards OUT`, left alone. killed: the same, killed with -9 at three random moments and
started again each time. s3: both from and to s3:// addresses of a store on loopback (moto's server, a process beside).
ray: `--engine ray` with two workers of one core, left alone; and again, one worker killed with -9 in the middle. What Ray
costs, and a whole machine that dies: bulk_ray.py.

Wanted: every image exactly once, and rows equal to those of the plain run to the last bit, in every part; and as many
kills as said above (a run of very few images may be over before its third).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import ROOT, run_script, table
from detection.benchmark.machine import describe, machine
from detection.benchmark.memory import family

PARTS = ("plain", "killed", "s3", "ray")
TWO_WORKERS = ("--engine", "ray", "--workers", "2", "--threads", "1")
NOTES = """images/s: as the run says it, from the first image to the last shard written, the start of the process left
out (of Ray's workers it is in); of a killed run all images over the wall time of all its processes, starts included.
running: from the first shard to the last, by the times of the files. wall: whole processes, Ray's cluster included.
s3: the store is written in Python and computes on the same cores. ray: two workers of one core each."""


@dataclass
class TableRow:
    """One line of the table. rate, running: images a second, of all and once the first shard is there (None: of files
    whose times are not at hand). deaths: processes killed on the way. same: its rows are those of the plain run."""

    name: str
    rate: float
    running: float | None
    wall: float
    deaths: int
    same: bool


@dataclass
class Bench:
    """Where things lie, and how runs are made."""

    folder: Path
    weights: str
    size: int
    count: int
    chance: random.Random
    pause: float = 0.0  # seconds that the plain run took for one shard

    def command(self, source: str, out: str, *more: str) -> list[str]:
        script = str(ROOT / "tools" / "detect.py")
        options = ["--weights", self.weights, "--shards", out, "--shard-size", str(self.size), "--score", "0.1", *more]
        return [sys.executable, script, source, *options]

    def alone(self, name: str, source: str, out: str, read: Callable[[], dict], expected: dict, *more: str) -> TableRow:
        """A run that nobody disturbs."""
        begin = time.perf_counter()
        done = subprocess.run(self.command(source, out, *more), capture_output=True, text=True)
        wall = time.perf_counter() - begin
        rate = rate_of(done.stdout, done.stderr)
        return TableRow(name, rate, self.running(Path(out)), wall, 0, not expected or read() == expected)

    def killed(
        self, name: str, source: str, out: str, shards: Callable[[], int], read: Callable, expected: dict
    ) -> TableRow:
        """A run killed at three random moments, and started again each time."""
        total, deaths, begin = -(-self.count // self.size), 0, time.perf_counter()
        for after in sorted(self.chance.sample(range(total * 3 // 4), 3)):
            process = subprocess.Popen(self.command(source, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while shards() < after and process.poll() is None:
                time.sleep(0.02)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0, self.pause))
            process.kill()
            process.communicate()
            deaths += process.returncode == -signal.SIGKILL
        done = subprocess.run(self.command(source, out), capture_output=True, text=True)
        wall = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"error: {name} failed:\n{done.stderr[-2000:]}")
        return TableRow(name, self.count / wall, None, wall, deaths, read() == expected)

    def ray_killed(self, source: str, out: Path, expected: dict) -> TableRow:
        """A run on two workers, of which one is killed once a third of the shards are there."""
        begin, third = time.perf_counter(), -(-self.count // self.size) // 3
        command = self.command(source, str(out), *TWO_WORKERS)
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
            while len(list(out.glob("part-*"))) < max(1, third) and process.poll() is None:
                time.sleep(0.05)
            victims = workers_of(process.pid)[:1]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            process.wait()
            said.seek(0)
            text = said.read()
        wall = time.perf_counter() - begin
        same = rows_of(out) == expected
        rate = rate_of(text, text)
        return TableRow("ray, one of two workers killed", rate, self.running(out), wall, len(victims), same)

    def running(self, out: Path) -> float | None:
        """Images a second from the first shard to the last, by the times of the files."""
        times = sorted(file.stat().st_mtime for file in out.glob("part-*"))
        return (self.count - self.size) / (times[-1] - times[0]) if len(times) > 1 else None


def main() -> int:
    args = parse()
    os.environ["RAY_ADDRESS"] = "local"  # a cluster of its own, whatever else runs here
    on, rows = machine(), []
    with tempfile.TemporaryDirectory(prefix="bulk-") as name:
        bench = Bench(Path(name), args.weights, args.shard_size, args.count, random.Random(args.seed))
        source = lay_out(Path(args.images), bench.folder / "in", args.count)
        for row in measure(bench, str(source), args.parts.split(",")):
            print(f"{row.name}: {row.rate:.1f} images/s, {words(row)} rows", file=sys.stderr)
            rows.append(row)
    head = [("", "images/s", "running", "wall s", "killed", "rows")]
    lines = [
        (r.name, f"{r.rate:.1f}", f"{r.running:.1f}" if r.running else "", f"{r.wall:.1f}", str(r.deaths), words(r))
        for r in rows
    ]
    print(*describe(on), sep="\n")
    print(f"{args.count} images in shards of {args.shard_size}, {args.weights}\n")
    print(table(head + lines))
    print(f"\n{NOTES}")
    if args.json:
        said = {"machine": on, "count": args.count, "rows": [vars(row) for row in rows]}
        Path(args.json).write_text(json.dumps(said, indent=1) + "\n")
    return 0 if all(row.same for row in rows) else 1


def measure(bench: Bench, source: str, parts: list[str]) -> Iterator[TableRow]:
    """The rows of the table, as they are known; the plain run is always the first, the others are held against it."""
    out = bench.folder / "plain"
    plain = bench.alone("plain", source, str(out), lambda: rows_of(out), {})
    bench.pause = bench.size / plain.rate
    yield plain
    expected = rows_of(out)
    names = sorted(str(path) for path in Path(source).iterdir())
    assert sorted(expected) == names, "every image exactly once"
    if "killed" in parts:
        there = bench.folder / "killed"
        shards = lambda: len(list(there.glob("part-*")))  # noqa: E731
        yield bench.killed("killed three times", source, str(there), shards, lambda: rows_of(there), expected)
    if "s3" in parts:
        with store(bench.folder / "in") as bucket:
            renamed = {f"s3://bucket/in/{Path(name).name}": row for name, row in expected.items()}
            given = ("s3://bucket/in", "s3://bucket/alone")
            yield bench.alone("s3", *given, lambda: bucket.rows("alone"), renamed)
            given = ("s3://bucket/in", "s3://bucket/killed")
            yield bench.killed(
                "s3, killed three times",
                *given,
                lambda: bucket.shards("killed"),
                lambda: bucket.rows("killed"),
                renamed,
            )
    if "ray" in parts:
        there = bench.folder / "ray"
        yield bench.alone(
            "ray, two workers",
            source,
            str(there),
            lambda: rows_of(there),
            expected,
            *TWO_WORKERS,
        )
        yield bench.ray_killed(source, bench.folder / "ray killed", expected)


def words(row: TableRow) -> str:
    return "same" if row.same else "OTHER"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="W")
    parser.add_argument("--images", required=True, metavar="DIR", help="taken in turns where there are too few")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=50)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}, with commas")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    if args.count < 8 * args.shard_size:
        raise SystemExit("error: too few images to be killed in the middle: at least 8 shards of them")
    if unknown := set(args.parts.split(",")) - set(PARTS):
        raise SystemExit(f"error: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def lay_out(images: Path, folder: Path, count: int) -> Path:
    """A folder with so many links to images, each under a name of its own."""
    found = sorted(p for p in images.resolve().iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not found:
        raise SystemExit(f"error: no images in {images}")
    folder.mkdir()
    for i in range(count):
        image = found[i % len(found)]
        (folder / f"{i:06d}{image.suffix.lower()}").symlink_to(image)
    return folder


def rate_of(said: str, complaints: str) -> float:
    """The images a second that a run says at its end; SystemExit with its last words where it failed."""
    found = re.search(r"images, .* in [\d.]+ s \(([\d.]+) images/s\)", said)
    if not found:
        raise SystemExit(f"error: a run failed:\n{said[-1000:]}\n{complaints[-2000:]}")
    return float(found[1])


def rows_of(folder: Path) -> dict[str, dict]:
    """The rows of all shards by image; an image that is there twice is an error."""
    from pyarrow import parquet

    rows: dict[str, dict] = {}
    for file in sorted(folder.glob("part-*")):
        for row in parquet.read_table(file).to_pylist():
            name = row.pop("file")
            assert name not in rows, f"{name} is there twice"
            rows[name] = row
    return rows


def workers_of(pid: int) -> list[int]:
    """The processes below `pid` in which Ray makes shards. Linux only."""
    found = []
    for one in family(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{one}/cmdline").read_text().startswith("ray::Worker"):
                found.append(one)
    return found


class Bucket:
    """What lies in the bucket of the store, seen from outside."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.client = boto3.client("s3", endpoint_url=endpoint)

    def shards(self, folder: str) -> int:
        return self.client.list_objects_v2(Bucket="bucket", Prefix=f"{folder}/part-")["KeyCount"]

    def rows(self, folder: str) -> dict[str, dict]:
        listed = self.client.list_objects_v2(Bucket="bucket", Prefix=f"{folder}/part-")["Contents"]
        with tempfile.TemporaryDirectory() as name:
            for one in listed:
                body = self.client.get_object(Bucket="bucket", Key=one["Key"])["Body"].read()
                (Path(name) / Path(one["Key"]).name).write_bytes(body)
            return rows_of(Path(name))


@contextlib.contextmanager
def store(images: Path) -> Iterator[Bucket]:
    """An S3 store on loopback with the images in s3://bucket/in, and the environment that leads runs to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        bucket = Bucket(os.environ["AWS_ENDPOINT_URL"])  # waits and tries again until the server is there
        bucket.client.create_bucket(Bucket="bucket")
        for image in images.iterdir():
            bucket.client.put_object(Bucket="bucket", Key=f"in/{image.name}", Body=image.read_bytes())
        yield bucket
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    run_script(main)
