"""``classkinfy verify``: the parity gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from classkinfy_export import files, recipes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError, GateFailedError
from classkinfy_export.frame import choose, list_images
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.labels import Labels
from classkinfy_export.parity.verify import ParityReport, verify
from classkinfy_export.reporting.junit import junit as to_junit
from classkinfy_export.reporting.summary import summary as to_summary


def command(
    bundle: BundlePath,
    images: Annotated[
        Path | None, typer.Option(help="Photos; without them, the bundle's golden vectors.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evenly spaced images, at most so many.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with image_id, dx and lesion_id: tells what a runtime changes."),
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(help="Comma-separated; all that are installed and fast, by default."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Tolerances in YAML, instead of the bundle's own.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle to compare with, instead of PyTorch.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            envvar="CLASSKINFY_CACHE",
            help="Folder for what was seen: an image that nothing changed for is not run again.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write Markdown here.")] = None,
    json: terminal.Json = False,
) -> None:
    """Compare every runtime with PyTorch: tensors, labels, decisions. Exit code 1 on a failure.

    Example: [bold]classkinfy verify bundle --images photos --limit 500 --junit parity.xml[/]
    """
    opened = Bundle.open(bundle)
    asked = recipes.load(recipe, recipes.ParityRecipe) if recipe is not None else None
    other = Bundle.open(against) if against is not None else None
    known = Labels.read(labels) if labels is not None else None
    found = choose(list_images(images), limit) if images is not None else []
    names = terminal.names(runtimes)
    with terminal.progress() as report:
        result = verify(
            opened,
            found,
            labels=known,
            recipe=asked,
            against=other,
            names=names,
            threads=threads,
            cache=cache,
            progress=lambda done, total: report("verifying", done, total),
        )
    document = result.model_dump(mode="json")
    if json:
        terminal.emit(document)
    else:
        show(result)
    for path, written in ((junit, to_junit), (summary, to_summary)):
        if path is not None:
            files.write(path, written(result).encode())
    if names is None and asked is None and other is None:  # nothing else replaces a whole one
        terminal.keep_evidence(opened, "parity" if found else "golden", document)
    if not result.passed:
        if result.nothing_ran is not None:
            raise BundleError(result.nothing_ran)
        raise GateFailedError("parity does not hold: " + "; ".join(result.failures()))


def show(result: ParityReport) -> None:
    """Print a report as tables."""
    terminal.out.print(_differences(result))
    failed = [row for row in result.tensors if not row.passed]
    if failed:
        terminal.out.print(_failed(failed))
    decisions = terminal.table(
        "Decisions",
        "runtime",
        "form",
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
            choice.form,
            str(choice.images),
            f"{choice.label_agreement:.2%}",
            str(choice.flips),
            str(choice.malignancy_flips),
            f"{choice.largest_shift:.2g}",
            f"{choice.flip_bound:.2%}, {choice.flip_rate:.2%}"
            + ("" if choice.proven else f" (takes {choice.images_needed})"),
            "[green]ok[/]" if choice.passed else "[bold red]FAIL[/]",
        )
    terminal.out.print(decisions)
    if result.labelled:
        terminal.out.print(_changes(result))
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
    """Return a row for each runtime and form: how many exact tensors are equal, and the others."""
    loose = [row for row in result.tensors if row.tolerance]
    names = list(dict.fromkeys(_shown(row) for row in loose))
    table = terminal.table(
        f"Largest |Δ| from {result.reference}, {result.images} images",
        "runtime",
        "form",
        ">exact tensors",
        *(f">{name}" for name in names),
    )
    for runtime, form in dict.fromkeys((row.runtime, row.form) for row in result.tensors):
        ours = [row for row in result.tensors if (row.runtime, row.form) == (runtime, form)]
        exact = [row.passed for row in ours if not row.tolerance]
        colour = "green" if all(exact) else "bold red"
        cells = ([row for row in ours if row.tolerance and _shown(row) == name] for name in names)
        equal = f"[{colour}]{sum(exact)} of {len(exact)}[/]"
        table.add_row(runtime, form, equal, *(_cell(rows) for rows in cells))
    return table


def _shown(row: TensorParity) -> str:
    """Return the column of a tensor: all graders' severities have one."""
    return "severity" if row.tensor.startswith("severity") else row.tensor


def _failed(rows: list[TensorParity]) -> Table:
    table = terminal.table(
        "What differs",
        "gate",
        "runtime",
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
    return f"[{colour}]{worst.minimum_tolerance:.2g}[/]"
