"""``classkinfy embed``: a bundle into an app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs import android as app

Android = Annotated[
    Path | None,
    typer.Option(
        metavar="MODULE",
        help="Into an Android app: its asset, Kotlin constants and licence, below MODULE/src/main.",
    ),
]


def command(
    bundle: BundlePath,
    android: Android = None,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Put a bundle into an app, after checking every hash; over one that was there.

    Example: [bold]classkinfy embed bundle --android android_demo/app[/]
    """
    if android is None:
        raise BundleError("nothing to put the bundle into", hint="give --android MODULE")
    written = into(Bundle.open(bundle, terminal.trusted(trusted)), android)
    if json:
        terminal.emit({"written": [str(path) for path in written]})
        return
    for path in written:
        terminal.out.print(terminal.plain(path))
    terminal.disclaim()


def into(bundle: Bundle, module: Path | None) -> tuple[Path, ...]:
    """Put a bundle into what was asked for."""
    return () if module is None else app.embed(bundle, module)
