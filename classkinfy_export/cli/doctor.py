"""``classkinfy doctor``: what is installed, what it enables, how to get the rest."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from classkinfy_export.cli import terminal
from classkinfy_export.jobs import arm64, web
from classkinfy_export.jobs.doctor import examine


class Machine(StrEnum):
    """What can be set up beside pip's packages."""

    arm64 = "arm64"
    web = "web"


_INSTALL = {Machine.arm64: arm64.install, Machine.web: web.install}


def command(
    install: Annotated[
        Machine | None,
        typer.Option(
            help="Set up the emulated ARM64 runtimes (Debian, 100 MB of downloads), or those of "
            "the web (npm, 200 MB on disk)."
        ),
    ] = None,
    json: terminal.Json = False,
) -> None:
    """Say what is installed, what each missing piece enables, and how to get it.

    Example: [bold]classkinfy doctor --install arm64[/]
    """
    if install is not None:
        with terminal.progress() as report:
            _INSTALL[install](report)
    pieces = examine()
    if json:
        terminal.emit([piece.to_json() for piece in pieces])
        return
    shown = terminal.table("Installed", "enables", "package", "version", "to get it")
    for piece in pieces:
        shown.add_row(
            piece.enables,
            piece.package,
            piece.version or "[yellow]missing[/]",
            "" if piece.version else terminal.plain(piece.hint),
        )
    terminal.out.print(shown)
