"""A plot as a PNG file, and as SVG that takes the colours of the page around it.

matplotlib is imported inside the functions, without pyplot: no window, no state, no backend to choose. Colours are
those of Okabe and Ito (2008), which people with any colour vision can tell apart.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.errors import MissingPackageError, install_line, installed
from detection.files import atomic_write

INK, MUTED, LINE = "#1b1f24", "#59636e", "#d8dde3"
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER)
STYLE = {
    "font.family": ["sans-serif"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}
# In the page these become variables, so that a dark page has a dark plot.
PAGE_COLORS = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    **dict(zip(SERIES, ("blue", "orange", "green", "purple", "sky", "amber"))),
}


@dataclass(frozen=True)
class Chart:
    """A plot to be drawn. name: of its file, without ending. draw(figure): puts it on an empty matplotlib Figure of
    `size` inches. note: one sentence on how to read it. wide: takes the page's whole width."""

    name: str
    title: str
    note: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (5.2, 3.2)
    wide: bool = False


@dataclass(frozen=True)
class DrawnChart:
    """A chart of the page. file: its PNG, inside the folder of the page. svg: the element. inches: how wide it is."""

    title: str
    note: str
    file: str
    svg: str
    wide: bool
    inches: float


def write_chart(chart: Chart, path: Path) -> None:
    """Writes the plot as the kind of file that the ending says (.png, .svg, .pdf), atomically."""
    with _figure(chart) as figure, atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or "png", dpi=200, facecolor="white")


def draw_for_page(chart: Chart, folder: Path) -> DrawnChart:
    """Writes `folder`/plots/NAME.png, and returns the chart with the same plot as an SVG element."""
    file, svg = f"plots/{chart.name}.png", io.BytesIO()
    with _figure(chart) as figure:
        with atomic_write(folder / file) as temporary:
            figure.savefig(temporary, format="png", dpi=200, facecolor="white")
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return DrawnChart(chart.title, chart.note, file, _for_page(svg.getvalue().decode()), chart.wide, chart.size[0])


def need_matplotlib() -> None:
    """Raises MissingPackageError if matplotlib is not installed: before a long computation of what is to be drawn."""
    if not installed("matplotlib"):
        raise _missing()


def _missing() -> MissingPackageError:
    return MissingPackageError(f"there are no plots without matplotlib: {install_line('eval')}")


@contextmanager
def _figure(chart: Chart) -> Iterator[Any]:
    """The drawn figure, as long as its style holds. MissingPackageError if matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise _missing() from None
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": chart.name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in other scripts: boxes, not a complaint
        figure = Figure(figsize=chart.size, layout="constrained")
        chart.draw(figure)
        yield figure


def _for_page(svg: str) -> str:
    """The <svg> element alone, in the page's typeface and colours, as wide as its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # nobody refers to these, and they clash between plots
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    for color, name in PAGE_COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg.strip()
