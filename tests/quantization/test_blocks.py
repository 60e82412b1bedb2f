"""Blocks of a network, by timm's names."""

from __future__ import annotations

import pytest

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import RecipeError
from classkinfy_export.quantization import blocks
from classkinfy_export.recipes import ExportRecipe, parse
from classkinfy_export.stages.network import Network


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(NetworkSpec(architecture="tf_efficientnet_lite0", input_size=64, outputs=7))


def recipe(**float_blocks: tuple[str, ...] | dict[str, tuple[str, ...]]) -> ExportRecipe:
    return ExportRecipe.model_validate(
        {"precisions": ("fp32", "static_wi8_ai8"), "float_blocks": float_blocks}
    )


def test_parts_hold_every_convolution_once(network: Network) -> None:
    parts = blocks.names(network)
    assert parts[:3] == ("conv_stem", "blocks.0.0", "blocks.1.0")
    assert parts[-1] == "conv_head"
    weights = [n for n, p in network.backbone.named_parameters() if p.ndim == 4]
    holders = [[part for part in parts if name.startswith(f"{part}.")] for name in weights]
    assert all(len(found) == 1 for found in holders)


def test_a_stage_and_a_single_block_can_be_named(network: Network) -> None:
    blocks.check({"classify": network}, recipe(classify=("conv_stem", "blocks.0", "blocks.3.1")))


def test_what_the_network_lacks_is_refused_and_what_is_near_is_told(network: Network) -> None:
    with pytest.raises(RecipeError, match=r"lite0 has no block 'blocks\.3\.7'.*blocks\.3\.1"):
        blocks.check({"classify": network}, recipe(classify=("blocks.3.7",)))


def test_a_block_without_a_convolution_is_refused(network: Network) -> None:
    with pytest.raises(RecipeError, match="'bn1' that convolves"):
        blocks.check({"classify": network}, recipe(classify=("bn1",)))


def test_a_network_that_is_left_in_float_whole_is_refused(network: Network) -> None:
    whole = recipe(classify=("conv_stem", "blocks", "conv_head"))
    with pytest.raises(RecipeError, match="nothing of classify is left for int8"):
        blocks.check({"classify": network}, whole)


def test_a_stage_without_a_network_is_refused(network: Network) -> None:
    with pytest.raises(RecipeError, match=r"no stage 'grade_mel' has a network: .*classify"):
        blocks.check({"classify": network}, recipe(grade_mel=("conv_stem",)))


def test_formats_can_leave_different_blocks_in_float(network: Network) -> None:
    wanted = recipe(classify={"onnx": ("conv_stem", "blocks.0"), "litert": ("blocks.0",)})
    blocks.check({"classify": network}, wanted)
    assert wanted.blocks_in_float("classify", "onnx") == ("conv_stem", "blocks.0")
    assert wanted.blocks_in_float("classify", "litert") == ("blocks.0",)
    assert wanted.blocks_in_float("grade_mel", "onnx") == ()
    alike = recipe(classify=("blocks.1",))
    assert alike.blocks_in_float("classify", "onnx") == ("blocks.1",)
    assert alike.blocks_in_float("classify", "litert") == ("blocks.1",)


@pytest.mark.parametrize("format_name", ["onnx", "litert"])
def test_what_one_format_asks_for_in_vain_is_refused(network: Network, format_name: str) -> None:
    with pytest.raises(RecipeError, match=r"has no block 'layer1'"):
        blocks.check({"classify": network}, recipe(classify={format_name: ("layer1",)}))


def test_what_is_asked_of_a_format_that_is_not_wanted_is_not_looked_at(network: Network) -> None:
    only = recipe(classify={"onnx": ("layer1",)}).model_copy(update={"formats": ("litert",)})
    blocks.check({"classify": network}, only)


@pytest.mark.parametrize("wrong", ["litrt", "pytorch"])
def test_blocks_of_another_format_are_refused_and_the_formats_told(wrong: str) -> None:
    content = {"float_blocks": {"classify": {wrong: ["conv_stem"]}}}
    with pytest.raises(RecipeError, match=rf"float_blocks\.classify\.{wrong}.*litert"):
        parse(content, ExportRecipe)


def test_a_recipe_that_is_all_float_may_name_any_block(network: Network) -> None:
    wanted = recipe(classify=("layer1",)).model_copy(update={"precisions": ("fp32",)})
    blocks.check({"classify": network}, wanted)


def test_branches_that_no_network_has_are_refused(network: Network) -> None:
    wanted = ExportRecipe(precisions=("static_wi8_ai8_se_fp32",))
    with pytest.raises(RecipeError, match=r"no network has squeeze.*take static_wi8_ai8"):
        blocks.check({"classify": network}, wanted)
    excited = Network(NetworkSpec(architecture="efficientnet_b0", input_size=64, outputs=7))
    blocks.check({"classify": network, "grade_mel": excited}, wanted)


@pytest.mark.parametrize(
    ("architecture", "has"), [("tf_efficientnet_lite0", False), ("efficientnet_b0", True)]
)
def test_excitation_is_told(architecture: str, has: bool) -> None:
    spec = NetworkSpec(architecture=architecture, input_size=64, outputs=7)
    assert blocks.has_excitation(Network(spec)) is has
