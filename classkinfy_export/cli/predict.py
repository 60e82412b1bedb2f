"""``classkinfy predict``: one photo, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from classkinfy_export import runtimes as registry
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.runtimes.session import Session
from classkinfy_export.taxonomy import PROXY_NOTICE


def command(
    bundle: BundlePath,
    image: Annotated[Path, typer.Argument(help="A photo.")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, litert or pytorch.")] = "onnxruntime",
    form: Annotated[
        Literal["staged", "fused"], typer.Option(help="Stage by stage, or the one graph.")
    ] = "staged",
    precision: terminal.Precision = "fp32",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Answer for one photo: quality, diagnosis, probabilities, severity.

    Example: [bold]classkinfy predict bundle photo.jpg[/]
    """
    opened = Bundle.open(bundle, terminal.trusted(trusted))
    with registry.get(runtime).open(opened, precision=precision, threads=threads) as engine:
        prediction = Session(engine, form).predict(image)
    if json:
        terminal.emit(prediction.to_json())
        return
    taxonomy = opened.manifest.taxonomy
    reasons = terminal.plain(", ".join(prediction.reasons))
    if prediction.diagnosis is None:
        terminal.out.print(f"[yellow]refused[/]: {reasons}")
    else:
        side = "malignant side" if prediction.diagnosis in taxonomy.malignant else "benign side"
        title = terminal.plain(taxonomy.title(prediction.diagnosis))
        terminal.out.print(
            f"[bold]{title}[/] ({prediction.diagnosis}, {side}), "
            f"confidence {prediction.confidence:.1%}"
        )
        if prediction.reasons:
            terminal.out.print(f"[yellow]advice[/]: {reasons}")
    shown = terminal.table("Probabilities", "class", ">probability")
    for dx, p in sorted(prediction.probabilities.items(), key=lambda item: -item[1]):
        shown.add_row(terminal.plain(taxonomy.title(dx)), f"{p:.2%}")
    terminal.out.print(shown)
    if prediction.preliminary is not None:
        first, p = max(prediction.preliminary.items(), key=lambda item: item[1])
        found = min(prediction.preliminary.values()) < p
        seen = f"{terminal.plain(taxonomy.title(first))}, {p:.1%}" if found else "no lesion found"
        terminal.out.print(f"by shape and colour alone: {seen}")
    if prediction.severity is not None:
        terminal.out.print(f"severity: {prediction.severity}. {PROXY_NOTICE}")
    quality = ", ".join(f"{name} {value:.3g}" for name, value in prediction.quality.items())
    times = ", ".join(f"{stage} {ms:.1f}" for stage, ms in prediction.timings_ms.items())
    terminal.out.print(f"quality: {quality}\nms: {times} ({prediction.runtime}, first answer)")
    terminal.disclaim()
