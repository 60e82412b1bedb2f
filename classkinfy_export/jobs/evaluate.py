"""Whatever holds a classifier, on a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from classkinfy_export import files, runtimes
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError, DataError, require
from classkinfy_export.evaluation.report import Evaluation
from classkinfy_export.jobs import held_out
from classkinfy_export.jobs.target import Target
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.session import Session

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[str, int, int], None]


def evaluate(
    target: Target,
    data: Path,
    *,
    split_csv: Path | None = None,
    part: str | None = None,
    runtime: str | None = None,
    form: Form = "staged",
    precision: Precision = "fp32",
    threads: int = 1,
    out: Path | None = None,
    report: Report = lambda what, done, total: None,
) -> Evaluation:
    """Answer for every image of a data set, and evaluate the answers.

    Which images those are, ``held_out.choose`` says.

    Args:
        target: what answers.
        data: a data set's folder, in any supported layout.
        split_csv: the data's split; a run's own by default, where it is of these data.
        part: of the split; ``test`` by default.
        runtime: ONNX Runtime for a bundle by default; runs and checkpoints have PyTorch alone.
        form: of a bundle.
        precision: of its models.
        threads: of the runtime.
        out: a folder for ``evaluation.json``, ``answers.csv`` and plots, when given.
        report: told of progress.

    Raises:
        BundleError: the bundle has not what is asked for.
        DataError: the data cannot be read, nothing is left of them to evaluate, or the model was
            trained on some of them and no split tells on which.
        MissingDependencyError: the ``train`` extra is not installed; of ``out``, ``report``.
    """
    for module in ("pandas", "sklearn", "scipy"):
        require(module, extra="train", purpose="evaluation")
    if out is not None:
        require("matplotlib", extra="report", purpose="drawing an evaluation")
        if out.exists() and not out.is_dir():
            raise DataError(f"{out} is a file", hint="choose a folder for --out")
    from classkinfy_export.evaluation import answers
    from classkinfy_export.evaluation.evaluate import evaluate as judge

    bundle, taxonomy = target.bundle, target.bundle.manifest.taxonomy
    records, whole = held_out.choose(target, data, split_csv=split_csv, part=part)
    name = runtime or ("onnxruntime" if target.exported else "pytorch")
    if name != "pytorch" and not target.exported:
        raise BundleError(
            f"{target.path} holds weights, which {name} does not run",
            hint="evaluate the bundle that 'classkinfy export' makes of them",
        )
    with runtimes.get(name).open(bundle, precision=precision, threads=threads) as engine:
        given = answers.collect(
            Session(engine, form),
            records,
            progress=lambda done, total: report("answering", done, total),
        )
    report("drawing lesions again", 0, 1)
    ran = f"{name} {form}" if precision == "fp32" else f"{name} {precision} {form}"
    result = judge(given, taxonomy, data=whole, runtime=ran, bundle=bundle.sha256)
    if out is not None:
        _keep(out, result, given)
    return result


def _keep(out: Path, result: Evaluation, given: pd.DataFrame) -> None:
    from classkinfy_export.reporting import plots

    drawn = {
        "confusion": plots.confusion(result.classes, result.confusion_matrix),
        "reliability": plots.reliability(result.reliability),
        "roc": plots.roc(result),
    }
    for name, plot in drawn.items():
        files.write(out / f"{name}.svg", plot.svg)
    files.write(out / "answers.csv", given.to_csv(lineterminator="\n").encode())
    files.write(out / "evaluation.json", f"{result.model_dump_json(indent=2)}\n".encode())
