"""The parts of report.html as text. Every name from outside is escaped here; nothing is loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from detection.boxes.class_names import spelling
from detection.evaluate.coco import CocoNumbers
from detection.evaluate.errors import ErrorSplit
from detection.evaluate.report import MEANING, show
from detection.evaluate.thresholds import Thresholds
from detection.train.report.chart import Chart
from detection.weights.card import Card

TEMPLATE = Path(__file__).with_name("report.html")
TILES = (
    ("AP", "AP"),
    ("AP50", "AP50"),
    ("AP75", "AP75"),
    ("APs", "AP small"),
    ("APm", "AP medium"),
    ("APl", "AP large"),
    ("AR100", "AR100"),
)


@dataclass(frozen=True)
class Shown:
    """An image of the page. source: a `data:` address, "" where there is none. link: the file behind it, if any."""

    name: str
    text: str
    source: str = ""
    link: str = ""


def render(title: str, subtitle: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page, of sections (heading, HTML); those without content are left out."""
    kept = [(heading, body) for heading, body in sections if body]
    ids = [heading.lower().replace(" ", "-") for heading, _ in kept]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        links="".join(f'<a href="#{key}">{escape(heading)}</a>' for key, (heading, _) in zip(ids, kept)),
        sections="\n".join(
            f'<section id="{key}">\n<h2>{escape(heading)}</h2>\n{body}\n</section>'
            for key, (heading, body) in zip(ids, kept)
        ),
    )


def summary(numbers: CocoNumbers, thresholds: Thresholds, objects: int, protocol: str, warnings: Sequence[str]) -> str:
    """The numbers that matter, the protocol below them, and what a reader must know."""
    tiles = [(show(getattr(numbers, key)), label, key == "AP") for key, label in TILES]
    best = thresholds.overall
    tiles.append((show(best.f1), f"best F1, at score {show(best.score)}", False))
    tiles.append((f"{best.precision:.0%}" if math.isfinite(best.precision) else "-", "precision there", False))
    tiles.append((f"{best.recall:.0%}" if math.isfinite(best.recall) else "-", "recall there", False))
    tiles.append((f"{numbers.images:,}", "images", False))
    tiles.append((f"{objects:,}", "objects", False))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile{" main" * main}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
            for value, label, main in tiles
        )
        + f'</div>\n<p class="note protocol">{escape(protocol)}</p>'
        + "".join(f'<p class="warning">{escape(line)}</p>' for line in warnings)
    )


def charts(drawn: Sequence[tuple[Chart, str]], folder: str, beside: str = "") -> str:
    """Plots as (chart, SVG), each with a link to its PNG in `folder`; and one more card in the same grid."""
    cards = [
        f'<div class="card{" wide" * chart.wide}"><h3>{escape(chart.title)}</h3>'
        f'<p class="note">{escape(chart.note)} <a href="{quote(f"{folder}/{chart.name}.png")}">PNG</a></p>'
        f'<figure role="img" aria-label="{escape(chart.title)}"{_room(chart)}>{svg}</figure></div>'
        for chart, svg in drawn
    ]
    return f'<div class="charts">{"".join(cards)}{beside}</div>' if cards or beside else ""


def facts(title: str, rows: Mapping[str, Any]) -> str:
    """Things with names; those that are empty are left out."""
    kept = [(name, value) for name, value in rows.items() if value not in (None, "", (), [])]
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in kept)
    return f'<div class="card facts"><h3>{escape(title)}</h3><dl>{lines}</dl></div>' if lines else ""


def class_table(numbers: CocoNumbers, thresholds: Thresholds) -> str:
    """A row for each class, best AP first; its heads can be clicked."""
    heads = ("class", "objects", "detections", "AP", "AP50", "AP75", "AR100", "best F1", "at score")
    rows = []
    order = sorted(
        range(len(numbers.per_class)), key=lambda k: (math.isnan(numbers.per_class[k].AP), -numbers.per_class[k].AP)
    )
    for k in order:
        one, best = numbers.per_class[k], thresholds.per_class[k]
        cells = [f"<td>{escape(one.name)}</td>", f"<td>{one.objects}</td>", f"<td>{one.detections}</td>"]
        for value in (one.AP, one.AP50, one.AP75, one.AR100, best.f1):
            length = 0.0 if math.isnan(value) else value
            cells.append(f'<td class="bar" style="--v:{length:.3f}">{show(value)}</td>')
        cells.append(f"<td>{show(best.score)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(
        f'<th data-sort="{"number" if index else "text"}"{" aria-sort=descending" * (name == "AP")}>{name}</th>'
        for index, name in enumerate(heads)
    )
    return _table(f"<tr>{head}</tr>", rows, "card tall")


def error_table(errors: ErrorSplit) -> str:
    """The AP50 that each kind of error takes away, the costliest first."""
    largest = max((value for value in errors.lost.values() if value > 0), default=1.0)
    rows = []
    for kind in sorted(errors.lost, key=lambda kind: -errors.lost[kind]):
        lost = errors.lost[kind]
        bar = max(0.0, lost / largest) if math.isfinite(lost) else 0.0
        rows.append(
            f"<tr><td>{kind}<small>{MEANING[kind]}</small></td><td>{show(lost)}</td>"
            f'<td class="loss"><i style="--v:{bar:.3f}"></i></td><td>{errors.counts[kind]:,}</td></tr>'
        )
    note = (
        f"AP50 is {show(errors.AP50)}. What it would gain if all errors of one kind were put right (TIDE); "
        "kinds overlap, so the sum means nothing. Counted are all detections, also those of low score."
    )
    head = "<tr><th>kind</th><th>AP50 lost</th><th></th><th>times</th></tr>"
    return f'<div class="card"><h3>What the errors cost</h3><p class="note">{note}</p>{_table(head, rows, "")}</div>'


def mix_up_table(rows: Sequence[tuple[str, str, int, int]]) -> str:
    """(class, called, how often, of how many) of confusions."""
    if not rows:
        return ""
    lines = [
        f"<tr><td>{escape(is_)}</td><td class=text>{escape(called)}</td>"
        f"<td>{times}</td><td>{times / total:.0%}</td></tr>"
        for is_, called, times, total in rows
    ]
    head = "<tr><th>is</th><th class=text>called</th><th>times</th><th>of its objects</th></tr>"
    return f'<div class="card"><h3>Most frequent mix-ups</h3>{_table(head, lines, "")}</div>'


def gallery(images: Sequence[Shown], kind: str = "") -> str:
    """Images in a grid, each with its name and a line of text."""
    cards = []
    for one in images:
        image = f'<img src="{one.source}" alt="{escape(one.name)}" loading="lazy">' if one.source else ""
        if image:
            image = f'<a href="{quote(one.link)}">{image}</a>' if one.link else f"<a>{image}</a>"
        cards.append(
            f'<figure class="card">{image}<figcaption><b>{escape(one.name)}</b>{escape(one.text)}</figcaption></figure>'
        )
    return f'<div class="gallery {kind}">{"".join(cards)}</div>' if cards else ""


def legend(entries: Mapping[str, tuple[tuple[int, int, int], bool]]) -> str:
    """What the frames mean: text -> (RGB, dashed)."""
    return (
        '<p class="legend">'
        + "".join(
            f'<span><i style="outline-color:rgb{color};outline-style:{"dashed" if dashed else "solid"}"></i>'
            f"{escape(text)}</span>"
            for text, (color, dashed) in entries.items()
        )
        + "</p>"
    )


def card_facts(card: Card) -> dict[str, Any]:
    """What the card says about the network."""
    height, width = card.input_size
    names = [name for name in card.class_names if spelling(name)]  # the others are columns without a class
    return {
        "name": card.name,
        "input": f"{width} x {height} pixels",
        "classes": f"{len(names)}: {', '.join(names[:30])}{' ...' if len(names) > 30 else ''}",
        "trained on": f"{len(card.training_images):,} images" if card.training_images else "",
        "source": card.source,
        "licence": card.licence,
        "attribution": card.attribution,
    }


def text_block(title: str, text: str) -> str:
    """A text file, folded away."""
    if not text.strip():
        return ""
    return f'<details class="card"><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>'


def file_table(files: Sequence[tuple[str, int]]) -> str:
    """(path inside the folder, bytes), with links."""
    rows = [
        f'<tr><td><a href="{quote(name)}">{escape(name)}</a></td><td>{_size(size)}</td></tr>' for name, size in files
    ]
    return _table("<tr><th>file</th><th>size</th></tr>", rows) if rows else ""


def _table(head: str, rows: Sequence[str], kind: str = "card") -> str:
    return f'<div class="{kind} scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _room(chart: Chart) -> str:
    """Not wider than letters of the page's size make it."""
    return f' style="max-width: {105 * chart.size[0]:.0f}px"'


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
