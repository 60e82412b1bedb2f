"""A training run: classifier, then graders, into a folder that ``export`` reads.

::

    RUN/
      recipe.json             the recipe, whole
      split.csv               image_id, lesion_id, dx, part
      severity.csv            image_id, severity: the labels that the graders learnt
      classifier.safetensors  the first stage
      grader_<dx>.safetensors the second stage
      metrics.json            figures on each part, and what they were measured on; written last
      cache/  log/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from classkinfy_export import files
from classkinfy_export.data import severity as severities
from classkinfy_export.data import splits
from classkinfy_export.data.dataset import Dataset
from classkinfy_export.errors import CheckpointError, DataError
from classkinfy_export.recipes import NetworkRecipe, TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.checkpoint import Checkpoint, CheckpointInfo
from classkinfy_export.stages.network import Network, make_head
from classkinfy_export.training import cache, metrics, task, weights

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

CLASSIFIER = "classifier"
METRICS = "metrics.json"
_EVALUATED = ("val", "calib", "test")


def grader_file(dx: str) -> str:
    """Return the name of a grader's checkpoint."""
    return f"grader_{dx}{checkpoint.SUFFIX}"


def train(
    dataset: Dataset,
    recipe: TrainRecipe,
    out: Path,
    *,
    severity_csv: Path | None = None,
    split_csv: Path | None = None,
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Train both stages.

    A folder that holds an unfinished run of the same recipe is continued: finished checkpoints
    and cached pixels are kept.

    Args:
        dataset: the images; its taxonomy is the recipe's.
        recipe: how to train.
        out: the run's folder.
        severity_csv: severities by image, instead of the proxy.
        split_csv: a split made before, instead of a new one.
        report: told of progress.

    Returns:
        the metrics, as in ``metrics.json``.

    Raises:
        DataError: the folder holds another run, or the data do not suffice.
    """
    _claim(out, recipe)
    split = _split(dataset, recipe, out, split_csv)
    job = _Job(dataset, recipe, out, split, report)
    classifier, embeddings, result = job.classifier()
    graded = recipe.taxonomy.graded
    grader_results = {}
    if graded:
        labels = _severity_labels(dataset, recipe, split, severity_csv, report)
        _keep_severity(out / "severity.csv", labels.to_csv(lineterminator="\n").encode())
        for dx in graded:
            grader_results[dx] = job.grader(dx, labels, classifier, embeddings)
    summary = {
        "data": {
            "name": dataset.name,
            "images": len(dataset),
            "fingerprint": dataset.fingerprint(),
            "split_sha256": hashlib.sha256((out / "split.csv").read_bytes()).hexdigest(),
        },
        "grader_variant": recipe.graders.variant if graded else None,
        "classifier": result,
        "graders": grader_results,
    }
    files.write(out / METRICS, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


class _Job:
    def __init__(
        self,
        dataset: Dataset,
        recipe: TrainRecipe,
        out: Path,
        split: pd.DataFrame,
        report: Report,
    ) -> None:
        self.dataset, self.recipe, self.out = dataset, recipe, out
        self.split, self.report = split, report

    def classifier(self) -> tuple[Checkpoint, npt.NDArray[np.float32], dict[str, Any]]:
        """Train the first stage; return it, every image's embedding, and its figures."""
        recipe, taxonomy = self.recipe, self.recipe.taxonomy
        records = self.dataset.records
        levels = self._levels(recipe.classifier.network, records, "all images")
        labels = records["dx"].map(taxonomy.index).to_numpy(np.int64)
        path = self.out / f"{CLASSIFIER}{checkpoint.SUFFIX}"
        if path.is_file():
            trained = checkpoint.load(path)
        else:
            outputs = len(taxonomy.classes)
            torch.manual_seed(recipe.seed)
            network = weights.start(recipe.classifier.network, outputs)
            task.fit(
                network,
                levels,
                labels,
                train=self._rows(records, "train"),
                val=self._rows(records, "val"),
                outputs=outputs,
                recipe=recipe.classifier.fit,
                seed=recipe.seed,
                folder=self.out / "log" / CLASSIFIER,
                progress=lambda done, total: self.report("training the classifier", done, total),
            )
            info = CheckpointInfo(
                role="classifier",
                network=network.spec,
                taxonomy=taxonomy,
                weights_licence=recipe.weights_licence,
                working_size=recipe.working_size,
                hair_removal=recipe.hair_removal,
            )
            trained = _finished(info, network)
            files.write(path, checkpoint.to_bytes(trained))
        final = trained.module
        assert isinstance(final, Network)
        embeddings = self._embeddings(final, levels)
        probabilities = _softmax(final.head, embeddings)
        figures = {
            part: metrics.summarise(labels[rows], probabilities[rows], taxonomy.classes)
            for part in _EVALUATED
            for rows in [self._rows(records, part)]
        }
        return trained, embeddings, figures

    def grader(
        self,
        dx: str,
        severity: pd.Series[int],
        classifier: Checkpoint,
        embeddings: npt.NDArray[np.float32],
    ) -> dict[str, Any]:
        """Train the grader of one diagnosis; return its figures."""
        recipe, taxonomy = self.recipe, self.recipe.taxonomy
        outputs = len(taxonomy.severities)
        everything = self.dataset.records
        ours = (everything["dx"] == dx).to_numpy() & everything.index.isin(severity.index)
        records = everything[ours]
        labels: task.Labels = severity.loc[records.index].to_numpy().astype(np.int64)
        train_rows = self._rows(records, "train")
        if len(train_rows) == 0:
            raise DataError(
                f"no training image of {dx!r} has a severity",
                hint="take it out of 'graded', or give severities for it",
            )
        examples: task.Examples
        torch.manual_seed(recipe.seed)
        if recipe.graders.network is None:
            examples = embeddings[ours]
            module: nn.Module = make_head("mlp", examples.shape[1], outputs)
            spec = classifier.info.network.model_copy(update={"outputs": outputs, "head": "mlp"})
        else:
            examples = self._levels(recipe.graders.network, records, f"images of {dx}")
            own = weights.start(recipe.graders.network, outputs)
            module, spec = own, own.spec
        path = self.out / grader_file(dx)
        if path.is_file():
            module = checkpoint.load(path).module
        else:
            task.fit(
                module,
                examples,
                labels,
                train=train_rows,
                val=self._rows(records, "val"),
                outputs=outputs,
                recipe=recipe.graders.fit,
                seed=recipe.seed,
                folder=self.out / "log" / f"grader_{dx}",
                progress=lambda done, total: self.report(
                    f"training the grader of {dx}", done, total
                ),
            )
            info = CheckpointInfo(
                role="grader",
                network=spec,
                taxonomy=taxonomy,
                variant=recipe.graders.variant,
                diagnosis=dx,
                trunk_sha256=classifier.sha256 if recipe.graders.network is None else None,
                weights_licence=recipe.weights_licence,
                working_size=recipe.working_size,
                hair_removal=recipe.hair_removal,
            )
            trained = _finished(info, module)
            files.write(path, checkpoint.to_bytes(trained))
        probabilities = torch.softmax(task.predict(module, examples), dim=-1).numpy()
        return {
            part: metrics.summarise(labels[rows], probabilities[rows], taxonomy.severities)
            for part in _EVALUATED
            for rows in [self._rows(records, part)]
        }

    def _rows(self, records: pd.DataFrame, part: str) -> npt.NDArray[np.int64]:
        inside = self.split.loc[records.index, "part"] == part
        return np.flatnonzero(inside.to_numpy()).astype(np.int64)

    def _levels(self, network: NetworkRecipe, records: pd.DataFrame, what: str) -> cache.Levels:
        return cache.resized(
            records,
            input_size=network.input_size,
            working_size=self.recipe.working_size,
            hair_removal=self.recipe.hair_removal,
            folder=self.out / "cache",
            progress=lambda done, total: self.report(f"preparing {what}", done, total),
        )

    def _embeddings(self, network: Network, levels: cache.Levels) -> npt.NDArray[np.float32]:
        embed = _Embedding(network)
        chunks = []
        for first in range(0, len(levels), 256):
            chunks.append(task.predict(embed, levels[first : first + 256]).numpy())
            self.report("measuring the classifier", min(first + 256, len(levels)), len(levels))
        return np.concatenate(chunks)


def _finished(info: CheckpointInfo, module: nn.Module) -> Checkpoint:
    """Wrap trained weights, unless the training diverged: those are not saved."""
    if not all(bool(torch.isfinite(t.float()).all()) for t in module.state_dict().values()):
        raise CheckpointError(
            f"training the {info.role} diverged: its weights are NaN or infinite",
            hint="lower fit.learning_rate",
        )
    return Checkpoint(info, module, checkpoint.weights_sha256(module))


class _Embedding(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network.embed(levels)


def _softmax(head: nn.Module, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        probabilities: npt.NDArray[np.float32] = torch.softmax(
            head(torch.from_numpy(embeddings)), dim=-1
        ).numpy()
    return probabilities


def _claim(out: Path, recipe: TrainRecipe) -> None:
    """Take the run's folder, or continue the unfinished run of the same recipe in it."""
    settings = out / "recipe.json"
    text = recipe.model_dump_json(indent=2) + "\n"
    if settings.is_file() and settings.read_text(encoding="utf-8") == text:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out} already holds something else than a run of this recipe",
            hint="choose another --out",
        )
    files.write(settings, text.encode())


def _split(dataset: Dataset, recipe: TrainRecipe, out: Path, given: Path | None) -> pd.DataFrame:
    path = out / "split.csv"
    made = splits.read(given, dataset) if given else splits.split(dataset, recipe.split)
    if path.is_file():
        held = splits.read(path, dataset)
        if given is not None and not held["part"].equals(made["part"]):
            raise DataError(f"{out} was begun with another split", hint="choose another --out")
        return held
    if not (made["part"] == "train").any():
        raise DataError("the split leaves no image to train on")
    splits.write(made, path)
    return made


def _keep_severity(path: Path, labels: bytes) -> None:
    if path.is_file() and path.read_bytes() != labels:
        raise DataError(
            f"{path.parent} was begun with other severities", hint="choose another --out"
        )
    files.write(path, labels)


def _severity_labels(
    dataset: Dataset,
    recipe: TrainRecipe,
    split: pd.DataFrame,
    given: Path | None,
    report: Report,
) -> pd.Series[int]:
    if given is not None:
        return severities.read_csv(given, dataset, recipe.taxonomy)
    graded = dataset.records[dataset.records["dx"].isin(recipe.taxonomy.graded)]
    features = severities.measure_dataset(
        dataset,
        [str(image_id) for image_id in graded.index],
        progress=lambda done, total: report("measuring severity", done, total),
    )
    dx = graded["dx"]
    train = split.loc[graded.index, "part"] == "train"
    scale = severities.SeverityScale.fit(features[train], dx[train], recipe.taxonomy)
    return scale.grade(features, dx).rename("severity")
