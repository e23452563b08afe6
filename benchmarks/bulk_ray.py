"""What Ray costs in bulk detection, and a cluster of four machines of which one dies.

    python benchmarks/bulk_ray.py --images DIR [--weights W] [--count 2000] [--rounds 5] [--parts one,nodes]

one: `mobilessd detect DIR --shards OUT` and the same with `--engine ray` on a cluster of this machine, in turns; images a
second as each run says them, from the first image to the last shard. nodes: four machines of one core each, all on this one
(`ray.cluster_utils`), left alone, and again with one of them taken away once a third of the shards are there.

Wanted: with Ray at least 0.85 of the speed without it (median of the rounds); every image exactly once, and in all runs the
rows of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bulk import ROOT, Bench, lay_out, rate_of, rows_of
from detection.benchmark.harness import run_script, table
from detection.benchmark.machine import describe, machine

PARTS = ("one", "nodes")
BAR = 0.85


def main() -> int:
    args = parse()
    parts, on, rounds = args.parts.split(","), machine(), []
    nodes: dict[str, Any] = {}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ |= {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    # By default 15: on a busy machine both would not have the same share.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with tempfile.TemporaryDirectory(prefix="bulk-ray-") as name:
        bench = Bench(Path(name), args.weights, args.shard_size, args.count, random.Random(0))
        source = str(lay_out(Path(args.images), bench.folder / "in", args.count))
        expected = None
        for number in range(args.rounds if "one" in parts else 0):
            pair = {}
            for engine in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
                out = bench.folder / f"{engine}{number}"
                pair[engine], rows = run(bench, source, out, "--engine", engine)
                expected = expected or rows
                assert rows == expected, f"{out.name}: other rows"
            rounds.append(pair)
            print(pair, file=sys.stderr, flush=True)
        if "nodes" in parts:
            if expected is None:
                _, expected = run(bench, source, bench.folder / "plain")
            nodes = on_nodes(bench, source, expected)
            print(nodes, file=sys.stderr, flush=True)
    ratio = statistics.median(pair["ray"] / pair["local"] for pair in rounds) if rounds else None
    met = ratio is None or ratio >= BAR
    print(*describe(on), f"{args.count} images in shards of {args.shard_size}, {args.weights}", sep="\n", end="\n\n")
    lines = [("", "images/s")]
    for engine in ("local", "ray") if rounds else ():
        lines.append((engine, f"{statistics.median(pair[engine] for pair in rounds):.1f}"))
    lines += [(name, f"{value:.1f}") for name, value in nodes.items()]
    print(table(lines))
    if ratio is not None:
        print(f"\nwith Ray {ratio:.2f} x without; {'met' if met else 'MISSED'} ({BAR})")
    if args.json:
        said = {"machine": on, "count": args.count, "rounds": rounds, "ratio": ratio, "nodes": nodes, "met": met}
        Path(args.json).write_text(json.dumps(said, indent=1) + "\n")
    return 0 if met else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR", help="taken in turns where there are too few")
    parser.add_argument("--weights", default="ssdlite_mobilenet_v2.mobilessd", metavar="W")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}, with commas")
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    if unknown := set(args.parts.split(",")) - set(PARTS):
        raise SystemExit(f"error: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def run(bench: Bench, source: str, out: Path, *more: str) -> tuple[float, dict[str, dict]]:
    """Images a second of a run, and its rows."""
    done = subprocess.run(bench.command(source, str(out), *more), capture_output=True, text=True)
    return rate_of(done.stdout, done.stderr), rows_of(out)


def on_nodes(bench: Bench, source: str, expected: dict[str, dict]) -> dict[str, float]:
    """Images a second on four machines, left alone and with one that dies; the rows are looked at here."""
    from ray.cluster_utils import Cluster

    found, third = {}, -(-bench.count // bench.size) // 3
    for name, dies in (("four machines of one core", False), ("the same, one dies", True)):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            nodes = [cluster.add_node(num_cpus=1) for _ in range(4)]
            cluster.wait_for_nodes()
            os.environ["RAY_ADDRESS"] = cluster.address
            out = bench.folder / f"nodes{int(dies)}"
            command = bench.command(source, str(out), "--engine", "ray")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while dies and len(list(out.glob("part-*"))) < third and process.poll() is None:
                time.sleep(0.05)
            if dies:
                assert process.poll() is None, "it was over before a machine could die"
                cluster.remove_node(nodes[0], allow_graceful=False)
            found[name] = rate_of(*process.communicate())
        finally:
            cluster.shutdown()
            os.environ["RAY_ADDRESS"] = "local"
        assert rows_of(out) == expected, f"{name}: other rows"
    return found


if __name__ == "__main__":
    run_script(main)
