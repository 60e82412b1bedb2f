"""Write a bundle whole: files into a temporary folder, the manifest last, then one rename."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classkinfy_export import files
from classkinfy_export.bundle.manifest import (
    EVIDENCE,
    MANIFEST,
    SEAL,
    SIGNATURE,
    FileEntry,
    Manifest,
)
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError

ARCHIVE_SUFFIX = ".ckb"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pin(folder: Path) -> dict[str, FileEntry]:
    """Hash every file below a folder, in path order; what stands above the pins is left out."""
    entries = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (MANIFEST, SEAL, SIGNATURE) and not name.startswith(EVIDENCE):
            data = path.read_bytes()
            entries[name] = FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    return entries


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and its hash: the last two files of a bundle."""
    data = manifest.to_bytes()
    (folder / MANIFEST).write_bytes(data)
    line = f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n"
    (folder / SEAL).write_text(line, encoding="ascii")


@contextmanager
def _beside(archive: Path) -> Iterator[Path]:
    """Give a temporary folder on the archive's disk; an error there names the archive."""
    with (
        files.named(archive),
        tempfile.TemporaryDirectory(prefix=f".{archive.name}.", dir=archive.parent) as temporary,
    ):
        yield Path(temporary)


def pack(folder: Path, archive: Path) -> None:
    """Zip a bundle's folder to ``.ckb``: stored, sorted, without times, in one step."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _beside(archive) as temporary:
        new = temporary / archive.name
        with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as zipped:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                info.external_attr = 0o644 << 16
                zipped.writestr(info, path.read_bytes())
        new.replace(archive)


def pack_pinned(bundle: Bundle, archive: Path) -> None:
    """Zip what a bundle pins, each file checked again, its manifest, seal and signature.

    Nothing else that lies in its folder, or in its archive, travels.
    """
    with _beside(archive) as temporary:
        folder = temporary / "bundle"
        signature = bundle.signature_bytes()
        above = {
            MANIFEST: bundle.manifest_bytes(),
            SEAL: f"{bundle.sha256}  {MANIFEST}\n".encode("ascii"),
            **({} if signature is None else {SIGNATURE: signature}),
        }
        for name in (*above, *bundle.manifest.files):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(above[name] if name in above else bundle.read(name))
        pack(folder, archive)


def add_evidence(bundle: Bundle, name: str, content: dict[str, Any]) -> None:
    """Put ``evidence/<name>.json`` into a bundle, bound to its manifest's hash.

    Evidence is not pinned by the manifest: it is added after the fact, and replaced freely.
    """
    bound = {"manifest_sha256": bundle.sha256, **content}
    _put(bundle, f"{EVIDENCE}{name}.json", files.to_json(bound).encode())


def sign(bundle: Bundle, key: Path) -> Bundle:
    """Sign a bundle in place, anew where it was signed before.

    Args:
        bundle: what to sign.
        key: a private key's file, as ``signature.generate`` writes it.

    Returns:
        it again, with its signer.

    Raises:
        ClasskinfyError: the key cannot be used.
    """
    from classkinfy_export.bundle import signature  # with it, cryptography

    _put(bundle, SIGNATURE, signature.sign(bundle.manifest_bytes(), key).to_bytes())
    return Bundle.open(bundle.path)


def _put(bundle: Bundle, entry: str, data: bytes) -> None:
    """Add a file that the manifest does not pin, or replace it."""
    if bundle.path.is_dir():
        folder = (bundle.path / entry).parent
        if not folder.resolve().is_relative_to(bundle.path.resolve()):
            raise BundleError(
                f"{bundle.path}: {folder.name} is a link that leads out of the bundle",
                hint="delete the link",
            )
        files.write(bundle.path / entry, data)
        return
    with _beside(bundle.path) as temporary:
        folder = temporary / "bundle"
        with zipfile.ZipFile(bundle.path) as zipped:
            for member in zipped.namelist():
                target = folder / member
                if member.endswith("/") or not target.resolve().is_relative_to(folder.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        (folder / entry).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry).write_bytes(data)
        pack(folder, bundle.path)
