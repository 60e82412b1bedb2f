"""Checkpoints that cannot be trusted or do not fit: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from listing import listing

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import GraderVariant
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.stages import checkpoint, origin
from classkinfy_export.stages.checkpoint import Checkpoint
from classkinfy_export.taxonomy import Taxonomy

CLASSES = Taxonomy().classes
# Weights only and no golden vectors: what an export checks first, in no time.
QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")

Classkinfy = Callable[..., Any]
State = dict[str, torch.Tensor]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(data)


# Checkpoints of this toolkit


def _saved(info: dict[str, Any], state: State, path: Path) -> Path:
    """Write a checkpoint whose seal does not matter: it is refused before."""
    header = f"{'0' * 64}\n{json.dumps(info)}"
    path.write_bytes(safetensors.torch.save(state, metadata={"classkinfy": header}))
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
    ran.refused(path.name, *fragments)
    assert listing(out.parent) == []


# Checkpoints of the origin project


@pytest.fixture(scope="module")
def origin_state() -> State:
    """The classifier's weights, under the names that timm gives them."""
    torch.manual_seed(5)
    model = timm.create_model("efficientnet_b3", num_classes=len(CLASSES))
    torch.nn.init.normal_(model.classifier.weight, 0.0, 100.0)
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
    ran.refused(path.name, *fragments)
    assert listing(out.parent) == []


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
    ran.refused(path.name, fragment, "copy it again")
    assert listing(out.parent) == []


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_does_not_run(
    zipped: bool, classkinfy: Classkinfy, tmp_path: Path, out: Path
) -> None:
    marker = tmp_path / "it-ran"
    path = tmp_path / "best_model.pth"
    content = {"model_state_dict": _head(7), "extra": Malicious(f"touch {marker}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    ran = classkinfy("export", "--classifier", path, *QUICK, "--out", out)
    ran.refused(path.name, "save it")
    assert not marker.exists()
    assert listing(out.parent) == []
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
    ran.refused(path.name, "NaN or infinite", "head.0.bias", "export an earlier checkpoint")
    assert listing(out.parent) == []


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
        "wrapped": {"state_dict": origin_state, "label_map": dict(enumerate(CLASSES))},
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
    ran.refused(*fragments)
    assert listing(out.parent) == []


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
            '{"data": {}, "screen": {}, "classifier": {}, "graders": {"mel": {}}}',
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
    ran.refused(*fragments)
    assert listing(out.parent) == []
