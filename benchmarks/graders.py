"""The graders of a run against what costs nothing: the commonest grade, and the closed form.

    python benchmarks/graders.py --images HAM10000 --run runs/mobile [--cache DIR]

The grade to agree with is the proxy's on the experts' masks. The closed form is the same proxy,
with the same ranges and cuts, on the masks that ``screen`` finds. All are compared on the test
part, whose lesions are in no other, by balanced accuracy, with 95 % intervals from a bootstrap over
lesions. Writes ``graders.md`` and ``graders.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import Progress
from table import interval, to_markdown

from classkinfy_export.contract import Capture
from classkinfy_export.data import masks, severity
from classkinfy_export.data.dataset import Dataset, open_dataset
from classkinfy_export.evaluation.figures import Values, bootstrap
from classkinfy_export.evaluation.report import Figure
from classkinfy_export.frame import frame
from classkinfy_export.recipes import TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.network import Network
from classkinfy_export.training import cache, folder, heads, task

POOLED = "all"
PACKAGES = ("torch", "scikit-learn", "scikit-image", "numpy")
Grades = npt.NDArray[np.int64]


class Study:
    """A finished run, and the data it was made of.

    Args:
        folder: HAM10000, with its masks.
        run: of the ``trunk`` variant, its graders taught by the proxy.
        cache_folder: where its decoded images are; ``run``/cache by default.
    """

    def __init__(self, folder: Path, run: Path, cache_folder: Path | None = None) -> None:
        self.run = run
        self.recipe = TrainRecipe.model_validate_json((run / "recipe.json").read_text())
        self.dataset: Dataset = open_dataset(folder, self.recipe.taxonomy)
        split = pd.read_csv(run / "split.csv", index_col="image_id")["part"]
        given = pd.read_csv(run / "severity.csv", index_col="image_id")["severity"]
        records = self.dataset.records
        self.table = records[["dx", "lesion_id"]].assign(part=split, grade=given).dropna()
        self.side = self.recipe.classifier.network.input_size
        self.kept = cache.prepared(
            records,
            [self.side],
            working_size=self.recipe.working_size,
            hair_removal=self.recipe.hair_removal,
            folder=cache_folder or run / "cache",
        )
        self.test = self.table[self.table["part"] == "test"]
        tested = set(self.test["dx"])
        self.graded = [dx for dx in self.recipe.taxonomy.graded if dx in tested]

    def commonest(self) -> Grades:
        """Return the training part's commonest grade of each test image's diagnosis."""
        train = self.table[self.table["part"] == "train"]
        mode = train.groupby("dx")["grade"].agg(lambda grades: grades.mode().iloc[0])
        return self.test["dx"].map(mode).to_numpy(np.int64)

    def closed_form(self) -> Grades:
        """Return the proxy's grades on the screen's masks; the middle one where it found none."""
        capture = Capture(**self.recipe.working_size.model_dump())
        records, taxonomy = self.dataset.records, self.recipe.taxonomy
        train = self.table[self.table["part"] == "train"]
        with Progress() as progress:
            task = progress.add_task("measuring on the experts' masks", total=len(train))
            learnt = severity.measure_dataset(
                self.dataset,
                train.index.tolist(),
                progress=lambda done, total: progress.update(task, completed=done),
            )
        scale = severity.SeverityScale.fit(learnt, train["dx"], taxonomy)
        features = {}
        for image_id in self.test.index:
            row = records.index.get_loc(image_id)
            found = masks.enlarge(self.kept["lesion_mask"][row], capture)
            if found.any():
                photo = frame(records["path"].iloc[row], capture)[0]
                features[image_id] = vars(severity.measure(photo, found))
        measured = pd.DataFrame.from_dict(features, orient="index")
        grades = scale.grade(measured, self.test["dx"])
        middle = len(taxonomy.severities) // 2
        return grades.reindex(self.test.index, fill_value=middle).to_numpy()

    def heads(self) -> Grades:
        """Return the trained heads' grades."""
        rows = self.dataset.records.index.get_indexer(self.test.index)
        network = checkpoint.load(self.run / folder.CLASSIFIER).module
        assert isinstance(network, Network)
        levels = self.kept[cache.pixels(self.side)][rows]
        embedding = task.predict(_Embedding(network), levels).numpy()
        seen = np.concatenate((embedding, self.kept["features"][rows]), axis=1)
        grades = np.zeros(len(rows), np.int64)
        for dx in self.graded:
            ours = (self.test["dx"] == dx).to_numpy()
            head = checkpoint.load(self.run / folder.grader(dx)).module
            grades[ours] = task.predict(heads.OnRows(head), seen[ours]).argmax(dim=1).numpy()
        return grades

    def compare(self, given: dict[str, Grades]) -> dict[str, Figure]:
        """Return each one's balanced accuracy, and the last one's lead over each, as 'name/dx'."""
        truth, last = self.test["grade"].to_numpy(np.int64), list(given)[-1]
        groups = {POOLED: np.ones(len(truth), bool)}
        groups |= {dx: (self.test["dx"] == dx).to_numpy() for dx in self.graded}

        def measure(weights: Values) -> dict[str, Values]:
            found = {
                f"{name}/{group}": balanced_accuracy(truth, grades, weights * inside)
                for name, grades in given.items()
                for group, inside in groups.items()
            }
            for name in list(given)[:-1]:
                for group in groups:
                    found[f"lead over {name}/{group}"] = (
                        found[f"{last}/{group}"] - found[f"{name}/{group}"]
                    )
            return found

        return bootstrap(measure, self.test["lesion_id"].tolist())


class _Embedding(torch.nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network.embed(levels)


def balanced_accuracy(truth: Grades, given: Grades, weights: Values) -> Values:
    """Return the mean over grades of the weighted share of hits, float64 [resamples]."""
    recalls = [
        (weights * ((truth == grade) & (given == grade))).sum(axis=1)
        / (weights * (truth == grade)).sum(axis=1)
        for grade in np.unique(truth)
    ]
    return np.mean(recalls, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="HAM10000, with its masks")
    parser.add_argument("--run", type=Path, required=True, help="a finished training run")
    parser.add_argument("--cache", type=Path, help="its decoded images, where train had --cache")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = json.loads((arguments.run / folder.METRICS).read_text())["data"]["severity"]
    if not source.startswith("proxy on "):
        parser.error(f"{arguments.run} was graded by {source}, not by the proxy")
    study = Study(arguments.images, arguments.run, arguments.cache)
    figures = study.compare(
        {
            "commonest grade": study.commonest(),
            "closed form": study.closed_form(),
            "heads": study.heads(),
        }
    )
    groups = [POOLED, *study.graded]
    counts = study.test["dx"].value_counts().to_dict() | {POOLED: len(study.test)}
    rows = []
    for name in dict.fromkeys(key.split("/")[0] for key in figures):
        shown = {group: figures[f"{name}/{group}"] for group in groups}
        cells = {group: interval(figure) for group, figure in shown.items()}
        rows.append({"": name} | {f"{g}, n = {counts[g]}": cell for g, cell in cells.items()})
    command = f"python benchmarks/graders.py --images {arguments.images.name} --run {arguments.run}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# The graders against the commonest grade and the closed form",
        "",
        f"`{command}`; {versions}.",
        "Balanced accuracy against the proxy grade on the experts' masks, on the test part of",
        "HAM10000 split by lesion, each with a 95 % interval from a bootstrap over lesions. The",
        "closed form is the proxy on the screen's masks. Severity is a proxy, never assessed by a",
        "clinician.",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
    ]
    (arguments.out / "graders.md").write_text("\n".join(lines))
    report = {
        "command": command,
        "versions": versions,
        "figures": {name: figure._asdict() for name, figure in figures.items()},
    }
    (arguments.out / "graders.json").write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
