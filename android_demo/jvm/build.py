"""Compiles the app's Kotlin modules for a desktop JVM, runs their tests, and starts programs.

The same sources, the same flags as on Android where they matter; only the engines' native libraries
are the desktop's, out of the toolkit's own Python packages, so that the JVM runs the very kernels
that Python runs::

    python android_demo/jvm/build.py test BUNDLE     # ends with "N passed, M failed"
    python android_demo/jvm/build.py replay BUNDLE onnxruntime fp32 staged
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import native_bridge
import toolchain

from classkinfy_export.errors import ClasskinfyError, MissingDependencyError

ANDROID_DEMO = Path(__file__).resolve().parents[1]
FLAGS = (
    "-jvm-target=1.8",
    "-Xjdk-release=1.8",  # newer JDKs' own signatures are not on older Androids
    "-Xlambdas=class",
    "-Xsam-conversions=class",
    "-Xstring-concat=inline",
    "-no-reflect",
    "-Werror",
)


class BuildError(ClasskinfyError):
    """A module that does not compile."""


@dataclass(frozen=True)
class Module:
    """Kotlin sources of one kind, and what they are compiled against."""

    name: str
    folder: str
    """Of ``kotlin`` with the sources, and ``resources`` where there are any."""
    uses: tuple[Module, ...] = ()
    friend: Module | None = None
    """One whose internals it sees: what it tests."""

    def sources(self) -> list[Path]:
        """Return its Kotlin files. Raises BuildError when there are none."""
        found = sorted((ANDROID_DEMO / self.folder / "kotlin").rglob("*.kt"))
        if not found:
            raise BuildError(f"{self.name} has no sources in {ANDROID_DEMO / self.folder}")
        return found

    @property
    def resources(self) -> Path:
        """What lies beside the sources, where there is something."""
        return ANDROID_DEMO / self.folder / "resources"

    def test_classes(self) -> list[str]:
        """Return the full names of its classes of tests."""
        root = ANDROID_DEMO / self.folder / "kotlin"
        paths = [path for path in self.sources() if path.stem.endswith("Test")]
        return [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]


CORE = Module("core", "core/src/main")
ENGINE_ORT = Module("engine-ort", "engine-ort/src/main", (CORE,))
LITERT = Module("litert", "jvm/src/litert")
ENGINE_LITERT = Module("engine-litert", "engine-litert/src/main", (CORE, LITERT))
JVM = Module("jvm", "jvm/src/main", (CORE,))
RUNNER = Module("runner", "jvm/src/runner")
CORE_TESTS = Module("core-tests", "core/src/test", (CORE,), friend=CORE)
JVM_TESTS = Module("jvm-tests", "jvm/src/test", (CORE, JVM), friend=JVM)
_ENGINES = (ENGINE_ORT, LITERT, ENGINE_LITERT)
_TESTS = (CORE_TESTS, JVM_TESTS, RUNNER)
_NONE: Mapping[str, Path] = {}


@dataclass(frozen=True)
class Test:
    """One test method of a Kotlin class."""

    name: str
    outcome: str
    """passed, failed or skipped"""
    message: str | None


class Build:
    """Compiled modules, each in a folder that its inputs' hash names.

    Raises:
        MissingDependencyError: a tool cannot be had.
    """

    def __init__(self) -> None:
        for program in ("java", "bash"):
            if shutil.which(program) is None:
                raise MissingDependencyError(
                    f"there is no {program}", hint="install a JDK, 11 or later"
                )
        kotlin = toolchain.KOTLIN.folder()
        self._compiler = kotlin / "bin/kotlinc"
        self._standard = kotlin / "lib/kotlin-stdlib.jar"
        self._libraries = {
            "*": [toolchain.JSON.jar("com.android.json.jar")],
            ENGINE_ORT.name: [toolchain.ONNX_RUNTIME_AAR.classes()],
            LITERT.name: [toolchain.JNA.jar("jna.jar")],
        }
        self._junit = [toolchain.JUNIT.jar("junit4.jar"), toolchain.HAMCREST.jar("hamcrest.jar")]

    def compile(self, module: Module) -> Path:
        """Return the folder of a module's classes and resources.

        Raises:
            BuildError: the compiler says no.
        """
        paths = [*self._libraries["*"], *self._libraries.get(module.name, [])]
        paths += [self.compile(other) for other in module.uses]
        if module in _TESTS:
            paths += self._junit
        folder = toolchain.HOME.folder() / "build" / f"{module.name}-{_key(module, paths)}"

        def fill(made: Path) -> None:
            self._compile(module, paths, made)
            if module.resources.is_dir():
                shutil.copytree(module.resources, made, dirs_exist_ok=True)

        return toolchain.cached(folder, fill)

    def _compile(self, module: Module, paths: Iterable[Path], made: Path) -> None:
        name = module.friend.name if module.friend else module.name
        options = ["-module-name", name, "-cp", _joined(paths), "-d", str(made)]
        if module.friend:
            options.append(f"-Xfriend-paths={self.compile(module.friend)}")
        command = [str(self._compiler), *FLAGS, *options, *map(str, module.sources())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{module.name} does not compile: {done.stderr.strip()}")

    def class_path(self, *modules: Module) -> str:
        """Return what running these modules takes."""
        needed: dict[Module, None] = {}
        for module in modules:
            needed.update(dict.fromkeys((*module.uses, module)))
        paths = [self._standard, *self._libraries["*"], *map(self.compile, needed)]
        if ENGINE_ORT in needed:
            paths.append(toolchain.ONNX_RUNTIME_JAVA.folder())
        if LITERT in needed:
            paths += self._libraries[LITERT.name]
        if any(module in _TESTS for module in needed):
            paths += self._junit
        return _joined(paths)

    def java(
        self, class_path: str, *arguments: str, properties: Mapping[str, Path] = _NONE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the JVM with the desktop's native libraries.

        Args:
            class_path: where its classes are.
            arguments: the class, and what it is given.
            properties: of the system, beside those of the libraries or in their place.
        """
        all_properties = {**native_bridge.properties(), **properties}
        command = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", class_path]
        command += [f"-D{name}={value}" for name, value in all_properties.items()]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, env=environment
        )

    def replay(
        self, *arguments: str | Path, properties: Mapping[str, Path] = _NONE
    ) -> subprocess.CompletedProcess[str]:
        """Run ``Replay.kt``."""
        class_path = self.class_path(JVM, *_ENGINES)
        program = "org.classkinfy.jvm.ReplayKt"
        return self.java(class_path, program, *map(str, arguments), properties=properties)

    def test(self, module: Module, *others: Module, **given: Path) -> dict[str, list[Test]]:
        """Run a module's tests, and return them by class.

        Args:
            module: of tests.
            others: what else is on the class path.
            given: folders, which the tests find as ``-Dclasskinfy.NAME``.

        Raises:
            BuildError: the JVM ended before all classes told something.
        """
        classes = module.test_classes()
        properties = {f"classkinfy.{name}": path for name, path in given.items()}
        class_path = self.class_path(module, *others, RUNNER)
        program = "org.classkinfy.runner.RunnerKt"
        done = self.java(class_path, program, *classes, properties=properties)
        tests: dict[str, list[Test]] = {name: [] for name in classes}
        for line in done.stdout.splitlines():
            if line.startswith('{"class"'):
                said = json.loads(line)
                tests[said["class"]].append(Test(said["name"], said["outcome"], said["message"]))
        silent = [name for name, found in tests.items() if not found]
        if done.returncode or silent:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise BuildError(f"the JVM ended with {done.returncode}, {silent} told nothing: {said}")
        return tests

    def test_core(self, vectors: Path, results: Path) -> dict[str, list[Test]]:
        """Run core's tests, which bring an engine and a decoder of their own."""
        return self.test(CORE_TESTS, vectors=vectors, results=results)

    def test_engines(self, vectors: Path, bundle: Path) -> dict[str, list[Test]]:
        """Run the tests of the engines on a bundle, and of the decoder."""
        return self.test(JVM_TESTS, *_ENGINES, vectors=vectors, bundle=bundle)


def write_vectors(folder: Path) -> None:
    """Write what Kotlin is compared with, by the toolkit.

    Raises:
        BuildError: it cannot be written.
    """
    command = [sys.executable, str(Path(__file__).with_name("vectors.py")), str(folder)]
    done = subprocess.run(
        command, cwd=ANDROID_DEMO.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"the test vectors cannot be written: {done.stderr.strip()}")


def _key(module: Module, paths: Iterable[Path]) -> str:
    """Hash all that a compilation depends on; folders' and packages' names say their content."""
    digest = hashlib.sha256(repr((FLAGS, toolchain.KOTLIN, [*map(str, paths)])).encode())
    resources = sorted(path for path in module.resources.rglob("*") if path.is_file())
    for path in (*module.sources(), *resources):
        digest.update(f"{path.relative_to(ANDROID_DEMO)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _joined(paths: Iterable[Path]) -> str:
    return os.pathsep.join(map(str, paths))


def _test(bundle: Path) -> int:
    build = Build()
    with tempfile.TemporaryDirectory() as scratch:
        vectors, results = Path(scratch, "vectors"), Path(scratch, "results")
        results.mkdir()
        write_vectors(vectors)
        classes = {**build.test_core(vectors, results), **build.test_engines(vectors, bundle)}
    counts = Counter[str]()
    for name, tests in classes.items():
        for test in tests:
            counts[test.outcome] += 1
            if test.outcome != "passed":
                print(f"{test.outcome}: {name}.{test.name}: {test.message}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


def main(arguments: list[str]) -> int:
    """Run the tests, or ``Replay.kt``; return the exit code."""
    if len(arguments) == 2 and arguments[0] == "test":
        return _test(Path(arguments[1]))
    if not arguments or arguments[0] not in ("replay", "answer"):
        raise BuildError(f"unknown arguments {arguments}", hint=(__doc__ or "").partition("::")[2])
    done = Build().replay(*arguments)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClasskinfyError as error:
        sys.exit(f"{error}")
