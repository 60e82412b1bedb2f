"""``classkinfy report``: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export import files
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import require


def command(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    json: terminal.Json = False,
) -> None:
    """Write one self-contained page: what the bundle holds, does, proves and costs.

    Example: [bold]classkinfy report bundle --out report.html[/]
    """
    for module in ("jinja2", "matplotlib"):
        require(module, extra="report", purpose="writing a report")
    from classkinfy_export.reporting.page import render

    opened = Bundle.open(bundle)
    with terminal.progress() as report:
        page = render(opened, progress=lambda done, total: report("drawing", done, total))
    files.write(out, page.encode())
    if json:
        terminal.emit({"report": str(out), "evidence": sorted(opened.evidence())})
        return
    terminal.out.print(f"report: {terminal.plain(out)}")
