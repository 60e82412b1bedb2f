"""What the screen's answer is worth beside the network's, by the rule that joins them.

    python benchmarks/fusion.py --images HAM10000 --run runs/mobile [--cache DIR]

Each rule's numbers are fitted on the run's ``calib`` part, and all are compared on its test part,
with 95 % intervals from a bootstrap over lesions. Writes ``fusion.md`` and ``fusion.json`` beside
this file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import softmax
from table import interval, to_markdown

from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.evaluation import figures
from classkinfy_export.evaluation.report import Figures
from classkinfy_export.recipes import TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.classify import pooled
from classkinfy_export.stages.screen import Profiles
from classkinfy_export.training import cache, calibration, folder, screen, task

ALONE = "the network alone"
SHOWN = ("accuracy", "balanced_accuracy", "auroc")
PACKAGES = ("torch", "timm", "scikit-learn", "scipy", "numpy")
Chances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Images that neither answer was trained on."""

    lesions: list[str]
    labels: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    """Of the network, [n, classes]."""
    preliminary: npt.NDArray[np.float32]
    """Of the screen, [n, classes]."""


@dataclass(frozen=True)
class Answer:
    """What a rule makes of the two."""

    chances: Chances
    confidence: Chances
    """As an app would show it, [n]."""


def parts(images: Path, run: Path, cache_folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    """Return a run's ``calib`` and test part, and the classes."""
    recipe = TrainRecipe.model_validate_json((run / folder.RECIPE).read_text())
    records = open_dataset(images, recipe.taxonomy).records
    side = recipe.classifier.network.input_size
    kept = cache.prepared(
        records,
        [side],
        working_size=recipe.working_size,
        hair_removal=recipe.hair_removal,
        folder=cache_folder,
    )
    split = pd.read_csv(run / folder.SPLIT, index_col="image_id")["part"].loc[records.index]
    network = checkpoint.load(run / folder.CLASSIFIER).module
    profiles = checkpoint.load(run / folder.SCREEN).module
    assert isinstance(profiles, Profiles)
    made = []
    for name in ("calib", "test"):
        rows = np.flatnonzero(split == name)
        made.append(
            Part(
                lesions=records["lesion_id"].iloc[rows].tolist(),
                labels=records["dx"].iloc[rows].map(recipe.taxonomy.index).to_numpy(np.int64),
                logits=task.predict(network, kept[cache.pixels(side)][rows]).numpy(),
                preliminary=screen.predict(profiles, kept["features"][rows]),
            )
        )
    return made[0], made[1], recipe.taxonomy.classes


def answers(calib: Part, test: Part) -> dict[str, Answer]:
    """Return what each rule says of the test part."""
    unsure = np.full_like(calib.preliminary, 1 / calib.preliminary.shape[1])
    alone = calibration.fit(calib.logits, calib.labels, unsure)
    both = calibration.fit(calib.logits, calib.labels, calib.preliminary)
    network = _pooled(test, alone.temperature, 0.0)
    product = _pooled(test, alone.temperature, 1.0)
    winner = network.chances.argmax(axis=1)
    agreed = test.preliminary.argmax(axis=1) == winner
    raised = np.where(agreed, product.chances[np.arange(len(winner)), winner], network.confidence)
    return {
        "the screen alone": _answer(test.preliminary.astype(np.float64)),
        ALONE: network,
        "multiplied into the confidence where both agree": Answer(network.chances, raised),
        "multiplied, as independent (Bayes)": product,
        f"to the power {both.screen_weight:.2f}, fitted (ours)": _pooled(test, *both),
    }


def _pooled(part: Part, temperature: float, weight: float) -> Answer:
    logits = torch.from_numpy(part.logits / temperature)
    given = pooled(logits, torch.from_numpy(part.preliminary), weight)
    return _answer(softmax(given.numpy().astype(np.float64), axis=1))


def _answer(chances: Chances) -> Answer:
    return Answer(chances, chances.max(axis=1))


def compare(test: Part, given: dict[str, Answer], classes: tuple[str, ...]) -> Figures:
    """Return figures as 'rule/figure', and leads over the network as 'lead rule/figure'."""

    def measure(weights: figures.Values) -> dict[str, figures.Values]:
        found = {}
        for rule, answer in given.items():
            every = figures.measure(test.labels, answer.chances, weights, classes)
            found |= {f"{rule}/{figure}": every[figure] for figure in SHOWN}
            right = (answer.chances.argmax(axis=1) == test.labels).astype(np.float64)
            _, debiased = figures.calibration_error(answer.confidence, right, weights)
            found[f"{rule}/ece"] = debiased
        for rule in given:
            for figure in SHOWN:
                lead = found[f"{rule}/{figure}"] - found[f"{ALONE}/{figure}"]
                found[f"lead {rule}/{figure}"] = lead
        return found

    return figures.bootstrap(measure, test.lesions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="what the run was trained on")
    parser.add_argument("--run", type=Path, required=True, help="a finished training run")
    parser.add_argument("--cache", type=Path, help="its decoded images, where train had --cache")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    run: Path = arguments.run
    calib, test, classes = parts(arguments.images, run, arguments.cache or run / "cache")
    given = answers(calib, test)
    found = compare(test, given, classes)
    rows = [
        {
            "rule": rule,
            "accuracy": interval(found[f"{rule}/accuracy"]),
            "balanced accuracy": interval(found[f"{rule}/balanced_accuracy"]),
            "AUROC": interval(found[f"{rule}/auroc"]),
            "debiased ECE of the confidence shown": interval(found[f"{rule}/ece"]),
            "lead, balanced accuracy": interval(found[f"lead {rule}/balanced_accuracy"]),
            "lead, AUROC": interval(found[f"lead {rule}/auroc"]),
        }
        for rule in given
    ]
    command = f"python benchmarks/fusion.py --images {arguments.images.name} --run {run}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# The screen's answer beside the network's",
        "",
        f"`{command}`; {versions}.",
        f"On the test part, {len(test.labels)} images; temperatures and power are fitted on the",
        f"`calib` part, {len(calib.labels)} images. Figures with 95 % intervals from a bootstrap",
        "over lesions; a lead is over the network alone, and of the paired difference. The weights",
        "hold their temperature, rounded: fitted again, ours may differ in the last digit.",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
    ]
    (arguments.out / "fusion.md").write_text("\n".join(lines))
    kept = {name: figure._asdict() for name, figure in found.items()}
    report = {"command": command, "versions": versions, "figures": kept}
    (arguments.out / "fusion.json").write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
