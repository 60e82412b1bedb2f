"""Who made a bundle: ECDSA over P-256 and SHA-256, of the manifest's bytes.

The manifest pins every other file, so signing it signs them all. The nonce is derived from key and
message (RFC 6979): the same key signs the same manifest with the same bytes. Java, Kotlin and
WebCrypto verify this without a library. The signature is r, then s, 32 bytes each (IEEE P1363), as
WebCrypto takes it; Java's DER is the same two numbers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from pydantic import ValidationError

from classkinfy_export.document import Document, explain
from classkinfy_export.errors import ClasskinfyError, IntegrityError

_HALF = 32
"""Bytes of a number below the order of P-256."""
MOST_BYTES = 16 * 1024
"""More than any signature has."""
_NO_KEY = "is no key of this kind"


class Signature(Document):
    """``manifest.json.sig``."""

    algorithm: Literal["ECDSA-P256-SHA256"] = "ECDSA-P256-SHA256"
    public_key: str
    """Base64 of the SubjectPublicKeyInfo."""
    signature: str
    """Base64 of r and s."""

    def to_bytes(self) -> bytes:
        """Serialise: the same signature gives the same bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def generate(path: Path) -> Path:
    """Write a new private key, for its owner alone, and the public one beside it as ``.pub.pem``.

    Args:
        path: of the private key (PKCS #8, PEM, not encrypted).

    Returns:
        the public key's path.

    Raises:
        ClasskinfyError: either is there already: what a key signed could not be told again.
    """
    if not path.name:
        raise ClasskinfyError(f"{path} is no name of a file", hint="release.pem for one")
    public = path.with_name(f"{path.stem}.pub.pem")
    for taken in (path, public):
        if taken.exists():
            raise ClasskinfyError(f"{taken} exists, and no key is overwritten", hint="name another")
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public


def sign(manifest: bytes, key: Path) -> Signature:
    """Sign a manifest.

    Args:
        manifest: its bytes.
        key: the private key's file, as ``generate`` writes it.

    Raises:
        ClasskinfyError: no such file, or no private key on P-256 without a password.
    """
    data = _read(key)
    try:
        private = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ClasskinfyError(
            f"{key} {_NO_KEY}: {error}", hint="make one with 'classkinfy keygen'"
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not _on_p256(private.curve):
        raise ClasskinfyError(f"{key} {_NO_KEY}", hint="bundles are signed with ECDSA on P-256")
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(private.sign(manifest, algorithm))
    both = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
    return Signature(
        public_key=_encode(private.public_key()), signature=base64.b64encode(both).decode()
    )


def signer(manifest: bytes, data: bytes, source: str) -> str:
    """Return who signed a manifest: the public key, as base64 of its SubjectPublicKeyInfo.

    Args:
        manifest: its bytes.
        data: of ``manifest.json.sig``.
        source: the bundle's name, for errors.

    Raises:
        IntegrityError: it is no signature, or not of these bytes.
    """
    hint = "get the bundle again from who made it"
    try:
        given = Signature.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError(
            f"{source}: its signature cannot be read: {explain(error, Signature)}", hint=hint
        ) from error
    try:
        der = base64.b64decode(given.public_key, validate=True)
        both = base64.b64decode(given.signature, validate=True)
        public = serialization.load_der_public_key(der)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise IntegrityError(
            f"{source}: its signature cannot be read: {error}", hint=hint
        ) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not _on_p256(public.curve):
        raise IntegrityError(f"{source}: it is not signed with a key on P-256", hint=hint)
    if len(both) != 2 * _HALF:
        raise IntegrityError(
            f"{source}: its signature has {len(both)} bytes, not {2 * _HALF}", hint=hint
        )
    r, s = (int.from_bytes(both[at : at + _HALF], "big") for at in (0, _HALF))
    try:
        public.verify(encode_dss_signature(r, s), manifest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise IntegrityError(
            f"{source}: its signature is not of this manifest: one of them was changed", hint=hint
        ) from None
    return _encode(public)


def read_public(path: Path) -> str:
    """Read a public key to trust (PEM), as ``signer`` returns it.

    Raises:
        ClasskinfyError: no such file, or no public key on P-256.
    """
    data = _read(path)
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClasskinfyError(
            f"{path} {_NO_KEY}: {error}", hint="give the .pub.pem of 'classkinfy keygen'"
        ) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not _on_p256(public.curve):
        raise ClasskinfyError(f"{path} {_NO_KEY}", hint="bundles are signed with ECDSA on P-256")
    return _encode(public)


def read_trusted(paths: Iterable[Path]) -> tuple[str, ...]:
    """Read public keys to trust: files, and all ``*.pub.pem`` of folders.

    Raises:
        ClasskinfyError: a folder without keys, which would trust nobody; or as ``read_public``.
    """
    keys: list[str] = []
    for path in paths:
        files = sorted(path.glob("*.pub.pem")) if path.is_dir() else [path]
        if not files:
            raise ClasskinfyError(
                f"trusted keys: {path} holds no *.pub.pem",
                hint="put the .pub.pem of 'classkinfy keygen' there",
            )
        keys += [read_public(file) for file in files]
    return tuple(keys)


def fingerprint(public_key: str) -> str:
    """Return what people compare: the SHA-256 of a public key that ``signer`` returned."""
    return hashlib.sha256(base64.b64decode(public_key)).hexdigest()


def _encode(public: ec.EllipticCurvePublicKey) -> str:
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


def _on_p256(curve: ec.EllipticCurve) -> bool:
    return isinstance(curve, ec.SECP256R1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClasskinfyError(
            f"key {str(path)!r} cannot be read: {error.strerror}", hint="check the path"
        ) from error
