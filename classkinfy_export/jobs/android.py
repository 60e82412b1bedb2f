"""Puts a bundle into an Android app: one asset, its constants in Kotlin, and its licence.

The bundle travels as its archive, for packagers of Android apps strip ``.gz`` from assets' names
and inflate them, and golden vectors are ``.gz``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from classkinfy_export import files
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError

ASSET = "classkinfy.ckb"
LICENCE = "classkinfy-licence.txt"
PACKAGE = "org.classkinfy.bundle"
_MAIN = Path("src/main")
_CONSTANTS = _MAIN / "kotlin" / PACKAGE.replace(".", "/") / "BundleConstants.kt"
_FORMATS = ("onnx", "litert")


def embed(bundle: Bundle, app: Path) -> tuple[Path, ...]:
    """Write a bundle into an app's module, over the one that was there.

    Args:
        bundle: what the app is to hold.
        app: the module's folder, which has ``src/main``; a new one is made so.

    Returns:
        what was written.

    Raises:
        BundleError: the bundle holds nothing that a phone runs.
        ClasskinfyError: ``app`` is a file.
    """
    manifest = bundle.manifest
    if not manifest.staged_formats().intersection(_FORMATS):
        raise BundleError(
            f"{bundle.path.name} holds no model of every stage that a phone runs",
            hint=f"export with formats: [{', '.join(_FORMATS)}] and forms: [staged]",
        )
    if app.exists() and not app.is_dir():
        raise ClasskinfyError(f"{app} is a file", hint="give the folder of the app's module")
    asset, licence = (app / _MAIN / "assets" / name for name in (ASSET, LICENCE))
    asset.parent.mkdir(parents=True, exist_ok=True)
    writer.pack_pinned(bundle, asset)
    notice = (f"{manifest.name}: weights under {manifest.weights_licence}.", manifest.disclaimer)
    files.write(licence, "\n\n".join((*notice, "")).encode())
    files.write(app / _CONSTANTS, _constants(bundle).encode())
    return asset, licence, app / _CONSTANTS


def _constants(bundle: Bundle) -> str:
    manifest, taxonomy = bundle.manifest, bundle.manifest.taxonomy
    texts = {
        "ASSET": ASSET,
        "NAME": manifest.name,
        "SHA256": bundle.sha256,
        "DISCLAIMER": manifest.disclaimer,
        "SEVERITY_NOTICE": manifest.severity_notice,
        "WEIGHTS_LICENCE": manifest.weights_licence,
    }
    arrays = {"CLASSES": taxonomy.classes, "SEVERITIES": taxonomy.severities}
    lines = [
        "// Written by 'classkinfy export --android'. What an app shows and refuses by.",
        f"package {PACKAGE}",
        "",
        "object BundleConstants {",
        *(f"    const val {name} = {_literal(text)}" for name, text in texts.items()),
        *(
            f"    @JvmField val {name} = arrayOf({', '.join(map(_literal, values))})"
            for name, values in arrays.items()
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """Return a string as Kotlin writes it: JSON's escapes, but for form feed, and no templates."""
    escaped = re.sub(r"\\(.)", lambda m: "\\u000c" if m[1] == "f" else m[0], json.dumps(text))
    return escaped.replace("$", "\\$")
