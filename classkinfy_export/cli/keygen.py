"""``classkinfy keygen``: a key to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.cli import terminal


def command(
    key: Annotated[Path, typer.Argument(help="Where the private key goes, release.pem for one.")],
    json: terminal.Json = False,
) -> None:
    """Make a private key, and the public one beside it that apps and readers are told to trust.

    Example: [bold]classkinfy keygen keys/release.pem[/]
    """
    from classkinfy_export.bundle import signature  # with it, cryptography

    public = signature.generate(key)
    encoded = signature.read_public(public)
    if json:
        terminal.emit(
            {
                "private_key": str(key),
                "public_key": str(public),
                "encoded": encoded,
                "fingerprint": signature.fingerprint(encoded),
            }
        )
        return
    terminal.out.print(
        f"private: {terminal.plain(key)}, not encrypted: keep it out of the repository\n"
        f"public: {terminal.plain(public)} ({signature.fingerprint(encoded)})\n"
        f"for apps: {encoded}"
    )
