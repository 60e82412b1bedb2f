"""Signatures: OpenSSL's opinion of ours, ours of forgeries, and RFC 6979's own example."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tiny_bundle import make_bundle

from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.manifest import MANIFEST, SEAL, SIGNATURE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ClasskinfyError, IntegrityError


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> Bundle:
    return writer.sign(make_bundle(tmp_path / "bundle"), key)


def public(key: Path) -> str:
    return signature.read_public(key.with_suffix(".pub.pem"))


def altered(bundle: Bundle, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    path = bundle.path / SIGNATURE
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return bundle.path


def pem(path: Path, key: Any) -> Path:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_the_signature_is_that_of_rfc_6979(tmp_path: Path) -> None:
    # Appendix A.2.5: P-256, SHA-256, message "sample".
    secret = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    r = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    s = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
    key = pem(tmp_path / "rfc.pem", ec.derive_private_key(secret, ec.SECP256R1()))
    made = base64.b64decode(signature.sign(b"sample", key).signature)
    assert made == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_openssl_verifies_what_was_signed(signed: Bundle, key: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    both = base64.b64decode(json.loads((signed.path / SIGNATURE).read_text())["signature"])
    r, s = (int.from_bytes(half, "big") for half in (both[:32], both[32:]))
    (tmp_path / "der").write_bytes(encode_dss_signature(r, s))

    def verified(data: Path) -> int:
        command = [openssl, "dgst", "-sha256", "-verify", str(key.with_suffix(".pub.pem"))]
        command += ["-signature", str(tmp_path / "der"), str(data)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert verified(signed.path / MANIFEST) == 0
    assert verified(signed.path / SEAL) != 0


def test_the_same_key_signs_with_the_same_bytes(signed: Bundle, key: Path) -> None:
    before = (signed.path / SIGNATURE).read_bytes()
    writer.sign(signed, key)
    assert (signed.path / SIGNATURE).read_bytes() == before


def test_a_private_key_is_for_its_owner_alone_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(ClasskinfyError, match="no key is overwritten"):
        signature.generate(key)
    assert key.read_bytes() == before


def test_a_signed_bundle_is_who_signed_it(signed: Bundle, key: Path) -> None:
    assert signed.signer == public(key)
    assert Bundle.open(signed.path, trusted=[public(key)]).sha256 == signed.sha256


def test_an_archive_is_signed_in_place(tmp_path: Path, key: Path) -> None:
    archive = tmp_path / "bundle.ckb"
    made = make_bundle(tmp_path / "bundle")
    writer.pack(made.path, archive)
    signed = writer.sign(Bundle.open(archive), key)
    assert signed.signer == public(key)
    assert signed.sha256 == made.sha256


def test_evidence_is_added_to_a_signed_bundle(signed: Bundle, key: Path) -> None:
    writer.add_evidence(signed, "latency", {"p50": 1})
    assert Bundle.open(signed.path).signer == public(key)


def test_unsigned_where_a_key_is_trusted_is_refused(tmp_path: Path, key: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    assert made.signer is None
    with pytest.raises(IntegrityError, match="is not signed, and 1 keys are trusted"):
        Bundle.open(made.path, trusted=[public(key)])


def test_another_signer_is_refused(signed: Bundle, tmp_path: Path) -> None:
    other = signature.read_public(signature.generate(tmp_path / "other.pem"))
    with pytest.raises(IntegrityError, match="signed by another key"):
        Bundle.open(signed.path, trusted=[other])


def test_a_manifest_that_was_changed_and_sealed_again_is_refused(signed: Bundle) -> None:
    changed = signed.manifest.model_copy(update={"name": "forged"})
    writer.seal(signed.path, changed)
    with pytest.raises(IntegrityError, match="not of this manifest"):
        Bundle.open(signed.path)


def _cut(text: str) -> str:
    return base64.b64encode(base64.b64decode(text)[:-1]).decode()


def _zero(text: str) -> str:
    return base64.b64encode(bytes(len(base64.b64decode(text)))).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"signature": _cut(d["signature"])},
        lambda d: d | {"signature": _zero(d["signature"])},
        lambda d: d | {"signature": "not base64!"},
        lambda d: d | {"signature": 3},
        lambda d: d | {"public_key": _cut(d["public_key"])},
        lambda d: d | {"public_key": ""},
        lambda d: d | {"algorithm": "none"},
        lambda d: d | {"more": 1},
        lambda d: {},
    ],
)
def test_a_signature_that_does_not_verify_is_refused(
    signed: Bundle, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    with pytest.raises(IntegrityError, match="signature"):
        Bundle.open(altered(signed, change))


def test_a_signature_of_another_curve_or_kind_is_refused(signed: Bundle) -> None:
    for foreign in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        der = foreign.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = base64.b64encode(der).decode()
        with pytest.raises(IntegrityError, match="not signed with a key on P-256"):
            Bundle.open(altered(signed, lambda d, key=key: d | {"public_key": key}))


def test_a_huge_signature_is_not_read(signed: Bundle) -> None:
    (signed.path / SIGNATURE).write_bytes(b" " * (signature.MOST_BYTES + 1))
    with pytest.raises(IntegrityError, match="bytes, which none needs"):
        Bundle.open(signed.path)


def test_keys_that_do_not_sign_say_why(tmp_path: Path) -> None:
    for name, data in {"text.pem": b"no key", "missing.pem": None}.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ClasskinfyError, match=name):
            signature.sign(b"", path)
        with pytest.raises(ClasskinfyError, match=name):
            signature.read_public(path)
    key = pem(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048))
    with pytest.raises(ClasskinfyError, match="ECDSA on P-256"):
        signature.sign(b"", key)
