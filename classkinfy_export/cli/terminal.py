"""What every verb shares: where text goes, progress bars, JSON, errors and exit codes."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.taxonomy import DISCLAIMER

INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

out = Console(soft_wrap=True, highlight=False)


@functools.cache
def _stderr() -> Console:
    # A descriptor of its own: exporters' C++ chatter is kept out by redirecting 2.
    return Console(file=os.fdopen(os.dup(2), "w"), highlight=False, soft_wrap=True)


class Group(typer.core.TyperGroup):
    """Turns this package's errors into one line and an exit code, and Ctrl-C into 130."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (typer's vendored click types)
        """Run the verb."""
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except ClasskinfyError as error:
            _stderr().print(f"[bold red]error:[/] {_escape(str(error))}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _stderr().print("interrupted: nothing was left half-written")
            raise typer.Exit(INTERRUPTED) from None
        except (OSError, MemoryError) as error:
            what = str(error) or type(error).__name__
            _stderr().print(f"[bold red]error:[/] {_escape(what)}")
            raise typer.Exit(2) from None


def _interrupt(number: int, stack: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on the terminal; give the callback that moves it."""
    console = _stderr()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        last = ("", 0.0)

        def report(what: str, done: int, total: int) -> None:
            nonlocal last
            bar.update(task, description=what, completed=done, total=total)
            if not console.is_terminal and (what != last[0] or time.monotonic() > last[1] + 30):
                last = (what, time.monotonic())
                console.print(f"{what} ({done}/{total})")

        yield report


def note(text: str) -> None:
    """Say something on stderr, so that stdout stays machine-readable."""
    _stderr().print(text)


def emit(document: object) -> None:
    """Print a JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def table(title: str, *columns: str) -> Table:
    """Return an empty table; numbers go into columns whose name starts with ``>``."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return made


def disclaim() -> None:
    """Print the disclaimer under a human-readable answer."""
    out.print(f"\n[dim]{DISCLAIMER}[/]")
