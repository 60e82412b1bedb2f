"""A training run: screen, classifier, then graders, into a folder that ``export`` reads.

::

    RUN/
      recipe.json             the recipe, whole
      split.csv               image_id, lesion_id, dx, part
      severity.csv            image_id, severity: the labels that the graders learnt
      teachers.csv            sha256 of the classifiers that it learnt from, if any
      screen.safetensors      the profiles of the instant answer
      classifier.safetensors  the first stage
      grader_<dx>.safetensors the second stage
      metrics.json            figures on each part, and what they were measured on; written last
      cache/  log/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from classkinfy_export import files
from classkinfy_export.contract import SCREEN_VERSION, Capture
from classkinfy_export.data import masks, splits
from classkinfy_export.data import severity as severities
from classkinfy_export.data.dataset import Dataset
from classkinfy_export.errors import DataError, RecipeError
from classkinfy_export.recipes import FitRecipe, Hardware, TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.checkpoint import Checkpoint, CheckpointInfo, Pooling
from classkinfy_export.stages.classify import pooled
from classkinfy_export.stages.grade import Head
from classkinfy_export.stages.network import Network
from classkinfy_export.stages.screen import Profiles
from classkinfy_export.training import (
    batches,
    cache,
    calibration,
    folder,
    heads,
    metrics,
    screen,
    task,
    weights,
)
from classkinfy_export.training.proxy import Proxy
from classkinfy_export.training.teacher import Teacher

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

_EVALUATED = ("val", "calib", "test")
_Parts = dict[str, npt.NDArray[np.int64]]


def train(
    dataset: Dataset,
    recipe: TrainRecipe,
    out: Path,
    *,
    severity_csv: Path | None = None,
    split_csv: Path | None = None,
    cache_folder: Path | None = None,
    teachers: Sequence[Path] = (),
    hardware: Hardware = Hardware(),
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
        cache_folder: where decoded images are kept, for other runs on them too; ``out``/cache by
            default.
        teachers: finished runs, whose classifiers the classifier learns from.
        hardware: devices and nodes to train on.
        report: told of progress.

    Returns:
        the metrics, as in ``metrics.json``.

    Raises:
        DataError: the folder holds another run, the data do not suffice, or a teacher was trained
            on what this run is judged by.
        RecipeError: there are teachers and the recipe does not want any, or the other way round.
    """
    if bool(teachers) != bool(recipe.classifier.distillation):
        raise RecipeError(
            f"classifier.distillation is {recipe.classifier.distillation:g}, and there are "
            f"{len(teachers)} teachers",
            hint="give both, or neither",
        )
    folder.check(out, recipe)
    split = folder.split(dataset, recipe, out, split_csv)
    teacher = Teacher.of_runs(teachers, recipe, split) if teachers else None
    folder.claim(out, recipe, split)
    if teacher:
        folder.keep(out / "teachers.csv", "teachers", pd.DataFrame({"sha256": teacher.names}))
    job = _Job(dataset, recipe, out, split, cache_folder or out / "cache", hardware, report)
    graded = recipe.taxonomy.graded
    source = "not graded"
    measures = job.proxy.measures() if recipe.classifier.severity_task else None
    if graded:  # before hours of training: it may be the user's own, and wrong
        severity, source = job.severities(severity_csv)
        rows = job.graded_rows(severity)
        folder.keep(out / "severity.csv", "severities", severity.reset_index())
    profiles, preliminary, screened = job.screen()
    classifier, embeddings, result = job.classifier(profiles, preliminary, measures, teacher)
    grader_results = job.graders(severity, rows, classifier, embeddings) if graded else {}
    summary = {
        "data": {
            "name": dataset.name,
            "images": len(dataset),
            "fingerprint": dataset.fingerprint(),
            "members": " ".join(member.fingerprint() for member in dataset.members),
            "split_sha256": hashlib.sha256((out / folder.SPLIT).read_bytes()).hexdigest(),
            "severity": source,
        },
        "grader_variant": recipe.graders.variant if graded else None,
        "screen": screened,
        "classifier": result,
        "screen_weight": classifier.info.pooling and classifier.info.pooling.screen_weight,
        "teachers": teacher.names if teacher else [],
        "graders": grader_results,
    }
    files.write(out / folder.METRICS, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


class _Job:
    def __init__(
        self,
        dataset: Dataset,
        recipe: TrainRecipe,
        out: Path,
        split: pd.DataFrame,
        cache_folder: Path,
        hardware: Hardware,
        report: Report,
    ) -> None:
        self.dataset, self.recipe, self.out = dataset, recipe, out
        self.split, self.hardware, self.report = split, hardware, report
        size = recipe.working_size
        self.capture = Capture(height=size.height, width=size.width)
        self.labels = dataset.records["dx"].map(recipe.taxonomy.index).to_numpy(np.int64)
        networks = [recipe.classifier.network, recipe.graders.network]
        self.kept = cache.prepared(
            dataset.records,
            sorted({network.input_size for network in networks if network is not None}),
            working_size=size,
            hair_removal=recipe.hair_removal,
            folder=cache_folder,
            progress=lambda done, total: report("preparing all images", done, total),
        )
        self.proxy = Proxy(
            dataset,
            recipe,
            split,
            self.kept["lesion_mask"],
            cache_folder,
            lambda done, total: report("measuring severity", done, total),
        )

    def screen(self) -> tuple[Checkpoint, npt.NDArray[np.float32], dict[str, Any]]:
        """Fit the instant answer's profiles; return them, every image's answer, and figures."""
        taxonomy = self.recipe.taxonomy
        features = self.kept["features"]
        path = self.out / folder.SCREEN
        if path.is_file():
            fitted = checkpoint.load(path)
        else:
            train = self._rows("train")
            profiles = screen.fit(features[train], self.labels[train], len(taxonomy.classes))
            info = self._info(role="screen", screen_version=SCREEN_VERSION)
            fitted = _kept(path, checkpoint.rounded(info, profiles))
        assert isinstance(fitted.module, Profiles)
        probabilities = screen.predict(fitted.module, features)
        figures = {
            part: metrics.summarise(self.labels[rows], probabilities[rows], taxonomy.classes)
            | self._overlap(rows)
            for part in _EVALUATED
            for rows in [self._rows(part)]
        }
        return fitted, probabilities, figures

    def _overlap(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Compare the screen's masks with the experts', where there are any."""
        drawn = self.dataset.records["mask"].to_numpy()[rows]
        overlaps = []
        for done, (row, path) in enumerate(zip(rows, drawn, strict=True), start=1):
            self.report("measuring the screen", done, len(rows))
            if pd.notna(path):
                found = masks.enlarge(self.kept["lesion_mask"][row], self.capture)
                overlaps.append(masks.iou(found, masks.read(Path(path), self.capture)))
        return {"masks": len(overlaps), "mean_iou": float(np.mean(overlaps)) if overlaps else None}

    def severities(self, given: Path | None) -> tuple[pd.Series[int], str]:
        """Return the labels that the graders learn, the user's own or the proxy's, and which."""
        if given is not None:
            own = severities.read_csv(given, self.dataset, self.recipe.taxonomy)
            return own, f"{len(own)} grades of the user's own"
        return self.proxy.grades()

    def graded_rows(self, severity: pd.Series[int]) -> dict[str, _Parts]:
        """Return the rows of each graded diagnosis whose severity is known, by part."""
        known = self.dataset.records.index.isin(severity.index)
        rows = {
            dx: {part: ours[known[ours]] for part, ours in self._parts(dx).items()}
            for dx in self.recipe.taxonomy.graded
        }
        for dx, parts in rows.items():
            if len(parts["train"]) == 0:
                raise DataError(
                    f"no training image of {dx!r} has a severity",
                    hint="give severities for it, or a recipe whose taxonomy does not grade it",
                )
        return rows

    def classifier(
        self,
        profiles: Checkpoint,
        preliminary: npt.NDArray[np.float32],
        measures: batches.Measures | None,
        teacher: Teacher | None,
    ) -> tuple[Checkpoint, npt.NDArray[np.float32], dict[str, Any]]:
        """Train the first stage; return it, every image's embedding, and its figures."""
        recipe, taxonomy = self.recipe, self.recipe.taxonomy
        levels = self.kept[cache.pixels(recipe.classifier.network.input_size)]
        path = self.out / folder.CLASSIFIER
        if path.is_file():
            trained = checkpoint.load(path)
        else:
            outputs = len(taxonomy.classes)
            torch.manual_seed(recipe.seed)
            network = weights.start(recipe.classifier.network, outputs)
            fit = recipe.classifier.fit
            self._fit(
                network,
                levels,
                self.labels,
                self._parts(),
                outputs,
                fit,
                "classifier",
                measures=measures,
                measures_weight=recipe.classifier.severity_task,
                teacher=teacher,
                distillation=recipe.classifier.distillation,
            )
            trained = self._calibrated(network, levels, profiles, preliminary)
        task.forget(self._log("classifier"))
        final, pooling = trained.module, trained.info.pooling
        assert isinstance(final, Network)
        if pooling is None or pooling.screen_sha256 != profiles.sha256:  # older than this screen
            trained = self._calibrated(final, levels, profiles, preliminary)
            pooling = trained.info.pooling
        assert pooling is not None
        embeddings = self._embeddings(final, levels)
        probabilities = _answers(final.head, embeddings, preliminary, pooling.screen_weight)
        figures = {
            part: metrics.summarise(self.labels[rows], probabilities[rows], taxonomy.classes)
            for part in _EVALUATED
            for rows in [self._rows(part)]
        }
        return trained, embeddings, figures

    def _calibrated(
        self,
        network: Network,
        levels: npt.NDArray[np.uint8],
        profiles: Checkpoint,
        preliminary: npt.NDArray[np.float32],
    ) -> Checkpoint:
        """Calibrate a classifier beside the screen, and keep it."""
        calib = self._rows("calib")
        logits = task.predict(network, levels[calib]).numpy()
        found = calibration.fit(logits, self.labels[calib], preliminary[calib])
        calibration.fold(network.head, found.temperature)
        info = self._info(
            role="classifier",
            network=network.spec,
            pooling=Pooling(screen_sha256=profiles.sha256, screen_weight=found.screen_weight),
            weights_dtype=self.recipe.weights_dtype,
        )
        return _kept(self.out / folder.CLASSIFIER, checkpoint.rounded(info, network))

    def graders(
        self,
        severity: pd.Series[int],
        rows: dict[str, _Parts],
        classifier: Checkpoint,
        embeddings: npt.NDArray[np.float32],
    ) -> dict[str, Any]:
        """Train the second stage; return the figures of each diagnosis's grader."""
        index = self.dataset.records.index
        labels = severity.reindex(index, fill_value=-1).to_numpy().astype(np.int64)
        if self.recipe.graders.network is None:
            return self._heads(labels, rows, classifier, embeddings)
        return {dx: self._grader(dx, labels, parts) for dx, parts in rows.items()}

    def _grader(self, dx: str, labels: batches.Labels, parts: _Parts) -> dict[str, Any]:
        """Train one diagnosis's own network."""
        recipe = self.recipe.graders
        assert recipe.network is not None
        outputs = len(self.recipe.taxonomy.severities)
        levels = self.kept[cache.pixels(recipe.network.input_size)]
        path = self.out / folder.grader(dx)
        if path.is_file():
            network = checkpoint.load(path).module
        else:
            torch.manual_seed(self.recipe.seed)
            network = weights.start(recipe.network, outputs)
            self._fit(network, levels, labels, parts, outputs, recipe.fit, f"grader_{dx}")
            info = self._info(
                role="grader",
                network=recipe.network.spec(outputs),
                diagnosis=dx,
                weights_dtype=self.recipe.weights_dtype,
            )
            network = _kept(path, checkpoint.rounded(info, network)).module
        task.forget(self._log(f"grader_{dx}"))
        return self._graded(network, levels, labels, parts)

    def _heads(
        self,
        labels: batches.Labels,
        rows: dict[str, _Parts],
        classifier: Checkpoint,
        embeddings: npt.NDArray[np.float32],
    ) -> dict[str, Any]:
        """Train the heads on the trunk, all as one, and take it apart."""
        recipe, features = self.recipe, self.kept["features"]
        outputs, graded = len(recipe.taxonomy.severities), len(rows)
        seen = np.concatenate((embeddings, features), axis=1)
        paths = {dx: self.out / folder.grader(dx) for dx in rows}
        kept = [checkpoint.load(path) for path in paths.values() if path.is_file()]
        fitting = [head for head in kept if head.info.trunk_sha256 == classifier.sha256]
        if len(fitting) == graded:
            own = {dx: head.module for dx, head in zip(paths, fitting, strict=True)}
        else:
            parts = {
                part: np.concatenate([own[part] for own in rows.values()]) for part in splits.PARTS
            }
            which = np.zeros((len(seen), graded), np.float32)
            for position, ours in enumerate(rows.values()):
                which[np.concatenate(list(ours.values())), position] = 1
            train = parts["train"]
            torch.manual_seed(recipe.seed)
            shared = heads.start(embeddings[train], features[train], graded, outputs)
            examples = np.concatenate((seen, which), axis=1)
            fit = recipe.graders.fit
            self._fit(heads.OnRows(shared), examples, labels, parts, outputs, fit, "graders")
            own = {dx: heads.take(shared, n, graded) for n, dx in enumerate(rows)}
            trunk = recipe.classifier.network.model_copy(update={"head": "mlp"})
            for dx, head in own.items():
                info = self._info(
                    role="grader",
                    network=trunk.spec(outputs),
                    variant="trunk",
                    diagnosis=dx,
                    trunk_sha256=classifier.sha256,
                    screen_version=SCREEN_VERSION,
                )
                own[dx] = _kept(paths[dx], checkpoint.rounded(info, head)).module
        task.forget(self._log("graders"))
        figures = {}
        for dx, head in own.items():
            assert isinstance(head, Head)
            figures[dx] = self._graded(heads.OnRows(head), seen, labels, rows[dx])
        return figures

    def _graded(
        self,
        module: nn.Module,
        examples: batches.Examples,
        labels: batches.Labels,
        parts: _Parts,
    ) -> dict[str, Any]:
        """Return a grader's figures on each part."""
        return {
            part: metrics.summarise(
                labels[rows],
                torch.softmax(task.predict(module, examples[rows]), dim=-1).numpy(),
                self.recipe.taxonomy.severities,
            )
            for part in _EVALUATED
            for rows in [parts[part]]
        }

    def _fit(
        self,
        module: nn.Module,
        examples: batches.Examples,
        labels: batches.Labels,
        parts: _Parts,
        outputs: int,
        recipe: FitRecipe,
        name: str,
        **beside: Any,  # noqa: ANN401
    ) -> None:
        """Train in place, under a name in the log; what is learnt ``beside`` is ``task.fit``'s."""
        task.fit(
            module,
            examples,
            labels,
            train=parts["train"],
            val=parts["val"],
            outputs=outputs,
            recipe=recipe,
            seed=self.recipe.seed,
            folder=self._log(name),
            hardware=self.hardware,
            aspect=self.capture.width / self.capture.height,
            **beside,
            progress=lambda done, total: self.report(
                f"training {name.replace('_', ' ')}", done, total
            ),
        )

    def _log(self, name: str) -> Path:
        return self.out / "log" / name

    def _info(self, **own: Any) -> CheckpointInfo:  # noqa: ANN401
        """Say what a checkpoint is: its own fields, and what all of a run share."""
        return CheckpointInfo(
            taxonomy=self.recipe.taxonomy,
            weights_licence=self.recipe.weights_licence,
            working_size=self.recipe.working_size,
            hair_removal=self.recipe.hair_removal,
            **own,
        )

    def _rows(self, part: str) -> npt.NDArray[np.int64]:
        inside = self.split.loc[self.dataset.records.index, "part"] == part
        return np.flatnonzero(inside.to_numpy()).astype(np.int64)

    def _parts(self, dx: str | None = None) -> _Parts:
        """Return the rows of each part, of one diagnosis or of all."""
        ours = (
            self.dataset.records["dx"].to_numpy() == dx if dx else np.ones(len(self.labels), bool)
        )
        return {part: rows[ours[rows]] for part in splits.PARTS for rows in [self._rows(part)]}

    def _embeddings(
        self, network: Network, levels: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        embed = _Embedding(network)
        chunks = []
        for first in range(0, len(levels), 256):
            chunks.append(task.predict(embed, levels[first : first + 256]).numpy())
            self.report("measuring the classifier", min(first + 256, len(levels)), len(levels))
        return np.concatenate(chunks)


def _kept(path: Path, made: Checkpoint) -> Checkpoint:
    """Keep a checkpoint, and return it as it is read: a run that goes on reads it, too.

    Of weights that lie otherwise in memory, answers differ in their last bit.
    """
    files.write(path, checkpoint.to_bytes(made))
    return checkpoint.load(path)


class _Embedding(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network.embed(levels)


def _answers(
    head: nn.Module,
    embeddings: npt.NDArray[np.float32],
    preliminary: npt.NDArray[np.float32],
    screen_weight: float,
) -> npt.NDArray[np.float32]:
    """Answer as the deployed stage does, from embeddings and the screen's answers."""
    with torch.inference_mode():
        logits = head(torch.from_numpy(embeddings))
        logits = pooled(logits, torch.from_numpy(preliminary), screen_weight)
        probabilities: npt.NDArray[np.float32] = torch.softmax(logits, dim=-1).numpy()
    return probabilities
