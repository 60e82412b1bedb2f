"""A parity report as tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from classkinfy_export.cli import terminal
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.report import ParityReport


def show(result: ParityReport) -> None:
    """Print a report as tables."""
    terminal.out.print(_differences(result))
    if result.held:
        terminal.out.print(_held(result))
    failed = [row for row in result.tensors if not row.passed]
    if failed:
        terminal.out.print(_failed(failed))
    decisions = terminal.table(
        "Decisions",
        "runtime",
        "precision",
        "form",
        "beside",
        ">images",
        ">label agreement",
        ">flips",
        ">malignant side",
        ">largest Δp",
        ">flips at most, asked",
        "",
    )
    for choice in result.decisions:
        decisions.add_row(
            choice.runtime,
            choice.precision,
            choice.form,
            choice.reference,
            str(choice.images),
            f"{choice.label_agreement:.2%}",
            str(choice.flips)
            + (f", by {choice.widest_flip:.2f}" if choice.widest_flip is not None else ""),
            str(choice.malignancy_flips),
            f"{choice.largest_shift:.2g}",
            f"{choice.flip_bound:.2%}, {choice.flip_rate:.2%}"
            + ("" if choice.proven else f" (takes {choice.images_needed})"),
            "[green]ok[/]" if choice.passed else "[bold red]FAIL[/]",
        )
    terminal.out.print(decisions)
    if result.labelled:
        terminal.out.print(_changes(result))
    for caveat in result.caveats:
        terminal.out.print(f"[yellow]note[/] {terminal.plain(caveat)}")
    for missing in result.not_run:
        terminal.out.print(
            f"[yellow]not run[/] {missing.runtime}: {terminal.plain(missing.reason)}"
        )
    if result.not_covered:
        terminal.out.print(
            f"[yellow]no image reached[/] {', '.join(result.not_covered)}: give more images"
        )
    terminal.out.print("[green]parity holds[/]" if result.passed else "[red]parity fails[/]")


def _differences(result: ParityReport) -> Table:
    """Return a row for each way of running: how many exact tensors are equal, and the others."""
    loose = [row for row in result.tensors if row.tolerance != 0.0 and row not in result.held]
    names = list(dict.fromkeys(_shown(row) for row in loose))
    table = terminal.table(
        f"Largest |Δ|, {result.images} images",
        "runtime",
        "precision",
        "form",
        ">exact tensors",
        *(f">{name}" for name in names),
    )
    for key in dict.fromkeys((d.runtime, d.precision, d.form) for d in result.decisions):
        ours = [row for row in result.tensors if (row.runtime, row.precision, row.form) == key]
        exact = [row.passed for row in ours if row.tolerance == 0.0]
        colour = "green" if all(exact) else "bold red"
        equal = f"[{colour}]{sum(exact)} of {len(exact)}[/]"
        cells = (
            [row for row in ours if row.tolerance != 0.0 and _shown(row) == name] for name in names
        )
        table.add_row(*key, equal, *(_cell(rows) for rows in cells))
    return table


def _held(result: ParityReport) -> Table:
    """Return a row for each step of the reference that another library repeats."""
    table = terminal.table(
        "PyTorch's own preprocessing, 8-bit levels",
        "step",
        "stage",
        ">images",
        ">max |Δ|",
        ">allowed",
        ">values that differ",
        "",
    )
    for row in result.held:
        table.add_row(
            row.tensor,
            row.stage,
            str(row.images),
            f"{row.minimum_tolerance:.3g}",
            f"{row.tolerance:.3g}" if row.tolerance else "exact",
            f"{row.unequal:.3%}",
            "[green]ok[/]" if row.passed else "[bold red]FAIL[/]",
        )
    return table


def _shown(row: TensorParity) -> str:
    """Return the column of a tensor: all graders' severities have one."""
    return "severity" if row.tensor.startswith("severity") else row.tensor


def _failed(rows: list[TensorParity]) -> Table:
    table = terminal.table(
        "What differs",
        "gate",
        "runtime",
        "precision",
        "form",
        "stage",
        "tensor",
        ">max |Δ|",
        ">allowed",
        "worst image",
        ">expected",
        ">actual",
    )
    for row in rows:
        values = ("" if v is None else f"{v:.6g}" for v in (row.expected, row.actual))
        table.add_row(
            row.gate,
            row.runtime,
            row.precision,
            row.form,
            row.stage,
            row.tensor,
            f"{row.minimum_tolerance:.3g}",
            f"{row.tolerance:.3g}" if row.tolerance else "exact",
            terminal.plain(row.worst_image),
            *values,
        )
    return table


def _changes(result: ParityReport) -> Table:
    shown = ("balanced_accuracy", "auroc", "ece", "sensitivity", "specificity")
    table = terminal.table(
        "Change on labelled images, 95 % interval by bootstrap over lesions",
        "runtime",
        "precision",
        "form",
        ">images",
        *(f">{name.replace('_', ' ')}" for name in shown),
        ">lost, gained",
        ">McNemar's p",
    )
    for row in result.labelled:
        cells = []
        for name in shown:
            found = row.paired.changes.get(name)
            cells.append(
                f"{found.change.value:+.4f} ({found.change.low:+.4f} to {found.change.high:+.4f})"
                if found is not None
                else ""
            )
        only = f"{row.paired.lost}, {row.paired.gained}"
        table.add_row(
            row.runtime,
            row.precision,
            row.form,
            str(row.paired.images),
            *cells,
            only,
            f"{row.paired.mcnemar_p:.2g}",
        )
    return table


def _cell(rows: list[TensorParity]) -> str:
    if not rows:
        return ""
    worst = max(rows, key=lambda row: row.minimum_tolerance)
    colour = "green" if all(row.passed for row in rows) else "bold red"
    if all(row.tolerance is None for row in rows):
        colour = "dim"  # told, not gated
    steps = "" if worst.step is None else f", {worst.minimum_tolerance / worst.step:.2g} steps"
    return f"[{colour}]{worst.minimum_tolerance:.2g}{steps}[/]"
