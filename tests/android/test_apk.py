"""The app without Gradle: its sources compile, its tests pass, and a signed APK is as it must be.

Each check of an APK is also shown one that breaks it.
"""

from __future__ import annotations

import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.latency.device.app import Order

DEMO = Path(__file__).resolve().parents[2] / "android_demo"
sys.path[:0] = [str(DEMO / "apk"), str(DEMO / "jvm")]

import aligned  # noqa: E402
import checks  # noqa: E402
import smoke  # noqa: E402

Once = Callable[[str, Callable[[Path], object]], Path]
pytestmark = pytest.mark.slow
CAMERA = '<uses-permission android:name="android.permission.CAMERA" />'


@pytest.fixture(scope="session")
def smoke_build(trunk_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> smoke.Apk:
    try:
        return smoke.Apk(tmp_path_factory.mktemp("apk"), Bundle.open(trunk_bundle))
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def apk(smoke_build: smoke.Apk) -> Path:
    path = smoke_build.work / "smoke.apk"
    smoke_build.build(path)
    return path


@pytest.mark.parametrize("name", list(checks.CHECKS))
def test_the_apk_is_as_it_must_be(apk: Path, name: str) -> None:
    assert checks.problem(checks.CHECKS[name], apk) is None


def _rewritten(
    apk: Path,
    folder: Path,
    change: Callable[[str, bytes], bytes | None] = lambda name, data: data,
    *,
    deflate: str = "^$",
    alignment: int = aligned.PAGE,
) -> Path:
    """Copy an APK with entries changed, dropped (None), compressed, or aligned otherwise."""
    made = folder / "rewritten.apk"
    with zipfile.ZipFile(apk) as source, zipfile.ZipFile(made, "w") as target:
        for info in source.infolist():
            data = change(info.filename, source.read(info))
            if data is None:
                continue
            if info.compress_type or re.search(deflate, info.filename):
                target.writestr(info.filename, data, zipfile.ZIP_DEFLATED)
            else:
                word = alignment if info.filename.endswith(".so") else aligned.WORD
                aligned.add_stored(target, info.filename, data, word)
    return made


def _segments_aligned_to(page: int, data: bytes) -> bytes:
    changed = bytearray(data)
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(table, table + size * count, size):
        if struct.unpack_from("<I", data, at)[0] == 1:
            struct.pack_into("<Q", changed, at + 48, page)
    return bytes(changed)


def _without(pattern: str) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: None if re.search(pattern, name) else data


def _replaced(pattern: str, old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not re.search(pattern, name):
            return data
        assert old in data
        return data.replace(old, new)

    return change


BROKEN: dict[str, tuple[str, dict[str, object], str]] = {
    "an ABI is missing": (
        "libraries_are_of_the_abis",
        {"change": _without("^lib/x86_64/")},
        "wanted the same",
    ),
    "a library is missing in one ABI": (
        "libraries_are_of_the_abis",
        {"change": _without("^lib/arm64-v8a/libonnxruntime.so")},
        "wanted the same",
    ),
    "pages of 4 KB in a library": (
        "libraries_load_with_large_pages",
        {"change": lambda n, d: _segments_aligned_to(4096, d) if n.endswith(".so") else d},
        "segments aligned to 4096",
    ),
    "a library at another place": (
        "libraries_load_with_large_pages",
        {"alignment": 4096},
        "begins at byte",
    ),
    "a compressed library": (
        "libraries_load_with_large_pages",
        {"deflate": r"libonnxruntime4j_jni\.so$"},
        "is compressed",
    ),
    "resources at an odd place": (
        "stored_entries_are_aligned",
        {"alignment": 1},
        "zipalign",
    ),
    "a compressed bundle": (
        "models_are_stored",
        {"deflate": r"\.ckb$"},
        "is compressed",
    ),
    "no bundle": ("models_are_stored", {"change": _without(r"\.ckb$")}, "there is no"),
    "a service that is not in the code": (
        "components_are_in_the_dex",
        {"change": _replaced("EngineProvider$", b"OrtEngine", b"NoEngine")},
        "not in classes.dex",
    ),
    "no decoder": (
        "components_are_in_the_dex",
        {"change": _without("core.Decoder$")},
        "no service",
    ),
    "a lambda of Java 8": (
        "dex_runs_on_android",
        {"change": _replaced(r"\.dex$", b"IllegalArgumentException", b"LambdaMetafactoryOfJava8")},
        "LambdaMetafactory",
    ),
    "another licence": (
        "constants_are_of_the_bundle",
        {"change": lambda name, data: b"none" if "licence" in name else data},
        "does not name",
    ),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_an_apk_that_is_not_as_it_must_be_is_found(apk: Path, tmp_path: Path, name: str) -> None:
    check, changes, reason = BROKEN[name]
    broken = _rewritten(apk, tmp_path, **changes)  # type: ignore[arg-type]
    assert reason in str(checks.problem(checks.CHECKS[check], broken))


def test_an_apk_that_was_changed_after_signing_is_found(apk: Path, tmp_path: Path) -> None:
    data = bytearray(apk.read_bytes())
    with zipfile.ZipFile(apk) as entries:
        info = entries.getinfo(checks.BUNDLE)
    data[aligned.data_offset(apk, info) + info.file_size // 2] ^= 1
    changed = tmp_path / "changed.apk"
    changed.write_bytes(data)
    assert "apksigner" in str(checks.problem(checks.signature_verifies, changed))


def test_a_rewritten_apk_is_broken_by_its_change_alone(apk: Path, tmp_path: Path) -> None:
    same = _rewritten(apk, tmp_path)
    found = {name for name, check in checks.CHECKS.items() if checks.problem(check, same)}
    assert found == {"signature_verifies"}


@pytest.mark.parametrize(
    ("check", "old", "new", "reason"),
    [
        (
            "permissions_are_those_wanted",
            CAMERA,
            CAMERA + CAMERA.replace("CAMERA", "INTERNET"),
            "android.permission.INTERNET",
        ),
        ("permissions_are_those_wanted", CAMERA, "", "asks for []"),
        ("manifest_is_guarded", 'allowBackup="false"', 'allowBackup="true"', "allowBackup"),
        (
            "manifest_is_guarded",
            'android:permission="android.permission.DUMP"',
            "",
            "BenchmarkActivity can be started by any app",
        ),
    ],
)
def test_a_manifest_that_asks_for_more_is_found(
    smoke_build: smoke.Apk, tmp_path: Path, check: str, old: str, new: str, reason: str
) -> None:
    manifest = (DEMO / "app/src/main/AndroidManifest.xml").read_text()
    assert old in manifest
    linked = smoke.link(manifest.replace(old, new), tmp_path, tmp_path / "linked.apk")
    assert reason in str(checks.problem(checks.CHECKS[check], linked))
    right = smoke.link(manifest, tmp_path, tmp_path / "right.apk")
    assert checks.problem(checks.CHECKS[check], right) is None


@pytest.mark.parametrize("module", ["android", "app"])
def test_the_units_of_the_app_pass_on_a_desktop(
    smoke_build: smoke.Apk, trunk_bundle: Path, module: str
) -> None:
    try:
        said = smoke_build.test(module, Bundle.open(trunk_bundle), " ".join(Order._fields))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert re.search(r"^OK \([1-9]\d* tests\)", said, re.MULTILINE), said


def test_the_samples_of_the_readme_compile(smoke_build: smoke.Apk) -> None:
    readme = (DEMO / "README.md").read_text()
    for name in ("Lesions.kt", "Lesions.java"):
        assert (DEMO / "android/samples" / name).read_text() in readme
    smoke_build.samples()


def test_nothing_but_the_framework_is_used() -> None:
    for path in (*(DEMO / "app").rglob("*.kt"), *(DEMO / "android").rglob("*.kt")):
        assert "import androidx." not in path.read_text(), path
