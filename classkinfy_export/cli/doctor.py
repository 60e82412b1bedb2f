"""``classkinfy doctor``: what is installed, what it enables, how to get the rest."""

from __future__ import annotations

from classkinfy_export.cli import terminal
from classkinfy_export.jobs.doctor import examine


def command(json: terminal.Json = False) -> None:
    """Say what is installed, what each missing piece enables, and how to get it.

    Example: [bold]classkinfy doctor[/]
    """
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
