"""Every key of every recipe, misspelt; every value of a wrong kind: one line, with the remedy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.contract import QualityRule
from classkinfy_export.errors import RecipeError
from classkinfy_export.recipes import (
    ExportRecipe,
    GraderRecipe,
    NetworkRecipe,
    TrainRecipe,
    explain,
    load,
    parse,
)
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe, RuntimeName, RuntimeParity

ROOT = Path(__file__).resolve().parents[1]
Kind = type[TrainRecipe] | type[ExportRecipe]

# Every optional part is present, so that every key of every nested model is.
WHOLE: dict[Kind, dict[str, Any]] = {
    TrainRecipe: TrainRecipe(
        graders=GraderRecipe(variant="separate", network=NetworkRecipe())
    ).model_dump(mode="json"),
    ExportRecipe: ExportRecipe(
        taxonomy=Taxonomy(),
        quality_rules=(
            QualityRule(measure="sharpness", reason="blurred", below=7.5),
            QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
        ),
    ).model_dump(mode="json"),
}


def keys(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every key; class names are data, not keys."""
    if path == ("taxonomy", "names"):
        return
    if isinstance(content, dict):
        for key, value in content.items():
            if path != ("parity", "runtimes"):  # names of runtimes
                yield (*path, key)
            yield from keys(value, (*path, key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from keys(value, (*path, number))


EVERY_KEY = [
    pytest.param(kind, path, id=".".join([kind.__name__, *map(str, path)]))
    for kind, content in WHOLE.items()
    for path in keys(content)
]


def parent_of(content: dict[str, Any], path: tuple[str | int, ...]) -> Any:
    for part in path[:-1]:
        content = content[part]
    return content


def refused(content: dict[str, Any], kind: Kind) -> str:
    with pytest.raises(RecipeError) as error:
        parse(content, kind, source="recipe.yaml")
    message = str(error.value)
    assert message.startswith("recipe.yaml: ")
    assert "\n" not in message
    for boilerplate in ("For further information", "validation error", "input_value", "type="):
        assert boilerplate not in message
    return message


def test_whole_recipes_are_accepted_and_all_models_are_in_them() -> None:
    for kind, content in WHOLE.items():
        assert parse(content, kind).model_dump(mode="json") == content
    assert len(EVERY_KEY) > 70


@pytest.mark.parametrize(("kind", "path"), EVERY_KEY)
def test_every_misspelt_key_is_named_with_the_key_it_was_meant_to_be(
    kind: Kind, path: tuple[str | int, ...]
) -> None:
    # Also where the key is needed: that it is missing only follows from the misspelling.
    content = copy.deepcopy(WHOLE[kind])
    parent, key = parent_of(content, path), str(path[-1])
    parent[f"{key}x"] = parent.pop(key)
    dotted = ".".join(map(str, path)) + "x"
    assert f"unknown key {dotted!r}; did you mean {key!r}?" in refused(content, kind)


@pytest.mark.parametrize(("kind", "path"), EVERY_KEY)
def test_every_value_of_a_wrong_kind_is_named_by_its_key(
    kind: Kind, path: tuple[str | int, ...]
) -> None:
    content = copy.deepcopy(WHOLE[kind])
    parent_of(content, path)[path[-1]] = {"not": ["a", "value"]}
    assert ".".join(map(str, path)) in refused(content, kind)


def test_a_key_like_no_other_is_answered_with_all_that_are_known_there() -> None:
    message = refused({"split": {"qqqq": 1}}, TrainRecipe)
    assert "unknown key 'split.qqqq'; known keys: val, calib, test, seed" in message


def test_a_key_in_a_dict_of_models_is_answered_with_the_models_keys() -> None:
    with pytest.raises(ValidationError) as error:
        Manifest.model_validate({"files": {"a.onnx": {"sha256": "", "size_byte": 1}}})
    assert "did you mean 'size_bytes'?" in explain(error.value, Manifest)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (TrainRecipe, {"graders": {"network": {}}}, "'network' belongs to variant 'separate'"),
        (TrainRecipe, {"graders": {"variant": "separate"}}, "'network' belongs to variant"),
        (TrainRecipe, {"split": {"val": 0.5, "calib": 0.3, "test": 0.2}}, "nothing to train on"),
        (TrainRecipe, {"classifier": {"network": {"mean": [1, 2]}}}, "classifier.network.mean"),
        (TrainRecipe, {"classifier": {"network": {"std": [0.5, 0, 0.5]}}}, "network.std.1"),
        (TrainRecipe, {"classifier": {"fit": {"learning_rate": float("inf")}}}, "learning_rate"),
        (TrainRecipe, {"classifier": {"fit": {"learning_rate": 0}}}, "learning_rate"),
        (TrainRecipe, {"seed": 1.5}, "seed"),
        (TrainRecipe, {"classifier": None}, "classifier"),
        (ExportRecipe, {"formats": []}, "formats"),
        (ExportRecipe, {"formats": "onnx"}, "formats"),
        (ExportRecipe, {"formats": ["onnx", "onnx"]}, "formats names something twice: onnx, onnx"),
        (ExportRecipe, {"forms": ["fused", "fused"]}, "forms names something twice"),
        (ExportRecipe, {"opset": 17}, "opset"),
        (ExportRecipe, {"capture": [450, 600]}, "capture"),
        (ExportRecipe, {"capture": {"height": 0, "width": 600}}, "capture.height"),
        (
            ExportRecipe,
            {"capture": {"height": 9, "width": 12, "layout": "bgr"}},
            "capture.layout",
        ),
        (
            ExportRecipe,
            {"capture": {"height": 45, "width": 60, "layout": "nv21"}},
            "capture: nv21 needs an even height and width, not 45x60",
        ),
        (ExportRecipe, {"working_size": {"height": 1080, "width": 1440}}, "megapixel"),
        (ExportRecipe, {"parity": {"probabilities": float("nan")}}, "parity.probabilities"),
        (ExportRecipe, {"parity": {"runtimes": {"onnx": {}}}}, "parity.runtimes.onnx"),
        (ExportRecipe, {"parity": {"runtimes": {"litert": {"flips": "some"}}}}, "flips"),
        (ExportRecipe, {"hair_removal": "perhaps"}, "hair_removal"),
        (ExportRecipe, {"name": "Mobile"}, "name"),
        (ExportRecipe, {"name": "../mobile"}, "name"),
        (ExportRecipe, {1: 2}, "1: "),
        (ExportRecipe, {"a\nb": 2}, "unknown key"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_named(
    kind: Kind, content: dict[str, Any], message: str
) -> None:
    assert message in refused(content, kind)


def test_a_rule_has_a_bit_of_an_int32_and_no_more_than_31_fit() -> None:
    rule = {"measure": "sharpness", "reason": "blurred", "below": 1.0}
    assert len(parse({"quality_rules": [rule] * 31}, ExportRecipe).quality_rules) == 31
    assert "quality_rules" in refused({"quality_rules": [rule] * 32}, ExportRecipe)


def test_a_number_that_yaml_reads_as_text_is_still_a_number() -> None:
    # YAML 1.1 wants a dot in the mantissa.
    assert yaml.safe_load("1e-3") == "1e-3"
    content = {"classifier": {"fit": {"learning_rate": yaml.safe_load("1e-3")}}}
    assert parse(content, TrainRecipe).classifier.fit.learning_rate == 0.001


@pytest.mark.parametrize(
    "text",
    [
        b"a: [",
        b"a: b: c",
        b"\tname: a",
        b"\xff\xfe\x00",
        b"\x00",
        b"name: a\n---\nname: b\n",
        b"? [a, b]\n: 1\n",
        b"name: 2020-13-45",
        b"!!python/object/apply:os.getcwd []",
        pytest.param(b"x: " + b"[" * 5000, id="deep"),
    ],
    ids=repr,
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=r"recipe\.yaml cannot be read as YAML: ") as error:
        load(path, ExportRecipe)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "text", "3", "false", "[]", "- a\n" * 999])
def test_what_holds_no_keys_is_one_short_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="must hold keys and values, not ") as error:
        load(path, ExportRecipe)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 120


def test_an_empty_recipe_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("# nothing yet\n")
    assert load(path, TrainRecipe) == TrainRecipe()
    assert load(path, ExportRecipe) == ExportRecipe()


def test_overrides_reach_any_depth_and_leave_their_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("capture: {height: 90, width: 120}\nformats: [onnx, litert]\n")
    overrides = ("capture.height=96", "formats=[onnx]", "parity.probabilities=1e-3", "name=a")
    recipe = load(path, ExportRecipe, (*overrides, "name=b", "hair_removal=off"))
    assert recipe.capture.as_tuple() == (96, 120)
    assert recipe.formats == ("onnx",)
    assert recipe.parity.probabilities == 0.001
    assert recipe.parity.embedding == ExportRecipe().parity.embedding
    assert recipe.name == "b"
    assert recipe.hair_removal is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("opset", "'opset' is not key=value: for example"),
        ("=3", "'=3' is not key=value"),
        ("name=[", "'[' is not YAML"),
        ("name=2020-13-45", "'2020-13-45' is not YAML"),
        ("name.x=3", "'name' holds a value, not keys"),
        ("capture.hieght=3", "unknown key 'capture.hieght'; did you mean 'height'?"),
        ("capture=5", "capture: "),
        ("quality_rules.0.above=3", "quality_rules: "),
    ],
)
def test_an_override_that_fits_nowhere_is_one_line(
    tmp_path: Path, override: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\ncapture: {height: 90, width: 120}\n")
    with pytest.raises(RecipeError) as error:
        load(path, ExportRecipe, (override,))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shipped_recipes_are_found_from_any_folder_and_a_file_here_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("export/mobile.yaml", ExportRecipe).name == "mobile"
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "mobile.yaml").write_text("name: mine\n")
    assert load("export/mobile.yaml", ExportRecipe).name == "mine"


def test_the_shipped_recipes_say_what_their_comments_promise() -> None:
    mobile, origin = (load(f"export/{name}.yaml", ExportRecipe) for name in ("mobile", "origin"))
    assert {rule.effect for rule in mobile.quality_rules} == {"advise"}
    assert [(r.measure, r.above, r.effect) for r in origin.quality_rules] == [
        ("hair_coverage", 0.15, "refuse")
    ]
    assert load("train/mobile.yaml", TrainRecipe).graders.variant == "trunk"
    smoke = load("train/smoke.yaml", TrainRecipe)
    assert smoke.weights_licence == "Apache-2.0"  # trained on synthetic pictures, nobody's data


@pytest.mark.parametrize("name", ["missing.yaml", "", "export", "export/mobile"])
def test_a_recipe_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match=r"does not exist: give a path, or one of the shipped"):
        load(name, ExportRecipe)


def test_recipes_cannot_be_changed_after_they_were_checked() -> None:
    recipe = ExportRecipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.name = "other"


def test_what_a_recipe_asks_of_a_runtime_is_laid_over_what_slow_ones_are_asked() -> None:
    assert ParityRecipe().of("litert-reference").images == 100
    given = {"litert": {"flips": "any"}, "litert-reference": {"images": 7}}
    recipe = parse({"runtimes": given}, ParityRecipe)
    assert recipe.of("litert") == RuntimeParity(flips="any")
    assert recipe.of("litert-reference") == RuntimeParity(
        images=7, looser=10.0, flip_rate=0.03, own_rounding=True
    )
    assert recipe.of("arm64-litert").images == 20
    assert recipe.of("onnxruntime") == RuntimeParity()
    assert ParityRecipe.model_validate(recipe.model_dump(exclude_none=True)) == recipe
    assert set(get_args(RuntimeName)) == set(runtimes.NAMES)
