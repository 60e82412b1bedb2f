"""A profile as an icicle: stages over their modules over the operators, as wide as they took.

An SVG by hand rather than a plot, so that every box can say in full what it is when pointed at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from classkinfy_export import files
from classkinfy_export.latency.operators.report import (
    UNPLACED,
    OperatorTime,
    ProfileReport,
    RuntimeProfile,
)

_WIDTH, _ROW, _MARGIN, _TITLE = 1200, 19, 12, 30
_LETTER = 6.2
"""Width of a letter at the size of the labels, and a little more."""
_NARROWEST = 0.35
"""Boxes thinner than this are not drawn: nobody sees them, and there are thousands."""
_STAGES = ("#88CCEE", "#44AA99", "#DDCC77", "#CC6677", "#AA4499", "#117733", "#999933")
"""Tol's muted colours, which colour-blind readers tell apart."""
_ROOT = "#d5d9de"


@dataclass
class _Box:
    """A stage, a module or an operator; what it holds, by name, in running order."""

    name: str
    path: str
    colour: str
    ms: float = 0.0
    inner: dict[str, _Box] = field(default_factory=dict)

    def within(self, name: str, colour: str, separator: str = " ") -> _Box:
        """Return the box of a name in this one."""
        path = f"{self.path}{separator}{name}" if self.path else name
        return self.inner.setdefault(name, _Box(name, path, colour))

    @property
    def depth(self) -> int:
        """Rows that it and what it holds take."""
        return 1 + max((box.depth for box in self.inner.values()), default=0)


def draw(report: ProfileReport, path: Path) -> None:
    """Write a profile as one self-contained SVG.

    Args:
        report: of ``profile``.
        path: the file, replaced where it is there.
    """
    files.write(path, render(report))


def render(report: ProfileReport) -> bytes:
    """Return a profile as an SVG, the same bytes of the same report.

    Args:
        report: of ``profile``.
    """
    parts: list[str] = []
    top = _MARGIN
    for runtime in report.runtimes:
        whole = _tree(runtime)
        title = (
            f"{runtime.runtime} {runtime.version}, {report.precision}, {report.threads} "
            f"thread{'s' if report.threads > 1 else ''}: operators {whole.ms:.2f} ms, "
            f"answer {runtime.wall_ms:.2f} ms"
        )
        parts.append(
            f'<text x="{_MARGIN}" y="{top + 18}" font-size="14" font-weight="bold">'
            f"{escape(title)}</text>"
        )
        top += _TITLE
        parts += _boxes(whole, _MARGIN, top, (_WIDTH - 2 * _MARGIN) / max(whole.ms, 1e-9), whole.ms)
        top += whole.depth * _ROW + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" '
        f'height="{top}" font-family="DejaVu Sans, Arial, sans-serif" font-size="11" '
        f'fill="#1b1f24" role="img">'
    )
    says = f"<title>{escape(f'Time of every operator of {report.bundle}')}</title>"
    paper = f'<rect width="{_WIDTH}" height="{top}" fill="white"/>'
    return "\n".join([head, says, paper, *parts, "</svg>", ""]).encode()


def _tree(runtime: RuntimeProfile) -> _Box:
    whole = _Box("all stages", "", _ROOT)
    for place, stage in enumerate(runtime.stages):
        colour = _STAGES[place % len(_STAGES)]
        for row in stage.operators:
            way = [whole, whole.within(stage.stage, colour)]
            for name in _steps(row):
                way.append(way[-1].within(name, colour, "." if len(way) > 2 else ": "))
            way.append(way[-1].within(_called(row), colour, ", "))
            for box in way:
                box.ms += row.ms
    return whole


def _steps(row: OperatorTime) -> list[str]:
    if row.module is None:
        return [UNPLACED]
    return row.module.split(".") if row.module else []


def _called(row: OperatorTime) -> str:
    return row.operator if row.kernel is None else f"{row.operator} ({row.kernel})"


def _boxes(box: _Box, left: float, top: float, scale: float, whole: float) -> Iterator[str]:
    width = box.ms * scale
    if width < _NARROWEST:
        return
    share = box.ms / whole if whole else 0.0
    told = escape(f"{box.path or box.name}: {box.ms:.3f} ms, {share:.1%}")
    letters = int((width - 6) / _LETTER)
    yield (
        f'<g><title>{told}</title><rect x="{left:.2f}" y="{top}" width="{width:.2f}" '
        f'height="{_ROW - 1}" fill="{box.colour}" stroke="white" stroke-width="0.5"/>'
    )
    if letters >= 3:
        name = box.name if len(box.name) <= letters else f"{box.name[: letters - 1]}…"
        yield f'<text x="{left + 3:.2f}" y="{top + 13}">{escape(name)}</text>'
    yield "</g>"
    for inner in box.inner.values():
        yield from _boxes(inner, left, top + _ROW, scale, whole)
        left += inner.ms * scale
