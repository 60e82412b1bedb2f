"""The verb on a bundle, a run and a checkpoint: one path, the same figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import splits, synthetic
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.errors import BundleError, CheckpointError, DataError
from classkinfy_export.evaluation import answers
from classkinfy_export.evaluation.evaluate import evaluate as judge
from classkinfy_export.evaluation.report import Evaluation
from classkinfy_export.jobs import evaluate as job
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.jobs.target import opened
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.reporting import plots
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages import checkpoint
from classkinfy_export.taxonomy import Taxonomy

TAXONOMY = Taxonomy()


def evaluate(target: Path, data: Path, **options: Any) -> Evaluation:
    with opened(target) as answering:
        return job.evaluate(answering, data, **options)


@pytest.fixture(scope="session")
def photos(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(out: Path) -> None:
        synthetic.write_dataset(out, lesions_per_class=6, seed=0)

    return once("evaluated_photos", make)


@pytest.fixture
def split(photos: Path, tmp_path: Path) -> Path:
    path = tmp_path / "split.csv"
    dataset = open_dataset(photos, TAXONOMY)
    splits.write(splits.split(dataset, SplitRecipe()), path)
    return path


def test_a_bundle_is_evaluated_on_one_part_in_any_runtime(
    trunk_bundle: Path, photos: Path, split: Path, tmp_path: Path
) -> None:
    given = {
        runtime: evaluate(trunk_bundle, photos, split_csv=split, runtime=runtime)
        for runtime in ("onnxruntime", "litert", "pytorch")
    }
    test = pd.read_csv(split).query("part == 'test'")
    for runtime, result in given.items():
        assert result.n == len(test)
        assert result.lesions == test["lesion_id"].nunique()
        assert result.runtime == f"{runtime} staged"
        assert result.data.endswith(", test")
        assert result.confusion_matrix == given["pytorch"].confusion_matrix
        assert result.figures["auroc"] == pytest.approx(given["pytorch"].figures["auroc"])
    fused = evaluate(trunk_bundle, photos, split_csv=split, form="fused")
    assert fused.confusion_matrix == given["pytorch"].confusion_matrix


def test_figures_are_of_what_the_session_answers(
    trunk_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    records = open_dataset(photos, TAXONOMY).records
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        session = Session(engine)
        rows = answers.collect(session, records)
        first = session.predict(records["path"].iloc[0])
    assert rows["accepted"].iloc[0] == first.accepted
    assert rows[["p_akiec", "p_vasc"]].iloc[0].tolist() == pytest.approx(
        [first.probabilities["akiec"], first.probabilities["vasc"]]
    )
    result = judge(rows, TAXONOMY, data="drawn", runtime="onnxruntime", bundle="", resamples=20)
    likeliest = rows[[f"p_{dx}" for dx in TAXONOMY.classes]].to_numpy().argmax(axis=1)
    right = likeliest == rows["dx"].map(TAXONOMY.index).to_numpy()
    assert result.figures["accuracy"].value == pytest.approx(right.mean())
    shown = torch.tensor(rows["confidence"].to_list())
    theirs = binary_calibration_error(shown, torch.from_numpy(right), n_bins=15)
    assert result.figures["ece"].value == pytest.approx(float(theirs), abs=1e-6)
    assert sum(b.n for b in result.reliability) == len(records)
    assert set(result.sensitivity) == set(TAXONOMY.malignant)
    for slices in result.slices.values():
        assert all(part.n >= 30 for part in slices.values())


def test_a_checkpoint_answers_in_pytorch(
    checkpoints: Callable[[str], Sources], photos: Path, tmp_path: Path
) -> None:
    path, sources = tmp_path / "classifier.safetensors", checkpoints("trunk")
    path.write_bytes(checkpoint.to_bytes(sources.classifier))
    with pytest.raises(CheckpointError, match="there is no screen"):
        evaluate(path, photos)
    assert sources.screen is not None
    path.with_name("screen.safetensors").write_bytes(checkpoint.to_bytes(sources.screen))
    result = evaluate(path, photos, out=tmp_path / "kept")
    assert result.runtime == "pytorch staged"
    with pytest.raises(BundleError, match="holds weights, which litert does not run") as refused:
        evaluate(path, photos, runtime="litert")
    assert "classkinfy export" in str(refused.value.hint)
    names = {p.name for p in (tmp_path / "kept").iterdir()}
    assert names == {
        *("answers.csv", "evaluation.json", "confusion.svg", "reliability.svg", "roc.svg"),
    }
    assert len(pd.read_csv(tmp_path / "kept" / "answers.csv")) == result.n


def test_one_class_alone_has_the_figures_that_it_can(trunk_bundle: Path, photos: Path) -> None:
    """Neither curve nor AUROC, nor an age or a sex to slice by."""
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        rows = answers.collect(Session(engine), open_dataset(photos, TAXONOMY).records[:40])
    rows = rows.assign(dx="nv", age=float("nan"), sex="unknown")
    result = judge(rows, TAXONOMY, data="drawn", runtime="onnxruntime", bundle="", resamples=20)
    assert result.curves == result.sensitivity == result.slices["age"] == {}
    assert "auroc" not in result.figures
    assert result.figures["balanced_accuracy"] == result.figures["recall/nv"]
    assert "areas: none" in plots.roc(result).alt


def test_what_cannot_be_evaluated_is_refused(
    trunk_bundle: Path, photos: Path, split: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="no bundle, no finished training run"):
        evaluate(tmp_path, photos)
    with pytest.raises(DataError, match="no split to take 'val' of"):
        evaluate(trunk_bundle, photos, part="val")
    with pytest.raises(DataError, match="'tset' is no part"):
        evaluate(trunk_bundle, photos, split_csv=split, part="tset")
    emptied = pd.read_csv(split).assign(part="train")
    emptied.to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(DataError, match="no image into 'val'"):
        evaluate(trunk_bundle, photos, split_csv=tmp_path / "all.csv", part="val")
