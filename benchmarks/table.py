"""Tables as the benchmarks write them."""

from __future__ import annotations

import pandas as pd

from classkinfy_export.evaluation.report import Figure


def to_markdown(table: pd.DataFrame) -> list[str]:
    """Return a table's lines in Markdown, floats to three places."""
    head = [str(name) for name in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.itertuples(index=False):
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def interval(figure: Figure) -> str:
    """Return a figure with its interval, to three places."""
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
