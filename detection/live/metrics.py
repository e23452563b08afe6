"""`GET /metrics`: the numbers of the pipeline as Prometheus text (exposition format 0.0.4). Standard library only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Sample = tuple[Mapping[str, str], float]
OF_THE_SERVER = {
    "page_faults_total": ("counter", "Requests that ended in a fault of the program."),
    "page_connections": ("gauge", "Open connections."),
    "page_connections_refused_total": ("counter", "Not let in, or closed before a request was whole."),
    "page_wrong_tokens_total": ("counter", "Wrong tokens that were shown."),
}


def metrics_text(
    channels: Sequence[Any],
    answers: Mapping[int, int],
    viewers: Mapping[str, int],
    started: float,
    counts: Mapping[str, float],
    lost: Mapping[str, int],
) -> str:
    """channels: those of `app`. answers: number of answers of `POST /detect` and its like by HTTP status. viewers: by source key.
    counts: of the server itself, by the names of OF_THE_SERVER. lost: events that did not arrive, by where they were to go."""
    source = {channel.name: {"source": channel.name} for channel in channels}
    stats = [(source[channel.name], channel.stats, channel.capture) for channel in channels]
    lines = [
        *_metric("frames_total", "counter", "Frames detected in.", ((s, x.results) for s, x, _ in stats)),
        *_metric(
            "dropped_frames_total",
            "counter",
            "Frames passed over for newer ones.",
            ((s, x.dropped) for s, x, _ in stats),
        ),
        *_metric(
            "still_frames_total",
            "counter",
            "Frames that the network did not look at, as nothing moved.",
            ((s, x.still) for s, x, _ in stats),
        ),
        *_metric("frames_per_second", "gauge", "Speed over the last frames.", ((s, x.fps) for s, x, _ in stats)),
        *_metric(
            "source_up",
            "gauge",
            "1 while a source delivers.",
            ((s, c.state == "live" and not c.stale) for s, _, c in stats),
        ),
        *_metric("source_age_seconds", "gauge", "Age of the newest frame.", ((s, c.age or 0) for s, _, c in stats)),
        *_metric(
            "source_reconnects_total",
            "counter",
            "How often it was opened again.",
            ((s, c.reconnects) for s, _, c in stats),
        ),
        *_metric(
            "detections_total",
            "counter",
            "Boxes above the threshold, in all frames.",
            (({**s, "class": name}, count) for s, x, _ in stats for name, count in sorted(x.seen.items())),
        ),
        *_metric("passages_total", "counter", "Over lines, into and out of zones.", _passages(channels)),
        *_metric("stage_seconds", "gauge", "Delay of a stage over the last frames.", _delays(stats)),
        *_metric(
            "viewers",
            "gauge",
            "Browsers that watch.",
            ((source[c.name], viewers.get(c.capture.source.key, 0)) for c in channels),
        ),
        *_metric(
            "lost_events_total",
            "counter",
            "Events that did not arrive where they were to go.",
            (({"to": name}, count) for name, count in sorted(lost.items())),
        ),
        *_metric(
            "detect_requests_total",
            "counter",
            "Answers to images that were posted.",
            (({"status": str(k)}, v) for k, v in sorted(answers.items())),
        ),
        *(
            line
            for name, (kind, text) in OF_THE_SERVER.items()
            for line in _metric(name, kind, text, [({}, counts[name])])
        ),
        *_metric("uptime_seconds", "gauge", "Since the start.", [({}, time.monotonic() - started)]),
        *_metric("memory_bytes", "gauge", "Resident memory of this process.", [({}, value) for value in _memory()]),
    ]
    return "\n".join(lines) + "\n"


def _delays(stats: Iterable[tuple[Mapping[str, str], Any, Any]]) -> Iterable[Sample]:
    for source, numbers, _ in stats:
        for stage, (p50, p95) in numbers.stages():
            yield {**source, "stage": stage, "quantile": "0.5"}, p50
            yield {**source, "stage": stage, "quantile": "0.95"}, p95


def _passages(channels: Sequence[Any]) -> Iterable[Sample]:
    for channel in channels:
        for gate in channel.watch.gates if channel.watch else ():
            for (what, name), count in sorted(gate.by_class.items()):
                yield {"source": channel.name, "gate": gate.name, "what": what, "class": name}, count


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP mobilessd_{name} {text}", f"# TYPE mobilessd_{name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(word)}"' for key, word in labels.items())
        lines.append(f"mobilessd_{name}{f'{{{inside}}}' if inside else ''} {float(value):.10g}")
    return lines if len(lines) > 2 else []


def _escape(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _memory() -> list[int]:
    """Resident bytes, where the system tells: as a list of one, else of none."""
    try:
        return [int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")]
    except (OSError, ValueError, AttributeError):
        return []
