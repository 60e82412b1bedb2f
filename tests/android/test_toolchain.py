"""What is fetched is what was pinned, or it is not used."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import native_bridge
import pytest
import toolchain

from classkinfy_export.errors import MissingDependencyError


def archive() -> bytes:
    """An npm package with one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/lib/tool.jar")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"tool"))
    return packed.getvalue()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that copies a file, and an empty cache; returns the file."""
    served = tmp_path / "served.tgz"
    served.write_bytes(archive())
    programs = tmp_path / "bin"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\n/bin/cp "{served}" "$4/tool-1.0.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("CLASSKINFY_ANDROID", str(tmp_path / "cache"))
    return served


def package(data: bytes) -> toolchain.NpmPackage:
    return toolchain.NpmPackage("@maker/tool", "1.0", hashlib.sha256(data).hexdigest())


def unpacked(tmp_path: Path) -> list[str]:
    """What the cache holds, but for locks."""
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock"))


def test_a_package_is_fetched_once(registry: Path, tmp_path: Path) -> None:
    folder = package(archive()).folder()
    assert (folder / "lib" / "tool.jar").read_bytes() == b"tool"
    assert unpacked(tmp_path) == ["tool-1.0"]
    registry.unlink()
    assert package(archive()).folder() == folder


def test_another_archive_than_was_pinned_is_refused(registry: Path, tmp_path: Path) -> None:
    registry.write_bytes(archive() + b"x")
    with pytest.raises(MissingDependencyError, match=r"has SHA-256 .*, pinned is"):
        package(archive()).folder()
    assert unpacked(tmp_path) == []


def test_what_the_registry_says_is_told(registry: Path, tmp_path: Path) -> None:
    registry.unlink()
    with pytest.raises(MissingDependencyError, match=r"npm says: .*served\.tgz"):
        package(archive()).folder()
    assert unpacked(tmp_path) == []


@pytest.mark.usefixtures("registry")
def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="there is no npm: install npm"):
        package(archive()).folder()


@pytest.mark.parametrize(
    ("version", "wanted"),
    [(b"GLIBC_2.14", 0x06969194), (b"GLIBC_2.4", 0x0D696914), (b"VERS_1.17.0", 0x027BEF80)],
)
def test_symbol_versions_hash_as_the_linker_has_them(version: bytes, wanted: int) -> None:
    """As ``objdump -p`` shows of libraries."""
    assert native_bridge._elf_hash(version) == wanted
