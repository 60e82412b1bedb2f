"""``quantize``: what it writes is what ``export`` would have; what it refuses leaves nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_bundle import make_bundle

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.data.splits import split as deal
from classkinfy_export.data.splits import write as write_split
from classkinfy_export.evaluation.search import Choice, Fidelity, Search, Sensitivity, Trial
from classkinfy_export.jobs import export
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.search import Judge
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.quantization.photos import Training
from classkinfy_export.quantization.search import Rung
from classkinfy_export.quantization.training import Noise
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe, SplitRecipe
from classkinfy_export.runtimes.arm64 import Arm64Runtime
from classkinfy_export.taxonomy import Taxonomy

INT8 = "static_wi8_ai8"
Classkinfy = Callable[..., Any]
NOTHING = Search(
    agreement=1.0,
    images=9,
    images_sha256="0" * 64,
    sensitivity=(),
    trials=(),
    choice=None,
)


@pytest.fixture(scope="module")
def split_csv(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split") / "split.csv"
    write_split(deal(open_dataset(lesions, Taxonomy()), SplitRecipe()), path)
    return path


@pytest.fixture(scope="module")
def sources(
    checkpoints: Callable[[str], Sources], lesions: Path, split_csv: Path, photo: Path
) -> Sources:
    """Weights with a run's figures, as if trained on ``lesions``."""
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    metrics["data"] |= {
        "fingerprint": open_dataset(lesions, Taxonomy()).fingerprint(),
        "split_sha256": hashlib.sha256(split_csv.read_bytes()).hexdigest(),
    }
    training = Training({key: str(value) for key, value in metrics["data"].items()}, split_csv)
    return dataclasses.replace(checkpoints("trunk"), metrics=metrics, training=training)


@pytest.fixture(scope="module")
def recipe(small_recipe: ExportRecipe) -> ExportRecipe:
    """Weights only and no golden vectors: quantised in no time, for nothing is converted."""
    update = {"formats": ("pytorch",), "golden": False, "calibration": CalibrationRecipe(images=6)}
    return small_recipe.model_copy(update=update)


@pytest.fixture
def weights_bundle(sources: Sources, recipe: ExportRecipe, tmp_path: Path) -> Path:
    return export.export(sources, recipe, tmp_path / "bundle").path


@pytest.fixture
def search(
    weights_bundle: Path, lesions: Path, split_csv: Path, classkinfy: Classkinfy, out: Path
) -> Classkinfy:
    """``quantize --search`` on ``weights_bundle``, and what else is given."""
    data = ("--calibration", lesions, "--split", split_csv)
    return partial(classkinfy, "quantize", weights_bundle, "--search", "--out", out, *data)


def contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*.*")}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_is_added_is_byte_for_byte_what_export_would_have_written(
    sources: Sources,
    recipe: ExportRecipe,
    lesions: Path,
    split_csv: Path,
    photo: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
) -> None:
    whole = recipe.model_copy(
        update={"formats": ("pytorch", "onnx"), "forms": ("staged",), "golden": True}
    )
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(photo, own)
    old = export.export(sources, whole, tmp_path / "old.ckb", golden_photos=own)
    writer.add_evidence(old, "golden", {"passed": True})
    both = whole.model_copy(update={"precisions": ("fp32", INT8)})
    export.export(sources, both, tmp_path / "exported", golden_photos=own, calibration=lesions)
    arguments = ("--calibration", lesions, "--split", split_csv, "--json")
    ran = classkinfy("quantize", old.path, "--out", tmp_path / "quantised.ckb", *arguments)
    assert ran.exit_code == 0
    exported, quantised = contents(tmp_path / "exported"), contents(tmp_path / "quantised.ckb")
    assert any(name.startswith("golden/own_001_") for name in exported)
    assert f"models/onnx/classify.{INT8}.onnx" in exported
    assert quantised == exported, "the accuracy of the run included"
    listed = {part["name"]: part for part in json.loads(quantised["sbom.cdx.json"])["components"]}
    models = {name for name in quantised if name.endswith((".onnx", ".safetensors"))}
    assert models | {"calibration photos"} <= listed.keys()
    for name in models:
        digest = hashlib.sha256(quantised[name]).hexdigest()
        assert listed[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert json.loads(ran.stdout) == {
        "bundle": str(tmp_path / "quantised.ckb"),
        "manifest_sha256": hashlib.sha256(exported["manifest.json"]).hexdigest(),
        "precisions": ["fp32", INT8],
        "evidence_left_out": ["golden"],
        "search": None,
    }
    assert "golden" in Bundle.open(old.path).evidence(), "the old one stays as it is"
    assert "warning: " in ran.stderr
    assert "calibrate on more photos" in ran.stderr


@pytest.mark.parametrize("change", ["figure", "shape", "manifest", "gone"])
def test_figures_that_the_card_does_not_tell_are_left_out_and_that_is_said(
    change: str,
    weights_bundle: Path,
    lesions: Path,
    split_csv: Path,
    classkinfy: Classkinfy,
    out: Path,
) -> None:
    path = weights_bundle / "evidence" / "accuracy.json"
    evidence = json.loads(path.read_text())
    if change == "figure":
        evidence["classifier"]["test"]["balanced_accuracy"] = 0.99
    elif change == "shape":
        evidence["data"] = "HAM10000"
    elif change == "manifest":
        evidence["manifest_sha256"] = "0" * 64
    path.write_text(json.dumps(evidence))
    if change == "gone":
        path.unlink()
    arguments = ("--calibration", lesions, "--split", split_csv)
    ran = classkinfy("quantize", weights_bundle, "--out", out, *arguments)
    assert ran.exit_code == 0
    bound = change in ("figure", "shape")  # else it was not evidence of this bundle at all
    assert ("measure it again: accuracy" in ran.stdout) == bound
    made = Bundle.open(out)
    assert made.evidence() == {}
    assert b"came without figures" in made.read("MODEL_CARD.md")
    assert made.manifest.provenance.data == Bundle.open(weights_bundle).manifest.provenance.data


def test_a_bundle_knows_the_data_and_the_split_that_it_was_trained_by(
    weights_bundle: Path, lesions: Path, split_csv: Path, classkinfy: Classkinfy, out: Path
) -> None:
    quantise = ("quantize", weights_bundle, "--out", out, "--calibration", lesions)
    classkinfy(*quantise).refused("trained on a part of HAM10000", "give --split")
    another = out.parent / "another.csv"
    another.write_text(split_csv.read_text().replace(",test", ",val"))
    classkinfy(*quantise, "--split", another).refused("is not the split that the model was")
    assert list(out.parent.iterdir()) == [another]
    assert classkinfy(*quantise, "--split", split_csv).exit_code == 0
    seen = Bundle.open(out).manifest.calibration
    assert seen is not None
    assert seen.split_sha256 == hashlib.sha256(split_csv.read_bytes()).hexdigest()
    assert seen.classes is not None
    assert max(seen.classes.values()) == 1
    assert seen.images == 6


def test_the_set_can_be_enlarged_and_nothing_else_of_the_recipe_changed(
    weights_bundle: Path, lesions: Path, split_csv: Path, classkinfy: Classkinfy, out: Path
) -> None:
    data = ("--calibration", lesions, "--split", split_csv)
    quantise = ("quantize", weights_bundle, "--out", out, *data, "--set")
    classkinfy(*quantise, "capture.height=192").refused("capture of a bundle cannot be changed")
    classkinfy(*quantise, "calibration.image=9").refused("did you mean 'images'?")
    ran = classkinfy(*quantise, "calibration.images=9", "--set", "calibration.seed=5")
    assert ran.exit_code == 0
    made = Bundle.open(out).manifest
    assert made.calibration is not None
    assert (made.calibration.images, made.calibration.seed) == (9, 5)
    assert made.provenance.recipe["calibration"] == {"images": 9, "seed": 5}


def test_a_second_time_names_what_is_there_and_calibrates_anew(
    weights_bundle: Path, lesions: Path, split_csv: Path, classkinfy: Classkinfy, out: Path
) -> None:
    data = ("--calibration", lesions, "--split", split_csv)
    second = out.with_name("second")
    for bundle, new in ((weights_bundle, out), (out, second)):
        assert classkinfy("quantize", bundle, "--out", new, *data).exit_code == 0
    assert contents(second) == contents(out)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ((), ("static_wi8_ai8 takes its ranges", "--calibration", "HAM10000", "fp16")),
        (("--precision", "fp32"), ("holds fp32 already", "--precision")),
        (("--precision", "dynamic_wi8_afp32"), ("precisions.1", "slower than float", "take")),
        (("--precision", "int8"), ("precisions.1", "'static_wi8_ai8'")),
        (("--calibration", "/nowhere"), ("'/nowhere' does not exist",)),
        (("--split", "/nowhere"), ("needs --calibration",)),
        (("--search",), ("give --calibration",)),
        (("--agreement", "0.9"), ("--agreement is of --search",)),
        (("--cost", "time"), ("--cost is of --search",)),
        (("--search", "--precision", INT8), ("give either",)),
        (("--search", "--agreement", "0.9", "--calibration", "/nowhere"), ("does not exist",)),
    ],
)
def test_what_cannot_be_quantised_is_refused(
    arguments: tuple[str, ...],
    fragments: tuple[str, ...],
    weights_bundle: Path,
    classkinfy: Classkinfy,
    out: Path,
) -> None:
    classkinfy("quantize", weights_bundle, "--out", out, *arguments).refused(*fragments)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("place", [".", "inside", "link", "bundle.ckb"])
def test_the_bundle_that_is_read_is_never_written_to(
    place: str,
    weights_bundle: Path,
    lesions: Path,
    split_csv: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
) -> None:
    read = weights_bundle
    new = weights_bundle / place
    if place == "link":
        new = tmp_path / "link"
        new.symlink_to(weights_bundle)
    elif place == "bundle.ckb":
        read = new = tmp_path / place
        writer.pack(weights_bundle, read)
    before = contents(read)
    data = ("--calibration", lesions, "--split", split_csv)
    ran = classkinfy("quantize", read, "--out", new, *data, "--overwrite")
    ran.refused("is the bundle that is read, or lies in it", "choose another --out")
    assert contents(read) == before


def test_what_is_there_is_kept_without_overwrite(
    weights_bundle: Path, lesions: Path, split_csv: Path, classkinfy: Classkinfy, out: Path
) -> None:
    shutil.copytree(weights_bundle, out)
    data = ("--calibration", lesions, "--split", split_csv)
    quantise = ("quantize", weights_bundle, "--out", out, *data)
    before = contents(out)
    classkinfy(*quantise).refused("already exists", "--overwrite")
    assert contents(out) == before
    assert list(out.parent.iterdir()) == [out]
    assert classkinfy(*quantise, "--overwrite").exit_code == 0
    assert Bundle.open(out).manifest.calibration is not None


def test_a_bundle_without_weights_is_refused(
    lesions: Path, classkinfy: Classkinfy, out: Path, tmp_path: Path
) -> None:
    tiny = make_bundle(tmp_path / "tiny").path
    ran = classkinfy("quantize", tiny, "--out", out, "--calibration", lesions)
    ran.refused("holds no PyTorch weights", "export the run again, with pytorch")
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_a_search_quantises_by_what_it_found_and_keeps_it_as_evidence(
    sources: Sources,
    recipe: ExportRecipe,
    lesions: Path,
    split_csv: Path,
    classkinfy: Classkinfy,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("classkinfy_export.quantization.search._FLOATS", (0, 2))
    core = runtimes.get("arm64-onnxruntime")
    monkeypatch.setattr("classkinfy_export.jobs.search._phone_core", lambda _: core)
    monkeypatch.setattr(Arm64Runtime, "version", lambda _: "1.2 on QEMU 3")
    counted: list[int] = []

    def count(data: bytes, *_: object) -> int:
        """Stand in for an emulator: a model costs its bytes."""
        counted.append(len(data))
        return len(data)

    monkeypatch.setattr("classkinfy_export.jobs.search.count_model", count)
    update = {"formats": ("pytorch", "onnx"), "forms": ("staged",)}
    bundle = export.export(sources, recipe.model_copy(update=update), tmp_path / "bundle").path
    data = ("--calibration", lesions, "--split", split_csv)
    quantise = ("quantize", bundle, "--search", "--agreement", "0.5", "--out", out, *data)
    ran = classkinfy(*quantise, "--json")
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)["search"]
    assert (out / "models" / "onnx" / f"classify.{found['choice']['precision']}.onnx").is_file()
    parts = pd.read_csv(split_csv)["part"]
    assert found["images"] == parts.isin(["val", "calib"]).sum()
    blocks = [row["block"] for row in found["sensitivity"]]
    assert blocks == ["conv_stem", *(f"blocks.{i}.0" for i in range(5)), "conv_head"]
    noises = {row["block"]: row["fidelity"]["sqnr_db"] for row in found["sensitivity"]}
    noisiest = sorted(noises, key=noises.__getitem__)
    assert {len(t["float_blocks"]) for t in found["trials"]} == {0, 2}
    for trial in found["trials"]:
        assert trial["float_blocks"] == noisiest[: len(trial["float_blocks"])]
        assert trial["holds"] == (trial["fidelity"]["agreement"] >= 0.5)
        assert trial["instructions"] == trial["size"]
    assert len(counted) == len(found["trials"]) + 1
    cheapest = min(t["size"] for t in found["trials"] if t["holds"] and INT8 in t["precision"])
    chosen = found["choice"]
    (taken,) = (
        t
        for t in found["trials"]
        if t["precision"] == chosen["precision"]
        and t["float_blocks"] == chosen["float_blocks"].get("classify", [])
    )
    assert taken["instructions"] <= 1.03 * cheapest
    made = Bundle.open(out)
    assert chosen["precision"].startswith(INT8)
    assert made.manifest.provenance.recipe["precisions"] == ["fp32", chosen["precision"]]
    assert made.manifest.provenance.recipe["float_blocks"] == {
        stage: {"onnx": names, "litert": names} for stage, names in chosen["float_blocks"].items()
    }
    kept = made.evidence()["search"]
    assert {key: kept[key] for key in found} == found
    page = out.with_name("page.html")
    assert classkinfy("report", out, "--out", page).exit_code == 0
    text = page.read_text()
    assert "Noise by block of classify." in text
    assert f"Chosen: <b>{chosen['precision']}</b>" in text
    assert found["core"] == "cortex-a76, onnxruntime 1.2 on QEMU 3"
    assert found["core"] in text


@pytest.mark.parametrize("after", [0.1, math.nan])
def test_a_search_trains_where_nothing_else_in_int8_holds(
    after: float,
    sources: Sources,
    recipe: ExportRecipe,
    lesions: Path,
    split_csv: Path,
    classkinfy: Classkinfy,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = Judge.trial

    def judged(judge: Judge, stage: str, rung: Rung, *rest: Any) -> Trial:
        """Let nothing hold in int8 that is not trained."""
        found = trial(judge, stage, rung, *rest)
        holds = rung.trained or not calibrated(rung.precision)
        return found.model_copy(update={"holds": holds, "time": 0.5})

    monkeypatch.setattr(Judge, "trial", judged)
    monkeypatch.setattr("classkinfy_export.quantization.search._FLOATS", (0,))
    train = "classkinfy_export.quantization.training.train"
    monkeypatch.setattr(train, lambda *_: Noise(before=0.2, after=after))
    update = {"formats": ("pytorch", "onnx"), "forms": ("staged",)}
    bundle = export.export(sources, recipe.model_copy(update=update), tmp_path / "bundle").path
    data = ("--calibration", lesions, "--split", split_csv, "--set", "qat.epochs=3")
    search = ("quantize", bundle, "--search", "--cost", "time", "--out", out)
    ran = classkinfy(*search, *data, "--json")
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)["search"]
    steps = [(t["precision"], t["trained"]) for t in found["trials"]]
    if math.isnan(after):
        assert not any(trained for _, trained in steps)
        assert found["choice"]["precision"] in ("weight_only_wi8_afp32", "fp16")
        made = classkinfy("quantize", bundle, "--out", out, "--overwrite", *data)
        assert made.exit_code == 0
        assert "training classify for int8 did not make its noise less" in made.stderr
        seen, told = Bundle.open(out), "infinite after. It was no less"
    else:
        assert steps[-2:] == [(INT8, True), ("static_wi8_ai8_se_fp32", True)]
        assert not any(trained for _, trained in steps[:-2])
        page = out.with_name("page.html")
        assert classkinfy("report", out, "--out", page).exit_code == 0
        assert f"Chosen: <b>{found['choice']['precision']}, trained</b>" in page.read_text()
        seen, told = Bundle.open(out), "0.1000 after."
    assert seen.manifest.provenance.recipe["qat"]["epochs"] == 3
    assert told in seen.read("MODEL_CARD.md").decode()
    assert seen.manifest.calibration is not None
    (network,) = seen.manifest.calibration.trained
    assert (network.stage, network.kept) == ("classify", after == 0.1)


@pytest.mark.parametrize("precision", ["fp16", "weight_only_wi8_afp32", INT8])
def test_whatever_a_search_chooses_is_exported(
    precision: Precision, search: Classkinfy, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {"classify": ("conv_stem",)} if precision == INT8 else {}
    choice = Choice(precision=precision, float_blocks=blocks)
    found = NOTHING.model_copy(update={"choice": choice})
    monkeypatch.setattr("classkinfy_export.jobs.search.search", lambda *_, **__: found)
    assert search().exit_code == 0
    made = Bundle.open(out).manifest
    assert made.provenance.recipe["precisions"] == ["fp32", precision]
    wanted = {stage: {"onnx": [*names], "litert": [*names]} for stage, names in blocks.items()}
    assert made.provenance.recipe["float_blocks"] == wanted
    assert (made.calibration is None) == (precision == "fp16")


def test_a_search_refuses_what_it_would_overrule_before_it_begins(
    search: Classkinfy, out: Path
) -> None:
    for override in ("precisions=[fp32, fp16]", "float_blocks={classify: [conv_stem]}"):
        search("--set", override).refused(override, "that is what is searched")
    out.mkdir()
    search().refused("already exists", "--overwrite")


def test_a_search_counts_instructions_where_it_can_unless_time_is_the_cost(
    search: Classkinfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def search_assembly(*_: object, core: Arm64Runtime | None, **__: object) -> Search:
        asked.append("time" if core is None else "instructions")
        return NOTHING

    monkeypatch.setattr("classkinfy_export.jobs.search.search_assembly", search_assembly)
    few = ("--set", "calibration.images=4")
    monkeypatch.setattr(Arm64Runtime, "counts", lambda _: True)
    assert search(*few).exit_code == 1
    assert search(*few, "--cost", "time").exit_code == 1
    monkeypatch.setattr(Arm64Runtime, "counts", lambda _: False)
    assert search(*few).exit_code == 1
    search(*few, "--cost", "instructions").refused(
        "instructions are counted on an emulated core", "doctor --install arm64", "--cost time"
    )
    assert asked == ["instructions", "time", "time"]


def test_a_search_refuses_a_bundle_that_holds_more_than_fp32(
    light_bundle: Path, lesions: Path, classkinfy: Classkinfy, out: Path
) -> None:
    search = ("quantize", light_bundle, "--search", "--out", out, "--calibration", lesions)
    classkinfy(*search).refused("holds fp16 already", "holds fp32 alone")


def test_a_search_that_finds_nothing_fails_and_writes_nothing(
    search: Classkinfy, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Sensitivity(
        stage="classify",
        block="conv_stem",
        fidelity=Fidelity(agreement=0.5, mean_change=0.2, sqnr_db=3.0),
    )
    nothing = NOTHING.model_copy(update={"sensitivity": (noise,)})
    monkeypatch.setattr("classkinfy_export.jobs.search.search", lambda *_, **__: nothing)
    ran = search()
    assert ran.exit_code == 1
    assert "conv_stem" in ran.stdout
    assert "no precision gives fp32's decision on 98.0% of the photos" in ran.stdout
    ran = search("--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["search"]["choice"] is None
    assert not out.exists()


def test_all_photos_cannot_be_calibrated_on_and_judge_too(
    weights_bundle: Path, photo: Path, classkinfy: Classkinfy, out: Path
) -> None:
    search = ("quantize", weights_bundle, "--search", "--out", out, "--calibration", photo.parent)
    classkinfy(*search).refused("is left to judge by", "calibration.images")
