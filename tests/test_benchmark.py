"""The benchmark: candidates are processes of their own; what fails is told and ends nothing; numbers that add up."""

import json

import numpy as np
import pytest

from detection.benchmark import machine as machines
from detection.benchmark.candidates import Candidate, candidates_of, peers_of
from detection.benchmark.machine import describe, machine
from detection.benchmark.summary import timing_table
from detection.benchmark.timing import Timing, drawn_image, time_detectors
from detection.cli.main import main
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def tflite(made_v1):
    return made_v1


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_stages_sizes_and_json(package, tmp_path, capsys):
    pytest.importorskip(package)
    out = tmp_path / "numbers.json"
    command = ["benchmark", "ssdlite_mobilenet_v2", "--alphas", "0.35", "--input-sizes", "96,128", "--rounds", "1"]
    assert main([*command, "--seconds", "0.1", "--runtimes", package, "--threads", "1", "--json", str(out)]) == 0
    said = capsys.readouterr()
    assert "ssdlite_mobilenet_v2 0.35 at 96, random weights" in said.out and said.err.count("round 1/1") >= 2
    data = json.loads(out.read_text())
    assert data["machine"]["cores"] >= 1 and len(data["results"]) >= 2
    for result in data["results"]:
        stages, ms = result["stages_ms"], result["ms"]
        assert set(stages) == {"decode", "resize", "network", "post"} and min(stages.values()) > 0
        assert ms["p50"] <= ms["p95"] <= ms["p99"] and stages["network"] < ms["p99"]
        assert result["images_per_second"] > 1 and 0.05 < result["start_s"] < 60 and result["peak_mb"] > 20


def test_a_candidate_that_fails_is_told_and_the_others_go_on(tflite, tmp_path):
    bad, good = Candidate("bad", str(tmp_path / "none.onnx"), "onnxruntime"), Candidate("good", str(tflite), "litert")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    image = drawn_image(tmp_path)
    results = time_detectors([bad, good], image, rounds=2, seconds=0.1)
    assert "no such file" in results[0].error and results[0].rounds == []
    assert not results[1].error and len(results[1].rounds) == len(results[1].starts) == 2 and results[1].boxes > 0
    text = timing_table(results)
    assert "not timed: bad, onnxruntime" in text and text.splitlines()[2].startswith("good")


def test_the_median_of_rounds_and_percentiles_of_all_calls():
    result = Timing(Candidate("n", "w", "openvino"))
    for stage, value in zip(result.spans, (9.0, 1.0, 3.0, 2.0)):
        result.spans[stage] = [value] * 99 + [value * 10]
    result.rounds = [6.0, 7.0, 60.0]
    assert result.latency == 7.0 and result.percentile(50) == 6.0  # decoding is not in it
    assert np.isclose(result.percentile(100), 60.0) and result.stage("network") == 3.0


def test_only_what_can_run_becomes_a_candidate(tflite):
    weights = open_weights(tflite)
    found = candidates_of(weights, "v1", None, None, [1, 2], [1, 8])
    assert {c.runtime for c in found} >= {"torch"} and len(found) % 4 == 0
    assert {c.shown for c in found if c.runtime == "litert"} <= {"as published"}
    assert candidates_of(weights, "v1", ["torch"], ["int8"], [1], [1]) == []
    assert all(c.batch == 1 for c in peers_of(weights, "v1", [2], [1, 8]))


def test_the_machine_is_described():
    said = machine()
    assert said["processor"] and said["packages"]["numpy"] and len(describe(said | {"load": 0.0})) == 2
    assert describe(said | {"load": 99.0})[-1].startswith("NOT A QUIET MACHINE")


def test_the_load_is_what_others_do_now_and_not_what_the_program_itself_did_before(monkeypatch):
    monkeypatch.setattr(machines, "MOMENT", 0.0)
    monkeypatch.setattr(machines.os, "cpu_count", lambda: 4)
    ticks = iter([(1000, 4000), (1050, 4100)])
    monkeypatch.setattr(machines, "_core_ticks", lambda: next(ticks))
    assert machines.load() == 2.0

    def no_proc():
        raise OSError

    monkeypatch.setattr(machines, "_core_ticks", no_proc)
    monkeypatch.setattr(machines.os, "getloadavg", lambda: (1.234, 2, 3), raising=False)
    assert machines.load() == 1.23


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["W", "--plot", "p.png"], "give --data"),
        (["W", "--image", "none.jpg"], "none.jpg: no such file"),
        (["W", "--alphas", "0.5"], "weights have one width"),
        (["W", "--runtimes", "torch", "--precisions", "int8"], "nothing to time"),
        (["W", "--threads", "two"], "not a whole number"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(tflite, capsys, arguments, words):
    assert main(["benchmark", *(str(tflite) if a == "W" else a for a in arguments)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_plot_of_latency_against_ap(tmp_path):
    pytest.importorskip("matplotlib")
    from detection.benchmark.summary import plot

    results = []
    for k, ap in enumerate((0.2, 0.3, None)):
        result = Timing(Candidate(f"n{k}", "w", "openvino", shown="int8"), rounds=[5.0 + k], ap=ap)
        results.append(result)
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
