"""A bundle in an app: what is written, over what, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import make_bundle

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import android
from classkinfy_export.runtimes.web.runtime import INSTALLATION

Classkinfy = Callable[..., Any]

ASSET = Path("src/main/assets/classkinfy.ckb")
CONSTANTS = Path("src/main/kotlin/org/classkinfy/bundle/BundleConstants.kt")


@pytest.mark.parametrize("archived", [False, True])
def test_an_app_gets_the_bundle_its_constants_and_its_licence(
    archived: bool, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "bundle")
    given = made.path
    if archived:
        given = tmp_path / "bundle.ckb"
        writer.pack(made.path, given)
    app = tmp_path / "app"
    ran = classkinfy("embed", given, "--android", app, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert len(json.loads(ran.stdout)["written"]) == 3
    assert Bundle.open(app / ASSET).sha256 == made.sha256
    with zipfile.ZipFile(app / ASSET) as zipped:
        assert {entry.compress_type for entry in zipped.infolist()} == {zipfile.ZIP_STORED}
    constants = (app / CONSTANTS).read_text()
    assert f'const val SHA256 = "{made.sha256}"' in constants
    assert 'val CLASSES = arrayOf("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")' in constants
    notice = (app / "src/main/assets/classkinfy-licence.txt").read_text()
    assert "CC BY-NC 4.0" in notice
    assert "Not a medical device" in notice


def test_a_bundle_is_put_over_another(classkinfy: Classkinfy, tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "src/main/assets").mkdir(parents=True)
    (app / "src/main/assets/other.txt").write_text("the app's own")
    for name in ("first", "second"):
        made = make_bundle(tmp_path / name, name=name)
        assert classkinfy("embed", made.path, "--android", app).exit_code == 0
        assert Bundle.open(app / ASSET).sha256 == made.sha256
        assert f'"{name}"' in (app / CONSTANTS).read_text()
    assert (app / "src/main/assets/other.txt").read_text() == "the app's own"


def test_what_else_lies_in_a_bundles_folder_stays_there(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", evidence={"latency": {"p50": 1}})
    (made.path / "release.pem").write_text("a key that was left here")
    android.embed(made, tmp_path / "app")
    with zipfile.ZipFile(tmp_path / "app" / ASSET) as zipped:
        held = {"manifest.json", "manifest.json.sha256"} | made.manifest.files.keys()
        assert set(zipped.namelist()) == held


def test_a_name_is_no_kotlin_template(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", name='a "$name" \\foo of\ftwo\nlines')
    android.embed(made, tmp_path / "app")
    constants = (tmp_path / "app" / CONSTANTS).read_text()
    assert r'const val NAME = "a \"\$name\" \\foo of\u000ctwo\nlines"' in constants


def test_what_cannot_be_embedded_is_refused(classkinfy: Classkinfy, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    classkinfy("embed", made.path).refused("nothing to put the bundle into")
    (tmp_path / "file").write_text("no folder")
    classkinfy("embed", made.path, "--android", tmp_path / "file").refused("is a file")
    classkinfy("embed", made.path, "--web", made.path, "--overwrite").refused("in one another")
    altered = made.path / "models/classify.onnx"
    altered.write_bytes(b"other   ")
    classkinfy("embed", made.path, "--android", tmp_path / "app").refused("classify.onnx")
    assert not (tmp_path / "app").exists()
    models = tuple(m.model_copy(update={"format": "pytorch"}) for m in made.manifest.models)
    altered.write_bytes(b"classify")
    writer.seal(made.path, made.manifest.model_copy(update={"models": models}))
    classkinfy("embed", made.path, "--android", tmp_path / "app").refused("no model of every stage")


def test_a_page_gets_the_bundle_and_is_not_overwritten_unasked(
    classkinfy: Classkinfy, tmp_path: Path
) -> None:
    if not {"onnxruntime-web", "@litertjs/core"} <= INSTALLATION.versions().keys():
        pytest.skip(f"a page's runtimes are not installed: {INSTALLATION.hint}")
    made = make_bundle(tmp_path / "bundle")
    page = tmp_path / "page"
    ran = classkinfy("embed", made.path, "--web", page, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["written"] == [str(page)]
    assert (page / "bundle/manifest.json").read_bytes() == made.manifest_bytes()
    assert (page / "index.html").is_file()
    classkinfy("embed", made.path, "--web", page).refused("already exists", "--overwrite")
    assert classkinfy("embed", made.path, "--web", page, "--overwrite").exit_code == 0


def test_a_page_without_its_runtimes_says_how_to_get_them(
    classkinfy: Classkinfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSTALLATION.variable, str(tmp_path / "none"))
    made = make_bundle(tmp_path / "bundle")
    ran = classkinfy("embed", made.path, "--web", tmp_path / "page")
    ran.refused("not installed", "classkinfy doctor --install web")
    assert not (tmp_path / "page").exists()


def test_a_signature_travels(classkinfy: Classkinfy, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    key = tmp_path / "release.pem"
    ran = classkinfy("keygen", key, "--json")
    told = json.loads(ran.stdout)
    assert classkinfy("sign", made.path, "--key", key).exit_code == 0
    trusted = ("--trusted", told["public_key"])
    ran = classkinfy("embed", made.path, "--android", tmp_path / "app", *trusted)
    assert ran.exit_code == 0, ran.stderr
    assert Bundle.open(tmp_path / "app" / ASSET).signer == told["encoded"]
    shown = classkinfy("inspect", made.path, *trusted, "--json")
    assert json.loads(shown.stdout)["signer"] == told["fingerprint"]
    classkinfy("keygen", tmp_path / "other.pem")
    other = tmp_path / "other.pub.pem"
    classkinfy("inspect", made.path, "--trusted", other).refused("signed by another key")
