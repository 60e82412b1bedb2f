"""What is written beside the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from web.twins import SOURCE

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError, MissingDependencyError
from classkinfy_export.jobs import web_page

INDEX = (SOURCE.parent / "index.html").read_text(encoding="utf-8")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def release(page: Path) -> dict[str, object]:
    text = (page / web_page.RELEASE).read_text(encoding="utf-8")
    return dict(json.loads(re.sub(r"^self\.RELEASE = |;\n$", "", text)))


def test_the_release_lists_every_file_but_itself(page: Path) -> None:
    listed = release(page)["files"]
    assert isinstance(listed, dict)
    assert set(listed) == names(page) - {web_page.RELEASE}


def test_only_what_the_page_uses_is_there(page: Path, trunk_bundle: Path) -> None:
    written = {n.removeprefix("bundle/") for n in names(page) if n.startswith("bundle/models/")}
    models = Bundle.open(trunk_bundle).manifest.models
    assert written == {
        model.path
        for model in models
        if model.format in ("onnx", "litert") and set(model.entries) != {"pipeline"}
    }
    assert not any(name.endswith(".map") or "README" in name for name in names(page))


def test_licences_are_beside_the_runtimes(page: Path) -> None:
    texts = {
        name: (page / "runtimes" / name / "LICENSE.txt").read_text(encoding="utf-8")
        for name in ("onnxruntime-web", "litert")
    }
    assert "MIT License" in texts["onnxruntime-web"]
    assert "Copyright (c) Microsoft Corporation" in texts["onnxruntime-web"]
    assert "Apache License" in texts["litert"]
    assert "Changed:" in texts["litert"]


def test_the_page_states_the_policy_that_servers_send() -> None:
    stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', INDEX)
    assert stated is not None
    assert stated[1] == web_page.POLICY


def test_the_page_has_no_inline_code_and_names_no_other_place() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)", INDEX)
    assert not re.search(r"<style|\sstyle=|\son\w+=", INDEX)
    top = ("index.html", "style.css", "service-worker.js", "app.webmanifest")
    sources = [*SOURCE.rglob("*js"), *(SOURCE.parent / name for name in top)]
    assert len(sources) > 20
    for path in sources:
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path.name


def test_the_installed_page_is_offered_without_a_network(page: Path) -> None:
    app = json.loads((page / "app.webmanifest").read_text(encoding="utf-8"))
    assert app["display"] == "standalone"
    for icon in app["icons"]:
        assert (page / icon["src"]).is_file()
    shell = release(page)["shell"]
    assert isinstance(shell, list)
    assert {"index.html", "style.css", "src/page.mjs", "src/worker.js"} <= set(shell)
    assert not any(name.startswith(("bundle/", "runtimes/")) for name in shell)


def test_an_archive_is_written_as_its_folder_is(
    page: Path, trunk_bundle: Path, tmp_path: Path
) -> None:
    writer.pack(trunk_bundle, tmp_path / "bundle.ckb")
    again = web_page.write(Bundle.open(tmp_path / "bundle.ckb"), tmp_path / "page")
    assert (again / web_page.RELEASE).read_bytes() == (page / web_page.RELEASE).read_bytes()


def test_what_is_there_is_not_overwritten_unasked(page: Path, trunk_bundle: Path) -> None:
    with pytest.raises(ClasskinfyError, match="already exists"):
        web_page.write(Bundle.open(trunk_bundle), page)


def test_a_bundle_without_its_stages_is_refused(trunk_bundle: Path, tmp_path: Path) -> None:
    if runtimes.get("web-litert").version() is None:
        pytest.skip("the npm packages are not set up")
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    manifest = Manifest.from_bytes((bundle / "manifest.json").read_bytes(), "manifest")
    kept = tuple(m for m in manifest.models if m.format == "pytorch")
    writer.seal(bundle, manifest.model_copy(update={"models": kept}))
    with pytest.raises(BundleError, match="neither in ONNX nor in LiteRT"):
        web_page.write(Bundle.open(bundle), tmp_path / "page")


def test_without_npm_packages_it_is_said_how_to_get_them(
    trunk_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_WEB", str(tmp_path / "nowhere"))
    with pytest.raises(MissingDependencyError, match="classkinfy doctor --install web"):
        web_page.write(Bundle.open(trunk_bundle), tmp_path / "page")
    assert not (tmp_path / "page").exists()
