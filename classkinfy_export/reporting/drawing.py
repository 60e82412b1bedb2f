"""What every plot has in common: matplotlib drawn to SVG, the same figures to the same bytes.

A plot goes into a page as a data URI, so that the ids inside one SVG never meet those of another.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

WIDTH = 5.6
"""Inches: as wide as a phone can show without shrinking the text away."""
INK, FAINT, FAIL = "#1b1f24", "#8a929c", "#c1121f"
_MAX_NAME = 40
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "classkinfy",
    "svg.fonttype": "path",
    # Names come from files: a dollar sign in one is a dollar sign.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
}


@dataclass(frozen=True)
class Plot:
    """One drawn plot; sizes are CSS pixels."""

    svg: bytes
    alt: str
    width: int
    height: int

    @property
    def source(self) -> str:
        """The SVG as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


@contextmanager
def style() -> Iterator[None]:
    """Draw in this project's style, whatever the reader's own."""
    with mpl.rc_context():
        # A reader's own matplotlibrc must not change the bytes.
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return an empty figure, in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def finish(figure: Figure, alt: str) -> Plot:
    """Turn a figure into a plot that says in words what it shows."""
    buffer = io.BytesIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=nothing)
    width, height = (round(inches * 96) for inches in figure.get_size_inches())
    return Plot(buffer.getvalue(), alt, width, height)


def legend(figure: Figure, handles: Sequence[Patch | Line2D]) -> None:
    """Put a legend above a figure; none without handles."""
    if not handles:
        return
    figure.legend(
        handles=list(handles),
        loc="outside upper center",
        ncols=min(4, len(handles)),
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def short(name: str) -> str:
    """Cut a name that would push a plot aside."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
