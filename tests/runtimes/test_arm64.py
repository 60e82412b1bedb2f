"""A phone's kernels, emulated: the shipped model on real kernels, and what is said without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import shipped

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.jobs import arm64
from classkinfy_export.parity.verify import verify

NAMES = tuple(name for name in runtimes.NAMES if name.startswith("arm64"))


@pytest.mark.slow
def test_the_shipped_model_is_the_same_on_arm64_of_both_cores(
    shipped_bundle: Path, tmp_path: Path
) -> None:
    if runtimes.get(NAMES[0]).version() is None:
        pytest.skip(f"the emulated machine is not set up: {runtimes.get(NAMES[0]).hint()}")
    shipped.check(shipped_bundle, NAMES, tmp_path)


def test_without_the_emulated_machine_it_is_said_how_to_get_it(
    trunk_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_ARM64", str(tmp_path / "nowhere"))
    bundle = Bundle.open(trunk_bundle)
    for name in NAMES:
        with pytest.raises(MissingDependencyError, match="classkinfy doctor --install arm64"):
            runtimes.get(name).open(bundle)
    report = verify(bundle, names=["onnxruntime", NAMES[0]])
    assert not report.passed, "it was asked for"
    assert [missing.runtime for missing in report.not_run] == [NAMES[0]]
    assert not {d.runtime for d in verify(bundle).decisions} & set(NAMES), "only where it is named"


def test_a_machine_that_cannot_be_set_up_leaves_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64" / "installed.json").write_text('{"onnxruntime": "1.0"}')
    monkeypatch.setenv("CLASSKINFY_ARM64", str(tmp_path / "arm64"))
    monkeypatch.setattr(arm64, "_EMULATOR", ("no-such-package",))
    monkeypatch.setattr(arm64, "_unpack", refused)
    with pytest.raises(MissingDependencyError, match="no-such-package"):
        arm64.install()
    assert runtimes.get("arm64-onnxruntime").version() == "1.0 on QEMU"
    assert [path.name for path in tmp_path.iterdir()] == ["arm64"]
    monkeypatch.setenv("CLASSKINFY_ARM64", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="holds something that is no emulated machine"):
        arm64.install()
    monkeypatch.setattr(arm64.shutil, "which", lambda name: None)
    with pytest.raises(MissingDependencyError, match="apt-get is not here"):
        arm64.install()


def refused(made: Path, target: Path, packages: tuple[str, ...], *, foreign: bool) -> None:
    (made / "half").mkdir()
    raise MissingDependencyError(f"apt-get download failed with 100: {packages[0]}")
