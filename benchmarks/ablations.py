"""What each choice of the training is worth, on lesions that were not trained on.

    python benchmarks/ablations.py --images HAM10000 --work runs/ablations [--only NAME ...]

Each variant is ``train/mobile.yaml`` made small (128 pixels, 8 epochs) with one thing changed, and
is trained by ``training.run`` as any run is. Finished variants under ``--work`` are kept, so that
the study can be made in pieces; the tables have what is finished.

- recipe: the validation part, and how much each variant leads over the recipe as it is;
- hair removal, in training and in use: the same part;
- split: what a split by image, as the origin's, makes of the figures. Of its test images those are
  told apart whose lesion was trained on.

Each figure has a 95 % interval from a bootstrap over lesions; a lead's is of the paired difference.
Writes ``ablations.md`` and ``ablations.json`` beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import Progress
from table import interval, to_markdown

from classkinfy_export import recipes
from classkinfy_export.data.dataset import Dataset, open_dataset
from classkinfy_export.evaluation import figures
from classkinfy_export.evaluation.report import Figures
from classkinfy_export.recipes import Hardware, TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.training import cache, folder, run, task

SMALL = (
    "split={val: 0.15, calib: 0.05, test: 0.2}",
    "classifier.network.input_size=128",
    "classifier.fit.start_size=null",
    "classifier.fit.epochs=8",
    "graders.fit.epochs=5",
)
BASE, HAIRLESS, BY_IMAGE = "the recipe", "hair removed", "split by image"
FIT = "classifier.fit"
VARIANTS: dict[str, tuple[str, ...]] = {
    BASE: (),
    HAIRLESS: ("hair_removal=true",),
    BY_IMAGE: (),
    "natural sampling": (f"{FIT}.sampling=natural", f"{FIT}.logit_adjustment=0"),
    "natural, adjusted": (f"{FIT}.sampling=natural",),
    "square root, not adjusted": (f"{FIT}.logit_adjustment=0",),
    "balanced sampling": (f"{FIT}.sampling=balanced",),
    "class-balanced loss": (
        f"{FIT}.sampling=natural",
        f"{FIT}.logit_adjustment=0",
        f"{FIT}.class_weights=effective",
    ),
    "focal loss": (f"{FIT}.focal=2.0",),
    "no mixing": (f"{FIT}.augment.mix=none",),
    "CutMix": (f"{FIT}.augment.mix=cutmix",),
    "no rotation": (f"{FIT}.augment.rotation=0",),
    "stronger": (
        f"{FIT}.augment.scale=0.4",
        f"{FIT}.augment.colour=0.2",
        f"{FIT}.augment.mix_alpha=1.0",
        f"{FIT}.augment.mix_share=1.0",
    ),
    "white balance": (f"{FIT}.augment.white_balance=0.1",),
    "painted hair and dark corners": (f"{FIT}.augment.hair=0.2", f"{FIT}.augment.vignette=0.2"),
    "every stage trained": (f"{FIT}.freeze_stages=0",),
    "four stages kept": (f"{FIT}.freeze_stages=4",),
    "twice the learning rate": (f"{FIT}.learning_rate=0.002",),
    "no stochastic depth": ("classifier.network.drop_path=0",),
    "no severity task": ("classifier.severity_task=0",),
}
SHOWN = ("accuracy", "balanced_accuracy", "auroc", "debiased_ece")
PACKAGES = ("torch", "timm", "lightning", "scikit-learn", "numpy")
Chances = npt.NDArray[np.float64]


class Study:
    """The data, and the variants that are finished.

    Args:
        folder: HAM10000, with its masks.
        work: where the runs are.
        devices: to train on.
    """

    def __init__(self, folder: Path, work: Path, devices: int) -> None:
        self.work, self.hardware = work, Hardware(devices=devices)
        self.dataset = open_dataset(folder, self.recipe(BASE).taxonomy)
        self.labels = self.dataset.records["dx"].map(self.dataset.taxonomy.index).to_numpy(np.int64)

    def recipe(self, name: str) -> TrainRecipe:
        return recipes.load("train/mobile.yaml", TrainRecipe, (*SMALL, *VARIANTS[name]))

    def train(self, name: str) -> None:
        """Train a variant, or go on with it."""
        with Progress() as progress:
            bar = progress.add_task(name)
            run.train(
                self._data(name),
                self.recipe(name),
                self._folder(name),
                cache_folder=self.work / "cache",
                hardware=self.hardware,
                report=lambda what, done, total: progress.update(
                    bar, description=f"{name}: {what}", completed=done, total=total
                ),
            )

    def finished(self, name: str) -> bool:
        return (self._folder(name) / folder.METRICS).is_file()

    def part(self, name: str, part: str) -> npt.NDArray[np.bool_]:
        """Return which images are in a part of a variant's split, bool [n]."""
        return (self._split(name)["part"] == part).to_numpy()

    def trained_lesions(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which images show a lesion that the variant was trained on, bool [n]."""
        lesions = self.dataset.records["lesion_id"]
        return lesions.isin(lesions[self.part(name, "train")]).to_numpy()

    def probabilities(self, name: str, *, hair_removal: bool | None = None) -> Chances:
        """Return a variant's answers to every image, float64 [n, classes].

        Args:
            name: of the variant.
            hair_removal: of the images; as in its training by default.
        """
        recipe = self.recipe(name)
        side = recipe.classifier.network.input_size
        kept = cache.prepared(
            self.dataset.records,
            [side],
            working_size=recipe.working_size,
            hair_removal=recipe.hair_removal if hair_removal is None else hair_removal,
            folder=self.work / "cache",
        )
        network = checkpoint.load(self._folder(name) / folder.CLASSIFIER)
        logits = task.predict(network.module, kept[cache.pixels(side)])
        return torch.softmax(logits, dim=1).numpy().astype(np.float64)

    def compare(
        self, given: dict[str, Chances], inside: npt.NDArray[np.bool_], base: str
    ) -> Figures:
        """Return figures as 'name/figure', and leads over the base as 'lead name/figure'."""
        labels, classes = self.labels[inside], self.dataset.taxonomy.classes

        def measure(weights: figures.Values) -> dict[str, figures.Values]:
            found = {}
            for name, chances in given.items():
                every = figures.measure(labels, chances[inside], weights, classes)
                found |= {f"{name}/{figure}": every[figure] for figure in SHOWN}
            for name in given:
                for figure in SHOWN[:3]:
                    lead = found[f"{name}/{figure}"] - found[f"{base}/{figure}"]
                    found[f"lead {name}/{figure}"] = lead
            return found

        lesions = self.dataset.records["lesion_id"][inside].tolist()
        return figures.bootstrap(measure, lesions)

    def _data(self, name: str) -> Dataset:
        if name != BY_IMAGE:
            return self.dataset
        records = self.dataset.records
        return dataclasses.replace(
            self.dataset, records=records.assign(lesion_id=records.index.astype(str))
        )

    def _folder(self, name: str) -> Path:
        return self.work / name.replace(" ", "_").replace(",", "")

    def _split(self, name: str) -> pd.DataFrame:
        table = pd.read_csv(self._folder(name) / folder.SPLIT, index_col="image_id")
        return table.loc[self.dataset.records.index]


def rows(found: Figures, names: list[str], *, leads: bool) -> list[dict[str, str]]:
    table = []
    for name in names:
        row = {"": name} | {figure: interval(found[f"{name}/{figure}"]) for figure in SHOWN}
        if leads:
            row["lead, balanced accuracy"] = interval(found[f"lead {name}/balanced_accuracy"])
            row["lead, AUROC"] = interval(found[f"lead {name}/auroc"])
        table.append(row)
    return table


def recipe_table(study: Study, names: list[str]) -> tuple[list[dict[str, str]], Figures]:
    given = {name: study.probabilities(name) for name in names if name != BY_IMAGE}
    found = study.compare(given, study.part(BASE, "val"), BASE)
    return rows(found, list(given), leads=True), found


def hair_table(study: Study) -> tuple[list[dict[str, str]], Figures]:
    given = {
        f"trained {'off' if name == BASE else 'on'}, used {'on' if used else 'off'}": (
            study.probabilities(name, hair_removal=used)
        )
        for name in (BASE, HAIRLESS)
        for used in (False, True)
    }
    base = "trained off, used off"
    found = study.compare(given, study.part(BASE, "val"), base)
    return rows(found, list(given), leads=True), found


def split_table(study: Study) -> tuple[list[dict[str, str]], Figures]:
    by_image = study.probabilities(BY_IMAGE)
    test, known = study.part(BY_IMAGE, "test"), study.trained_lesions(BY_IMAGE)
    parts = {
        "by lesion": (study.probabilities(BASE), study.part(BASE, "test")),
        "by image": (by_image, test),
        "by image, lesions trained on": (by_image, test & known),
        "by image, new lesions": (by_image, test & ~known),
    }
    table, every = [], {}
    for name, (chances, inside) in parts.items():
        found = study.compare({name: chances}, inside, name)
        every |= found
        table.append({"": name, "images": str(inside.sum())} | rows(found, [name], leads=False)[0])
    return table, every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="HAM10000, with its masks")
    parser.add_argument("--work", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="train these now")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study = Study(arguments.images, arguments.work, arguments.devices)
    for name in VARIANTS if arguments.only is None else arguments.only:
        if not study.finished(name):
            study.train(name)
    if not study.finished(BASE):
        print(f"no tables yet: {BASE!r}, which the others are compared with, is not trained")
        return
    done = [name for name in VARIANTS if study.finished(name)]
    sections = {"recipe": recipe_table(study, done)}
    if {BASE, HAIRLESS} <= set(done):
        sections["hair"] = hair_table(study)
    if {BASE, BY_IMAGE} <= set(done):
        sections["split"] = split_table(study)
    images, work = arguments.images.name, arguments.work.name
    command = f"python benchmarks/ablations.py --images {images} --work {work}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    titles = {
        "recipe": "The recipe, one thing changed: validation part",
        "hair": "Hair removal in training and in use: validation part",
        "split": "Split by lesion and by image: test part of each",
    }
    lines = [
        "# What each choice of the training is worth",
        "",
        f"`{command}`; {versions}.",
        "`train/mobile.yaml` made small, to compare, not to ship: "
        + ", ".join(f"`{setting}`" for setting in SMALL)
        + ". Each figure with a 95 % interval from a bootstrap over lesions; a lead's is of the",
        "paired difference.",
        "",
    ]
    for key, (table, _) in sections.items():
        lines += [f"## {titles[key]}", "", *to_markdown(pd.DataFrame(table)), ""]
    (arguments.out / "ablations.md").write_text("\n".join(lines))
    kept = {
        key: {name: figure._asdict() for name, figure in found.items()}
        for key, (_, found) in sections.items()
    }
    report = {"command": command, "versions": versions, "figures": kept}
    (arguments.out / "ablations.json").write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
