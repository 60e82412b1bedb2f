"""``classkinfy serve``: a bundle behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.contract import Form
from classkinfy_export.errors import ClasskinfyError, require


def command(
    bundle: BundlePath,
    host: Annotated[
        str, typer.Option(help="The address to listen on; this machine alone by default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    runtime: Annotated[str, typer.Option(help="onnxruntime, litert or pytorch.")] = "onnxruntime",
    form: Annotated[Form, typer.Option(help="Stage by stage, or the one graph.")] = "staged",
    precision: terminal.Precision = "fp32",
    workers: Annotated[int, typer.Option(min=1, help="Answers at once, a thread each.")] = 1,
    waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; the next one gets 503.")
    ] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until an answer.")] = 30.0,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep answers in a database: sqlite:///answers.db, postgresql+psycopg://…",
        ),
    ] = None,
    record_images: Annotated[
        bool, typer.Option("--record-images", help="Keep the photos there, too.")
    ] = False,
    origin: Annotated[
        list[str] | None, typer.Option(help="Of a page elsewhere that may ask; repeatable.")
    ] = None,
    page: Annotated[
        bool,
        typer.Option(
            "--page", help="At / the page that runs the bundle in the browser, without the server."
        ),
    ] = False,
    trusted: terminal.Trusted = None,
) -> None:
    """Answer over HTTP: POST /v1/predict with a form's file "image"; /openapi.json tells the rest.

    Example: [bold]classkinfy serve bundle --workers 2 --record sqlite:///answers.db[/]
    """
    for module in ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "python_multipart"):
        require(module, extra="serve", purpose="serving")
    if record_images and record is None:
        raise ClasskinfyError("--record-images needs --record", hint="name a database")
    from classkinfy_export.jobs.serve import Service

    keys = terminal.trusted(trusted)
    opened = Bundle.open(bundle, keys)
    terminal.out.print(
        f"{terminal.plain(opened.manifest.name)} ({opened.sha256[:12]}) on "
        f"http://{host}:{port}, described at /openapi.json"
    )
    terminal.disclaim()
    Service(
        host,
        port,
        runtime,
        form,
        precision,
        workers,
        waiting,
        timeout,
        record,
        record_images,
        tuple(origin or ()),
        keys,
        page,
    ).run(opened)
