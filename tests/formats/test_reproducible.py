"""The same inputs give the same bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs import export
from classkinfy_export.parity.verify import verify
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.session import Session


@pytest.mark.slow
def test_exporting_twice_gives_the_same_bytes_and_no_severity_without_graders(
    checkpoints: Any, tmp_path: Path, small_recipe: ExportRecipe
) -> None:
    recipe = small_recipe.model_copy(update={"forms": ("fused",)})
    bundles = []
    for name in ("a", "b"):
        sources = dataclasses.replace(checkpoints("separate"), graders={})
        bundles.append(export.export(sources, recipe, tmp_path / name))
    assert len({bundle.sha256 for bundle in bundles}) == 1
    assert bundles[0].manifest.grader_variant is None
    report = verify(bundles[0])
    assert report.failures() == []
    assert {d.runtime for d in report.decisions} >= {"onnxruntime", "litert"}
    assert not any(t.tensor.startswith("severity_") for t in report.tensors)


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


def test_a_staged_bundle_has_no_fused_form(
    checkpoints: Any, tmp_path: Path, small_recipe: ExportRecipe
) -> None:
    recipe = small_recipe.model_copy(update={"formats": ("onnx",), "forms": ("staged",)})
    bundle = export.export(checkpoints("separate"), recipe, tmp_path / "bundle")
    assert bundle.manifest.pipeline is None
    report = verify(bundle)
    assert report.failures() == []
    assert {d.form for d in report.decisions} == {"staged"}
    with pytest.raises(BundleError, match="no fused form"):
        Session(runtimes.get("onnxruntime").open(bundle), "fused")
