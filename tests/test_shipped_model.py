"""The model in checkpoints/mobile: that it is what its card, its log and its figures say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from classkinfy_export import runtimes
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.jobs.target import opened
from classkinfy_export.recipes import TrainRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.network import Network
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "HAM10000"
CLASSES = Taxonomy().classes
SHOWN = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "AUROC, mean of classes": "auroc",
    "expected calibration error": "ece",
    "the same, debiased": "debiased_ece",
}
BY_CLASS = ("recall", "precision", "specificity", "auroc")
ANSWERS = SHIPPED / "evaluation" / "answers.csv"


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    """What it answered on the test part, a row for each image."""
    return pd.read_csv(ANSWERS, index_col="image_id")


def test_it_is_small_licensed_and_whole() -> None:
    weights = list(SHIPPED.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 25e6
    assert "Attribution-NonCommercial" in (SHIPPED / "LICENSE").read_text()
    sources = Sources.from_run(SHIPPED)
    network = sources.classifier.module
    assert isinstance(network, Network)
    assert sum(parameter.numel() for parameter in network.parameters()) <= 4.7e6
    infos = [sources.classifier.info, *(head.info for head in sources.graders.values())]
    assert {info.weights_licence for info in infos} == {"CC-BY-NC-4.0"}
    assert sources.classifier.info.weights_dtype == "float16"
    assert set(sources.graders) == set(Taxonomy().graded)
    TrainRecipe.model_validate_json((SHIPPED / "recipe.json").read_text())


def test_no_lesion_is_in_two_parts_of_its_split(answers: pd.DataFrame) -> None:
    split = pd.read_csv(SHIPPED / "split.csv", index_col="image_id")
    assert (split.groupby("lesion_id")["part"].nunique() == 1).all()
    assert set(answers.index) == set(split.index[split["part"] == "test"])
    fifth = answers["lesion_id"].nunique() / split["lesion_id"].nunique()
    assert fifth == pytest.approx(0.2, abs=0.01)


def test_its_figures_are_those_of_its_answers(answers: pd.DataFrame) -> None:
    chances = answers[[f"p_{dx}" for dx in CLASSES]].to_numpy()
    labels = answers["dx"].map(CLASSES.index).to_numpy()
    balanced = balanced_accuracy_score(labels, chances.argmax(axis=1))
    area = np.mean([roc_auc_score(labels == n, chances[:, n]) for n in range(len(CLASSES))])
    figures = json.loads((SHIPPED / "evaluation" / "evaluation.json").read_text())["figures"]
    assert figures["balanced_accuracy"][0] == pytest.approx(balanced, abs=1e-6)
    assert figures["auroc"][0] == pytest.approx(area, abs=1e-6)
    trained = json.loads((SHIPPED / "metrics.json").read_text())["classifier"]["test"]
    # Training measures on its cached pixels, evaluation through the deployed stages.
    assert trained["balanced_accuracy"] == pytest.approx(balanced, abs=0.005)
    assert trained["auroc"] == pytest.approx(area, abs=0.001)


def test_its_card_says_what_was_measured() -> None:
    card = " ".join((SHIPPED / "README.md").read_text().split())
    figures = json.loads((SHIPPED / "evaluation" / "evaluation.json").read_text())["figures"]
    for title, name in SHOWN.items():
        value, low, high = figures[name]
        assert f"| {title} | {value:.3f} | {low:.3f} to {high:.3f} |" in card
    for dx in CLASSES:
        measured = (figures[f"{name}/{dx}"][0] for name in BY_CLASS)
        assert f"| {dx} | {' | '.join(f'{value:.3f}' for value in measured)} |" in card
    phone = json.loads((SHIPPED / "evaluation" / "phone.json").read_text())["figures"]
    for name in ("accuracy", "balanced_accuracy", "auroc", "debiased_ece"):
        value, low, high = phone[name]
        assert f"{value:.3f} ({low:.3f} to {high:.3f})" in card
    readme = " ".join((SHIPPED.parents[1] / "README.md").read_text().split())
    for name in ("accuracy", "balanced_accuracy", "auroc", "debiased_ece"):
        value, low, high = figures[name]
        assert f"{value:.3f} ({low:.3f} to {high:.3f})" in readme


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_it_answers_real_photos_as_was_recorded(answers: pd.DataFrame) -> None:
    chosen = answers.groupby("dx").head(4)
    records = open_dataset(SHARED, Taxonomy()).records.loc[chosen.index]
    with opened(SHIPPED) as target, runtimes.get("pytorch").open(target.bundle) as engine:
        session = Session(engine)
        for image_id, path in records["path"].items():
            given = session.predict(path)
            recorded = [chosen.loc[image_id, f"p_{dx}"] for dx in CLASSES]
            np.testing.assert_allclose(
                [given.probabilities[dx] for dx in CLASSES], recorded, atol=1e-4
            )
            assert given.diagnosis == chosen.loc[image_id, "diagnosis"]
