"""Training, from a recipe in YAML and a folder of images, to a bundle that verifies."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from classkinfy_export import recipes
from classkinfy_export.contract import Capture
from classkinfy_export.data import synthetic
from classkinfy_export.errors import DataError, RecipeError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.jobs.train import train
from classkinfy_export.parity.verify import verify
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.assembly import assemble
from classkinfy_export.stages.checkpoint import Pooling
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.stages.screen import Measure
from classkinfy_export.training import cache

TRAIN = """
taxonomy:
  classes: [naevus, melanoma, vessel]
  graded: [melanoma]
  malignant: [melanoma]
  severities: [low, high]
  names: {naevus: naevus, melanoma: melanoma, vessel: vascular lesion}
working_size: {height: 93, width: 124}
hair_removal: false
split: {val: 0.2, calib: 0.0, test: 0.2}
classifier:
  network: {architecture: test_efficientnet, weights: none, input_size: 64}
  fit: {epochs: 20, batch_size: 16, learning_rate: 1.0e-2, ema_decay: 0.5, sampling: natural}
graders: %s
weights_licence: MIT
"""
TRUNK = "{variant: trunk, fit: {epochs: 3, batch_size: 8, ema_decay: 0.5}}"
SEPARATE = (
    "{variant: separate, fit: {epochs: 2, batch_size: 8, ema_decay: 0.5}, network: "
    "{architecture: test_efficientnet, weights: none, input_size: 48, head: mlp}}"
)
EXPORT = """
name: three
capture: {height: 93, width: 124}
pipeline_outputs: [lesion_mask, features]
quality_rules: [{measure: hair_coverage, reason: hair, above: 0.3, effect: refuse}]
formats: %s
forms: %s
"""
DRAWN = {"naevus": "nv", "melanoma": "mel", "vessel": "vasc"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that are nobody's default, in HAM10000's layout."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for dx, drawn in DRAWN.items():
        for number in range(40):
            image_id = f"{dx}_{number:02d}"
            lesion = synthetic.lesion(drawn, number, height=96, width=128, hair=0.2)
            Image.fromarray(lesion.image).save(folder / f"{image_id}.jpg", quality=95)
            masks = folder / "segmentations"
            masks.mkdir(exist_ok=True)
            Image.fromarray(lesion.mask).save(masks / f"{image_id}_segmentation.png")
            rows.append((f"L{dx}{number // 2}", image_id, dx, "synthetic", 50.0, "male", "back"))
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "HAM10000_metadata.csv", index=False)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graders", "formats", "form"),
    [(TRUNK, "[pytorch, litert]", "[fused]"), (SEPARATE, "[pytorch, onnx]", "[fused]")],
    ids=["trunk", "separate"],
)
def test_another_taxonomy_trains_exports_and_verifies_from_yaml_alone(
    data: Path, tmp_path: Path, graders: str, formats: str, form: str
) -> None:
    recipe = recipes.load(write(tmp_path / "train.yaml", TRAIN % graders), recipes.TrainRecipe)
    metrics = train(recipe, [data], tmp_path / "run")
    assert metrics["classifier"]["test"]["balanced_accuracy"] > 0.6, "chance is 0.33"
    assert list(metrics["graders"]) == ["melanoma"]
    assert metrics["screen"]["test"]["balanced_accuracy"] > 0.6, "drawn classes look different"
    found = metrics["screen"]["test"]
    assert found["masks"] == found["n"]
    assert 0.2 < found["mean_iou"] <= 1, "a mask of 11 x 15 pixels is coarse"

    path = write(tmp_path / "export.yaml", EXPORT % (formats, form))
    settings = recipes.load(path, recipes.ExportRecipe)
    bundle = export.export(Sources.from_run(tmp_path / "run"), settings, tmp_path / "bundle")
    assert bundle.manifest.taxonomy == recipe.taxonomy
    assert bundle.manifest.stage("classify").outputs[0].shape == (1, 3)
    assert bundle.manifest.stage("grade_melanoma").outputs[0].shape == (1, 2)
    assert bundle.manifest.weights_licence == "MIT"
    assert not bundle.manifest.hair_removal, "as it was trained"
    runtime = "litert" if "litert" in formats else "onnxruntime"
    report = verify(bundle, sorted(data.glob("*.jpg"))[::6], names=[runtime])
    assert report.failures() == []
    assert {t.tensor for t in report.tensors} >= {"severity", "preliminary", "features"}
    # Neither side is a multiple of the mask's eight pixels.
    masks = [t for t in report.tensors if t.tensor == "lesion_mask"]
    assert [t.tolerance for t in masks] == [0.0]


def test_without_experts_masks_the_graders_learn_from_the_screens(
    data: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "data"
    shutil.copytree(data, bare, ignore=shutil.ignore_patterns("segmentations"))
    recipe = recipes.load(
        write(tmp_path / "train.yaml", TRAIN % TRUNK),
        recipes.TrainRecipe,
        ("classifier.fit.epochs=1",),
    )
    metrics = train(recipe, [bare], tmp_path / "run")
    assert metrics["screen"]["test"]["masks"] == 0
    assert metrics["screen"]["test"]["mean_iou"] is None
    graded = pd.read_csv(tmp_path / "run" / "severity.csv", index_col="image_id")["severity"]
    assert set(graded) == {0, 1}
    assert len(graded) > 30, "of forty melanomas"
    assert metrics["data"]["severity"] == (
        f"proxy on 0 expert masks and {len(graded)} of the screen's"
    )


def test_the_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    recipe = recipes.load(
        write(tmp_path / "train.yaml", TRAIN % TRUNK),
        recipes.TrainRecipe,
        ("classifier.fit.epochs=1",),
    )
    hashes = set()
    for name in ("a", "b"):
        train(recipe, [data], tmp_path / name)
        hashes.add(checkpoint.load(tmp_path / name / "classifier.safetensors").sha256)
    assert len(hashes) == 1


def test_an_unfinished_run_is_continued_and_a_foreign_one_is_left_alone(
    data: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.yaml", TRAIN % TRUNK)
    recipe = recipes.load(path, recipes.TrainRecipe, ("classifier.fit.epochs=1",))
    run = tmp_path / "run"
    train(recipe, [data], run)
    before = (run / "classifier.safetensors").read_bytes()
    (run / "metrics.json").unlink()
    (run / "grader_melanoma.safetensors").unlink()
    with pytest.raises(Exception, match="not a finished training run"):
        Sources.from_run(run)
    train(recipe, [data], run)
    assert (run / "classifier.safetensors").read_bytes() == before
    assert json.loads((run / "metrics.json").read_text())["graders"]["melanoma"]["test"]["n"]
    other = recipes.load(path, recipes.TrainRecipe, ("classifier.fit.epochs=2",))
    with pytest.raises(DataError, match="already holds something else"):
        train(other, [data], run)


def test_a_run_that_goes_on_from_its_checkpoints_tells_the_same_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are read where they were made, too; of other memory, last bits of answers differ.
    path = write(tmp_path / "train.yaml", TRAIN % TRUNK)
    recipe = recipes.load(path, recipes.TrainRecipe, ("classifier.fit.epochs=1",))
    read: list[str] = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: read.append(path.name) or load(path))
    whole = train(recipe, [data], tmp_path / "run")
    made = list(read)
    (tmp_path / "run" / "metrics.json").unlink()
    assert train(recipe, [data], tmp_path / "run") == whole
    assert read[len(made) :] == made


@pytest.mark.parametrize("stopped_at", ["calibration.fit", "heads.take"])
def test_a_run_that_was_stopped_before_it_kept_what_it_trained_does_not_train_it_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    recipe = recipes.load(
        write(tmp_path / "train.yaml", TRAIN % TRUNK),
        recipes.TrainRecipe,
        ["classifier.fit.epochs=2", "graders.fit.epochs=1"],
    )
    whole = train(recipe, [data], tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(f"classkinfy_export.training.run.{stopped_at}", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, [data], tmp_path / "stopped")
    said: set[str] = set()
    continued = train(
        recipe, [data], tmp_path / "stopped", report=lambda what, done, total: said.add(what)
    )
    trained = "training classifier" if stopped_at == "calibration.fit" else "training graders"
    assert not said & {"training classifier", trained}
    assert continued == whole
    assert not list(tmp_path.rglob("*.ckpt")), "what it went on from is no longer needed"


def test_cached_pixels_are_what_the_deployed_stages_feed_the_network(
    data: Path, tmp_path: Path
) -> None:
    records = pd.DataFrame({"path": [str(p) for p in sorted(data.glob("*.jpg"))[:3]]})
    recipe = recipes.parse({"working_size": {"height": 96, "width": 128}}, recipes.TrainRecipe)
    kept = cache.prepared(
        records, [64, 32], working_size=recipe.working_size, hair_removal=True, folder=tmp_path
    )
    levels = kept[cache.pixels(64)]
    assert kept[cache.pixels(32)].shape == (3, 32, 32, 3)
    for row, path in enumerate(records["path"]):
        image = torch.from_numpy(np.array(Image.open(path))[None])
        clean = Prepare(hair_removal=True)(image)["clean"][0].numpy()
        expected = np.asarray(Image.fromarray(clean).resize((64, 64), Image.Resampling.BILINEAR))
        screened = Measure()(torch.from_numpy(clean[None]))
        for name, value in screened.items():
            np.testing.assert_array_equal(kept[name][row], value[0].numpy())
        difference = np.abs(levels[row].astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
def test_pixels_are_cached_where_no_place_can_be_reserved(
    refusal: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = pd.DataFrame({"path": [str(p) for p in sorted(data.glob("*.jpg"))[:3]]})
    recipe = recipes.parse({"working_size": {"height": 96, "width": 128}}, recipes.TrainRecipe)

    def kept(folder: Path) -> dict[str, Any]:
        return cache.prepared(
            records, [64], working_size=recipe.working_size, hair_removal=True, folder=folder
        )

    expected = kept(tmp_path / "reserved")

    def refuse(*_: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    for name, array in kept(tmp_path / "written").items():
        np.testing.assert_array_equal(array, expected[name])


def test_severities_of_the_users_own_take_the_place_of_the_proxy(
    data: Path, tmp_path: Path
) -> None:
    recipe = recipes.load(
        write(tmp_path / "train.yaml", TRAIN % TRUNK),
        recipes.TrainRecipe,
        ("classifier.fit.epochs=1",),
    )
    lines = ["image_id,severity"]
    lines += [f"melanoma_{n:02d},{'high' if n % 4 < 2 else 'low'}" for n in range(40)]
    own = write(tmp_path / "severity.csv", "\n".join(lines) + "\n")
    train(recipe, [data], tmp_path / "run", severity_csv=own)
    used = pd.read_csv(tmp_path / "run" / "severity.csv", index_col="image_id")["severity"]
    assert used["melanoma_00"] == 1
    assert used["melanoma_02"] == 0


def test_severities_that_leave_out_a_diagnosis_are_refused_before_anything_is_trained(
    data: Path, tmp_path: Path
) -> None:
    recipe = recipes.load(
        write(tmp_path / "train.yaml", (TRAIN % TRUNK).replace("[melanoma]", "[melanoma, naevus]")),
        recipes.TrainRecipe,
    )
    lines = ["image_id,severity", *(f"melanoma_{n:02d},{n % 2}" for n in range(40))]
    own = write(tmp_path / "severity.csv", "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="no training image of 'naevus' has a severity"):
        train(recipe, [data], tmp_path / "run", severity_csv=own)
    assert not list((tmp_path / "run").glob("*.safetensors"))
    lines += [f"naevus_{n:02d},{n % 2}" for n in range(40)]
    write(own, "\n".join(lines) + "\n")
    one = recipe.classifier.fit.model_copy(update={"epochs": 1})
    quick = recipe.classifier.model_copy(update={"fit": one})
    shutil.rmtree(tmp_path / "run")
    train(
        recipe.model_copy(update={"classifier": quick}), [data], tmp_path / "run", severity_csv=own
    )


def test_a_run_kept_in_halves_is_half_as_large_and_heads_fit_it(data: Path, tmp_path: Path) -> None:
    path, sizes = write(tmp_path / "train.yaml", TRAIN % TRUNK), {}
    for dtype in ("float32", "float16"):
        settings = ("classifier.fit.epochs=1", f"weights_dtype={dtype}")
        recipe = recipes.load(path, recipes.TrainRecipe, settings)
        train(recipe, [data], tmp_path / dtype)
        sizes[dtype] = (tmp_path / dtype / "classifier.safetensors").stat().st_size
    assert sizes["float16"] < 0.56 * sizes["float32"]
    sources = Sources.from_run(tmp_path / "float16")
    trunk = {head.info.trunk_sha256 for head in sources.graders.values()}
    assert trunk == {sources.classifier.sha256}
    for tensor in sources.classifier.module.state_dict().values():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, tensor.half().float())


def test_heads_of_another_classifier_are_trained_again(data: Path, tmp_path: Path) -> None:
    path, run = write(tmp_path / "train.yaml", TRAIN % TRUNK), tmp_path / "run"
    recipe = recipes.load(path, recipes.TrainRecipe, ("classifier.fit.epochs=1",))
    train(recipe, [data], run)
    (run / "classifier.safetensors").unlink()
    other = recipe.model_copy(update={"seed": 7})
    train(other, [data], tmp_path / "other")
    shutil.copy(tmp_path / "other" / "classifier.safetensors", run)
    train(recipe, [data], run)
    sources = Sources.from_run(run)
    assert sources.graders["melanoma"].info.trunk_sha256 == sources.classifier.sha256


def test_a_classifier_that_its_screen_is_new_to_is_calibrated_beside_it(
    data: Path, tmp_path: Path
) -> None:
    path, run = write(tmp_path / "train.yaml", TRAIN % TRUNK), tmp_path / "run"
    settings = ("classifier.fit.epochs=1", "split={val: 0.2, calib: 0.2, test: 0.2}")
    recipe = recipes.load(path, recipes.TrainRecipe, settings)
    wanted = train(recipe, [data], run)
    trained = checkpoint.load(run / "classifier.safetensors")
    assert trained.info.pooling is not None
    assert wanted["screen_weight"] == trained.info.pooling.screen_weight
    for info in (
        trained.info.model_copy(update={"pooling": None}),
        trained.info.model_copy(
            update={"pooling": Pooling(screen_sha256=64 * "0", screen_weight=1.0)}
        ),
    ):
        older = dataclasses.replace(trained, info=info)
        (run / "classifier.safetensors").write_bytes(checkpoint.to_bytes(older))
        (run / "metrics.json").unlink()
        found = train(recipe, [data], run)
        assert found["screen_weight"] == pytest.approx(wanted["screen_weight"], abs=1e-3)
        sources = Sources.from_run(run)
        assemble(
            sources.classifier,
            sources.graders,
            screen=sources.screen,
            capture=Capture(height=93, width=124),
            hair_removal=False,
            rules=(),
        )


def test_a_run_learns_from_another_that_has_not_seen_what_it_is_judged_by(
    data: Path, tmp_path: Path
) -> None:
    path, first = write(tmp_path / "train.yaml", TRAIN % TRUNK), tmp_path / "first"
    recipe = recipes.load(path, recipes.TrainRecipe, ("classifier.fit.epochs=1",))
    assert train(recipe, [data], first)["teachers"] == []
    taught = recipes.load(
        path,
        recipes.TrainRecipe,
        ("classifier.fit.epochs=1", "classifier.distillation=0.5", "split.seed=1"),
    )
    for bad, teachers in ((taught, []), (recipe, [first])):
        with pytest.raises(RecipeError, match="give both, or neither"):
            train(bad, [data], tmp_path / "bad", teachers=teachers)
    with pytest.raises(DataError, match=r"was trained on lesions of [0-9]+ images"):
        train(taught, [data], tmp_path / "run", teachers=[first])
    run = tmp_path / "run"
    metrics = train(taught, [data], run, teachers=[first], split_csv=first / "split.csv")
    sources = Sources.from_run(first)
    assert metrics["teachers"] == [sources.classifier.sha256]
    alone = taught.classifier.model_copy(update={"distillation": 0.0})
    plain = taught.model_copy(update={"classifier": alone})
    train(plain, [data], tmp_path / "plain", split_csv=first / "split.csv")
    weights = [Sources.from_run(tmp_path / name).classifier.sha256 for name in ("run", "plain")]
    assert weights[0] != weights[1]
    haired = taught.model_copy(update={"hair_removal": True})
    with pytest.raises(DataError, match="was trained with hair_removal False"):
        train(haired, [data], tmp_path / "haired", teachers=[first], split_csv=first / "split.csv")
    with pytest.raises(DataError, match="begun with other teachers"):
        train(taught, [data], run, teachers=[run], split_csv=first / "split.csv")


def test_another_photo_of_a_lesion_that_is_held_back_is_no_lesson(
    data: Path, tmp_path: Path
) -> None:
    path, first = write(tmp_path / "train.yaml", TRAIN % TRUNK), tmp_path / "first"
    recipe = recipes.load(
        path,
        recipes.TrainRecipe,
        ("classifier.fit.epochs=1", "classifier.distillation=0.5"),
    )
    alone = recipe.classifier.model_copy(update={"distillation": 0.0})
    train(recipe.model_copy(update={"classifier": alone}), [data], first)
    split = pd.read_csv(first / "split.csv")
    held = split["lesion_id"][split["part"] == "test"].iloc[0]
    row = {"image_id": "elsewhere", "lesion_id": held, "dx": "naevus", "part": "train"}
    pd.concat([split, pd.DataFrame([row])]).to_csv(first / "split.csv", index=False)
    split.to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(DataError, match=r"was trained on lesions of [12] images"):
        train(recipe, [data], tmp_path / "run", teachers=[first], split_csv=tmp_path / "split.csv")
    assert not (tmp_path / "run").exists()
