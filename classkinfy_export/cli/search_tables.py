"""What a search for precisions found, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from classkinfy_export.cli import terminal
from classkinfy_export.evaluation.search import Fidelity, Search


def tables(found: Search) -> Iterator[Table]:
    """Give the noise of each block, and what was tried."""
    noise = terminal.table(
        f"each block alone in int8, everything else in float, on {found.images} photos",
        *("stage", "block", ">same decision", ">SQNR of log-probabilities (dB)"),
    )
    for row in found.sensitivity:
        noise.add_row(row.stage, row.block, *_fidelity(row.fidelity))
    yield noise
    unbeaten = found.front()
    counted = f"; instructions on an emulated {found.core}" if found.core else ""
    tried = terminal.table(
        f"what was tried, on the same photos; at least {found.agreement:.1%} the same is asked for"
        f"{counted}",
        *("stage", "precision", "in float", ">same decision", ">SQNR of log-probabilities (dB)"),
        *(">time", ">A76 instructions", ">size", "holds", "on the front"),
    )
    for trial in found.trials:
        tried.add_row(
            trial.stage,
            f"{trial.precision}, trained" if trial.trained else trial.precision,
            " ".join(trial.float_blocks),
            *_fidelity(trial.fidelity),
            f"{trial.time:.2f}x",
            "" if trial.instructions is None else f"{trial.instructions:.3f}x",
            f"{trial.size:.3f}x",
            "yes" if trial.holds else "no",
            "yes" if trial in unbeaten else "",
        )
    yield tried


def _fidelity(found: Fidelity) -> tuple[str, str]:
    sqnr = "no noise" if found.sqnr_db is None else f"{found.sqnr_db:.1f}"
    return f"{found.agreement:.2%}", sqnr
