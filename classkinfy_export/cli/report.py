"""``classkinfy report``: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export import files
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath


def command(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    data: Annotated[
        Path | None, typer.Option(help="A data set: show where the classifier looks, by class.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="The data's split.")] = None,
    part: Annotated[
        str | None, typer.Option(help="Of the split: train, val, calib or test, the default.")
    ] = None,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Write one self-contained page: what the bundle holds, does, proves and costs.

    Example: [bold]classkinfy report bundle --out report.html[/]
    """
    from classkinfy_export.jobs.report import report

    with terminal.progress() as progress:
        page, opened = report(
            bundle,
            data=data,
            split_csv=split,
            part=part,
            trusted=terminal.trusted(trusted),
            progress=progress,
        )
    files.write(out, page.encode())
    if json:
        terminal.emit({"report": str(out), "evidence": sorted(opened.evidence())})
        return
    terminal.out.print(f"report: {terminal.plain(out)}")
