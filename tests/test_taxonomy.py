"""Classes as data: HAM10000's by default, any other by a recipe, never contradicting itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from classkinfy_export.data.synthetic import CLASSES
from classkinfy_export.errors import RecipeError
from classkinfy_export.recipes import TrainRecipe, parse
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE, Taxonomy


def test_the_default_is_ham10000s_seven_diagnoses_in_alphabetical_order() -> None:
    taxonomy = Taxonomy()
    assert taxonomy.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc") == CLASSES
    assert taxonomy.classes == tuple(sorted(taxonomy.classes))
    # The origin grades five of them; three are malignant or become so (Tschandl et al., 2018).
    assert set(taxonomy.classes) - set(taxonomy.graded) == {"df", "vasc"}
    assert taxonomy.malignant == ("akiec", "bcc", "mel")
    assert taxonomy.severities == ("mild", "moderate", "severe")
    assert set(taxonomy.names) == set(taxonomy.classes)


def test_index_and_title_follow_the_order_and_the_names() -> None:
    taxonomy = Taxonomy(classes=("b", "a"), graded=(), malignant=(), names={"a": "Alpha"})
    assert [taxonomy.index(dx) for dx in ("b", "a")] == [0, 1]
    assert [taxonomy.title(dx) for dx in ("b", "a")] == ["b", "Alpha"]
    with pytest.raises(ValueError, match="not in tuple"):
        taxonomy.index("c")


def test_it_survives_json_and_cannot_be_changed() -> None:
    taxonomy = Taxonomy(classes=("b", "a"), graded=("a",), malignant=(), names={})
    assert Taxonomy.model_validate_json(taxonomy.model_dump_json()) == taxonomy
    with pytest.raises(ValidationError, match="frozen"):
        taxonomy.classes = ("a", "b")


def test_names_of_one_taxonomy_are_not_those_of_another() -> None:
    first, second = Taxonomy(), Taxonomy()
    first.names["mel"] = "changed"
    assert second.names["mel"] == Taxonomy().names["mel"] == "melanoma"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": ["a", "b", "a"]}, "classes names something twice: a, b, a"),
        ({"graded": ["mel", "mel"]}, "graded names something twice: mel, mel"),
        ({"malignant": ["mel", "bcc", "mel"]}, "malignant names something twice"),
        ({"severities": ["mild", "mild"]}, "severities names something twice"),
        ({"classes": ["a", "b"], "graded": ["c", "d"], "malignant": []}, "graded names c, d, not"),
        ({"classes": ["a", "b"], "graded": [], "malignant": ["z"]}, "malignant names z, not among"),
        ({"classes": ["a", "B"], "graded": [], "malignant": []}, "classes: 'B' must be lower-case"),
        ({"classes": ["a", "b c"], "graded": [], "malignant": []}, "'b c' must be"),
        ({"classes": ["a", "../b"], "graded": [], "malignant": []}, "'../b' must be"),
        ({"classes": ["a", "b\n"], "graded": [], "malignant": []}, "must be lower-case"),
        ({"classes": ["a", ""], "graded": [], "malignant": []}, "'' must be"),
        ({"severities": ["mild", "1"]}, "severities: '1' must be"),
        ({"classes": ["mel"]}, "classes: "),
        ({"severities": ["mild"]}, "severities: "),
        ({"classes": "mel"}, "classes: "),
        ({"names": {"mel": 3}}, "names.mel: "),
        ({"clases": ["a", "b"]}, "unknown key 'taxonomy.clases'; did you mean 'classes'?"),
    ],
)
def test_a_taxonomy_that_contradicts_itself_is_one_line(
    content: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as error:
        parse({"taxonomy": content}, TrainRecipe)
    assert message in str(error.value)
    assert str(error.value).startswith(("recipe: taxonomy", "recipe: unknown key 'taxonomy"))
    assert "\n" not in str(error.value)


def test_nothing_graded_and_nothing_malignant_is_a_taxonomy_too() -> None:
    taxonomy = Taxonomy(classes=("a", "b"), graded=(), malignant=())
    assert (taxonomy.graded, taxonomy.malignant) == ((), ())


def test_the_notices_say_what_it_is_not() -> None:
    assert "Not a medical device" in DISCLAIMER
    assert "never assessed by a clinician" in PROXY_NOTICE
