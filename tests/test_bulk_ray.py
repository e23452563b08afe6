"""The same shards from a Ray cluster of two workers, also when one of them is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bulk_help as bulk
import pytest

from detection.benchmark.memory import family
from detection.cli.main import main
from detection.errors import MobileSSDError

ROOT = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

pytest.importorskip("ray", reason="needs ray: pip install 'mobilessd[ray]' (large, and not part of [all])")

OPTIONS = ["--shard-size", "2", "--batch", "2", "--score", "0.3"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def images(tmp_path):
    bulk.save_images(tmp_path / "in", 79)
    (tmp_path / "in" / "broken.jpg").write_text("no image")
    return tmp_path / "in"


def workers_of(process) -> list[int]:
    """The processes of our own Ray that make shards."""
    found = []
    for pid in family(process.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if line.startswith("ray::Worker"):
            found.append(pid)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux, to find the worker")
def test_two_workers_of_which_one_is_killed_make_what_one_process_makes(weights, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["detect", "in", "--weights", str(weights), *OPTIONS, "--shards"]  # relative, as workers start elsewhere
    assert main([*command, "whole"]) == 0
    ray = ["out", "--engine", "ray", "--workers", "2", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "detection.cli.main", *command, *ray],
        env=os.environ | {"PYTHONPATH": PATH, "RAY_ADDRESS": "local"},  # a cluster of its own, whatever else runs
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and not list((tmp_path / "out").glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        killed = workers_of(process)[:1]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        left = 40 - len(list((tmp_path / "out").glob("part-*")))
        said, complaints = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, complaints[-2000:]
    assert len(killed) == 1 and left > 0, "one was killed in the middle"
    assert "2 Ray workers of 1 core" in said and "80 images" in said
    assert "warning: in/broken.jpg: is no image but a text file" in complaints.splitlines()
    assert bulk.shards_of(tmp_path / "out") == bulk.shards_of(tmp_path / "whole")
    assert (tmp_path / "out/_manifest.json").read_bytes() == (tmp_path / "whole/_manifest.json").read_bytes()


@pytest.mark.parametrize("where", ["given", "left behind"])
def test_a_cluster_that_is_gone_is_not_waited_for(tmp_path, monkeypatch, where):
    import socket

    from detection.bulk import cluster

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    asked = []
    monkeypatch.setattr("ray.init", lambda address, **options: asked.append(address) or 1 / 0)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", address if where == "given" else "")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(address)
    with pytest.raises(MobileSSDError, match="no Ray cluster") as error:
        cluster.Cluster(1, 0, None)
    assert asked == ([] if where == "given" else ["local"])
    assert "\n" not in str(error.value)


def test_a_machine_of_four_that_dies_in_the_middle_loses_no_row_and_doubles_none(
    weights, images, tmp_path, monkeypatch
):
    from ray.cluster_utils import Cluster

    monkeypatch.chdir(tmp_path)
    command = ["detect", "in", "--weights", str(weights), *OPTIONS, "--shards"]
    assert main([*command, "whole"]) == 0
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", PATH)  # the nodes run what runs here
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})  # as the head of many clusters is
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(4)]
        cluster.wait_for_nodes()
        process = subprocess.Popen(
            [sys.executable, "-m", "detection.cli.main", *command, "out", "--engine", "ray"],
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and not list((tmp_path / "out").glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        left = 40 - len(list((tmp_path / "out").glob("part-*")))
        said, complaints = process.communicate(timeout=180)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, complaints[-2000:]
    assert left > 0, "it died in the middle"
    assert "4 Ray workers of 1 core" in said and "80 images" in said
    assert bulk.shards_of(tmp_path / "out") == bulk.shards_of(tmp_path / "whole")


def test_workers_that_die_at_every_start_end_the_run(weights, monkeypatch):
    from detection.bulk import cluster, ray_pool
    from detection.bulk.shard_worker import Task
    from detection.weights.resolve import open_weights

    class Dying:
        def __init__(self, task, files):
            os._exit(1)

        def ready(self):
            return ""

    monkeypatch.setattr(ray_pool, "Worker", Dying)
    monkeypatch.setattr(ray_pool, "STARTS", 2)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("PYTHONPATH", PATH)
    task = Task(str(weights), {"runtime": "openvino", "threads": 1}, "", 2, 1, "jsonl")
    with cluster.Cluster(1, 0, 1) as here, pytest.raises(MobileSSDError, match="died 2 times without a shard") as error:
        here.pool(task, open_weights(weights))
    assert "\n" not in str(error.value)


def node(cores: float, gpus: float = 0, alive: bool = True) -> dict:
    return {"NodeID": f"{cores}", "Alive": alive, "Resources": {"CPU": float(cores), "GPU": float(gpus)}}


@pytest.mark.parametrize(
    "nodes, cores, gpus, threads",
    [
        ([node(0), node(8), node(2), node(4, alive=False)], None, 0, [8, 2]),  # a machine each, but the head
        ([node(0.5)], None, 0, [1]),
        ([node(8), node(2)], 3, 0, [3, 3]),
        ([node(16, 2), node(4)], None, 1, [8, 8]),
        ([node(16, 4)], 8, 1, [8, 8]),
    ],
)
def test_who_sits_where(nodes, cores, gpus, threads):
    from detection.bulk.ray_pool import seats_on

    assert [seat.threads for seat in seats_on(nodes, cores, gpus)] == threads


def test_what_a_worker_lacks_comes_back_as_one_line(tmp_path):
    from detection.bulk.ray_pool import Worker
    from detection.bulk.shard_worker import Task

    task = Task(str(tmp_path / "nothere.xml"), {"threads": 1}, "", 2, 1, "jsonl")
    failed = Worker(task, [None]).ready()
    assert "nothere.xml: no such file" in failed and "\n" not in failed
