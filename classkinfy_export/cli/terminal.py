"""What every verb shares: where text goes, progress bars, JSON, errors and exit codes."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from classkinfy_export import files, precision
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli.interruption import EXIT_CODE, interruptible
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.taxonomy import DISCLAIMER

Precision = Annotated[
    precision.Precision, typer.Option(help="Of the bundle's models, one that it holds.")
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        help="A data set, or a folder of photos, for a quantised precision's ranges; none that you "
        "measure on."
    ),
]
CalibrationSplit = Annotated[
    Path | None,
    typer.Option("--split", help="The photos' split: of a data set, train alone is calibrated on."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="KEYS",
        envvar="CLASSKINFY_TRUSTED",
        help="A public key, or a folder of them: refuse a bundle that none has signed; repeatable.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

# In a file or a pipe, tables are as wide as they need to be read, not as a terminal of old.
_wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
out = Console(soft_wrap=True, highlight=False, width=_wide)


_REMEDIES = {
    errno.ENOSPC: "free some, or write elsewhere",
    errno.EDQUOT: "free some, or write elsewhere",
    errno.EROFS: "write elsewhere",
}
_LESS = "close other programs, or ask for less at once"
_TORCH_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""In what torch raises, a RuntimeError."""


@functools.cache
def _stderr() -> Console:
    # A descriptor of its own: exporters' C++ chatter is kept out by redirecting 2.
    return Console(file=os.fdopen(os.dup(2), "w"), highlight=False, soft_wrap=True)


class Group(typer.core.TyperGroup):
    """Turns this package's errors into one line and an exit code, and Ctrl-C into 130."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (typer's vendored click types)
        """Run the verb."""
        with interruptible(), _caches():
            try:
                return super().invoke(ctx)
            except ClasskinfyError as error:
                _fail(str(error))
                code = error.exit_code
            except KeyboardInterrupt:
                _stderr().print("interrupted: nothing was left half-written")
                code = EXIT_CODE
            except BrokenPipeError:  # whoever read our output has read enough
                raise
            except (OSError, MemoryError, RuntimeError) as error:
                told = _system(error)
                if told is None:
                    raise
                _fail(told)
                code = 2
        # Out here the exception is gone, and with it what it kept from being closed.
        raise typer.Exit(code)


@contextmanager
def _caches() -> Iterator[None]:
    """Give libraries a folder for caches of fonts, kernels, settings, that goes with the process.

    They would be left in HOME, and in the folder of temporary files. Where one is set, it stays.
    """
    unset = {"MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "KERAS_HOME"} - os.environ.keys()
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError):  # nowhere to write, or no home: without, then
            made = tempfile.TemporaryDirectory(prefix="classkinfy.", ignore_cleanup_errors=True)
            os.environ.update(dict.fromkeys(unset, stack.enter_context(made)))
            if "MPLCONFIGDIR" in unset:
                for fonts in _matplotlibs().glob("fontlist-*.json"):
                    shutil.copy(fonts, made.name)  # else every font is read anew
        try:
            yield
        finally:
            for name in unset:
                os.environ.pop(name, None)


def _matplotlibs() -> Path:
    """Where matplotlib keeps what it found, when other programs use it."""
    if not sys.platform.startswith(("linux", "freebsd")):
        return Path("~/.matplotlib").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "matplotlib"


def _system(error: OSError | MemoryError | RuntimeError) -> str | None:
    """Say what the system refused; None of an error that is not the system's."""
    if isinstance(error, OSError):
        hint = _REMEDIES.get(error.errno or 0)
        return f"{error}: {hint}" if hint else str(error)
    if isinstance(error, MemoryError) or _TORCH_MEMORY in str(error):
        return f"memory ran out{f' ({error})' if str(error) else ''}: {_LESS}"
    return None


def _fail(what: str) -> None:
    _stderr().print(Text.assemble(("error:", "bold red"), f" {' '.join(what.split())}"))


def warn(text: str) -> None:
    """Say on stderr what may not be meant."""
    _stderr().print(f"[yellow]warning[/]: {text}")


def warn_of_calibration(bundle: Bundle) -> None:
    """Say on stderr that a bundle's calibration set was too small, or training on it of no use."""
    seen = bundle.manifest.calibration
    if seen is None:
        return
    warnings = [
        f" training {network.stage} for int8 did not make its noise less, so it was left as it "
        "was: try a lower qat.learning_rate, or more photos, or leave qat out"
        for network in seen.trained
        if not network.kept
    ]
    if seen.stability is not None and seen.stability.moved:
        found = seen.stability
        warnings.append(
            f" {found.moved} of {found.activations} quantised activations have scales that are "
            f"more than 20 % apart in two halves of the {seen.images} photos, {found.worst} most, "
            f"by {found.shift:.0%}: calibrate on more photos, with a larger calibration.images"
        )
    for warning in warnings:
        _stderr().print(Text.assemble(("warning:", "bold yellow"), warning))


def trusted(keys: list[Path] | None) -> tuple[str, ...]:
    """Read the keys of ``Trusted``, for ``Bundle.open``."""
    if not keys:
        return ()
    from classkinfy_export.bundle import signature

    return signature.read_trusted(keys)


def plain(text: object) -> str:
    """Return text that is not this package's so that its brackets are shown, not read as style."""
    return escape(str(text))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on the terminal, or now and then a line elsewhere; give the callback."""
    console = _stderr()
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=plain(what), completed=done, total=total)

        yield report


def _lines(console: Console) -> Callable[[str, int, int], None]:
    last = ("", 0.0)

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last[0] or time.monotonic() > last[1] + 30:
            last = (what, time.monotonic())
            console.print(f"{what} ({done}/{total})", markup=False)

    return report


def names(given: str | None) -> list[str] | None:
    """Read comma-separated names; None where none are given."""
    found = [name.strip() for name in (given or "").split(",") if name.strip()]
    return found or None


def emit(document: object) -> None:
    """Print a JSON document on stdout."""
    sys.stdout.write(files.to_json(document))


def note(text: str) -> None:
    """Say something on stderr, beside what stdout carries."""
    _stderr().print(plain(text))


def keep_evidence(bundle: Bundle, name: str, content: dict[str, Any]) -> None:
    """Put evidence into a bundle; one that cannot be written to is only told of."""
    try:
        writer.add_evidence(bundle, name, content)
    except OSError as error:
        _stderr().print(f"evidence was not kept in the bundle: {error.strerror}")


def table(title: str, *columns: str) -> Table:
    """Return an empty table; numbers go into columns whose name starts with ``>``."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        # A narrow terminal breaks a cell; a name that lost its end names nothing.
        made.add_column(column.lstrip(">"), justify=justify, overflow="fold")
    return made


def disclaim() -> None:
    """Print the disclaimer under a human-readable answer."""
    out.print(f"\n[dim]{DISCLAIMER}[/]")
