"""Tables as the benchmarks write them."""

from __future__ import annotations

import pandas as pd


def to_markdown(table: pd.DataFrame) -> list[str]:
    """Return a table's lines in Markdown, floats to three places."""
    head = [str(name) for name in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.itertuples(index=False):
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
