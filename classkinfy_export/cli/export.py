"""``classkinfy export``: a run, or single checkpoints, to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export import recipes
from classkinfy_export.cli import embed, terminal
from classkinfy_export.contract import Layout
from classkinfy_export.errors import CheckpointError, RecipeError, require


def command(
    out: Annotated[Path, typer.Option(help="The bundle: a folder, or a .ckb archive.")],
    run: Annotated[Path | None, typer.Argument(help="A run of 'classkinfy train'.")] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A classifier checkpoint: .safetensors, or origin .pth.")
    ] = None,
    grader: Annotated[
        list[str] | None, typer.Option(help="dx=checkpoint; repeatable, any subset.")
    ] = None,
    screen: Annotated[
        Path | None,
        typer.Option(help="Profiles of the instant answer, for example a run's."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="An export recipe.")] = "export/mobile.yaml",
    golden: Annotated[
        Path | None, typer.Option(help="Your own photos, to become golden vectors too.")
    ] = None,
    calibration: terminal.Calibration = None,
    split: terminal.CalibrationSplit = None,
    capture: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="What the camera gives, 720x960 for instance; resized in the graph."
        ),
    ] = None,
    layout: Annotated[Layout | None, typer.Option(help="How the camera's bytes lie.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe; repeatable.")
    ] = None,
    android: embed.Android = None,
    web: embed.Web = None,
    overwrite: terminal.Overwrite = False,
    json: terminal.Json = False,
) -> None:
    """Export to ONNX and LiteRT, as one bundle.

    Example: [bold]classkinfy export runs/mobile --recipe export/mobile.yaml --out bundle[/]

    Example: [bold]classkinfy export --classifier best_model.pth --grader mel=mel.pth
    --recipe export/origin.yaml --out bundle[/]

    Example: [bold]classkinfy export checkpoints/mobile --set 'precisions=[fp32, static_wi8_ai8]'
    --calibration HAM10000 --out bundle[/]
    """
    settings = recipes.load(
        recipe, recipes.ExportRecipe, (*_capture(capture, layout), *(override or ()))
    )
    if (run is None) == (classifier is None):
        raise CheckpointError("give either a run or --classifier, one of them")
    if run is not None and grader:
        raise CheckpointError("--grader goes with --classifier; a run brings its own graders")
    if run is not None and screen is not None:
        raise CheckpointError("--screen goes with --classifier; a run brings its own")
    embed.check(out, android, web, overwrite=overwrite)
    graders = _graders(grader or [])
    for module in ("torch", "timm", "onnx", "onnxscript", "pandas", "scipy", "cyclonedx"):
        require(module, extra="export", purpose="exporting")
    from classkinfy_export.jobs import export
    from classkinfy_export.jobs.sources import Sources

    sources = (
        Sources.from_run(run)
        if run is not None
        else Sources.from_files(_path(classifier), graders, settings, screen)
    )
    with terminal.progress() as report:
        bundle = export.export(
            sources,
            settings,
            out,
            overwrite=overwrite,
            golden_photos=golden,
            calibration=calibration,
            split=split,
            report=report,
        )
    written = embed.into(bundle, android, web, overwrite=overwrite)
    terminal.warn_of_calibration(bundle)
    if json:
        document = {"bundle": str(out), "manifest_sha256": bundle.sha256}
        terminal.emit(document | ({"written": [str(path) for path in written]} if written else {}))
        return
    terminal.out.print(f"bundle: {terminal.plain(out)} ({bundle.sha256[:12]})")
    for path in written:
        terminal.out.print(terminal.plain(path))
    terminal.disclaim()


def _capture(size: str | None, layout: Layout | None) -> list[str]:
    overrides = [] if layout is None else [f"capture.layout={layout}"]
    if size is not None:
        height, separator, width = size.lower().partition("x")
        if not (separator and height.isdecimal() and width.isdecimal()):
            raise RecipeError(
                f"--capture {size!r} is not height x width", hint="for example --capture 720x960"
            )
        overrides += [f"capture.height={int(height)}", f"capture.width={int(width)}"]
    return overrides


def _path(given: Path | None) -> Path:
    assert given is not None
    return given


def _graders(given: list[str]) -> dict[str, Path]:
    graders = {}
    for item in given:
        dx, separator, path = item.partition("=")
        if not separator or not path:
            raise CheckpointError(
                f"--grader {item!r} is not dx=path", hint="for example mel=mel.pth"
            )
        if dx in graders:
            raise CheckpointError(f"--grader {dx} is given twice")
        graders[dx] = Path(path)
    return graders
