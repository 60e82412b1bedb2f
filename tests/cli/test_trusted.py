"""Whom to trust, told to every verb, or to all of them by a variable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_bundle import make_bundle

from classkinfy_export.bundle import signature, writer
from classkinfy_export.cli.app import app

Classkinfy = Callable[..., Any]

# A verb, and what it is given beside a bundle: files that are not there, and so are not reached.
VERBS = {
    "inspect": (),
    "verify": (),
    "bench": (),
    "estimate": (),
    "report": (),
    "predict": ("photo.jpg",),
    "explain": ("photo.jpg",),
    "evaluate": ("--data", "data"),
    "localise": ("--runtime", "onnxruntime"),
    "quantize": ("--precision", "fp16", "--out", "out"),
    "embed": ("--web", "out"),
    "serve": (),
}


OPENS_TO_SIGN = "sign"
"""The verb for what nobody has signed yet."""


def test_no_verb_that_opens_a_bundle_is_left_out() -> None:
    given = {
        verb: {param.name for param in command.params}
        for verb, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    }
    opening = {verb for verb, names in given.items() if names & {"bundle", "target"}}
    assert opening - {OPENS_TO_SIGN} == VERBS.keys()
    assert all("trusted" in given[verb] for verb in VERBS)


@pytest.fixture
def store(tmp_path: Path, key: Path) -> Path:
    """Hold the public key, and one that signs nothing."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    signature.generate(tmp_path / "other.pem")
    for public in (key.with_suffix(".pub.pem"), tmp_path / "other.pub.pem"):
        (folder / public.name).write_bytes(public.read_bytes())
    return folder


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("told", ["option", "variable"])
def test_a_bundle_that_nobody_signed_is_refused_by_every_verb(
    verb: str,
    told: str,
    tmp_path: Path,
    store: Path,
    classkinfy: Classkinfy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_bundle(tmp_path / "bundle")
    option = ("--trusted", store) if told == "option" else ()
    if told == "variable":
        monkeypatch.setenv("CLASSKINFY_TRUSTED", str(store))
    ran = classkinfy(verb, made.path, *VERBS[verb], *option)
    ran.refused("is not signed, and 2 keys are trusted")


def test_one_that_a_key_of_the_folder_signed_is_opened(
    tmp_path: Path, key: Path, store: Path, classkinfy: Classkinfy
) -> None:
    signed = writer.sign(make_bundle(tmp_path / "bundle"), key)
    assert classkinfy("inspect", signed.path, "--trusted", store).exit_code == 0


def test_the_bundle_compared_with_has_to_be_signed_too(
    tmp_path: Path, key: Path, store: Path, classkinfy: Classkinfy
) -> None:
    signed = writer.sign(make_bundle(tmp_path / "bundle"), key)
    other = make_bundle(tmp_path / "other")
    for verb in ("verify", "bench"):
        ran = classkinfy(verb, signed.path, "--against", other.path, "--trusted", store)
        ran.refused("other is not signed")


def test_a_folder_without_keys_does_not_trust_everybody(
    tmp_path: Path, classkinfy: Classkinfy
) -> None:
    made = make_bundle(tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    classkinfy("inspect", made.path, "--trusted", tmp_path / "empty").refused("holds no *.pub.pem")
