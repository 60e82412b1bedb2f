"""``classkinfy``: the verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from classkinfy_export import __version__
from classkinfy_export.cli import (
    bench,
    data,
    demo,
    doctor,
    embed,
    estimate,
    evaluate,
    explain,
    export,
    inspect,
    keygen,
    localise,
    predict,
    quantize,
    report,
    serve,
    sign,
    train,
    verify,
)
from classkinfy_export.cli.terminal import Group
from classkinfy_export.taxonomy import DISCLAIMER

app = typer.Typer(
    cls=Group,
    name="classkinfy",
    help=f"From a two-stage skin-lesion classifier to a verified mobile bundle.\n\n{DISCLAIMER}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"classkinfy-export {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


app.command("doctor")(doctor.command)
app.command("demo")(demo.command)
app.add_typer(data.app, name="data")
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("export")(export.command)
app.command("quantize")(quantize.command)
app.command("inspect")(inspect.command)
app.command("verify")(verify.command)
app.command("localise")(localise.command)
app.command("bench")(bench.command)
app.command("estimate")(estimate.command)
app.command("predict")(predict.command)
app.command("explain")(explain.command)
app.command("embed")(embed.command)
app.command("keygen")(keygen.command)
app.command("sign")(sign.command)
app.command("report")(report.command)
app.command("serve")(serve.command)


def main() -> None:
    """Run the command line."""
    app()
