"""The same inputs give the same bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import export
from classkinfy_export.recipes import ExportRecipe


def test_exporting_twice_gives_the_same_bytes(
    checkpoints: Any, tmp_path: Path, small_recipe: ExportRecipe
) -> None:
    recipe = small_recipe.model_copy(update={"forms": ("staged",)})
    ids = {export.export(checkpoints("trunk"), recipe, tmp_path / n).sha256 for n in ("a", "b")}
    assert len(ids) == 1


def test_packing_twice_gives_the_same_archive(trunk_bundle: Path, tmp_path: Path) -> None:
    for name in ("a.ckb", "b.ckb"):
        writer.pack(trunk_bundle, tmp_path / name)
    assert (tmp_path / "a.ckb").read_bytes() == (tmp_path / "b.ckb").read_bytes()
    assert Bundle.open(tmp_path / "a.ckb").sha256 == Bundle.open(trunk_bundle).sha256


@pytest.mark.parametrize("form", ["litert", "onnx"])
def test_a_recipe_without_a_format_leaves_it_out(
    checkpoints: Any, tmp_path: Path, small_recipe: ExportRecipe, form: str
) -> None:
    kept = {"litert": "onnx", "onnx": "pytorch"}[form]
    recipe = small_recipe.model_copy(update={"formats": (kept,), "golden": False})
    bundle = export.export(checkpoints("trunk"), recipe, tmp_path / "bundle")
    assert {model.format for model in bundle.manifest.models} == {kept}
    assert not (tmp_path / "bundle" / "golden").exists()
