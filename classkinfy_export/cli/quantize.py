"""``classkinfy quantize``: more precisions for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import require


def command(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(help="The new bundle: a folder, or a .ckb archive.")],
    precision: Annotated[
        list[str] | None,
        typer.Option(help="To add: static_wi8_ai8 by default; repeatable."),
    ] = None,
    calibration: terminal.Calibration = None,
    split: terminal.CalibrationSplit = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="calibration.images=500, for instance; repeatable."),
    ] = None,
    overwrite: terminal.Overwrite = False,
    json: terminal.Json = False,
) -> None:
    """Add quantised models to a bundle: a new bundle, as 'export' would have written it.

    Example: [bold]classkinfy quantize bundle --out quantised --calibration HAM10000
    --split runs/mobile/split.csv[/]
    """
    opened = Bundle.open(bundle)
    for module in ("torch", "timm", "onnx", "onnxscript"):
        require(module, extra="export", purpose="quantising")
    from classkinfy_export.jobs.quantize import quantize

    with terminal.progress() as report:
        made, left_out = quantize(
            opened,
            out,
            precision or ("static_wi8_ai8",),
            calibration=calibration,
            split=split,
            overrides=tuple(override or ()),
            overwrite=overwrite,
            report=report,
        )
    terminal.warn_of_ranges(made)
    if json:
        terminal.emit(
            {
                "bundle": str(out),
                "manifest_sha256": made.sha256,
                "precisions": made.manifest.provenance.recipe["precisions"],
                "evidence_left_out": left_out,
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
