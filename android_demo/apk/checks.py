"""What must hold of a built APK, each check on the file alone: ours, or one that Gradle made."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import aligned
from dex import Dex
from elf import Library

PERMISSIONS = {"android.permission.CAMERA"}
ABIS = {"arm64-v8a", "x86_64"}
MIN_SDK, TARGET_SDK = 26, 36
BUNDLE = "assets/classkinfy.ckb"
LICENCE = "assets/classkinfy-licence.txt"
_ANDROID = "http://schemas.android.com/apk/res/android:"


class CheckError(Exception):
    """What does not hold, and with which value."""


def signature_verifies(apk: Path) -> None:
    """By apksigner, with a scheme that signs the whole file."""
    with tempfile.TemporaryDirectory() as folder:  # it may leave temporary files beside
        copy = shutil.copy(apk, folder)
        said = _said("apksigner", "verify", "--verbose", "--min-sdk-version", str(MIN_SDK), copy)
    if "(APK Signature Scheme v2): true" not in said:
        raise CheckError(f"apksigner says: {said}")


def permissions_are_those_wanted(apk: Path) -> None:
    """The camera's alone; so no INTERNET."""
    said = _said("aapt2", "dump", "permissions", str(apk))
    found = set(re.findall(r"uses-permission: name='([^']+)'", said))
    if found != PERMISSIONS:
        raise CheckError(f"the app asks for {sorted(found)}, wanted {sorted(PERMISSIONS)}")


def manifest_is_guarded(apk: Path) -> None:
    """No backups, the SDKs wanted, and only the launcher's activity is open to other apps."""
    manifest = _manifest(apk)
    if _attribute(manifest, "uses-sdk", "minSdkVersion") != [str(MIN_SDK)] or _attribute(
        manifest, "uses-sdk", "targetSdkVersion"
    ) != [str(TARGET_SDK)]:
        raise CheckError(f"the SDKs are not {MIN_SDK} and {TARGET_SDK}")
    if _attribute(manifest, "application", "allowBackup") != ["false"]:
        raise CheckError("allowBackup is not false")
    for element in _elements(manifest, "activity"):
        name = _value(element, "name")
        launched = "android.intent.category.LAUNCHER" in element
        guarded = _value(element, "permission") == "android.permission.DUMP"
        if _value(element, "exported") != "false" and not launched and not guarded:
            raise CheckError(f"{name} can be started by any app")


def components_are_in_the_dex(apk: Path) -> None:
    """What the manifest and ``META-INF/services`` name is there, under that name."""
    classes = _dex(apk).classes
    manifest = _manifest(apk)
    named = {
        name
        for element in ("application", "activity")
        for name in _attribute(manifest, element, "name")
    }
    with zipfile.ZipFile(apk) as entries:
        services = [name for name in entries.namelist() if name.startswith("META-INF/services/")]
        for service in services:
            named |= set(entries.read(service).decode().split()) | {service.rpartition("/")[2]}
    wanted = {"org.classkinfy.core.Decoder", "org.classkinfy.core.EngineProvider"}
    if not wanted <= {service.rpartition("/")[2] for service in services}:
        raise CheckError(f"no service of {sorted(wanted)} is offered, only {services}")
    if not named <= classes:
        raise CheckError(f"not in classes.dex: {sorted(named - classes)}")


def dex_runs_on_android(apk: Path) -> None:
    """No call that the phone's runtime lacks."""
    if any("LambdaMetafactory" in text for text in _dex(apk).strings):
        raise CheckError("classes.dex mentions LambdaMetafactory, which Android has not")


def libraries_are_of_the_abis(apk: Path) -> None:
    """The same libraries for each ABI, each for its machine."""
    found: dict[str, set[str]] = {}
    for info, data in _libraries(apk):
        _, abi, name = info.filename.split("/")
        found.setdefault(abi, set()).add(name)
        if Library.parse(data).abi != abi:
            raise CheckError(f"{info.filename} is for {Library.parse(data).abi}")
    if set(found) != ABIS or len({frozenset(names) for names in found.values()}) != 1:
        raise CheckError(f"the libraries are {found}, wanted the same for {sorted(ABIS)}")


def libraries_load_with_large_pages(apk: Path) -> None:
    """16 KB pages: segments, and places in the file, are multiples of them."""
    for info, data in _libraries(apk):
        least = min(Library.parse(data).alignments)
        if least % aligned.PAGE:
            raise CheckError(f"{info.filename} has segments aligned to {least} bytes")
        offset = aligned.data_offset(apk, info)
        if info.compress_type != zipfile.ZIP_STORED or offset % aligned.PAGE:
            raise CheckError(f"{info.filename} is compressed, or begins at byte {offset}")


def stored_entries_are_aligned(apk: Path) -> None:
    """As zipalign says, which the installer asks of ``resources.arsc``."""
    _said("zipalign", "-c", "-p", "4", str(apk))


def models_are_stored(apk: Path) -> None:
    """The bundle is not compressed, nor is what is in it: it is read as a stream, once."""
    with zipfile.ZipFile(apk) as entries:
        info = _entry(entries, BUNDLE)
        offset = aligned.data_offset(apk, info)
        if info.compress_type != zipfile.ZIP_STORED or offset % aligned.WORD:
            raise CheckError(f"{BUNDLE} is compressed, or begins at byte {offset}")
        with zipfile.ZipFile(io.BytesIO(entries.read(info))) as bundle:
            models = [entry for entry in bundle.infolist() if entry.filename.startswith("models/")]
            packed = [entry.filename for entry in models if entry.compress_type]
    if packed or not models:
        raise CheckError(f"{len(models)} models, of which compressed: {packed}")


def constants_are_of_the_bundle(apk: Path) -> None:
    """The code expects the bundle that is in the package, and the weights' licence is named."""
    manifest = _bundle_manifest(apk)
    sha256 = hashlib.sha256(manifest).hexdigest()
    if sha256 not in _dex(apk).strings:
        raise CheckError(f"classes.dex does not know bundle {sha256}")
    licence = json.loads(manifest)["weights_licence"]
    with zipfile.ZipFile(apk) as entries:
        if licence.encode() not in entries.read(_entry(entries, LICENCE)):
            raise CheckError(f"{LICENCE} does not name {licence}")


CHECKS: dict[str, Callable[[Path], None]] = {
    check.__name__: check
    for check in (
        signature_verifies,
        permissions_are_those_wanted,
        manifest_is_guarded,
        components_are_in_the_dex,
        dex_runs_on_android,
        libraries_are_of_the_abis,
        libraries_load_with_large_pages,
        stored_entries_are_aligned,
        models_are_stored,
        constants_are_of_the_bundle,
    )
}


def problem(check: Callable[[Path], None], apk: Path) -> str | None:
    """Return what a check says, None when it holds."""
    try:
        check(apk)
    except (CheckError, ValueError) as error:
        return str(error)
    return None


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"{' '.join(command[:2])} says: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout


def _entry(entries: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        return entries.getinfo(name)
    except KeyError:
        raise CheckError(f"there is no {name}") from None


def _libraries(apk: Path) -> list[tuple[zipfile.ZipInfo, bytes]]:
    with zipfile.ZipFile(apk) as entries:
        infos = [info for info in entries.infolist() if info.filename.endswith(".so")]
        return [(info, entries.read(info)) for info in infos]


def _bundle_manifest(apk: Path) -> bytes:
    with zipfile.ZipFile(apk) as entries:
        packed = io.BytesIO(entries.read(_entry(entries, BUNDLE)))
    with zipfile.ZipFile(packed) as bundle:
        return bundle.read("manifest.json")


def _dex(apk: Path) -> Dex:
    with zipfile.ZipFile(apk) as entries:
        return Dex.parse(entries.read(_entry(entries, "classes.dex")))


def _manifest(apk: Path) -> str:
    return _said("aapt2", "dump", "xmltree", str(apk), "--file", "AndroidManifest.xml")


def _elements(manifest: str, name: str) -> list[str]:
    """Return the text of each element with all that is in it: the lines indented deeper."""
    lines = manifest.splitlines()
    found = []
    for start, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith(f"E: {name} "):
            inside = [line]
            for other in lines[start + 1 :]:
                if len(other) - len(other.lstrip()) <= indent:
                    break
                inside.append(other)
            found.append("\n".join(inside))
    return found


def _value(element: str, attribute: str) -> str | None:
    """Return an attribute of the element itself, which its children's follow."""
    own = element.split("\n", 1)[1].split("E: ", 1)[0] if "\n" in element else ""
    match = re.search(rf"A: {re.escape(_ANDROID)}{attribute}\(\w+\)=(\S+)", own)
    return None if match is None else match[1].strip('"')


def _attribute(manifest: str, element: str, attribute: str) -> list[str | None]:
    return [_value(found, attribute) for found in _elements(manifest, element)]
