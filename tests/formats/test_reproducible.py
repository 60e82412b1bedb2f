"""The same inputs give the same bundle."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from classkinfy_export import recipes, runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity import golden
from classkinfy_export.parity.verify import verify
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages import checkpoint

INT8 = "static_wi8_ai8"
PLACES: dict[str, dict[str, Any]] = {
    "one": {
        "umask": 0o022,
        "oldest_first": True,
        "env": {
            "USER": "ada",
            "TZ": "Pacific/Kiritimati",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "1",
            "OMP_NUM_THREADS": "1",
        },
    },
    "an other/place": {
        "umask": 0o077,
        "oldest_first": False,
        "env": {
            "USER": "grace",
            "TZ": "America/St_Johns",
            "LC_ALL": "POSIX",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",  # so that text is ASCII where no encoding is named
            "PYTHONHASHSEED": "2",
            "OMP_NUM_THREADS": "2",
        },
    },
}


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


def test_golden_vectors_are_the_same_of_any_number_of_threads() -> None:
    sources = Sources.from_run(SHIPPED)  # the tiny network is too small to be parted
    recipe = sources.settled(recipes.load("export/mobile.yaml", ExportRecipe))
    assembly = sources.assemble(recipe)
    _, image = next(golden.images(recipe.capture))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(export._reference(assembly)(image))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, tensor in found[0].items():
        assert tensor.tobytes() == found[1][name].tobytes(), name


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


def _run_folder(folder: Path, sources: Sources) -> None:
    """Write what a finished training run leaves."""
    folder.mkdir()
    held = {"classifier": sources.classifier, "screen": sources.screen}
    held |= {f"grader_{dx}": grader for dx, grader in sources.graders.items()}
    for name, one in held.items():
        assert one is not None
        (folder / f"{name}.safetensors").write_bytes(checkpoint.to_bytes(one))
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    metrics["graders"] = {dx: metrics["graders"][dx] for dx in sources.graders}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def _copied(inputs: Path, place: Path, *, oldest_first: bool) -> None:
    """Copy files so that folders list them in another order, and their times tell another."""
    found = sorted(path for path in inputs.rglob("*") if path.is_file())
    for age, path in enumerate(found if oldest_first else reversed(found)):
        target = place / path.relative_to(inputs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        os.utime(target, (1e9 + 1e6 * age, 1e9 + 1e6 * age))


def _first_difference(one: Path, two: Path) -> str | None:
    """Name the first member of two archives that is not the same in both."""
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(two) as b:
        for first, second in zip_longest(a.infolist(), b.infolist()):
            if first is None or second is None or first.filename != second.filename:
                return f"{first} beside {second}"
            if a.read(first) != b.read(second):
                return str(first.filename)
            told = [(m.date_time, m.external_attr, m.compress_type) for m in (first, second)]
            if told[0] != told[1]:
                return f"{first} beside {second}"
    return None


@pytest.mark.slow
def test_two_environments_export_the_same_archive_byte_for_byte(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    inputs = tmp_path / "inputs"
    for folder, photos in (("photos", lesions[:8]), ("own", lesions[:1])):
        (inputs / folder).mkdir(parents=True)
        for photo in photos:
            shutil.copy(photo, inputs / folder)
    _run_folder(inputs / "run", checkpoints("trunk"))
    update = {
        "formats": ("onnx",),
        "forms": ("staged",),
        "precisions": ("fp32", INT8),
        "calibration": CalibrationRecipe(images=4),
    }
    recipe = small_recipe.model_copy(update=update).model_dump(mode="json", exclude_none=True)
    (inputs / "recipe.yaml").write_text(json.dumps(recipe))

    archives = []
    for name, differs in PLACES.items():
        place, home, temporary = (tmp_path / name / kind for kind in ("in", "home", "tmp"))
        for folder in (place, home, temporary):
            folder.mkdir(parents=True)
        _copied(inputs, place, oldest_first=differs["oldest_first"])
        where = {"HOME": str(home), "TMPDIR": str(temporary)}
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        given = ("--recipe", "recipe.yaml", "--calibration", "photos", "--golden", "own")
        given += ("--out", f"{place.parent.name}.ckb")
        subprocess.run(
            [sys.executable, "-m", "classkinfy_export", "export", "run", *given],
            cwd=place,
            env={**kept, **where, **differs["env"], "ORT_DISABLE_TELEMETRY": "1"},
            umask=differs["umask"],
            check=True,
        )
        archives.append(place / f"{place.parent.name}.ckb")

    assert _first_difference(*archives) is None
    assert archives[0].read_bytes() == archives[1].read_bytes()
    held = zipfile.ZipFile(archives[0]).namelist()
    assert {"manifest.json", "sbom.cdx.json", "evidence/accuracy.json"} <= set(held)
    assert f"models/onnx/classify.{INT8}.onnx" in held
    assert any(name.startswith("golden/own_") for name in held)
