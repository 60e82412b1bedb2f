"""Builds a signed APK of the app without Gradle, and checks it.

A smoke check, and no release build: API 23's android.jar, dx for D8, ONNX Runtime alone (LiteRT's
AAR is in Google's Maven repository only), a key of the moment. What it shows is that the app's
sources compile, that its manifest and resources hold together, and what lies in the package::

    python android_demo/apk/smoke.py BUNDLE APK      # "N passed, M failed, K skipped: reason"
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1] / "jvm")]

import aligned
import checks
import native_bridge
import packages
import toolchain
from compilers import Compilers, javac, joined, key, run

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ClasskinfyError, MissingDependencyError
from classkinfy_export.jobs import android

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent
ABIS = ("arm64-v8a", "x86_64")
MIN_SDK, TARGET_SDK = 26, 36
MODULES = ("core", "engine-ort", "android", "app")
"""In the order in which they are compiled; each sees those before it."""


class Apk:
    """One build, in a folder of its own."""

    def __init__(self, work: Path, bundle: Bundle) -> None:
        self.compilers = Compilers.found()
        self.work = work
        self.embedded = work / "embedded"
        android.embed(bundle, self.embedded)

    def build(self, apk: Path) -> None:
        """Write the signed APK.

        Raises:
            BuildError: a step failed.
        """
        linked = self._link()
        classes = self.classes()
        dex = self._dex(list(classes.values()))
        unsigned = self.work / "unsigned.apk"
        self._assemble(linked, dex, unsigned)
        self._sign(unsigned, apk)

    def classes(self) -> dict[str, Path]:
        """Return each module's folder of classes."""
        java = toolchain.ONNX_RUNTIME_AAR.classes()
        compiled: dict[str, Path] = {}
        for name in MODULES:
            sources = sorted((DEMO / name / "src/main/kotlin").rglob("*.kt"))
            uses = [*compiled.values()]
            if name == "engine-ort":
                uses.append(java)
            if name == "app":
                sources += sorted((self.embedded / "src/main/kotlin").rglob("*.kt"))
                uses.append(self.resources_class())
            compiled[name] = self.compilers.compile(name, sources, uses)
        return compiled

    def resources_class(self) -> Path:
        """Return the compiled ``R``."""
        source = self._link().with_name("java") / "org/classkinfy/demo/R.java"
        folder = toolchain.HOME.folder() / "build" / f"apk-r-{key(source)}"
        jar = self.compilers.android_jar
        return toolchain.cached(folder, lambda made: javac([source], made, jar))

    def samples(self) -> None:
        """Compile the README's two samples; raise ``BuildError`` when one does not."""
        classes = list(self.classes().values())
        folder = DEMO / "android/samples"
        self.compilers.compile("sample", [folder / "Lesions.kt"], classes)
        made = self.work / "sample"
        made.mkdir()
        paths = [
            self.compilers.stubs,
            self.compilers.android_jar,
            self.compilers.standard,
            *classes,
        ]
        javac([folder / "Lesions.java"], made, *paths)

    def test(self, name: str, bundle: Bundle, extras: str) -> str:
        """Run a module's unit tests on the desktop's JVM, and return JUnit's words.

        Raises:
            BuildError: a test failed, or does not compile.
        """
        classes = self.classes()
        libraries = [toolchain.JUNIT.jar("junit4.jar"), toolchain.HAMCREST.jar("hamcrest.jar")]
        folder = DEMO / name / "src/test"
        sources = sorted((folder / "kotlin").rglob("*.kt"))
        tests = self.compilers.compile(
            f"{name}-tests", sources, [*classes.values(), *libraries], classes[name]
        )
        # Without android.jar, whose methods do nothing: what touches Android fails loudly.
        paths = [
            tests,
            folder / "resources",
            *classes.values(),
            *libraries,
            self.compilers.standard,
        ]
        paths += [toolchain.ONNX_RUNTIME_JAVA.folder(), toolchain.JSON.jar("com.android.json.jar")]
        properties = {
            **native_bridge.properties(),
            "classkinfy.bundle": bundle.path,
            "classkinfy.archive": self.embedded / "src/main/assets" / android.ASSET,
            "classkinfy.extras": extras,
        }
        names = [
            path.relative_to(folder / "kotlin").with_suffix("").as_posix().replace("/", ".")
            for path in sources
            if path.stem.endswith("Test")
        ]
        return run(
            *("java", "-Xmx1g", *(f"-D{key}={value}" for key, value in properties.items())),
            *("-cp", joined(paths), "org.junit.runner.JUnitCore", *names),
        )

    def _link(self) -> Path:
        linked = self.work / "linked.apk"
        if linked.exists():
            return linked
        return link((DEMO / "app/src/main/AndroidManifest.xml").read_text(), self.work, linked)

    def _dex(self, classes: list[Path]) -> Path:
        lower = self.work / "lower"
        asm = packages.ASM.jar("asm.jar")
        lower.mkdir()
        run("javac", "-d", lower, "-cp", asm, HERE / "Lower.java")
        runtime, program, dex = (
            self.work / name for name in ("ort.jar", "program.jar", "classes.dex")
        )
        run(
            "java",
            "-cp",
            joined([lower, asm]),
            "Lower",
            toolchain.ONNX_RUNTIME_AAR.classes(),
            runtime,
        )
        every = [*classes, self.resources_class(), runtime, self.compilers.standard]
        run(
            *("proguard", f"@{HERE / 'proguard.pro'}"),
            *("-injars", ":".join(f"{path}(!META-INF/**,**.class)" for path in every)),
            *("-outjars", program),
            *("-libraryjars", f"{self.compilers.stubs}:{self.compilers.android_jar}"),
        )
        dx = packages.DX.jar("com.android.dx.jar")
        run(
            *("java", "-Xmx1g", "-cp", dx, "com.android.dx.command.Main", "--dex"),
            *(f"--min-sdk-version={MIN_SDK}", f"--output={dex}", program),
        )
        return dex

    def _assemble(self, linked: Path, dex: Path, unsigned: Path) -> None:
        native = toolchain.ONNX_RUNTIME_AAR.folder() / "jni"
        with zipfile.ZipFile(linked) as source, zipfile.ZipFile(unsigned, "w") as apk:
            for info in source.infolist():
                data = source.read(info)
                if info.compress_type == zipfile.ZIP_STORED:
                    aligned.add_stored(apk, info.filename, data, aligned.WORD)
                else:
                    apk.writestr(zipfile.ZipInfo(info.filename), data, zipfile.ZIP_DEFLATED)
            apk.writestr(zipfile.ZipInfo(dex.name), dex.read_bytes(), zipfile.ZIP_DEFLATED)
            for name, data in self._services().items():
                apk.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
            for path in sorted((self.embedded / "src/main/assets").iterdir()):
                aligned.add_stored(apk, f"assets/{path.name}", path.read_bytes(), aligned.WORD)
            for path in sorted(path for abi in ABIS for path in (native / abi).glob("*.so")):
                name = f"lib/{path.parent.name}/{path.name}"
                aligned.add_stored(apk, name, path.read_bytes(), aligned.PAGE)

    def _services(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for module in MODULES:
            folder = DEMO / module / "src/main/resources"
            for path in sorted(folder.glob("META-INF/services/*")):
                name = path.relative_to(folder).as_posix()
                found[name] = found.get(name, b"") + path.read_bytes()
        return found

    def _sign(self, unsigned: Path, apk: Path) -> None:
        store = self.work / "key.p12"
        password = "of the moment"
        run(
            *("keytool", "-genkeypair", "-keystore", store, "-storetype", "PKCS12"),
            *("-storepass", password, "-alias", "smoke", "-dname", "CN=smoke build"),
            *("-keyalg", "EC", "-groupname", "secp256r1", "-validity", 1),
        )
        run(
            *("apksigner", "sign", "--ks", store, "--ks-pass", f"pass:{password}"),
            *(
                "--min-sdk-version",
                MIN_SDK,
                "--v1-signing-enabled",
                "false",
                "--out",
                apk,
                unsigned,
            ),
        )


def link(manifest: str, work: Path, linked: Path) -> Path:
    """Compile the resources, and link them with a manifest into an APK without code or assets."""
    framework = work / "framework-res.apk"  # its own path has a colon, which is a separator
    inside = "usr/share/android-framework-res/framework-res.apk"
    shutil.copyfile(packages.FRAMEWORK.folder() / inside, framework)
    run("aapt2", "compile", "--dir", DEMO / "app/src/main/res", "-o", work / "resources.zip")
    source = work / "AndroidManifest.xml"
    source.write_text(merged(manifest))
    run(
        *("aapt2", "link", "-I", framework, "--manifest", source, "-o", linked),
        *("--java", work / "java", "--auto-add-overlay"),
        *("--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK),
        *("--version-code", 1, "--version-name", "1.0", work / "resources.zip"),
    )
    return linked


def merged(manifest: str) -> str:
    """Do what Gradle's manifest merger does: the namespace comes in, what is to be removed goes."""
    kept = re.sub(r"<uses-permission [^>]*tools:node=\"remove\" />", "", manifest)
    return kept.replace("<manifest ", '<manifest package="org.classkinfy.demo" ', 1)


def main(bundle: str, apk: str) -> int:
    """Build and check; 1 when a check failed."""
    passed, failures = 0, 0
    try:
        with tempfile.TemporaryDirectory() as work:
            Apk(Path(work), Bundle.open(bundle)).build(Path(apk))
        for name, check in checks.CHECKS.items():
            problem = checks.problem(check, Path(apk))
            passed += problem is None
            failures += problem is not None
            print(f"{name}: {'ok' if problem is None else f'FAILED: {problem}'}")
    except MissingDependencyError as error:
        print(f"{passed} passed, {failures} failed, {len(checks.CHECKS)} skipped: {error}")
        return 0
    print(f"{passed} passed, {failures} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except ClasskinfyError as error:
        sys.exit(f"{error}")
