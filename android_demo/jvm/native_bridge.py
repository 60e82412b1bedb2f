"""The desktop's native libraries, as the JVM finds them.

ONNX Runtime's JNI library of 2023 is linked against the ONNX Runtime of its day, which cannot read
today's ``uint8`` operators. Its C API promises that newer libraries serve older callers; only the
library's name and symbol version are compiled in, and are rewritten here to name the toolkit's own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from pathlib import Path

import toolchain

from classkinfy_export.errors import MissingDependencyError

_OLD_NAME, _OLD_VERSION = b"libonnxruntime.so.1.17.0", b"VERS_1.17.0"


def properties() -> dict[str, str]:
    """Return the JVM's system properties that name the libraries.

    Raises:
        MissingDependencyError: a library cannot be had here.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise MissingDependencyError(
            f"the JVM's engines are for Linux on x86_64, this is {platform.platform()}",
            hint="run these tests there",
        )
    return {
        "java.awt.headless": "true",
        "onnxruntime.native.path": str(_onnx_runtime()),
        "classkinfy.litert": str(_package("ai_edge_litert") / "libLiteRt.so"),
        "classkinfy.litert.version": importlib.metadata.version("ai-edge-litert"),
        "java.library.path": str(toolchain.JNA_NATIVE.folder() / "usr/lib/x86_64-linux-gnu/jni"),
        "jna.nosys": "false",  # Debian's JNA looks there only then
    }


def _onnx_runtime() -> Path:
    """Return a folder with the JNI library and, under the name that Java asks for, its partner."""
    library = next((_package("onnxruntime") / "capi").glob("libonnxruntime.so.1.*"), None)
    if library is None:
        raise MissingDependencyError(
            "the package onnxruntime has no libonnxruntime.so.1.*", hint="install 1.24 or later"
        )
    version = library.name.removeprefix("libonnxruntime.so.")

    def fill(made: Path) -> None:
        code = toolchain.ONNX_RUNTIME_JAVA.jni().read_bytes()
        partner = library.read_bytes()
        code = _relinked(code, _name(partner), b"VERS_" + version.encode())
        (made / "libonnxruntime4j_jni.so").write_bytes(code)
        (made / "libonnxruntime.so").write_bytes(partner)

    return toolchain.cached(toolchain.HOME.folder() / f"onnxruntime-jni-{version}", fill)


def _package(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"the Python package {module} is not installed",
            hint="pip install 'classkinfy-export[all]'",
        )
    return Path(spec.origin).parent


def _name(library: bytes) -> bytes:
    """Return the name that a library gives itself: its SONAME."""
    found = re.search(rb"libonnxruntime\.so\.\d+(?=\0)", library)
    if found is None:
        raise MissingDependencyError("ONNX Runtime's library does not tell its name")
    return found.group()


def _relinked(code: bytes, name: bytes, version: bytes) -> bytes:
    code = _replaced(code, _OLD_NAME + b"\0", name + b"\0")
    code = _replaced(code, _OLD_VERSION + b"\0", version + b"\0")
    old, new = (_elf_hash(text).to_bytes(4, "little") for text in (_OLD_VERSION, version))
    return _replaced(code, old, new)


def _replaced(code: bytes, old: bytes, new: bytes) -> bytes:
    if code.count(old) != 1 or len(new) > len(old):
        raise MissingDependencyError(f"ONNX Runtime's JNI library cannot be made to name {new!r}")
    return code.replace(old, new.ljust(len(old), b"\0"))


def _elf_hash(name: bytes) -> int:
    """Return the System V ABI's hash of a symbol version."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
