"""What each verb prints, as text and as JSON, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from classkinfy_export import __version__, files
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.jobs import demo
from classkinfy_export.latency.host import bench
from classkinfy_export.parity.verify import verify
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE, Taxonomy

COMMAND = Path(sys.executable).with_name("classkinfy")
CLASSES = Taxonomy().classes
QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")
ONNX = ("--runtimes", "onnxruntime")
BENCH = ("--threads", "1", "--n", "3", "--rounds", "1", "--warmup", "0")

Classkinfy = Callable[..., Any]


def listing(folder: Path) -> list[str]:
    """Return what is in a folder, the hidden included."""
    return sorted(path.name for path in folder.iterdir())


# predict


@pytest.mark.parametrize("form", ["staged", "fused"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "pytorch"])
def test_predict_answers_in_json_with_both_disclaimers(
    runtime: str, form: str, trunk_bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    ran = classkinfy("predict", trunk_bundle, photo, "--json", "--runtime", runtime, "--form", form)
    assert ran.exit_code == 0
    answer = json.loads(ran.stdout)
    assert answer["disclaimer"] == DISCLAIMER
    assert answer["severity_notice"] == PROXY_NOTICE
    assert answer["accepted"] is True
    assert answer["reasons"] == ["underexposed"]  # the skin drawn is dark, and so advised
    probabilities = answer["probabilities"]
    assert list(probabilities) == list(CLASSES)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer["diagnosis"] == max(probabilities, key=probabilities.__getitem__)
    assert list(answer["preliminary"]) == list(CLASSES)
    assert answer["confidence"] == probabilities[answer["diagnosis"]]
    assert answer["bundle"] == Bundle.open(trunk_bundle).sha256
    assert answer["runtime"].endswith(f"fp32 {form}")


def test_predict_tells_a_person_what_it_is_not(
    trunk_bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    answer = json.loads(classkinfy("predict", trunk_bundle, photo, "--json").stdout)
    ran = classkinfy("predict", trunk_bundle, photo)
    assert ran.exit_code == 0
    assert DISCLAIMER in ran.stdout
    assert Taxonomy().title(answer["diagnosis"]) in ran.stdout
    assert (PROXY_NOTICE in ran.stdout) == (answer["severity"] is not None)
    assert (f"severity: {answer['severity']}" in ran.stdout) == (answer["severity"] is not None)


@pytest.mark.parametrize("form", ["staged", "fused"])
def test_a_photo_full_of_hair_is_refused_with_the_reason(
    form: str, trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "hairy.png"
    drawn = synthetic.lesion("bcc", seed=4, height=450, width=600, hair=1.0)
    Image.fromarray(drawn.image).resize((128, 96), Image.Resampling.BILINEAR).save(path)
    predict = ("predict", trunk_bundle, path, "--form", form)
    answer = json.loads(classkinfy(*predict, "--json").stdout)
    assert answer["quality"]["hair_coverage"] > 0.15
    assert not answer["accepted"]
    assert answer["reasons"] == ["hair"]
    assert answer["diagnosis"] is None
    assert answer["severity"] is None
    ran = classkinfy(*predict)
    # The work ran, and refusing is its answer.
    assert ran.exit_code == 0
    assert "refused: hair" in ran.stdout
    assert DISCLAIMER in ran.stdout


def test_a_dark_photo_gets_advice_and_an_answer(
    trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "dark.png"
    Image.new("RGB", (128, 96), (9, 7, 5)).save(path)
    answer = json.loads(classkinfy("predict", trunk_bundle, path, "--json").stdout)
    assert answer["accepted"]
    assert answer["reasons"] == ["underexposed"]
    assert "advice: underexposed" in classkinfy("predict", trunk_bundle, path).stdout


def test_predict_writes_nothing_and_leaves_no_telemetry(
    trunk_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    before = listing(trunk_bundle)
    for form in ("staged", "fused"):
        predict = [COMMAND, "predict", trunk_bundle, photo, "--form", form, "--json"]
        ran = subprocess.run(
            predict, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert json.loads(ran.stdout)["disclaimer"] == DISCLAIMER
        assert ran.stderr == ""
    assert listing(tmp_path) == []
    assert listing(trunk_bundle) == before


# verify


def test_verify_without_images_replays_the_golden_vectors(
    bundle: Path, classkinfy: Classkinfy
) -> None:
    ran = classkinfy("verify", bundle, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert report["passed"] is True
    assert report["reference"] == "golden vectors"
    assert report["images"] == len(json.loads((bundle / "golden/golden.json").read_text())["cases"])
    assert report["not_run"] == []
    pairs = {(row["runtime"], row["form"]) for row in report["decisions"]}
    runtimes = ("pytorch", "onnxruntime", "litert", "litert-reference", "tensorflow")
    assert pairs == {(r, f) for r in runtimes for f in ("staged", "fused")}
    evidence = json.loads((bundle / "evidence/golden.json").read_text())
    assert evidence == {"manifest_sha256": Bundle.open(bundle).sha256, **report}


def test_verify_with_images_compares_with_pytorch(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        drawn = synthetic.lesion("nv", number, height=96, width=128).image
        Image.fromarray(drawn).save(tmp_path / "photos" / f"{number}.jpg")
    page = tmp_path / "parity.html"
    photos = ("--images", tmp_path / "photos", "--limit", 2)
    ran = classkinfy("verify", bundle, *photos, *ONNX, "--html", page)
    assert ran.exit_code == 0
    assert "Largest |Δ|, 2 images" in ran.stdout
    assert "parity holds" in ran.stdout
    assert "✓ parity holds" in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") == 2, "the photos"


def test_verify_says_at_once_that_a_page_needs_the_report_extra(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ran = classkinfy("verify", bundle, "--html", tmp_path / "parity.html")
    assert ran.exit_code == 2
    assert "classkinfy-export[report]" in ran.error()


def _perturb(bundle: Path, file: str, by: float) -> None:
    """Export a model again with other weights in its head, and pin it anew."""
    path = bundle / file
    model = onnx.load(path)
    weights = [t for t in model.graph.initializer if sorted(t.dims)[:1] == [7] and len(t.dims) == 2]
    heads = [t for t in weights if not t.name.startswith("screen/")]
    assert len(heads) == 1
    noise = np.random.default_rng(0).normal(0, by, tuple(heads[0].dims)).astype(np.float32)
    changed = numpy_helper.from_array(numpy_helper.to_array(heads[0]) + noise, heads[0].name)
    heads[0].CopyFrom(changed)
    path.write_bytes(model.SerializeToString(deterministic=True))
    manifest = json.loads((bundle / "manifest.json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["files"][file] = {"sha256": sha256, "size_bytes": path.stat().st_size}
    writer.seal(bundle, Manifest.model_validate(manifest))


def test_verify_catches_other_weights_behind_a_valid_hash(
    bundle: Path, classkinfy: Classkinfy
) -> None:
    _perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    assert classkinfy("inspect", bundle).exit_code == 0
    ran = classkinfy("verify", bundle)
    assert ran.exit_code == 1
    line = ran.error()
    assert line.startswith("error: parity does not hold: ")
    assert "tensors: onnxruntime fp32 staged, stage classify: probabilities differs by" in line
    assert "(allowed 1e-05), worst on" in line
    # The fused graph is another file, and nothing is said of it.
    assert "fused" not in line
    assert "parity fails" in ran.stdout
    assert json.loads((bundle / "evidence/golden.json").read_text())["passed"] is False
    assert "golden (FAILED)" in classkinfy("inspect", bundle).stdout


def test_verify_counts_flipped_decisions(bundle: Path, classkinfy: Classkinfy) -> None:
    _perturb(bundle, "models/onnx/pipeline.onnx", by=1.0)
    ran = classkinfy("verify", bundle, *ONNX, "--json")
    assert ran.exit_code == 1
    report = json.loads(ran.stdout)
    assert report["passed"] is False
    rows = {row["form"]: row for row in report["decisions"]}
    assert rows["staged"]["passed"]
    assert not rows["fused"]["passed"]
    assert rows["fused"]["label_flips"] > 0
    assert "onnxruntime fp32 fused" in ran.error()
    assert "; and " in ran.error(), "the tables have the rest"


def test_verify_says_how_to_get_a_runtime_that_is_not_installed(
    bundle: Path, classkinfy: Classkinfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import classkinfy_export.runtimes.litert as missing

    monkeypatch.setattr(missing.LitertRuntime, "version", lambda self: None)
    ran = classkinfy("verify", bundle, "--runtimes", "onnxruntime,litert")
    assert ran.exit_code == 1, "a runtime that was asked for did not run"
    assert "litert did not run" in ran.error()
    assert "not run litert" in ran.stdout
    assert "pip install 'classkinfy-export[litert]'" in ran.stdout
    assert "litert fp32 staged" not in ran.stdout
    alone = classkinfy("verify", bundle, "--runtimes", "litert")
    assert alone.exit_code == 2
    assert "no runtime could run" in alone.error()
    assert "pip install 'classkinfy-export[litert]'" in alone.error()


# localise


def test_localise_names_the_operator_and_writes_what_shows_it(
    bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    _perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    ran = classkinfy("localise", bundle, "--runtime", "onnxruntime", "--out", out)
    assert ran.exit_code == 1
    assert "error: onnxruntime departs from PyTorch in stage classify at Gemm " in ran.error()
    assert "FAULT" in ran.stdout
    assert "weights: network.head.0.weight, network.head.0.bias" in ran.stdout
    assert f"reproducer: {out / 'reproduce.py'}" in ran.stdout
    assert listing(out) == ["expected.npz", "inputs.npz", "model.onnx", "reproduce.py"]
    again = classkinfy("localise", bundle, "--runtime", "onnxruntime", "--out", out)
    assert again.exit_code == 2
    assert "already exists" in again.error()


def test_localise_in_json_is_the_whole_table(
    bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    _perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    localise = ("localise", bundle, "--runtime", "onnxruntime", "--out", out, "--json")
    ran = classkinfy(*localise, "--stage", "classify")
    assert ran.exit_code == 1
    report = json.loads(ran.stdout)
    (place,) = (
        i for i, row in enumerate(report["rows"]) if row["tensor"] == report["fault"]["tensor"]
    )
    assert all(row["same"] for row in report["rows"][:place])
    assert not report["rows"][place]["same"]
    assert report["fault"]["operator"].startswith("Gemm ")
    # Of another file nothing is wrong, and nothing is written over.
    ran = classkinfy("localise", bundle, "--runtime", "litert", "--out", out, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["fault"] is None


def test_localise_of_a_sound_bundle_says_so_and_writes_nothing(
    trunk_bundle: Path, photo: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy(
        *("localise", trunk_bundle, "--runtime", "onnxruntime", "--image", photo, "--out", out)
    )
    assert ran.exit_code == 0
    assert "no fault: onnxruntime is within its tolerances of PyTorch on 1 image" in ran.stdout
    assert listing(out.parent) == []


# inspect, bench, report, doctor


def test_inspect_shows_what_a_bundle_holds(trunk_bundle: Path, classkinfy: Classkinfy) -> None:
    ran = classkinfy("inspect", trunk_bundle)
    assert ran.exit_code == 0
    assert "every hash matches" in ran.stdout
    assert "hair removal: on" in ran.stdout
    for file in ("models/onnx/classify.onnx", "models/litert/main.tflite"):
        assert file in ran.stdout
    assert DISCLAIMER in ran.stdout
    document = json.loads(classkinfy("inspect", trunk_bundle, "--json").stdout)
    opened = Bundle.open(trunk_bundle)
    assert document["manifest_sha256"] == opened.sha256
    assert document["manifest"] == opened.manifest.model_dump(mode="json")
    assert document["manifest"]["disclaimer"] == DISCLAIMER
    assert document["manifest"]["severity_notice"] == PROXY_NOTICE


def test_text_in_a_bundle_is_shown_and_not_read_as_style(
    bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["name"] = "[/bold] [red]x"
    manifest["taxonomy"]["names"] = {dx: f"[/] [link={dx}]" for dx in CLASSES}
    manifest["quality_rules"][0] |= {"above": -1.0, "reason": "[/] [hair]"}
    writer.seal(bundle, Manifest.model_validate(manifest))
    assert "[/bold] [red]x" in classkinfy("inspect", bundle).stdout
    answer = classkinfy("predict", bundle, photo)
    assert answer.exit_code == 0
    assert "refused: [/] [hair]" in answer.stdout
    assert "[/] [link=mel]" in answer.stdout


def test_bench_measures_what_it_was_asked_to(bundle: Path, classkinfy: Classkinfy) -> None:
    ran = classkinfy("bench", bundle, *ONNX, *BENCH, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert [(r["runtime"], r["form"], r["threads"]) for r in report["rows"]] == [
        ("onnxruntime", "staged", 1),
        ("onnxruntime", "fused", 1),
    ]
    assert all(row["answers"] == 3 and row["p50_ms"] > 0 for row in report["rows"])
    assert not (bundle / "evidence/latency.json").exists(), "it was narrowed to one runtime"


def test_report_is_one_page_with_the_disclaimer(
    trunk_bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("report", trunk_bundle, "--out", out, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["report"] == str(out)
    assert listing(out.parent) == [out.name]
    page = out.read_text()
    assert DISCLAIMER in page
    assert PROXY_NOTICE in page


def test_doctor_names_every_package_and_how_to_get_it(classkinfy: Classkinfy) -> None:
    ran = classkinfy("doctor", "--json")
    assert ran.exit_code == 0
    pieces = {piece["package"]: piece for piece in json.loads(ran.stdout)}
    assert pieces["torch"]["version"]
    assert pieces["torch"]["hint"] == "pip install 'classkinfy-export[export]'"
    assert pieces["onnxruntime"]["hint"] == "pip install 'classkinfy-export'"
    assert {"arm64", "onnxruntime-web", "@litertjs/core"} <= pieces.keys()
    assert "torch" in classkinfy("doctor").stdout


def test_doctor_shows_the_extra_of_what_is_missing(
    classkinfy: Classkinfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.cli import doctor

    gone = [dataclasses.replace(piece, version=None) for piece in doctor.examine()]
    monkeypatch.setattr(doctor, "examine", lambda: gone)
    words = classkinfy("doctor").stdout.replace("│", " ").split()
    assert "'classkinfy-export[litert]'" in words


@pytest.mark.parametrize("share", ["2", "nan%", "inf", "-1%", "two"])
def test_a_regression_that_is_no_share_is_refused(
    bundle: Path, classkinfy: Classkinfy, share: str
) -> None:
    ran = classkinfy("bench", bundle, "--arm64", "--max-regression", share)
    assert ran.exit_code == 2
    assert f"--max-regression '{share}' is no share: as 2% or 0.02" in ran.error()


def test_a_baseline_that_is_none_is_refused(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    ran = classkinfy("bench", bundle, "--baseline", tmp_path / "gone.json")
    assert "add --arm64" in ran.error()
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "gone.json")
    assert "gone.json cannot be read: No such file" in ran.error()
    (tmp_path / "other.json").write_text('{"rows": []}')
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "other.json")
    assert "other.json is no baseline" in ran.error()
    assert ran.exit_code == 2


# export


def test_export_is_the_same_twice_and_as_folder_or_archive(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    hashes, archives = [], []
    for name in ("one", "two", "one.ckb", "two.ckb"):
        out = tmp_path / name
        given = ("--classifier", weights / "classifier.safetensors")
        given += ("--grader", f"mel={weights / 'grader_mel.safetensors'}")
        given += ("--screen", weights / "screen.safetensors")
        ran = classkinfy("export", *given, *QUICK, "--out", out, "--json")
        assert ran.exit_code == 0
        document = json.loads(ran.stdout)
        assert document == {"bundle": str(out), "manifest_sha256": Bundle.open(out).sha256}
        hashes.append(document["manifest_sha256"])
        if out.suffix:
            archives.append(out.read_bytes())
    assert len(set(hashes)) == 1
    assert archives[0] == archives[1]
    assert listing(tmp_path) == ["one", "one.ckb", "two", "two.ckb"]


def test_export_replaces_a_bundle_when_told_to(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    given = ("--classifier", weights / "classifier.safetensors", *QUICK)
    for name in ("bundle", "bundle.ckb"):
        out = tmp_path / name
        classkinfy("export", *given, "--out", out)
        ran = classkinfy("export", *given, "--set", "name=next", "--out", out, "--overwrite")
        assert ran.exit_code == 0
        assert f"bundle: {out}" in ran.stdout
        assert DISCLAIMER in ran.stdout
        assert Bundle.open(out).manifest.name == "next"
    assert listing(tmp_path) == ["bundle", "bundle.ckb"]


def test_a_path_with_brackets_is_printed_as_it_is(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out = tmp_path / "[bold]b[/x]"
    given = ("--classifier", weights / "classifier.safetensors", *QUICK)
    ran = classkinfy("export", *given, "--out", out)
    assert ran.exit_code == 0
    assert f"bundle: {out}" in ran.stdout
    again = classkinfy("export", *given, "--out", out)
    assert str(out) in again.error()


# data


def test_data_check_and_split_agree_on_the_images(
    lesions: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("data", "check", lesions, "--json")
    assert ran.exit_code == 0
    summary = json.loads(ran.stdout)
    assert summary["images"] == summary["lesions"] == summary["masks"] == 63
    assert summary["classes"] == dict.fromkeys(CLASSES, 9)
    assert "63 images of 63 lesions" in classkinfy("data", "check", lesions).stdout
    assert classkinfy("data", "split", lesions, "--out", out).exit_code == 0
    parts = [line.split(",")[-1] for line in out.read_text().splitlines()[1:]]
    assert len(parts) == 63
    assert set(parts) == {"train", "calib", "test"}, "train/mobile.yaml validates on nothing"
    assert listing(out.parent) == [out.name]


def test_data_synthesise_draws_a_set_that_data_check_reads(
    classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("data", "synthesise", "--out", out, "--lesions", 1, "--seed", 3)
    assert ran.exit_code == 0
    assert ran.stdout == f"{out}\n"
    assert listing(out.parent) == [out.name]
    summary = json.loads(classkinfy("data", "check", out, "--json").stdout)
    assert summary["lesions"] == 7


# demo, help, version


@pytest.mark.parametrize("passed", [True, False])
def test_demo_prints_its_findings_and_fails_with_the_parity_gate(
    passed: bool,
    bundle: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The demo itself takes minutes and has tests of its own; here is its verb."""
    if not passed:
        _perturb(bundle, "models/onnx/pipeline.onnx", by=1.0)
    opened = Bundle.open(bundle)
    figures = {"n": 1, "accuracy": 1.0, "balanced_accuracy": 1.0, "auroc": None}
    result = demo.DemoResult(
        bundle,
        tmp_path / "report.html",
        {
            "data": {"name": "synthetic"},
            "screen": {"test": {**figures, "masks": 0, "mean_iou": None}},
            "classifier": {"test": figures},
            "graders": {},
        },
        verify(opened, names=["onnxruntime"]),
        bench(opened, names=["onnxruntime"], threads=(1,), n=3, warmup=0, rounds=1),
    )
    monkeypatch.setattr(demo, "demo", lambda *args, **kwargs: result)
    ran = classkinfy("demo", "--out", tmp_path, "--json")
    assert ran.exit_code == (0 if passed else 1)
    assert ran.stdout == files.to_json(result.to_json())
    text = classkinfy("demo", "--out", tmp_path)
    assert text.exit_code == ran.exit_code
    assert f"bundle: {bundle}" in text.stdout
    assert DISCLAIMER in text.stdout
    if not passed:
        told = "parity does not hold: tensors: onnxruntime fp32 fused, stage pipeline: "
        assert told in ran.error()


def test_without_the_shipped_model_the_demo_says_how_to_train_one(
    monkeypatch: pytest.MonkeyPatch, classkinfy: Classkinfy, out: Path
) -> None:
    monkeypatch.setattr(demo, "SHIPPED", out / "nothing")
    classkinfy("demo", "--out", out).refused("no finished training run", "--train")
    assert not out.exists()


def test_help_names_every_verb_and_the_disclaimer(classkinfy: Classkinfy) -> None:
    ran = classkinfy("--help")
    assert ran.exit_code == 0
    text = " ".join(ran.stdout.split())
    assert DISCLAIMER in text
    for verb in (
        *("doctor", "demo", "data", "train", "export", "inspect"),
        *("evaluate", "verify", "localise", "bench", "predict", "explain", "report"),
    ):
        assert f" {verb} " in text


def test_version_is_the_packages(classkinfy: Classkinfy) -> None:
    ran = classkinfy("--version")
    assert ran.exit_code == 0
    assert ran.stdout == f"classkinfy-export {__version__}\n"


def test_progress_is_on_stderr_so_that_json_can_be_piped(bundle: Path) -> None:
    verify_it = [COMMAND, "verify", bundle, *ONNX, "--json"]
    ran = subprocess.run(verify_it, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)["passed"] is True
    assert ran.stderr == "verifying (1/7)\n"
