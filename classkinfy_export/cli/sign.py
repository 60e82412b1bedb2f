"""``classkinfy sign``: put one's name to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath


def command(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(help="A private key of 'classkinfy keygen'.")],
    json: terminal.Json = False,
) -> None:
    """Sign a bundle, after checking every hash. A signature that was there is replaced.

    Example: [bold]classkinfy sign bundle --key keys/release.pem[/]
    """
    from classkinfy_export.bundle import signature  # with it, cryptography

    signed = writer.sign(Bundle.open(bundle), key)
    assert signed.signer is not None
    told = signature.fingerprint(signed.signer)
    if json:
        terminal.emit({"manifest_sha256": signed.sha256, "signer": told})
        return
    terminal.out.print(f"{terminal.plain(bundle)} ({signed.sha256[:12]}) is signed by {told}")
    terminal.disclaim()
