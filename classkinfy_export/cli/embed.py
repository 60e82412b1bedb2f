"""``classkinfy embed``: a bundle into an Android app, or a page that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs import android as app
from classkinfy_export.jobs import web_page

Android = Annotated[
    Path | None,
    typer.Option(
        metavar="MODULE",
        help="Into an Android app: its asset, Kotlin constants and licence, below MODULE/src/main.",
    ),
]

Web = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="As a page of static files that runs it in the browser, offline once loaded.",
    ),
]


def command(
    bundle: BundlePath,
    android: Android = None,
    web: Web = None,
    overwrite: terminal.Overwrite = False,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Put a bundle into an app, over one that was there, or into a page, after checking every hash.

    The page that is made with --trusted answers with bundles of these signers alone.

    Example: [bold]classkinfy embed bundle --android android_demo/app[/]

    Example: [bold]classkinfy embed bundle --web page[/]
    """
    if android is None and web is None:
        raise BundleError(
            "nothing to put the bundle into", hint="give --android MODULE or --web DIR"
        )
    keys = terminal.trusted(trusted)
    written = into(Bundle.open(bundle, keys), android, web, keys, overwrite=overwrite)
    if json:
        terminal.emit({"written": [str(path) for path in written]})
        return
    for path in written:
        terminal.out.print(terminal.plain(path))
    terminal.disclaim()


def into(
    bundle: Bundle,
    android: Path | None,
    web: Path | None,
    trusted: tuple[str, ...] = (),
    *,
    overwrite: bool,
) -> tuple[Path, ...]:
    """Put a bundle into what was asked for, and return what was written."""
    written: list[Path] = []
    if web is not None:
        written.append(web_page.write(bundle, web, trusted=trusted, overwrite=overwrite))
    if android is not None:
        written.extend(app.embed(bundle, android))
    return tuple(written)
