"""Recipes are checked whole, and what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classkinfy_export import recipes
from classkinfy_export.errors import RecipeError
from classkinfy_export.recipes import ExportRecipe, TrainRecipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "train").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_training_recipes_load(path: Path) -> None:
    recipes.load(path, TrainRecipe)


@pytest.mark.parametrize("path", sorted((ROOT / "export").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_export_recipes_load(path: Path) -> None:
    recipes.load(path, ExportRecipe)


def test_the_phones_thresholds_are_those_that_were_fitted() -> None:
    fitted = json.loads((ROOT / "benchmarks" / "quality.json").read_text())["fitted"]
    rules = recipes.load(ROOT / "export" / "mobile.yaml", ExportRecipe).quality_rules
    given = {rule.measure: rule.above or rule.below for rule in rules}
    assert given == {"hair_coverage": 0.15} | {r["measure"]: r["threshold"] for r in fitted}
    assert min(r["auroc"] for r in fitted) >= 0.95


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (ExportRecipe, "fromats: [onnx]", "unknown key 'fromats'; did you mean 'formats'"),
        (ExportRecipe, "capture: {hight: 1, width: 2}", "did you mean 'height'"),
        (
            ExportRecipe,
            "quality_rules: [{measure: sharpness, reason: x, belo: 1}]",
            "did you mean 'below'",
        ),
        (ExportRecipe, "quality_rules: [{measure: shine, reason: x, below: 1}]", "shine"),
        (ExportRecipe, "quality_rules: [{measure: sharpness, reason: x}]", "'above' or 'below'"),
        (ExportRecipe, "formats: [coreml]", "formats.0"),
        (ExportRecipe, "opset: 21", "opset"),
        (ExportRecipe, "name: 'a/b'", "name"),
        (TrainRecipe, "graders: {network: {archtecture: x}}", "did you mean 'architecture'"),
        (TrainRecipe, "graders: {variant: separate}", "'network' belongs to variant 'separate'"),
        (TrainRecipe, "split: {val: 0.5, test: 0.5}", "leave nothing to train on"),
        (TrainRecipe, "classifier: {fit: {epochs: many}}", "classifier.fit.epochs"),
        (TrainRecipe, "taxonomy: {classes: [a, a]}", "twice"),
        (TrainRecipe, "taxonomy: {classes: [a, b], graded: [c], malignant: []}", "graded names c"),
        (TrainRecipe, "taxonomy: {classes: [A, b]}", "lower-case"),
        (TrainRecipe, "- a\n- b", "keys and values"),
        (TrainRecipe, "a: [", "YAML"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_key(
    tmp_path: Path, kind: type[TrainRecipe] | type[ExportRecipe], text: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as raised:
        recipes.load(path, kind)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "recipe.yaml" in str(raised.value)


def test_overrides_are_yaml_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("{}")
    recipe = recipes.load(path, TrainRecipe, ("classifier.fit.epochs=2", "split.seed=7"))
    assert (recipe.classifier.fit.epochs, recipe.split.seed) == (2, 7)
    for wrong in ("epochs", "classifier.fit.epoch=2", "seed.x=1=2", "=3"):
        with pytest.raises(RecipeError):
            recipes.load(path, TrainRecipe, (wrong,))


def test_a_missing_recipe_says_where_recipes_are() -> None:
    with pytest.raises(RecipeError, match=r"does not exist.*train/\*\.yaml"):
        recipes.load("train/nothing.yaml", TrainRecipe)


@pytest.mark.parametrize(
    ("name", "reason", "instead"),
    [
        ("dynamic_wi8_afp32", "slower than float everywhere", "weight_only_wi8_afp32"),
        ("static_wi8_ai16", "no fast kernels on a CPU", "static_wi8_ai8"),
        ("static_ws8_as8", "no fast instruction on x86", "static_wi8_ai8"),
    ],
)
def test_a_precision_that_is_known_to_be_bad_is_refused_with_the_reason(
    name: str, reason: str, instead: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipes.parse({"precisions": ["fp32", name]}, ExportRecipe)
    message = str(caught.value)
    for fragment in (f"precisions.1: {name} is not offered: ", reason, "; take ", instead):
        assert fragment in message
    with pytest.raises(RecipeError, match=r"precisions\.0: Input should be 'fp32'"):
        recipes.parse({"precisions": ["int4"]}, ExportRecipe)


@pytest.mark.parametrize(
    ("name", "kind"), [("export/mobile.yaml", ExportRecipe), ("train/smoke.yaml", TrainRecipe)]
)
def test_a_licence_that_says_nothing_is_refused_before_any_work(
    name: str, kind: type[ExportRecipe] | type[TrainRecipe]
) -> None:
    with pytest.raises(RecipeError, match="weights_licence"):
        recipes.load(name, kind, ("weights_licence=''",))
