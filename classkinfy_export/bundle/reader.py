"""Open a bundle, a directory or its ``.ckb`` zip: hashes first, then anything else."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from classkinfy_export.bundle.manifest import EVIDENCE, MANIFEST, SEAL, SIGNATURE, Manifest
from classkinfy_export.document import brief
from classkinfy_export.errors import BundleError, IntegrityError

_MAX_MANIFEST_BYTES = 16 * 2**20
_MAX_EVIDENCE_BYTES = 16 * 2**20
_MAX_SEAL_BYTES = 1024


class Storage(Protocol):
    """Where a bundle's files are."""

    def names(self) -> list[str]:
        """Return every file's relative path, with forward slashes."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises KeyError when there is none."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises KeyError when there is none."""


class Bundle:
    """A bundle whose every pinned file matched its hash when it was opened.

    Files are read through ``read``, which hashes the very bytes that it returns, so what a
    runtime gets is what the manifest pins even if the disk changed meanwhile.
    """

    def __init__(
        self,
        path: Path,
        storage: Storage,
        manifest: Manifest,
        sha256: str,
        signer: str | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.signer = signer
        """Whose signature it bears, a public key as of ``signature.signer``; None without one."""
        self._storage = storage

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        trusted: Collection[str] = (),
        *,
        sha256: str | None = None,
    ) -> Bundle:
        """Open a bundle and check its signature, and every file that the manifest pins.

        Args:
            path: its folder or archive.
            trusted: public keys, as of ``signature.read_public``, one of which must have signed
                it; without any, it need not be signed.
            sha256: the bundle's id, where it has to be one that was opened before.

        Raises:
            BundleError: not a bundle, or a manifest that cannot be read.
            IntegrityError: a file is missing or was changed, a signature is not of this manifest,
                none of the trusted made it, or it is another bundle than it has to be.
        """
        path = Path(path)
        storage = _open_storage(path)
        try:
            size = storage.size(MANIFEST)
            if size > _MAX_MANIFEST_BYTES:
                raise BundleError(
                    f"{path}: the manifest has {size} bytes, which no bundle needs",
                    hint="get the bundle again from who made it",
                )
            data = storage.read(MANIFEST)
        except KeyError:
            raise BundleError(
                f"{path} is not a bundle: it has no {MANIFEST}",
                hint="give the directory or .ckb file that 'classkinfy export' wrote",
            ) from None
        found = hashlib.sha256(data).hexdigest()
        if sha256 not in (None, found):
            raise IntegrityError(
                f"{path.name} is not the bundle that was opened before: its manifest's SHA-256 is "
                f"{found}, not {sha256}",
                hint="let nothing write to it while it is worked with, and begin again",
            )
        signer = _signer(storage, data, path.name)
        if trusted and signer not in trusted:
            raise IntegrityError(
                f"{path.name} is {'not signed' if signer is None else 'signed by another key'}, "
                f"and {len(trusted)} keys are trusted",
                hint="get the bundle from who holds one of them",
            )
        manifest = Manifest.from_bytes(data, f"{path.name}/{MANIFEST}")
        if _sealed(storage) != found:
            raise IntegrityError(
                f"{path.name}: {MANIFEST} was changed: its SHA-256 is not that in {SEAL}",
                hint="copy the bundle again, or export it again",
            )
        bundle = cls(path, storage, manifest, found, signer)
        for name in manifest.files:
            bundle.read(name)
        return bundle

    def read(self, name: str) -> bytes:
        """Return the bytes of a pinned file.

        Raises:
            BundleError: the manifest does not pin this file.
            IntegrityError: it is missing, or its bytes are not those that were pinned.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                f"{self.path.name}: the manifest pins no file {brief(name)!r}",
                hint="export it again",
            )
        hint = "copy the bundle again, or export it again"
        told = brief(name)
        try:
            if self._storage.size(name) != entry.size_bytes:
                raise IntegrityError(
                    f"{self.path.name}: {told} has {self._storage.size(name)} bytes, "
                    f"the manifest says {entry.size_bytes}",
                    hint=hint,
                )
            data = self._storage.read(name)
        except KeyError:
            raise IntegrityError(f"{self.path.name}: {told} is missing", hint=hint) from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise IntegrityError(
                f"{self.path.name}: {told} was changed: its SHA-256 is not the manifest's",
                hint=hint,
            )
        return data

    def manifest_bytes(self) -> bytes:
        """Return the manifest's bytes. Raises IntegrityError when it changed meanwhile."""
        data = self._storage.read(MANIFEST)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise IntegrityError(f"{self.path.name}: {MANIFEST} changed since it was opened")
        return data

    def signature_bytes(self) -> bytes | None:
        """Return its signature's bytes; None of a bundle that is not signed."""
        return None if self.signer is None else self._storage.read(SIGNATURE)

    def evidence(self) -> dict[str, dict[str, Any]]:
        """Return the evidence that belongs to this very manifest, by name (``parity``, …).

        Nothing pins evidence, so what cannot be read counts as not there.
        """
        found = {}
        for name in sorted(self._storage.names()):
            if not (name.startswith(EVIDENCE) and name.endswith(".json")):
                continue
            try:
                if self._storage.size(name) > _MAX_EVIDENCE_BYTES:
                    continue
                content = json.loads(self._storage.read(name))
            except (BundleError, KeyError, ValueError, RecursionError):
                continue
            if isinstance(content, dict) and content.get("manifest_sha256") == self.sha256:
                found[name.removeprefix(EVIDENCE).removesuffix(".json")] = content
        return found


def _sealed(storage: Storage) -> str:
    try:
        if storage.size(SEAL) > _MAX_SEAL_BYTES:
            return ""
        return storage.read(SEAL)[:64].decode("ascii")
    except (KeyError, UnicodeDecodeError):
        return ""


def _signer(storage: Storage, manifest: bytes, name: str) -> str | None:
    try:
        size = storage.size(SIGNATURE)
    except KeyError:
        return None
    from classkinfy_export.bundle import signature  # with it, cryptography

    if size > signature.MOST_BYTES:
        raise IntegrityError(
            f"{name}: its signature has {size} bytes, which none needs",
            hint="get the bundle again from who made it",
        )
    return signature.signer(manifest, storage.read(SIGNATURE), name)


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        return [p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if p.is_file()]

    def size(self, name: str) -> int:
        return self._file(name).stat().st_size

    def read(self, name: str) -> bytes:
        try:
            return self._file(name).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{brief(name)} cannot be read: {error.strerror}",
                hint="copy the bundle again to where it can be read",
            ) from error

    def _file(self, name: str) -> Path:
        path = self._root / name
        try:
            # A link could point out of the bundle, at bytes that change after they were checked.
            inside = path.is_file() and path.resolve().is_relative_to(self._root.resolve())
        except OSError:  # a name longer than any file's
            inside = False
        if not inside:
            raise KeyError(name)
        return path


class _Zip:
    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            names = self._archive.namelist()
        except Exception as error:  # zipfile raises whatever a broken archive makes it
            raise BundleError(
                f"{path} is not a bundle: {brief(str(error))}",
                hint="give a directory or a .ckb file",
            ) from error
        members = self._archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            # A small archive could hold any amount.
            raise BundleError(f"{path}: the archive is compressed", hint="zip it with -0")
        if sum(m.file_size for m in members) > path.stat().st_size:
            # So it could, too, with many names for the same bytes.
            raise BundleError(
                f"{path}: the archive holds more than its own size", hint="export it again"
            )
        if len(set(names)) != len(names):
            raise BundleError(f"{path}: the archive names a file twice", hint="export it again")

    def names(self) -> list[str]:
        return self._archive.namelist()

    def size(self, name: str) -> int:
        return self._archive.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(name)
        except KeyError:
            raise
        except Exception as error:  # zipfile raises whatever a broken archive makes it
            raise IntegrityError(
                f"{brief(name)} in the archive is damaged: {brief(str(error))}",
                hint="copy the bundle again, or export it again",
            ) from error


def _open_storage(path: Path) -> Storage:
    if path.is_dir():
        return _Directory(path)
    if path.is_file():
        return _Zip(path)
    raise BundleError(
        f"bundle {str(path)!r} does not exist", hint="make one with 'classkinfy export'"
    )
