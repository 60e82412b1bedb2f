"""Bad input gives one line that says what to do, exit code 2, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import GraderVariant, NetworkSpec
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs.export import Sources
from classkinfy_export.stages import checkpoint, origin
from classkinfy_export.stages.checkpoint import Checkpoint
from classkinfy_export.stages.network import Network
from classkinfy_export.taxonomy import Taxonomy

COMMAND = Path(sys.executable).with_name("classkinfy")
CLASSES = Taxonomy().classes
# Weights only and no golden vectors: what an export checks first, in no time.
QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")

Classkinfy = Callable[..., Any]
State = dict[str, torch.Tensor]


def refused(ran: Any, *fragments: object) -> None:
    """Exit code 2, one error line, and the offending value and the hint in it."""
    line = ran.error()
    assert ran.exit_code == 2
    assert ran.stdout == ""
    for fragment in fragments:
        assert str(fragment) in line


def nothing_at(out: Path) -> bool:
    """Neither the thing itself nor a temporary, hidden or not."""
    return not out.parent.exists() or not os.listdir(out.parent)


def contents(path: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    found = (p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(data)


# Checkpoints of this toolkit


def _saved(info: dict[str, Any], state: State, path: Path) -> Path:
    header = {"classkinfy": json.dumps(info)}
    path.write_bytes(safetensors.torch.save(state, metadata=header))
    return path


def _broken(kind: str, sources: Sources, folder: Path) -> Path:
    classifier = sources.classifier
    path = folder / f"{kind}.safetensors"
    data = checkpoint.to_bytes(classifier)
    info = classifier.info.model_dump(mode="json")
    state = {k: v.contiguous() for k, v in classifier.module.state_dict().items()}
    if kind == "missing":
        return path
    if kind == "directory":
        path.mkdir()
        return path
    if kind in ("empty", "text", "truncated", "bit"):
        parts = {"empty": b"", "text": b"not weights\n", "truncated": data[: len(data) // 2]}
        path.write_bytes(parts.get(kind, data))
        if kind == "bit":
            flip(path, len(data) - 1000)
        return path
    if kind == "foreign":
        path.write_bytes(safetensors.torch.save(state))
        return path
    if kind == "classes":
        info["network"]["outputs"] = 5
        state |= {k: v[:5] for k, v in state.items() if k.startswith("head.0.")}
    elif kind == "nan":
        state["head.0.bias"] = state["head.0.bias"].clone()
        state["head.0.bias"][3] = float("nan")
    elif kind == "architecture":
        info["network"]["architecture"] = "test_resnet"
    elif kind == "unknown":
        info["network"]["architecture"] = "resnet9000"
    elif kind == "key":
        info["colour"] = "red"
    return _saved(info, state, path)


@pytest.mark.parametrize(
    ("kind", "fragments"),
    [
        ("missing", ("No such file", "check the path")),
        ("directory", ("Is a directory", "check the path")),
        ("empty", ("damaged", "'classkinfy train'")),
        ("text", ("damaged", "'classkinfy train'")),
        ("truncated", ("damaged", "'classkinfy train'")),
        ("bit", ("damaged", "copy it again")),
        ("foreign", ("not a checkpoint of this toolkit", "'classkinfy train'")),
        ("classes", ("5 outputs", "7", "give the taxonomy")),
        ("nan", ("NaN", "head.0.bias", "export an earlier checkpoint")),
        ("architecture", ("does not fit test_resnet", "change the architecture")),
        ("unknown", ("'resnet9000'", "timm.list_models()")),
        ("key", ("unknown key 'colour'", "known keys: ")),
    ],
)
def test_a_checkpoint_that_cannot_be_trusted_is_refused(
    kind: str,
    fragments: tuple[str, ...],
    checkpoints: Callable[[GraderVariant], Sources],
    classkinfy: Classkinfy,
    tmp_path: Path,
    out: Path,
) -> None:
    path = _broken(kind, checkpoints("trunk"), tmp_path)
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    refused(ran, path.name, *fragments)
    assert nothing_at(out)


# Checkpoints of the origin project


@pytest.fixture(scope="module")
def origin_state() -> State:
    """The classifier's weights, under the names that timm gives them."""
    torch.manual_seed(5)
    model = timm.create_model("efficientnet_b3", num_classes=len(CLASSES))
    torch.nn.init.normal_(model.classifier.weight, 0.0, 0.1)
    return dict(model.state_dict())


class Malicious:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def _head(rows: int) -> State:
    return {"classifier.weight": torch.zeros(rows, 1536), "classifier.bias": torch.zeros(rows)}


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (_head(5), ("5 classes", "7", "'taxonomy' in the export recipe")),
        (
            {"model": _head(7), "label_map": {f"{dx}2": i for i, dx in enumerate(CLASSES)}},
            ("akiec2", "is not the taxonomy", "'taxonomy' in the export recipe"),
        ),
        ({"model": _head(7), "label_map": dict.fromkeys(CLASSES, "x")}, ("'akiec'", "'x'")),
        ({"model": _head(7), "label_map": dict.fromkeys(CLASSES, 0)}, ("is not the taxonomy",)),
        ({"model": _head(7), "label_map": list(CLASSES)}, ("not a dict",)),
        (_head(7), ("does not fit efficientnet_b3", "lacks", "change the architecture")),
        ({**_head(7), "classifier.bias": torch.zeros(3)}, ("does not fit efficientnet_b3",)),
        ({0: torch.zeros(3)}, ("holds no weights", "keys are 0", "model_state_dict")),
        ({"epoch": 3}, ("holds no weights", "epoch", "model_state_dict")),
        (torch.zeros(3), ("holds a Tensor", "torch.save(model.state_dict(), path)")),
    ],
)
def test_an_origin_checkpoint_that_does_not_fit_is_refused(
    content: object,
    fragments: tuple[str, ...],
    classkinfy: Classkinfy,
    tmp_path: Path,
    out: Path,
) -> None:
    path = tmp_path / "best_model.pth"
    torch.save(content, path)
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    refused(ran, path.name, *fragments)
    assert nothing_at(out)


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (lambda data: b"", "damaged"),
        (lambda data: b"\xff\xd8\xff\xe0 a photo", "damaged"),
        (lambda data: data[: len(data) // 2], "damaged"),
        # In the middle of a weight: torch.load would not notice.
        (lambda data: data[:20000] + bytes([data[20000] ^ 1]) + data[20001:], "checksum"),
    ],
    ids=["empty", "photo", "truncated", "bit"],
)
def test_a_corrupt_origin_checkpoint_is_refused(
    damage: Callable[[bytes], bytes],
    fragment: str,
    classkinfy: Classkinfy,
    tmp_path: Path,
    out: Path,
) -> None:
    path = tmp_path / "best_model.pth"
    torch.save(_head(7), path)
    path.write_bytes(damage(path.read_bytes()))
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    refused(ran, path.name, fragment, "copy it again")
    assert nothing_at(out)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_does_not_run(
    zipped: bool, classkinfy: Classkinfy, tmp_path: Path, out: Path
) -> None:
    marker = tmp_path / "it-ran"
    path = tmp_path / "best_model.pth"
    content = {"model_state_dict": _head(7), "extra": Malicious(f"touch {marker}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    refused(ran, path.name, "save it")
    assert not marker.exists()
    assert nothing_at(out)
    # The test could tell: an unpickler that trusts the file does run it.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_nan_in_an_origin_checkpoint_is_refused(
    origin_state: State, classkinfy: Classkinfy, tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "best_model.pth"
    bias = origin_state["classifier.bias"].clone()
    bias[0] = float("inf")
    torch.save(origin_state | {"classifier.bias": bias}, path)
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    refused(ran, path.name, "NaN or infinite", "head.0.bias", "export an earlier checkpoint")
    assert nothing_at(out)


def test_classes_in_another_order_come_out_in_the_taxonomys(
    origin_state: State, classkinfy: Classkinfy, tmp_path: Path, out: Path
) -> None:
    label_map = dict(zip(CLASSES, (3, 0, 6, 1, 5, 2, 4), strict=True))
    path = tmp_path / "best_model.pth"
    content = {
        "model_state_dict": {f"module.{name}": tensor for name, tensor in origin_state.items()},
        "label_map": label_map,
        "val_acc": np.float64(0.83),
    }
    torch.save(content, path)
    size = ("--set", "capture={height: 300, width: 300}", "--set", "hair_removal=false")
    ran = classkinfy("export", "--classifier", path, *QUICK, *size, "--out", out)
    assert ran.exit_code == 0, ran.stderr

    image = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    with runtimes.get("pytorch").open(Bundle.open(out)) as engine:
        given = engine.run("classify", {"clean": image})["probabilities"][0]
    model = timm.create_model("efficientnet_b3", num_classes=len(CLASSES)).eval()
    model.load_state_dict(origin_state)
    levels = torch.from_numpy(image).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = model((levels - mean.view(3, 1, 1)) / std.view(3, 1, 1))[0]
    expected = torch.softmax(logits, -1).numpy()
    for dx, probability in zip(CLASSES, given, strict=True):
        assert probability == pytest.approx(expected[label_map[dx]], abs=1e-5)
    # No two classes are alike, so a wrong order could not pass.
    assert np.diff(np.sort(expected)).min() > 1e-4


def _as_numpy_1_wrote_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(
                name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            )


@pytest.mark.parametrize("form", ["bare", "wrapped", "compiled", "scalars", "numpy 1"])
def test_every_way_to_save_an_origin_checkpoint_loads(
    form: str, origin_state: State, tmp_path: Path
) -> None:
    path = tmp_path / "best_model.pth"
    scalars = {"val_acc": np.float32(0.8), "epoch": np.int64(3), "best": np.bool_(True)}
    forms: dict[str, Any] = {
        "bare": origin_state,
        "wrapped": {"state_dict": origin_state, "label_map": {i: c for i, c in enumerate(CLASSES)}},
        "compiled": {"model": {f"_orig_mod.{k}": v for k, v in origin_state.items()}},
        "scalars": {"model_state_dict": origin_state, **scalars},
        "numpy 1": {"model_state_dict": origin_state, **scalars},
    }
    torch.save(forms[form], path)
    if form == "numpy 1":
        _as_numpy_1_wrote_it(path)
    loaded = origin.load_classifier(path, Taxonomy(), "unknown")
    state = loaded.module.state_dict()
    assert torch.equal(state["head.0.weight"], origin_state["classifier.weight"])
    assert torch.equal(state["backbone.conv_stem.weight"], origin_state["conv_stem.weight"])


# Graders


def _grader_of(disease: str, folder: Path) -> Path:
    path = folder / "grader.pth"
    torch.save({"target_disease": disease, "model_state_dict": _head(3)}, path)
    return path


def _other_trunk(weights: Path, folder: Path) -> Path:
    head = checkpoint.load(weights / "grader_mel.safetensors")
    info = head.info.model_copy(update={"trunk_sha256": "0" * 64})
    path = folder / "grader.safetensors"
    path.write_bytes(checkpoint.to_bytes(Checkpoint(info, head.module, head.sha256)))
    return path


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        (lambda w, t: ["mel"], ("'mel' is not dx=path", "mel=mel.pth")),
        (lambda w, t: ["mel="], ("'mel=' is not dx=path", "mel=mel.pth")),
        (lambda w, t: ["mel=a", "mel=b"], ("mel", "twice")),
        (
            lambda w, t: [f"wart={w / 'grader_mel.safetensors'}"],
            ("'wart' is not a class", "akiec, bcc, bkl"),
        ),
        (lambda w, t: [f"mel={t / 'gone.pth'}"], ("gone.pth", "check the path")),
        (lambda w, t: [f"nv={_grader_of('MEL', t)}"], ("'MEL'", "'nv'", "--grader mel=grader.pth")),
        (lambda w, t: [f"mel={_grader_of('mel', t)}"], ("does not fit efficientnet_b2",)),
        (
            lambda w, t: [f"nv={w / 'grader_mel.safetensors'}"],
            ("given as grader of 'nv' is grader of 'mel'",),
        ),
        (lambda w, t: [f"mel={w / 'classifier.safetensors'}"], ("grader of 'mel' is classifier",)),
        (lambda w, t: [f"mel={_other_trunk(w, t)}"], ("another classifier's", "train the graders")),
    ],
)
def test_a_grader_that_does_not_belong_is_refused(
    given: Callable[[Path, Path], list[str]],
    fragments: tuple[str, ...],
    weights: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    out: Path,
) -> None:
    graders = [part for item in given(weights, tmp_path) for part in ("--grader", item)]
    classifier = weights / "classifier.safetensors"
    ran = classkinfy("export", "--classifier", classifier, *graders, *QUICK, "--out", out)
    refused(ran, *fragments)
    assert nothing_at(out)


def _run(weights: Path, folder: Path, metrics: str) -> Path:
    run = folder / "run"
    run.mkdir()
    (run / "classifier.safetensors").write_bytes((weights / "classifier.safetensors").read_bytes())
    (run / "metrics.json").write_text(metrics)
    return run


@pytest.mark.parametrize(
    ("metrics", "fragments"),
    [
        (
            '{"data": {}, "classifier": {}, "graders": {"mel": {}}}',
            ("lacks the grader of 'mel'", "grader_mel.safetensors", "'classkinfy train'"),
        ),
        ('{"data": {}, "classifi', ("metrics.json is damaged", "'classkinfy train'")),
        ("[]", ("metrics.json is damaged", "'classkinfy train'")),
    ],
)
def test_a_run_without_all_of_its_parts_is_refused(
    metrics: str,
    fragments: tuple[str, ...],
    weights: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    out: Path,
) -> None:
    ran = classkinfy("export", _run(weights, tmp_path, metrics), *QUICK, "--out", out)
    refused(ran, *fragments)
    assert nothing_at(out)


# Usage, recipes and what is already there


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("run", "--classifier", "c.pth"), ("either a run or --classifier",)),
        ((), ("either a run or --classifier",)),
        (("run", "--grader", "mel=m.pth"), ("--grader goes with --classifier",)),
        (("/nowhere",), ("/nowhere is not a finished training run", "'classkinfy train'")),
        (("run", "--recipe", "gone.yaml"), ("'gone.yaml' does not exist", "export/*.yaml")),
        (("run", "--recipe", "unknown.yaml"), ("unknown key 'fomats'", "'formats'")),
        (("run", "--recipe", "broken.yaml"), ("broken.yaml cannot be read as YAML",)),
        (("run", "--recipe", "list.yaml"), ("list.yaml", "keys and values")),
        (("run", "--set", "fomats=[onnx]"), ("unknown key 'fomats'", "'formats'")),
        (("run", "--set", "capture.hight=9"), ("'capture.hight'", "'height'")),
        (("run", "--set", "formats=[coreml]"), ("formats.0", "'pytorch', 'onnx' or 'litert'")),
        (("run", "--set", "capture.height=0"), ("capture.height", "greater than 0")),
        (("run", "--set", "opset"), ("'opset' is not key=value", "classifier.fit.epochs=2")),
    ],
)
def test_wrong_usage_and_wrong_recipes_are_refused(
    arguments: tuple[str, ...],
    fragments: tuple[str, ...],
    classkinfy: Classkinfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown.yaml").write_text("fomats: [onnx]\n")
    (tmp_path / "broken.yaml").write_text("formats: [onnx\n")
    (tmp_path / "list.yaml").write_text("- onnx\n")
    refused(classkinfy("export", *arguments, "--out", out), *fragments)
    assert nothing_at(out)


@pytest.mark.parametrize("name", ["bundle", "bundle.ckb"])
def test_what_is_there_is_kept_without_overwrite(
    name: str, weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out = tmp_path / "out" / name
    export = ("export", "--classifier", weights / "classifier.safetensors", *QUICK, "--out", out)
    assert classkinfy(*export).exit_code == 0
    before = contents(out.parent)
    refused(classkinfy(*export), out, "already exists", "--overwrite")
    assert contents(out.parent) == before
    assert os.listdir(out.parent) == [name]


@pytest.mark.parametrize("name", ["bundle", "bundle.ckb"])
def test_an_export_that_fails_leaves_the_old_bundle_as_it_was(
    name: str, weights: Path, photo: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out, photos = tmp_path / "out" / name, tmp_path / "photos"
    export = ("export", "--classifier", weights / "classifier.safetensors", *QUICK, "--out", out)
    assert classkinfy(*export).exit_code == 0
    before = contents(out.parent)
    photos.mkdir()
    (photos / "half.jpg").write_bytes(photo.read_bytes()[:2000])
    # Golden vectors come last, when all models are written.
    late = ("--overwrite", "--set", "golden=true", "--golden", photos)
    refused(classkinfy(*export, *late), "half.jpg is truncated", "take the photo again")
    assert contents(out.parent) == before
    assert os.listdir(out.parent) == [name]


# Bundles


def _pinned(suffix: str, bundle: Path) -> str:
    names = json.loads((bundle / "manifest.json").read_text())["files"]
    return next(name for name in names if name.endswith(suffix))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".safetensors", ".rgb.gz", ".md"])
@pytest.mark.parametrize("damage", ["changed", "missing", "longer"])
def test_one_changed_file_of_a_bundle_is_found(
    suffix: str, damage: str, bundle: Path, classkinfy: Classkinfy
) -> None:
    name = _pinned(suffix, bundle)
    path = bundle / name
    if damage == "changed":
        flip(path, path.stat().st_size // 2)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    refused(classkinfy("inspect", bundle), bundle.name, name, "export it again")


@pytest.mark.parametrize(
    "verb", [("inspect",), ("verify",), ("bench",), ("report",), ("predict", "photo.jpg")]
)
def test_every_verb_refuses_a_bundle_with_one_byte_changed(
    verb: tuple[str, ...],
    bundle: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    flip(bundle / "models/onnx/classify.onnx", 5000)
    before = contents(tmp_path)
    ran = classkinfy(verb[0], bundle, *verb[1:])
    refused(ran, "models/onnx/classify.onnx was changed", "copy the bundle again")
    assert contents(tmp_path) == before


def _traversal(path: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda m: m | {"files": m["files"] | {path: next(iter(m["files"].values()))}}


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda m: json.dumps(m)[:500], ("is not JSON", "export it again")),
        (lambda m: "", ("is not JSON", "export it again")),
        (lambda m: [], ("dictionary", "export it again")),
        (lambda m: m | {"capture": "large"}, ("capture", "export it again")),
        (lambda m: m | {"hair_removal": {}}, ("hair_removal", "export it again")),
        (lambda m: m | {"colour": 1}, ("unknown key 'colour'", "export it again")),
        (lambda m: m | {"files": {}}, ("has no hash under 'files'", "export it again")),
        (lambda m: m | {"schema_version": 2}, ("version 2", "newer classkinfy-export")),
        (_traversal("../secret"), ("'../secret' is not a plain relative path",)),
        (_traversal("/etc/passwd"), ("'/etc/passwd' is not a plain relative path",)),
        (_traversal("a/../../b"), ("'a/../../b' is not a plain relative path",)),
        (_traversal("a\\b"), ("is not a plain relative path",)),
        (_traversal("C:/x"), ("'C:/x' is not a plain relative path",)),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(
    change: Callable[[dict[str, Any]], object],
    fragments: tuple[str, ...],
    bundle: Path,
    classkinfy: Classkinfy,
) -> None:
    manifest = bundle / "manifest.json"
    changed = change(json.loads(manifest.read_text()))
    manifest.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    refused(classkinfy("inspect", bundle), "manifest.json", *fragments)


def test_what_is_no_bundle_is_refused(classkinfy: Classkinfy, tmp_path: Path, photo: Path) -> None:
    gone = tmp_path / "gone"
    refused(classkinfy("inspect", gone), gone, "does not exist", "'classkinfy export'")
    refused(classkinfy("inspect", tmp_path), "has no manifest.json", "'classkinfy export'")
    refused(classkinfy("inspect", photo), photo, "not a bundle", "a directory or a .ckb file")


def test_a_link_that_leads_out_of_a_bundle_is_not_followed(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    model = bundle / "models/onnx/classify.onnx"
    outside = model.rename(tmp_path / "outside.onnx")
    model.symlink_to(outside)
    # The bytes are those that were pinned, and could change after they were checked.
    refused(classkinfy("inspect", bundle), "models/onnx/classify.onnx is missing")


def test_evidence_is_not_written_through_a_link_out_of_the_bundle(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "evidence").symlink_to(tmp_path / "elsewhere")
    ran = classkinfy("verify", bundle, "--runtimes", "onnxruntime", "--json")
    assert "leads out of the bundle: delete the link" in ran.error()
    assert ran.exit_code == 2
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\xff", "[1]", "{}"])
def test_evidence_that_cannot_be_read_counts_as_none(
    content: str, bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (bundle / "evidence").mkdir()
    (bundle / "evidence/parity.json").write_text(content, encoding="latin-1")
    (tmp_path / "x.json").write_text("{}")
    (bundle / "evidence/latency.json").symlink_to(tmp_path / "x.json")
    ran = classkinfy("inspect", bundle, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["evidence"] == {}


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> Path:
    """The bundle as .ckb."""
    path = tmp_path / "bundle.ckb"
    writer.pack(bundle, path)
    return path


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (lambda data: data[: len(data) // 2], ("is not a bundle", "a directory or a .ckb file")),
        (lambda data: b"", ("is not a bundle", "a directory or a .ckb file")),
        (
            lambda data: data[:300_000] + bytes([data[300_000] ^ 1]) + data[300_001:],
            ("damaged", "copy the bundle again"),
        ),
    ],
    ids=["truncated", "empty", "byte"],
)
def test_a_damaged_archive_is_refused(
    damage: Callable[[bytes], bytes],
    fragments: tuple[str, ...],
    archive: Path,
    classkinfy: Classkinfy,
) -> None:
    assert classkinfy("inspect", archive).exit_code == 0
    archive.write_bytes(damage(archive.read_bytes()))
    refused(classkinfy("inspect", archive), *fragments)


def test_an_archive_that_names_a_file_twice_is_refused(
    archive: Path, classkinfy: Classkinfy
) -> None:
    with zipfile.ZipFile(archive, "a") as zipped, pytest.warns(UserWarning, match="Duplicate"):
        zipped.writestr("MODEL_CARD.md", "another card")
    refused(classkinfy("inspect", archive), archive, "names a file twice", "export it again")


def test_no_byte_of_an_archives_directory_can_crash_the_reader(archive: Path) -> None:
    data = archive.read_bytes()
    start = data.index(b"PK\x01\x02")
    random.seed(0)
    outcomes = set()
    for position in random.sample(range(start, len(data)), 400):
        # 0x80 finds encodings and versions, 0x01 the flag of encryption, 0x08 that of compression.
        changed = bytearray(data)
        changed[position] ^= random.choice((0x01, 0x08, 0x80))
        archive.write_bytes(changed)
        try:
            opened = Bundle.open(archive)
        except BundleError:
            outcomes.add("refused")
        else:
            outcomes.add("opened")
            for name, entry in opened.manifest.files.items():
                assert hashlib.sha256(opened.read(name)).hexdigest() == entry.sha256
    assert outcomes == {"refused", "opened"}


# Photos, folders of photos, numbers


def test_what_is_no_photo_is_refused(
    trunk_bundle: Path, photo: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    def predict(path: Path) -> Any:
        return classkinfy("predict", trunk_bundle, path)

    text, half, empty = tmp_path / "notes.txt", tmp_path / "half.jpg", tmp_path / "empty.png"
    text.write_text("not a photo")
    half.write_bytes(photo.read_bytes()[:2000])
    empty.touch()
    gone = tmp_path / "gone.jpg"
    refused(predict(text), "notes.txt is not an image", "give a JPEG or PNG photo")
    refused(predict(empty), "empty.png is not an image", "give a JPEG or PNG photo")
    refused(predict(half), "half.jpg is truncated", "copy or take the photo again")
    refused(predict(gone), gone, "does not exist", "check the path")
    refused(predict(tmp_path), tmp_path.name, "Is a directory")


def test_a_photo_too_large_to_decode_is_refused(
    trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 6_000)).save(path)
    ran = classkinfy("predict", trunk_bundle, path)
    refused(ran, "huge.png", "20000 x 6000", "scale it down")


def test_photos_that_cannot_be_verified_on_leave_no_evidence(
    bundle: Path, photo: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    def verify(folder: Path) -> Any:
        return classkinfy("verify", bundle, "--images", folder, "--runtimes", "onnxruntime")

    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(photo.read_bytes())
    (broken / "b.jpg").write_bytes(photo.read_bytes()[:2000])
    refused(verify(empty), empty, "holds no image", ".jpg, .jpeg, .png")
    refused(verify(tmp_path / "gone"), "gone", "does not exist", "check the path")
    refused(verify(broken), "b.jpg is truncated", "copy or take the photo again")
    assert not (bundle / "evidence").exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("bench", "--threads", "0"), ("--threads '0'", "at least 1")),
        (("bench", "--threads", "1,-2"), ("--threads '1,-2'", "at least 1")),
        (("bench", "--threads", "a"), ("--threads 'a' is not numbers", "1,2")),
        (("bench", "--threads", "1,"), ("--threads '1,' is not numbers", "1,2")),
        (("bench", "--runtimes", "tensorrt"), ("'tensorrt' is unknown", "known: pytorch")),
        (("verify", "--runtimes", "tensorrt"), ("'tensorrt' is unknown", "known: pytorch")),
        (("predict", "x.jpg", "--runtime", "tensorrt"), ("'tensorrt' is unknown", "litert")),
    ],
)
def test_numbers_and_runtimes_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], fragments: tuple[str, ...], bundle: Path, classkinfy: Classkinfy
) -> None:
    refused(classkinfy(arguments[0], bundle, *arguments[1:]), *fragments)
    assert not (bundle / "evidence").exists()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("explain",), "explain"),
        (("data", "explain"), "explain"),
        (("export", "run"), "--out"),
        (("predict", "bundle"), "image"),
        (("predict", "b", "i", "--form", "melted"), "melted"),
        (("verify", "bundle", "--limit", "0"), "--limit"),
        (("bench", "bundle", "--n", "many"), "many"),
        (("data", "synthesise", "--out", "x", "--lesions", "0"), "--lesions"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_a_usage_error(
    arguments: tuple[str, ...], value: str, classkinfy: Classkinfy
) -> None:
    ran = classkinfy(*arguments)
    assert ran.exit_code == 2
    assert value in ran.stderr
    assert "--help" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


# Data sets


def test_what_is_no_data_set_is_refused(
    lesions: Path, classkinfy: Classkinfy, tmp_path: Path, out: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    gone = tmp_path / "gone"
    refused(classkinfy("data", "check", empty), empty, "empty", "unpack")
    refused(classkinfy("data", "check", gone), gone, "does not exist")
    refused(classkinfy("data", "split", empty, "--out", out), empty, "empty", "unpack")
    ran = classkinfy("train", "train/smoke.yaml", "--data", empty, "--out", out)
    refused(ran, empty, "empty", "unpack")
    recipe = ("train", "train/smoke.yaml", "--data", lesions, "--set", "graders.fitt.epochs=1")
    refused(classkinfy(*recipe, "--out", out), "'graders.fitt'", "'fit'")
    assert nothing_at(out)


def test_a_truncated_image_of_a_data_set_is_named(
    classkinfy: Classkinfy, lesions: Path, tmp_path: Path
) -> None:
    (tmp_path / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "LES_000,IMG_000,akiec,histo,50.0,male,back\n"
        "LES_001,IMG_001,bcc,histo,50.0,male,back\n"
    )
    for name in ("IMG_000.jpg", "IMG_001.jpg"):
        (tmp_path / name).write_bytes((lesions / name).read_bytes())
    assert classkinfy("data", "check", tmp_path).exit_code == 0
    broken = tmp_path / "IMG_001.jpg"
    broken.write_bytes(broken.read_bytes()[:-400])
    refused(classkinfy("data", "check", tmp_path), broken, "truncated", "download it again")


def test_a_folder_with_something_in_it_is_not_drawn_or_trained_into(
    lesions: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("four years")
    drawing = classkinfy("data", "synthesise", "--out", taken, "--lesions", 1)
    refused(drawing, taken, "is not empty", "does not exist yet")
    training = classkinfy("train", "train/smoke.yaml", "--data", lesions, "--out", taken)
    refused(training, taken, "already holds", "choose another --out")
    assert contents(tmp_path) == {"taken/thesis.txt": b"four years"}
    assert os.listdir(tmp_path) == ["taken"]


# The same in real processes


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (("inspect", "/nowhere"), r"error: bundle '/nowhere' does not exist: .*export.*"),
        (("train", "x.yaml", "--data", "d", "--out", "o"), r"error: recipe 'x\.yaml' does not .*"),
        (("export", "--out", "o", "--classifier", "gone.pth"), r"error: .*'gone\.pth'.*path"),
        (("data", "synthesise", "--out", "full"), r"error: full is not empty: .*"),
    ],
)
def test_a_real_process_says_one_line_and_exits_with_2(
    arguments: tuple[str, ...], pattern: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    ran = subprocess.run(
        [COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert re.fullmatch(pattern + "\n", ran.stderr)
    assert os.listdir(tmp_path) == ["full"]


def test_a_networks_width_is_not_guessed_from_its_architecture() -> None:
    # The origin's head has the width that the tests above give it.
    assert Network(NetworkSpec(architecture="efficientnet_b3", input_size=300, outputs=7)).head[
        0
    ].weight.shape == (7, 1536)
