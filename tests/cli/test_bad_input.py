"""Bad usage, recipes, photos and data sets: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from listing import listing
from PIL import Image

COMMAND = Path(sys.executable).with_name("classkinfy")
# Weights only and no golden vectors: what an export checks first, in no time.
QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")

Classkinfy = Callable[..., Any]


def contents(path: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    found = (p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


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
    classkinfy("export", *arguments, "--out", out).refused(*fragments)
    assert listing(out.parent) == []


@pytest.mark.parametrize("name", ["bundle", "bundle.ckb"])
def test_what_is_there_is_kept_without_overwrite(
    name: str, weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out = tmp_path / "out" / name
    export = ("export", "--classifier", weights / "classifier.safetensors", *QUICK, "--out", out)
    assert classkinfy(*export).exit_code == 0
    before = contents(out.parent)
    classkinfy(*export).refused(out, "already exists", "--overwrite")
    assert contents(out.parent) == before
    assert listing(out.parent) == [name]


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
    classkinfy(*export, *late).refused("half.jpg is truncated", "take the photo again")
    assert contents(out.parent) == before
    assert listing(out.parent) == [name]


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
    predict(text).refused("notes.txt is not an image", "give a JPEG or PNG photo")
    predict(empty).refused("empty.png is not an image", "give a JPEG or PNG photo")
    predict(half).refused("half.jpg is truncated", "copy or take the photo again")
    predict(gone).refused(gone, "does not exist", "check the path")
    predict(tmp_path).refused(tmp_path.name, "Is a directory")


def test_a_photo_too_large_to_decode_is_refused(
    trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 6_000)).save(path)
    ran = classkinfy("predict", trunk_bundle, path)
    ran.refused("huge.png", "20000 x 6000", "scale it down")


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
    verify(empty).refused(empty, "holds no image", ".jpg, .jpeg, .png")
    verify(tmp_path / "gone").refused("gone", "does not exist", "check the path")
    verify(broken).refused("b.jpg is truncated", "copy or take the photo again")
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
        (("localise", "--runtime", "tensorrt"), ("'tensorrt' is unknown", "known: pytorch")),
        (("localise", "--runtime", "pytorch"), ("is the reference", "such as onnxruntime")),
        (("predict", "x.jpg", "--runtime", "tensorrt"), ("'tensorrt' is unknown", "litert")),
    ],
)
def test_numbers_and_runtimes_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], fragments: tuple[str, ...], bundle: Path, classkinfy: Classkinfy
) -> None:
    classkinfy(arguments[0], bundle, *arguments[1:]).refused(*fragments)
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
        (("localise", "bundle"), "--runtime"),
        (("bench", "bundle", "--n", "many"), "--n"),
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
    classkinfy("data", "check", empty).refused(empty, "empty", "unpack")
    classkinfy("data", "check", gone).refused(gone, "does not exist")
    classkinfy("data", "split", empty, "--out", out).refused(empty, "empty", "unpack")
    ran = classkinfy("train", "train/smoke.yaml", "--data", empty, "--out", out)
    ran.refused(empty, "empty", "unpack")
    recipe = ("train", "train/smoke.yaml", "--data", lesions, "--set", "graders.fitt.epochs=1")
    classkinfy(*recipe, "--out", out).refused("'graders.fitt'", "'fit'")
    assert listing(out.parent) == []


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
    classkinfy("data", "check", tmp_path).refused(broken, "truncated", "download it again")


def test_a_folder_with_something_in_it_is_not_drawn_or_trained_into(
    lesions: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("four years")
    drawing = classkinfy("data", "synthesise", "--out", taken, "--lesions", 1)
    drawing.refused(taken, "is not empty", "does not exist yet")
    training = classkinfy("train", "train/smoke.yaml", "--data", lesions, "--out", taken)
    training.refused(taken, "already holds", "choose another --out")
    assert contents(tmp_path) == {"taken/thesis.txt": b"four years"}
    assert listing(tmp_path) == ["taken"]


# The same in real processes


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (("inspect", "/nowhere"), r"error: bundle '/nowhere' does not exist: .*export.*"),
        (("train", "x.yaml", "--data", "d", "--out", "o"), r"error: recipe 'x\.yaml' does not .*"),
        (("export", "c.pth", "--out", "o", "--set", "x=1"), r"error: .*unknown key 'x'; .*"),
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
    assert listing(tmp_path) == ["full"]
