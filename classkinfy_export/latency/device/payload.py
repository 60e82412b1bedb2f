"""What is copied to a phone for a measurement, and removed from it afterwards."""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from classkinfy_export.bundle.manifest import MANIFEST, SEAL
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError, IntegrityError
from classkinfy_export.latency.device.adb import Adb

_SHARED = "/data/local/tmp"
"""Where adb's own user may execute files, and apps may read those that all may read."""
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
"""Names that no shell reads anything else into."""


class Payload:
    """A folder of a bundle on the phone.

    Args:
        adb: the phone.
        bundle: an opened bundle.
    """

    def __init__(self, adb: Adb, bundle: Bundle) -> None:
        self._adb = adb
        self._bundle = bundle
        self.folder = f"{_SHARED}/classkinfy-{bundle.sha256[:12]}"
        """One of its own, so that what an aborted run left is replaced."""
        self.sha256 = bundle.sha256
        self.bundle = f"{self.folder}/bundle"
        self.photo = f"{self.folder}/photo"
        for model in bundle.manifest.models:
            for name in (model.path, *model.entries.values()):
                # They become part of what the phone's shell runs.
                if not _PLAIN.fullmatch(name):
                    raise BundleError(
                        f"{bundle.path.name}: {name!r} is no name that a phone is given",
                        hint="letters, digits, '.', '_', '-' and '/': export it again",
                    )

    def tool(self, runtime: str) -> str:
        """Return the folder of a runtime's tool."""
        return f"{self.folder}/{runtime}"

    def model(self, path: str) -> str:
        """Return where a file of the bundle is."""
        return f"{self.bundle}/{path}"

    def push(
        self, models: Collection[str], tools: Mapping[str, Mapping[str, Path]], photo: bytes | None
    ) -> None:
        """Copy model files and tools; and the whole bundle, where an app is to open it.

        Args:
            models: paths in the bundle, for the tools.
            tools: by runtime, files by the name they get.
            photo: encoded, for the app; None means that there is none.

        Raises:
            IntegrityError: a file of the bundle was changed.
            ClasskinfyError: there is no space for it, or it did not arrive whole.
        """
        self._adb.shell(f"rm -rf {self.folder}")
        whole = photo is not None
        with tempfile.TemporaryDirectory() as temporary:
            local = Path(temporary) / self.folder.rpartition("/")[2]
            for path in sorted(self._bundle.manifest.files if whole else models):
                _write(local / "bundle" / path, self._bundle.read(path))
            if photo is not None:
                self._seal(local / "bundle")
                _write(local / "photo", photo)
            for runtime, files in tools.items():
                for name, file in files.items():
                    _write(local / runtime / name, file.read_bytes())
            self._adb.push(local, _SHARED)
        folders = " ".join(self.tool(runtime) for runtime in tools)
        executable = f" && chmod -R 755 {folders}" if folders else ""
        self._adb.shell(f"chmod -R a+rX {self.folder}{executable}")
        self._check(models)

    def remove(self) -> bool:
        """Remove all of it, and say whether it is gone."""
        try:
            return self._adb.run(f"rm -rf {self.folder}").code == 0
        except ClasskinfyError:
            return False

    def _seal(self, folder: Path) -> None:
        """Write the manifest as it is: its bytes are the bundle's id."""
        path = self._bundle.path
        if path.is_dir():
            data = (path / MANIFEST).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                data = archive.read(MANIFEST)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise IntegrityError(
                f"{path.name}: {MANIFEST} was changed since the bundle was opened",
                hint="measure it again",
            )
        (folder / MANIFEST).write_bytes(data)
        (folder / SEAL).write_text(f"{self.sha256}  {MANIFEST}\n", encoding="ascii")

    def _check(self, models: Collection[str]) -> None:
        """Compare the models' hashes on the phone with the manifest's."""
        if not models:
            return
        text = self._adb.shell("sha256sum " + " ".join(self.model(path) for path in models))
        arrived = re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)
        there = {path: sha256 for sha256, path in arrived}
        for path in models:
            if there.get(self.model(path)) != self._bundle.manifest.files[path].sha256:
                raise ClasskinfyError(
                    f"{path} did not arrive on the phone as it is in the bundle",
                    hint="try again, with another cable",
                )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
