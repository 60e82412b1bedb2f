"""Bundles to be opened or refused: signed, damaged, forged and hostile ones.

Each is the small bundle with one thing wrong. What the toolkit's own reader says of it must be what
is written here, except where a phone is asked to be stricter.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path
from typing import Any

from altered_bundles import AlteredBundles, Edit
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from classkinfy_export.bundle.manifest import MANIFEST, SEAL, SIGNATURE
from classkinfy_export.parity import golden

_ZEROS = {"sha256": "0" * 64, "size_bytes": 1}
_FILE = "models/prepare_fp32.onnx"


class BundleVectors(AlteredBundles):
    """The cases."""

    def write(self) -> list[dict[str, Any]]:
        """Write all bundles, and return the cases, as the toolkit's own reader sees them too."""
        self.expect("whole", signer="Unsigned")
        self._write_damaged()
        self._write_signed()
        self._write_hostile()
        self._write_golden()
        self._write_stricter()
        self.check()
        return self.cases

    def _write_damaged(self) -> None:
        def flip(path: Path) -> None:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

        def link(folder: Path) -> None:
            (folder / _FILE).unlink()
            (folder / _FILE).symlink_to(self.folder / "whole" / _FILE)

        def rename_class(folder: Path) -> None:
            data = (folder / MANIFEST).read_bytes()
            (folder / MANIFEST).write_bytes(data.replace(b"melanoma", b"melanomx"))

        self.altered("file_changed", lambda f: flip(f / _FILE), f"{_FILE} was changed")
        self.altered("file_longer", lambda f: _append(f / _FILE, b"x"), "the manifest says")
        self.altered("file_missing", lambda f: (f / _FILE).unlink(), f"{_FILE} is missing")
        self.altered("golden_changed", lambda f: flip(f / "golden/graded.gz"), "was changed")
        self.altered("file_is_link", link, "leads out of the bundle")
        self.altered("manifest_changed", rename_class, f"{MANIFEST} was changed")
        self.altered("seal_missing", lambda f: (f / SEAL).unlink(), f"{MANIFEST} was changed")
        self.altered("manifest_missing", lambda f: (f / MANIFEST).unlink(), "is not a bundle")
        self.altered("seal_of_text", lambda f: (f / SEAL).write_bytes(b"\xff" * 64), "was changed")

    def _write_signed(self) -> None:
        own, other, pem = [self.own], [self.other], [self.own_pem.read_text()]
        self.signed("signed", own, signer="Trusted")
        self.expect("signed", signer="Unknown")
        self.expect("signed", other, says="signed by another key")
        self.expect("signed", other + own, signer="Trusted")
        self.expect("signed", pem, signer="Trusted", python=False)  # reads keys from files
        self.expect("whole", own, says="is not signed")
        p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
        der = p384.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        half = base64.b64encode(bytes(32)).decode()
        zeros = base64.b64encode(bytes(64)).decode()
        changed = "is not of this manifest"
        forged: dict[str, tuple[Edit, str]] = {
            "other_key": (lambda s: s.update(public_key=self.other), changed),
            "p384": (lambda s: s.update(public_key=base64.b64encode(der).decode()), "P-256"),
            "no_key": (lambda s: s.update(public_key="AAAA"), "its key is no public key"),
            "short": (lambda s: s.update(signature=half), "has 32 bytes, not 64"),
            "not_base64": (lambda s: s.update(signature="?" * 88), "not base64"),
            "algorithm": (lambda s: s.update(algorithm="none"), "algorithm"),
            "no_signature": (lambda s: s.pop("signature"), "signature is missing"),
            "flipped": (_flip_signature, changed),
            "zeros": (lambda s: s.update(signature=zeros), "signature"),
        }
        for name, (edit, says) in forged.items():
            self.signed(f"signature_{name}", own, edit, says=says)
            self.expect(f"signature_{name}", says=says)
        self.altered("signature_junk", lambda f: (f / SIGNATURE).write_bytes(b"junk"), "not")
        big = b" " * (17 << 10)
        self.altered("signature_big", lambda f: (f / SIGNATURE).write_bytes(big), "no bundle needs")
        self.signed("signed_then_changed", own, says=changed)
        self.reseal("signed_then_changed", lambda m: m.update(name="other"))

    def _write_hostile(self) -> None:
        def file(path: str) -> Edit:
            return lambda m: m["files"].__setitem__(path, _ZEROS)

        def put(*path: str | int, to: object) -> Edit:
            return lambda m: _at(m, path[:-1]).__setitem__(path[-1], to)

        plain = "not a plain relative path"
        self.edited("bad_hash", put("files", _FILE, to={**_ZEROS, "size_bytes": 17}), "")
        self.edited("hash_upper", put("files", _FILE, "sha256", to="A" * 64), "sha256")
        for name, path in {
            "up": "../x",
            "up_inside": "models/../../x",
            "absolute": "/etc/passwd",
            "backslash": "a\\b",
            "drive": "c:x",
            "dot": "./x",
            "empty": "a//b",
        }.items():
            self.edited(f"path_{name}", file(path), plain)
        self.edited("too_new", put("schema_version", to=3), "update the app")
        self.edited("too_old", put("schema_version", to=1), "export the bundle again")
        self.edited("version_text", put("schema_version", to="2"), "schema_version")
        self.edited("no_version", lambda m: m.pop("schema_version"), "schema_version", python=False)
        self.edited("unpinned", put("models", 0, "path", to="models/x"), "no hash under files")
        self.edited("no_limit", lambda m: m["quality_rules"][0].pop("above"), "one limit")
        self.edited("two_limits", put("quality_rules", 0, "below", to=0.1), "one limit")
        self.edited("no_measure", put("quality_rules", 0, "measure", to="smell"), "unknown measure")
        self.edited("fit", put("fit", to="stretch"), "expected one of")
        self.edited("class_twice", put("taxonomy", "classes", 1, to="akiec"), "twice")
        self.edited("huge", put("capture", "height", to=10**9), "expected 1..8192")
        self.edited(
            "odd_nv21", put("capture", to={"height": 49, "width": 64, "layout": "nv21"}), "even"
        )
        self.edited("dtype", put("stages", 0, "outputs", 0, "dtype", to="float64"), "expected one")
        reads = "reads nothing, which no stage gave"
        self.edited("not_wired", put("stages", 2, "inputs", 0, "name", to="nothing"), reads)
        for key, value in {"name": 3, "models": {}, "files": [], "taxonomy": None}.items():
            self.edited(f"type_{key}", put(key, to=value), f"{MANIFEST}.{key}")
        self.raw("nan", lambda d: d.replace(b'"above": 0.15', b'"above": NaN'), "NaN")
        self.raw("cut_off", lambda d: d[: len(d) // 2], "not JSON")
        self.raw("goes_on", lambda d: d + b"{}", "goes on after its end")
        self.raw("not_utf8", lambda d: d.replace(b"melanoma", b"mel\xffnoma"), "not UTF-8")
        self.raw("a_list", lambda d: b"[]", "not an object")
        self.raw("nothing", lambda d: b"", "not JSON")
        self.raw("deep", lambda d: b'{"a":' + b"[" * 200_000, "")
        self.raw("big", lambda d: d + b" " * (17 << 20), "no bundle needs")

    def _write_golden(self) -> None:
        """Bundles that open, for they are whole; their golden vectors are wrong or not there."""
        image = f"{golden.FOLDER}/graded.gz"
        path = self.folder / "whole" / image
        raw = gzip.decompress(path.read_bytes())
        for name, data in {
            "golden_other_image": gzip.compress(bytes([raw[0] ^ 1]) + raw[1:], mtime=0),
            "golden_short_image": gzip.compress(raw[:-1], mtime=0),
            "golden_long_image": gzip.compress(raw + b"x", mtime=0),
            "golden_no_gzip": raw,
        }.items():
            self.copy(name)
            (self.folder / name / image).write_bytes(data)
            entry = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
            self.reseal(name, lambda m, entry=entry: m["files"].update({image: entry}))
            self.expect(name, signer="Unsigned")
        self.copy("no_golden")
        self.reseal("no_golden", lambda m: m["files"].pop(golden.INDEX))
        self.expect("no_golden", signer="Unsigned")

    def _write_stricter(self) -> None:
        """What would only fail later, or take all memory, which a phone must not meet."""

        def put(*path: str | int, to: object) -> Edit:
            return lambda m: _at(m, path[:-1]).__setitem__(path[-1], to)

        for name, edit, says in (
            (
                "negative_shape",
                put("stages", 0, "outputs", 0, "shape", to=[1, -48, 64, 3]),
                "is -48",
            ),
            ("large_shape", put("stages", 0, "outputs", 0, "shape", to=[1 << 20] * 3), "more than"),
            ("large_file", put("files", _FILE, "size_bytes", to=1 << 40), "size_bytes"),
            ("other_shape", put("stages", 2, "outputs", 0, "shape", to=[1, 8]), "expected float32"),
            (
                "no_quality",
                lambda m: m["stages"][0]["outputs"].pop(1),
                "no stage that gives quality",
            ),
            ("stage_twice", put("stages", 1, "name", to="prepare"), "names a stage twice"),
            ("grades_twice", put("stages", 4, "diagnosis", to="mel"), "grades a class twice"),
            ("grader_of_none", put("stages", 3, "diagnosis", to="df"), "not graded"),
            ("fused_lacks", lambda m: m["pipeline"]["outputs"].pop(), "without [severity]"),
            ("unknown_entry", put("models", 0, "entries", "x", to="x"), "does not describe"),
            (
                "many_rules",
                lambda m: m["quality_rules"].extend(m["quality_rules"] * 10),
                "33 rules",
            ),
        ):
            self.edited(name, edit, says, python=False)


def _append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def _flip_signature(content: dict[str, Any]) -> None:
    both = bytearray(base64.b64decode(content["signature"]))
    both[3] ^= 1
    content["signature"] = base64.b64encode(both).decode()


def _at(content: Any, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401  (JSON)
    for key in path:
        content = content[key]
    return content
