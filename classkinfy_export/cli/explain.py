"""``classkinfy explain``: where the classifier looked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.cli import terminal


def command(
    target: Annotated[Path, typer.Argument(help="A bundle, a training run, or a checkpoint.")],
    image: Annotated[Path, typer.Argument(help="A photo.")],
    out: Annotated[Path, typer.Option(help="The overlay, a PNG.")] = Path("explanation.png"),
    dx: Annotated[
        str | None, typer.Option("--class", help="To explain; the most probable by default.")
    ] = None,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Show what in a photo speaks for a class, by Grad-CAM. It tells where, not why.

    Example: [bold]classkinfy explain bundle photo.jpg --out overlay.png[/]
    """
    from classkinfy_export.jobs import explain

    explained = explain.explain(target, image, dx=dx, trusted=terminal.trusted(trusted))
    explain.write(explained, out)
    if json:
        terminal.emit({"overlay": str(out), **explained.to_json()})
        return
    title = terminal.plain(explained.taxonomy.title(explained.explained))
    probability = explained.prediction.probabilities[explained.explained]
    terminal.out.print(f"[bold]{title}[/] ({explained.explained}), probability {probability:.1%}")
    if explained.prediction.reasons:
        told = "advice" if explained.prediction.accepted else "the photo is refused"
        reasons = terminal.plain(", ".join(explained.prediction.reasons))
        terminal.out.print(f"[yellow]{told}[/]: {reasons}")
    terminal.out.print(f"overlay: {terminal.plain(out)}")
    terminal.disclaim()
