"""``classkinfy embed``: a bundle into an Android app, or a page that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError, ClasskinfyError
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
    check(bundle, android, web, overwrite=overwrite)
    keys = terminal.trusted(trusted)
    opened = Bundle.open(bundle, keys)
    written = into(opened, android, web, keys, overwrite=overwrite)
    if json:
        terminal.emit({"written": [str(path) for path in written]})
        return
    for path in written:
        terminal.out.print(terminal.plain(path))
    terminal.disclaim()


def check(bundle: Path, android: Path | None, web: Path | None, *, overwrite: bool) -> None:
    """Refuse places that ``into`` could not write to, or that hold the bundle, before any work."""
    if android is not None and android.exists() and not android.is_dir():
        raise ClasskinfyError(f"{android} is a file", hint="give the folder of the app's module")
    if web is None:
        return
    places = web.resolve(), bundle.resolve()
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise ClasskinfyError(f"{web} and {bundle} lie in one another", hint="choose another --web")
    web_page.require_runtimes()
    if web.exists() and not overwrite and not (web.is_dir() and not any(web.iterdir())):
        raise ClasskinfyError(
            f"{web} already exists", hint="choose another --web, or pass --overwrite"
        )


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
    if written and any(name.startswith("golden/own_") for name in bundle.manifest.files):
        terminal.warn("your own photos are among its golden vectors, and travel with it")
    return tuple(written)
