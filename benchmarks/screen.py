"""The instant answer on lesions that it was not fitted on: masks, classes, and other classifiers.

    python benchmarks/screen.py --images HAM10000

Photos go through ``frame``, ``prepare`` and ``screen`` once (kept under ``--cache``). Classifiers
learn the features of the training part; masks are compared with the experts' and answers with the
labels on the test part, whose lesions are in no other. Writes ``screen.md``, ``screen.json`` and
``screen.svg`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import Progress
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from table import to_markdown

from classkinfy_export.contract import Capture, WorkingSize
from classkinfy_export.data import masks
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.data.splits import split
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.training import cache, screen

SIZE = WorkingSize(height=450, width=600)
CAPTURE = Capture(height=450, width=600)
OURS = "logistic regression (screen)"
PACKAGES = ("torch", "scikit-learn", "scikit-image", "numpy")


def others() -> dict[str, BaseEstimator]:
    """Return classifiers that a phone could run too, each balanced over the classes."""
    equal = np.full(len(Taxonomy().classes), 1 / len(Taxonomy().classes))
    return {
        "linear discriminants": LinearDiscriminantAnalysis("lsqr", shrinkage="auto", priors=equal),
        "quadratic discriminants": QuadraticDiscriminantAnalysis(priors=equal, reg_param=0.5),
        "support vectors (RBF)": SVC(class_weight="balanced"),
    }


def perceptron(features: npt.NDArray[Any], labels: npt.NDArray[Any]) -> BaseEstimator:
    """Fit a small perceptron on as many photos of each class: it takes no class weights."""
    rng = np.random.default_rng(0)
    most = np.bincount(labels).max()
    drawn = [rng.choice(np.flatnonzero(labels == c), most) for c in np.unique(labels)]
    rows = np.concatenate(drawn)
    model = make_pipeline(StandardScaler(), MLPClassifier((32,), alpha=1.0, random_state=0))
    return model.fit(features[rows], labels[rows])


def measure(folder: Path, kept: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row for each test photo (class, IoU, answer), and one for each classifier."""
    taxonomy = Taxonomy()
    dataset = open_dataset(folder, taxonomy)
    parts = split(dataset, SplitRecipe())["part"].to_numpy()
    with Progress() as progress:
        task = progress.add_task("measuring", total=len(dataset))
        arrays = cache.prepared(
            dataset.records,
            (),
            working_size=SIZE,
            hair_removal=True,
            folder=kept,
            progress=lambda done, total: progress.update(task, completed=done),
        )
    features = np.array(arrays["features"])
    labels = dataset.records["dx"].map(taxonomy.index).to_numpy(np.int64)
    train, test = (np.flatnonzero(parts == part) for part in ("train", "test"))
    profiles = screen.fit(features[train], labels[train], len(taxonomy.classes))
    answers = {OURS: screen.predict(profiles, features[test]).argmax(axis=1)}
    for name, model in others().items():
        fitted = make_pipeline(StandardScaler(), model).fit(features[train], labels[train])
        answers[name] = fitted.predict(features[test])
    fitted = perceptron(features[train], labels[train])
    answers["perceptron, 32 hidden"] = fitted.predict(features[test])
    truth = labels[test]
    classifiers = pd.DataFrame(
        {"classifier": name, "balanced accuracy": balanced_accuracy_score(truth, given)}
        | dict(zip(taxonomy.classes, recall_score(truth, given, average=None), strict=True))
        for name, given in answers.items()
    )
    overlaps = [
        masks.iou(
            masks.enlarge(arrays["lesion_mask"][row], CAPTURE),
            masks.read(Path(dataset.records["mask"].iloc[row]), CAPTURE),
        )
        for row in test
    ]
    photos = pd.DataFrame({"dx": dataset.records["dx"].to_numpy()[test], "iou": overlaps})
    return photos, classifiers


def overlap(photos: pd.DataFrame) -> pd.DataFrame:
    """Return, by class and for all, the mean and median IoU and the share of misses."""
    grouped = pd.concat([photos, photos.assign(dx="all")]).groupby("dx", sort=False)["iou"]
    return pd.DataFrame(
        {
            "photos": grouped.size(),
            "mean IoU": grouped.mean(),
            "median IoU": grouped.median(),
            "below 0.1": grouped.apply(lambda values: float((values < 0.1).mean())),
        }
    ).reset_index(names="class")


def plot(photos: pd.DataFrame, target: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "classkinfy"
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    names = sorted(photos["dx"].unique())
    values = [photos.loc[photos["dx"] == name, "iou"] for name in names]
    axes.boxplot(values, whis=(5, 95), tick_labels=names, flierprops={"markersize": 2})
    axes.set_ylabel("IoU with the expert's mask")
    figure.savefig(target, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="HAM10000, with its masks")
    parser.add_argument("--cache", type=Path, default=Path("build/screen"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    photos, classifiers = measure(arguments.images, arguments.cache)
    command = f"python benchmarks/screen.py --images {arguments.images.name}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    table = overlap(photos)
    lines = [
        "# The instant answer on lesions it was not fitted on",
        "",
        f"`{command}`; {versions}.",
        f"The test part of HAM10000 split by lesion, {len(photos)} photos.",
        "",
        "## Lesion masks against the experts'",
        "",
        *to_markdown(table),
        "",
        "![IoU by class](screen.svg)",
        "",
        "## Classes from the features: balanced accuracy, and recall by class",
        "",
        *to_markdown(classifiers),
        "",
    ]
    (arguments.out / "screen.md").write_text("\n".join(lines))
    report = {"command": command, "versions": versions, "masks": table.to_dict(orient="records")}
    report["classifiers"] = classifiers.to_dict(orient="records")
    (arguments.out / "screen.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(photos, arguments.out / "screen.svg")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
