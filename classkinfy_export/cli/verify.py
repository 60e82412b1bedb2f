"""``classkinfy verify``: the parity gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError, GateFailedError
from classkinfy_export.frame import list_images
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.verify import ParityReport, verify


def command(
    bundle: BundlePath,
    images: Annotated[
        Path | None, typer.Option(help="Photos; without them, the bundle's golden vectors.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evenly spaced images, at most so many.")
    ] = None,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated; all that are installed by default.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    json: terminal.Json = False,
) -> None:
    """Compare every runtime with PyTorch: tensors, labels, decisions. Exit code 1 on a failure.

    Example: [bold]classkinfy verify bundle --images photos --limit 500[/]
    """
    opened = Bundle.open(bundle)
    found = list_images(images) if images is not None else []
    if limit is not None and len(found) > limit:
        found = [found[i * len(found) // limit] for i in range(limit)]
    names = [name.strip() for name in runtimes.split(",")] if runtimes else None
    with terminal.progress() as report:
        result = verify(
            opened,
            found,
            names=names,
            threads=threads,
            progress=lambda done, total: report("verifying", done, total),
        )
    document = result.model_dump(mode="json")
    if json:
        terminal.emit(document)
    else:
        show(result)
    if names is None:  # a run narrowed to some runtimes does not replace a whole one
        terminal.keep_evidence(opened, "parity" if found else "golden", document)
    if not result.passed:
        if not result.tensors:
            raise BundleError(
                "no runtime could run: " + "; ".join(n.reason for n in result.not_run)
            )
        raise GateFailedError("parity does not hold: " + "; ".join(result.failures()))


def show(result: ParityReport) -> None:
    """Print a report as tables."""
    columns = list(dict.fromkeys((row.runtime, row.form) for row in result.tensors))
    tensors = terminal.table(
        f"Largest |Δ| from {result.reference}, {result.images} images",
        "tensor",
        ">allowed",
        *(f">{runtime} {form}" for runtime, form in columns),
    )
    for name in dict.fromkeys(row.tensor for row in result.tensors):
        cells = {(r.runtime, r.form): r for r in result.tensors if r.tensor == name}
        tolerance = next(iter(cells.values())).tolerance
        tensors.add_row(
            name,
            f"{tolerance:.0e}" if tolerance else "exact",
            *(_cell(cells.get(column)) for column in columns),
        )
    terminal.out.print(tensors)
    decisions = terminal.table(
        "Decisions",
        "runtime",
        "form",
        ">images",
        ">label agreement",
        ">flips",
        ">malignant side",
        "",
    )
    for choice in result.decisions:
        decisions.add_row(
            choice.runtime,
            choice.form,
            str(choice.images),
            f"{choice.label_agreement:.2%}",
            str(max(choice.label_flips, choice.decision_flips)),
            str(choice.malignancy_flips),
            "[green]ok[/]" if choice.passed else "[bold red]FAIL[/]",
        )
    terminal.out.print(decisions)
    for missing in result.not_run:
        terminal.out.print(
            f"[yellow]not run[/] {missing.runtime}: {terminal.plain(missing.reason)}"
        )
    terminal.out.print("[green]parity holds[/]" if result.passed else "[red]parity fails[/]")


def _cell(row: TensorParity | None) -> str:
    if row is None:
        return ""
    colour = "green" if row.passed else "bold red"
    return f"[{colour}]{row.minimum_tolerance:.2g}[/]"
