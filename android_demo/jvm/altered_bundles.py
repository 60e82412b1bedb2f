"""One whole bundle, and copies of it with one thing altered, each with what is to be said of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_model

from classkinfy_export.bundle import signature
from classkinfy_export.bundle.manifest import MANIFEST, SEAL, SIGNATURE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ClasskinfyError

Edit = Callable[[dict[str, Any]], object]
"""Of a JSON document, in place."""


class AlteredBundles:
    """Bundles below a folder, a copy of ``whole`` each.

    Args:
        folder: where to.
        keys: where the private keys are kept: not among the vectors.
    """

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder = folder
        self._key = keys / "signer.pem"
        self.own_pem = signature.generate(self._key)
        self.own = signature.read_public(self.own_pem)
        self.other = signature.read_public(signature.generate(keys / "other.pem"))
        self.cases: list[dict[str, Any]] = []
        """Name, trusted keys, signer, and words of the refusal."""
        tiny_model.write(folder / "whole")

    def altered(self, name: str, alter: Callable[[Path], object], says: str) -> None:
        """Alter a copy's folder; it is refused then."""
        self.copy(name)
        alter(self.folder / name)
        self.expect(name, says=says)

    def edited(self, name: str, edit: Edit, says: str, *, python: bool = True) -> None:
        """Edit a copy's manifest and seal it anew; it is refused then."""
        self.copy(name)
        self.reseal(name, edit)
        self.expect(name, says=says, python=python)

    def raw(self, name: str, change: Callable[[bytes], bytes], says: str) -> None:
        """Change a copy's manifest as bytes and seal it anew; it is refused then."""
        self.copy(name)
        path = self.folder / name / MANIFEST
        data = change(path.read_bytes())
        path.write_bytes(data)
        _seal(path)
        self.expect(name, says=says)

    def signed(
        self,
        name: str,
        trusted: list[str],
        edit: Edit = lambda s: None,
        signer: str | None = None,
        says: str | None = None,
    ) -> None:
        """Sign a copy, and edit the signature."""
        self.copy(name)
        folder = self.folder / name
        signed = signature.sign((folder / MANIFEST).read_bytes(), self._key)
        content = json.loads(signed.to_bytes())
        edit(content)
        (folder / SIGNATURE).write_text(json.dumps(content))
        self.expect(name, trusted, signer=signer, says=says)

    def reseal(self, name: str, edit: Edit) -> None:
        """Edit the manifest of a copy that is there, and seal it anew."""
        path = self.folder / name / MANIFEST
        content = json.loads(path.read_bytes())
        edit(content)
        path.write_text(json.dumps(content))
        _seal(path)

    def copy(self, name: str) -> None:
        """Copy the whole bundle."""
        shutil.copytree(self.folder / "whole", self.folder / name)

    def expect(
        self,
        name: str,
        trusted: list[str] | None = None,
        *,
        signer: str | None = None,
        says: str | None = None,
        python: bool = True,
    ) -> None:
        """Note a case: a signer when it opens, words when it is refused."""
        case = {"name": name, "trusted": trusted or [], "signer": signer, "says": says}
        self.cases.append({**case, "python": python})

    def check(self) -> None:
        """Ask the toolkit's own reader. Raises AssertionError when it says another thing."""
        for case in self.cases:
            if not case.pop("python"):
                continue
            expected = "refused" if case["says"] is not None else case["signer"] != "Unsigned"
            given = _python_says(self.folder / case["name"], case["trusted"])
            if given != expected:
                raise AssertionError(f"{case['name']}: {given}, expected {expected}")


def _python_says(folder: Path, trusted: list[str]) -> bool | str:
    """Whether a bundle is signed, or that it is refused."""
    try:
        return Bundle.open(folder, trusted).signer is not None
    except ClasskinfyError:
        return "refused"


def _seal(path: Path) -> None:
    line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {MANIFEST}\n"
    path.with_name(SEAL).write_text(line)
