"""``classkinfy localise``: the operator at which a runtime first departs from PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import GateFailedError
from classkinfy_export.parity.localise import Fault, Localisation, TensorRow, localise
from classkinfy_export.parity.reproducer import SCRIPT

_BEFORE, _AFTER = 4, 8
"""Rows of the table around the fault."""


def command(
    bundle: BundlePath,
    runtime: Annotated[str, typer.Option(help="Which departs, as verify says.")],
    image: Annotated[
        Path | None, typer.Option(help="A photo; by default the golden vectors in turn.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="By default the first whose outputs differ.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Of a stage's outputs, instead of the bundle's own."),
    ] = None,
    sqnr: Annotated[
        float | None,
        typer.Option(help="dB below which a tensor differs; 80, and more where that finds none."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what shows the fault by itself.")] = Path(
        "reproducer"
    ),
    threads: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Show every tensor, not only those around the fault.")
    ] = False,
    overwrite: terminal.Overwrite = False,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Find the first operator that departs from PyTorch, and write what shows it by itself.

    Exit code 1 when there is one.

    Example: [bold]classkinfy localise bundle --runtime litert --out reproducer[/]
    """
    opened = Bundle.open(bundle, terminal.trusted(trusted))
    with terminal.progress() as report:
        found = localise(
            opened,
            runtime=runtime,
            image=image,
            stage=stage,
            tolerance=tolerance,
            least_db=sqnr,
            threads=threads,
            progress=report,
        )
    if json:
        terminal.emit(found.model_dump(mode="json"))
    else:
        show(found, whole=whole)
    if found.reproducer is None:
        return
    found.reproducer.write(out, overwrite=overwrite)
    if not json:
        terminal.out.print(f"reproducer: {terminal.plain(out / SCRIPT)}")
    raise GateFailedError(_told(found))


def _told(found: Localisation) -> str:
    fault = found.fault
    assert fault is not None
    return (
        f"{found.runtime} departs from PyTorch in stage {found.stage} at {fault.operator}, "
        f"tensor {fault.tensor}"
    )


def show(found: Localisation, *, whole: bool) -> None:
    """Print what was found.

    Args:
        found: it.
        whole: whether to show every tensor.
    """
    differences = ", ".join(f"{name} {value:.3g}" for name, value in found.outputs.items())
    where = f", stage {found.stage}: largest |Δ| {differences}" if found.stage else ""
    images = f"{found.images} image{'s' * (found.images > 1)}"
    if found.fault is None:
        terminal.out.print(
            f"[green]no fault[/]: {found.runtime} is within its tolerances of PyTorch on {images}"
            + terminal.plain(where)
        )
        return
    terminal.out.print(f"{found.runtime} on {terminal.plain(found.image)}{terminal.plain(where)}")
    _table(found, found.fault, whole)
    _explain(found.fault)


def _table(found: Localisation, fault: Fault, whole: bool) -> None:
    rows = list(found.rows)
    place = next(i for i, row in enumerate(rows) if row.tensor == fault.tensor)
    first, last = (0, len(rows)) if whole else (max(place - _BEFORE, 0), place + _AFTER + 1)
    made = terminal.table(
        f"Tensors of {found.stage}, in the order in which they are computed",
        "operator",
        "tensor",
        "in PyTorch",
        "shape",
        ">SQNR dB",
        ">max |Δ|",
        ">cosine",
        "",
    )
    outputs = [row for row in rows[last:] if row.tensor in found.outputs]
    for row in (*rows[first:last], *outputs):
        made.add_row(*_cells(row), _verdict(row, fault))
    terminal.out.print(made)
    hidden = len(rows) - len(rows[first:last]) - len(outputs)
    if hidden:
        terminal.out.print(f"{hidden} more with --all")


def _cells(row: TensorRow) -> tuple[str, ...]:
    layout = f" {row.layout}" if row.layout else ""
    telling = row.reference.lstrip("_").startswith(row.reference_operator)
    cells = (
        row.operator,
        row.tensor,
        row.reference + ("" if telling else f" ({row.reference_operator})"),
        f"{'x'.join(map(str, row.shape))}{layout}",
    )
    return (
        *(terminal.plain(cell) for cell in cells),
        "equal" if row.largest == 0.0 else "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        f"{row.largest:.3g}",
        "" if row.cosine is None else f"{row.cosine:.6f}",
    )


def _verdict(row: TensorRow, fault: Fault) -> str:
    if row.tensor == fault.tensor:
        return "[bold red]FAULT[/]"
    return "[green]same[/]" if row.same else "[red]differs[/]"


def _explain(fault: Fault) -> None:
    by_itself = "" if fault.sqnr_db is None else f", SQNR {fault.sqnr_db:.1f} dB"
    part = "the whole stage" if fault.whole_stage else f"{fault.operators} operator"
    part += "" if fault.whole_stage or fault.operators == 1 else "s"
    computed = " → ".join(fault.reference_operators)
    lines = [
        f"[bold red]{terminal.plain(fault.operator)}[/] gives {terminal.plain(fault.tensor)}, "
        f"which should be PyTorch's {terminal.plain(fault.reference)}",
        f"in PyTorch: {terminal.plain(computed or 'no operator: it is an input of this part')}",
        *([f"weights: {terminal.plain(', '.join(fault.weights))}"] if fault.weights else []),
        f"by itself, on PyTorch's values ({part}): largest |Δ| {fault.largest:.3g}{by_itself}; "
        f"{_number(fault.expected)} expected at {list(fault.index)}, {_number(fault.actual)} given",
        "with PyTorch's value in its place every output of the stage holds: no other fault"
        if fault.alone
        else "with PyTorch's value in its place an output still differs: there is another fault",
    ]
    for line in lines:
        terminal.out.print(line)


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.6g}"
