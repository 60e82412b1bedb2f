"""``classkinfy evaluate``: how good a model is, on anybody's images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from classkinfy_export.cli import terminal
from classkinfy_export.evaluation.report import Evaluation, Figure

_BY_CLASS = ("accuracy", "recall", "precision", "f1", "specificity", "auroc")
_SLICED = ("balanced_accuracy", "auroc", "ece")
_HEADLINE = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC, mean of classes",
    "ece": "expected calibration error",
    "debiased_ece": "the same, debiased",
}


def command(
    target: Annotated[Path, typer.Argument(help="A bundle, a training run, or a checkpoint.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    split: Annotated[
        Path | None, typer.Option(help="The data's split; a run brings its own.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Of the split: train, val, calib or test, the default.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="onnxruntime, litert or pytorch; of a bundle onnxruntime by default."),
    ] = None,
    form: Annotated[
        Literal["staged", "fused"], typer.Option(help="Stage by stage, or the one graph.")
    ] = "staged",
    precision: terminal.Precision = "fp32",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json, answers.csv and plots.")
    ] = None,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Evaluate a model: every figure with a 95 % interval, by bootstrap over lesions.

    Example: [bold]classkinfy evaluate bundle --data HAM10000 --split runs/mobile/split.csv[/]
    """
    from classkinfy_export.jobs.evaluate import evaluate
    from classkinfy_export.jobs.target import opened

    with opened(target, terminal.trusted(trusted)) as answering, terminal.progress() as report:
        result = evaluate(
            answering,
            data,
            split_csv=split,
            part=part,
            runtime=runtime,
            form=form,
            precision=precision,
            threads=threads,
            out=out,
            report=report,
        )
    document = result.model_dump(mode="json")
    if answering.exported:
        terminal.keep_evidence(answering.bundle, "evaluation", document)
    if json:
        terminal.emit(document)
        return
    show(result)
    if out is not None:
        terminal.out.print(f"\nkept in {terminal.plain(out)}")
    terminal.disclaim()


def show(result: Evaluation) -> None:
    """Print an evaluation as tables."""
    title = f"{terminal.plain(result.data)}: {result.n} photos of {result.lesions} lesions"
    shown = terminal.table(f"{title}, {result.runtime}", "figure", ">value", ">95 %")
    for name, told in _HEADLINE.items():
        if name in result.figures:
            shown.add_row(told, *_cells(result.figures[name]))
    for dx, figures in result.sensitivity.items():
        for specificity, figure in figures.items():
            told = f"sensitivity to {terminal.plain(dx)} at specificity {specificity}"
            shown.add_row(told, *_cells(figure))
    terminal.out.print(shown)
    shown = terminal.table("By class", "class", ">photos", *(f">{name}" for name in _BY_CLASS))
    for dx, row in zip(result.classes, result.confusion_matrix, strict=True):
        cells = (_cell(result.figures.get(f"{name}/{dx}")) for name in _BY_CLASS)
        shown.add_row(terminal.plain(dx), str(sum(row)), *cells)
    terminal.out.print(shown)
    shown = terminal.table(
        "Slices of 30 photos and more", "slice", ">photos", ">balanced accuracy", ">AUROC", ">ECE"
    )
    for by, slices in result.slices.items():
        for value, part in slices.items():
            cells = (_cell(part.figures.get(name)) for name in _SLICED)
            shown.add_row(f"{by} {terminal.plain(value)}", str(part.n), *cells)
    terminal.out.print(shown)
    terminal.out.print(f"accepted by the quality rules: {result.accepted:.1%}")


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else " ".join(_cells(figure))


def _cells(figure: Figure) -> tuple[str, str]:
    return f"{figure.value:.3f}", f"({figure.low:.3f} to {figure.high:.3f})"
