"""A page that runs a bundle in the browser: static files for any host, no network once loaded."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from classkinfy_export import files
from classkinfy_export.bundle.manifest import MANIFEST, PIPELINE, SEAL, SIGNATURE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.runtimes.web.runtime import INSTALLATION

POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "img-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""A server that sends them isolates the page from its first visit; else its service worker does."""
RELEASE = "release.js"
"""The page's files with their hashes: what its service worker keeps, and when it does so anew."""

_SERVICE_WORKER = "service-worker.js"
_PAGES = (
    Path(__file__).parents[1] / "_web_demo",
    Path(__file__).parents[2] / "web_demo",
)
"""Of the installed package, and of a clone."""
_NO_PAGE = ("README.md", "licences")
_RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    "onnxruntime-web": (
        "onnxruntime-web",
        {
            name: f"onnxruntime-web/dist/{name}"
            for name in (
                "ort.wasm.min.mjs",
                "ort-wasm-simd-threaded.mjs",
                "ort-wasm-simd-threaded.wasm",
            )
        },
    ),
    "litert": (
        "@litertjs/core",
        {
            "index.js": "@litertjs/core/dist/index.js",
            "wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
            **{
                f"litert_wasm_{kind}internal.{ending}": (
                    f"@litertjs/core/wasm/litert_wasm_{kind}internal.{ending}"
                )
                # Threaded, with what most browsers have, and with less.
                for kind in ("", "threaded_", "compat_")
                for ending in ("js", "wasm")
            },
        },
    ),
}
"""By folder: the package whose version it is, and files with where npm puts them."""
_BARE = '"@litertjs/wasm-utils"'
"""A package's name means nothing to a browser, and a worker has no import map."""
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)
_FORMATS = ("onnx", "litert")


def write(
    bundle: Bundle, folder: Path, *, trusted: Sequence[str] = (), overwrite: bool = False
) -> Path:
    """Write the page with a bundle and the runtimes into a folder.

    Args:
        bundle: an opened bundle, with every stage in ONNX or LiteRT.
        folder: of the page.
        trusted: public keys, as of ``signature.read_public``; the page then answers with bundles
            that one of them signed, alone.
        overwrite: replace a folder that is there already.

    Returns:
        the folder.

    Raises:
        BundleError: neither format has every stage.
        ClasskinfyError: the folder is there.
        MissingDependencyError: the npm packages are not installed.
    """
    source = next((page for page in _PAGES if (page / "index.html").is_file()), None)
    if source is None:
        raise MissingDependencyError("the page is not part of this installation")
    contents = list(_bundle_files(bundle))
    versions = require_runtimes()
    with files.new_folder(folder, overwrite=overwrite) as made:
        shutil.copytree(source, made, dirs_exist_ok=True, ignore=_beside_the_page(source))
        shell = sorted(set(_names(made)) - {_SERVICE_WORKER})
        for name in _RUNTIMES:
            _write_runtime(name, made / "runtimes" / name, source / "licences")
        for name, data in contents:
            path = made / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        release = {
            "runtimes": versions,
            "trusted": list(trusted),
            "headers": HEADERS,
            "shell": shell,
            "files": {name: _entry(made / name) for name in sorted(_names(made))},
        }
        listed = json.dumps(release, indent=1, sort_keys=True)
        (made / RELEASE).write_text(f"self.RELEASE = {listed};\n", encoding="utf-8")
    return folder


def _bundle_files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Give what the page reads of a bundle: staged models, golden vectors, seal and signature."""
    manifest = bundle.manifest
    models = [model for model in manifest.models if model.format in _FORMATS]
    if not manifest.staged_formats().intersection(_FORMATS):
        raise BundleError(
            "a page runs the staged form, and the bundle has it neither in ONNX nor in LiteRT",
            hint="add 'staged' to the recipe's forms",
        )
    yield MANIFEST, bundle.manifest_bytes()
    yield SEAL, f"{bundle.sha256}  {MANIFEST}\n".encode("ascii")
    signature = bundle.signature_bytes()
    if signature is not None:
        yield SIGNATURE, signature
    wanted = {model.path for model in models if set(model.entries) != {PIPELINE}}
    for name in manifest.files:
        if name in wanted or name.startswith("golden/"):
            yield name, bundle.read(name)


def require_runtimes() -> dict[str, str]:
    """Return the runtimes' versions. Raises MissingDependencyError where one is not installed."""
    packages = INSTALLATION.folder() / "node_modules"
    for _, sources in _RUNTIMES.values():
        for path in sources.values():
            if not (packages / path).is_file():
                raise MissingDependencyError(
                    f"a page needs {path} of npm, which is not installed", hint=INSTALLATION.hint
                )
    installed = INSTALLATION.versions()
    return {name: installed[package] for name, (package, _) in _RUNTIMES.items()}


def _write_runtime(name: str, folder: Path, licences: Path) -> None:
    folder.mkdir(parents=True)
    packages = INSTALLATION.folder() / "node_modules"
    for target, path in _RUNTIMES[name][1].items():
        if target.endswith(".wasm"):
            shutil.copyfile(packages / path, folder / target)
            continue
        text = (packages / path).read_text(encoding="utf-8").replace(_BARE, '"./wasm-utils.js"')
        # The maps are left out, and browsers would ask for them.
        (folder / target).write_text(_SOURCE_MAP.sub("", text), encoding="utf-8")
    shutil.copyfile(licences / f"{name}.txt", folder / "LICENSE.txt")


def _beside_the_page(source: Path) -> Any:  # noqa: ANN401  (as shutil calls it)
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) == source and name in _NO_PAGE]

    return ignored


def _names(folder: Path) -> Iterator[str]:
    return (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
