"""``classkinfy quantize``: more precisions for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import search_tables, terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import RecipeError, require
from classkinfy_export.evaluation.search import Cost, Search


def command(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(help="The new bundle: a folder, or a .ckb archive.")],
    precision: Annotated[
        list[str] | None,
        typer.Option(help="To add: static_wi8_ai8 by default; repeatable."),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Find the precision: the cheapest whose decisions are fp32's often enough.",
        ),
    ] = False,
    agreement: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="How often that is, with --search: 0.98 by default."),
    ] = None,
    cost: Annotated[
        Cost | None,
        typer.Option(
            help="What is to be least, with --search: instructions of an emulated phone core, the"
            " default where one is set up, or time on this machine."
        ),
    ] = None,
    calibration: terminal.Calibration = None,
    split: terminal.CalibrationSplit = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="calibration.images=500, for instance; repeatable."),
    ] = None,
    overwrite: terminal.Overwrite = False,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Add quantised models to a bundle: a new bundle, as 'export' would have written it.

    With --search each block's noise is measured, and what is noisiest stays in float. Where nothing
    that computes in int8 holds, networks are trained for it, which takes minutes to hours; --set
    qat.epochs=8 says how long, --set qat=null that they are not.

    Example: [bold]classkinfy quantize bundle --out quantised --calibration HAM10000
    --split runs/mobile/split.csv[/]

    Example: [bold]classkinfy quantize bundle --search --agreement 0.99 --out quantised
    --calibration HAM10000 --split runs/mobile/split.csv[/]
    """
    if search and precision:
        raise RecipeError("--search finds the precision, and --precision names one: give either")
    for option, value in (("--agreement", agreement), ("--cost", cost)):
        if value is not None and not search:
            raise RecipeError(f"{option} is of --search", hint="give --search, too")
    if search and calibration is None:
        raise RecipeError("--search runs models on photos", hint="give --calibration")
    opened = Bundle.open(bundle, terminal.trusted(trusted))
    for module in ("torch", "timm", "onnx", "onnxscript", "pandas", "scipy", "cyclonedx"):
        require(module, extra="export", purpose="quantising")
    from classkinfy_export.jobs.quantize import check_out, quantize, quantize_as_found

    overrides = tuple(override or ())
    found = None
    if search:
        assert calibration is not None
        check_out(opened, out, overwrite=overwrite)
        least = 0.98 if agreement is None else agreement
        found = _search(opened, calibration, least, split, cost, overrides, quietly=json)
    with terminal.progress() as report:
        if found is not None:
            assert calibration is not None
            made, left_out = quantize_as_found(
                opened,
                out,
                found,
                calibration=calibration,
                split=split,
                overrides=overrides,
                overwrite=overwrite,
                report=report,
            )
        else:
            made, left_out = quantize(
                opened,
                out,
                precision or ("static_wi8_ai8",),
                calibration=calibration,
                split=split,
                overrides=overrides,
                overwrite=overwrite,
                report=report,
            )
    if found is not None:
        terminal.keep_evidence(made, "search", found.model_dump(mode="json"))
    terminal.warn_of_calibration(made)
    if json:
        terminal.emit(
            {
                "bundle": str(out),
                "manifest_sha256": made.sha256,
                "precisions": made.manifest.provenance.recipe["precisions"],
                "evidence_left_out": left_out,
                "search": None if found is None else found.model_dump(mode="json"),
            }
        )
        return
    terminal.out.print(f"bundle: {terminal.plain(out)} ({made.sha256[:12]})")
    if left_out:
        terminal.out.print(
            f"evidence of the files of {terminal.plain(bundle)}, measure it again: "
            f"{', '.join(map(terminal.plain, left_out))}"
        )
    terminal.disclaim()


def _search(
    bundle: Bundle,
    calibration: Path,
    agreement: float,
    split: Path | None,
    cost: Cost | None,
    overrides: tuple[str, ...],
    *,
    quietly: bool,
) -> Search:
    """Search, show what was found, and stop where nothing holds."""
    from classkinfy_export.jobs.search import search

    with terminal.progress() as report:
        found = search(
            bundle,
            calibration,
            agreement=agreement,
            split=split,
            cost=cost,
            overrides=overrides,
            report=report,
        )
    for table in () if quietly else search_tables.tables(found):
        terminal.out.print(table)
    if found.choice is not None:
        return found
    if quietly:
        terminal.emit({"search": found.model_dump(mode="json")})
    else:
        terminal.out.print(f"no precision gives fp32's decision on {agreement:.1%} of the photos")
    raise typer.Exit(1)
