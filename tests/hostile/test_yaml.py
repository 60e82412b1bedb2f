"""Recipes made to hurt who reads them."""

from __future__ import annotations

import time
from pathlib import Path

import mutation
import pytest

from classkinfy_export import recipes, safe_yaml
from classkinfy_export.errors import RecipeError
from classkinfy_export.recipes import ExportRecipe


@pytest.mark.parametrize("text", mutation.YAML)
def test_what_yaml_can_say_is_refused_in_one_line_and_soon(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: small\nquality_rules: [\n{text}\n")
    start = time.process_time()
    with pytest.raises(RecipeError, match=r"recipe\.yaml") as raised:
        recipes.load(path, ExportRecipe)
    assert time.process_time() - start < 5
    assert "\n" not in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize("tag", ["!!int ''", "!!float ''", "!!bool maybe", "!!timestamp now"])
def test_a_value_that_its_tag_does_not_fit_is_no_yaml(tag: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        safe_yaml.load(f"a: {tag}")


def test_an_escape_beyond_all_characters_is_no_yaml() -> None:
    for digits in ("99999999", "00110000"):
        with pytest.raises(ValueError, match=r"\w"):
            safe_yaml.load(f'a: "\\U{digits}"')


def test_keys_merged_from_aliases_of_aliases_are_not_multiplied() -> None:
    laughs = next(text for text in mutation.YAML if "<<: [*a0" in text)
    assert safe_yaml.load(laughs)["a11"] == {"x": 1}


def test_aliases_and_merges_as_people_write_them_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n"
    assert safe_yaml.load(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": [{"x": 1, "y": 2}] * 2,
    }
