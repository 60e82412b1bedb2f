"""``classkinfy verify``: the parity gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export import files, recipes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import parity_tables, terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import BundleError, GateFailedError, require
from classkinfy_export.frame import choose, list_images
from classkinfy_export.parity.labels import Labels
from classkinfy_export.parity.verify import verify
from classkinfy_export.reporting.junit import junit as to_junit
from classkinfy_export.reporting.summary import summary as to_summary
from classkinfy_export.tolerances import ParityRecipe

_TOLD = 4
"""Failures in the error; the tables have all of them."""


def command(
    bundle: BundlePath,
    images: Annotated[
        Path | None, typer.Option(help="Photos; without them, the bundle's golden vectors.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evenly spaced images, at most so many.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with image_id, dx and lesion_id: tells what a runtime changes."),
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(help="Comma-separated; all that are installed and fast, by default."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Tolerances in YAML, instead of the bundle's own.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle to compare with, instead of PyTorch.")
    ] = None,
    trusted: terminal.Trusted = None,
    threads: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            envvar="CLASSKINFY_CACHE",
            help="Folder for what was seen: an image that nothing changed for is not run again.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write Markdown here.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page here, with heat-maps.")
    ] = None,
    json: terminal.Json = False,
) -> None:
    """Compare every runtime with PyTorch: tensors, labels, decisions. Exit code 1 on a failure.

    Example: [bold]classkinfy verify bundle --images photos --limit 500 --junit parity.xml[/]
    """
    if html is not None:
        for module in ("jinja2", "matplotlib"):
            require(module, extra="report", purpose="writing a page")
    keys = terminal.trusted(trusted)
    opened = Bundle.open(bundle, keys)
    asked = recipes.load(recipe, ParityRecipe) if recipe is not None else None
    other = Bundle.open(against, keys) if against is not None else None
    known = Labels.read(labels) if labels is not None else None
    found = choose(list_images(images), limit) if images is not None else []
    names = terminal.names(runtimes)
    with terminal.progress() as report:
        result = verify(
            opened,
            found,
            labels=known,
            recipe=asked,
            against=other,
            names=names,
            threads=threads,
            cache=cache,
            progress=lambda done, total: report("verifying", done, total),
        )
    document = result.model_dump(mode="json")
    if json:
        terminal.emit(document)
    else:
        parity_tables.show(result)
    for path, written in ((junit, to_junit), (summary, to_summary)):
        if path is not None:
            files.write(path, written(result).encode())
    if html is not None:
        from classkinfy_export.reporting.parity_page import render

        files.write(html, render(result, opened, found).encode())
    if names is None and asked is None and other is None:  # nothing else replaces a whole one
        terminal.keep_evidence(opened, "parity" if found else "golden", document)
    if not result.passed:
        if result.nothing_ran is not None:
            raise BundleError(result.nothing_ran)
        failures = result.failures()
        more = [f"and {len(failures) - _TOLD} more"] if len(failures) > _TOLD else []
        raise GateFailedError("parity does not hold: " + "; ".join([*failures[:_TOLD], *more]))
