"""What `mobilessd info` prints for people: plain tables out of the data that `--json` prints. Standard library only."""

from __future__ import annotations

from typing import Any


def format_listing(rows: list[dict[str, Any]]) -> str:
    """The names with weights, each figure with its split, and the architectures."""
    wide = max(len(row["name"]) for row in rows)
    lines = ["With weights, fetched when they are first used:"]
    for row in rows:
        if row["weights"]:
            size = f"{row['size'] / 1e6:.1f} MB" if row["size"] else ""
            score = _score(row["metrics"][0], most=1) if row["metrics"] else ""
            cached = " (ships with mobilessd)" if row["shipped"] else " (in the cache)" if row["in_cache"] else ""
            lines.append(f"  {row['name']:<{wide}}  {size:>8}  {row['licence']:<13} {score}{cached}".rstrip())
    lines += ["", "Architectures, to be trained:"]
    lines += [f"  {row['name']:<{wide}}  {row['about']}" for row in rows if not row["weights"]]
    return "\n".join(lines)


def format_report(report: dict[str, Any], layers: bool) -> str:
    """A model's card, its maps and its cost; `layers`: every layer too."""
    state = f" ({report['state']})" if report["state"] else ""
    lines = [f"{report['name']}: a {report['kind']}{state}"]
    lines += [f"  {label:<12}{text}" for label, text in _facts(report) if text]
    for metric in report.get("metrics", []):
        lines += [f"  {'measured':<12}{_score(metric)}", f"  {'':<12}{metric.get('protocol', '')}"]
    lines += ["", *_cost(report)]
    return "\n".join(lines + (["", *_layers(report["layers"])] if layers else []))


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    height, width = report["input_size"]
    names = report.get("class_names", [])
    some = f": {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else ""
    maps = [f"{h}x{w} ({a})" for (h, w), a in zip(report.get("feature_maps", []), report.get("anchors_per_cell", []))]
    threshold = report.get("score_threshold")
    return [
        ("about", report.get("note", "")),
        ("input", f"{height} x {width} pixels, height x width" + (f"; {report['rule']}" if "rule" in report else "")),
        ("classes", f"{report['num_classes']}{some}"),
        ("anchors", f"{report['anchors']:,}" if report["anchors"] else ""),
        ("maps", "  ".join(maps) + "  (anchors a cell)" if maps else ""),
        ("threshold", "" if threshold is None else f"{threshold:.3f}, the score of best F1"),
        ("licence", ", ".join(filter(None, (report.get("licence"), report.get("attribution"))))),
        ("source", report.get("source", "")),
        *(("note", note) for note in report.get("notes", ())),
    ]


def _score(metric: dict[str, Any], most: int | None = None) -> str:
    """The first `most` figures of a metric, with their split and the number of images."""
    figures = ", ".join([f"{key} {value:.3f}" for key, value in metric.items() if isinstance(value, float)][:most])
    images = metric.get("images")
    where = ", ".join(filter(None, (metric.get("data"), metric.get("split"))))
    return f"{figures} on {where}" + (f" ({images:,} images)" if images else "")


def _cost(report: dict[str, Any]) -> list[str]:
    norms = "" if report["norms_counted"] else " without norms"
    total = {"total": {"params": report["params"], "madds": report["madds"]}}
    lines = []
    for title, sums in (("part", report["parts"]), ("kind of layer", report["kinds"] | total)):
        lines.append(f"  {title:<20}{'parameters' + norms:>24}{'multiply-adds':>20}")
        lines += [f"  {name:<20}{cost['params']:>24,}{cost['madds']:>20,}" for name, cost in sums.items()]
        lines.append("")
    return lines[:-1]


def _layers(layers: list[dict[str, Any]]) -> list[str]:
    wide = max(len(layer["name"]) for layer in layers)
    lines = [f"  {'layer':<{wide}}  {'kind':<13}{'output':<14}{'parameters':>12}{'multiply-adds':>16}"]
    for layer in layers:
        shape = "x".join(map(str, layer["output"]))
        numbers = f"{layer['params']:>12,}{layer['madds']:>16,}"
        lines.append(f"  {layer['name']:<{wide}}  {layer['kind']:<13}{shape:<14}{numbers}")
    return lines
