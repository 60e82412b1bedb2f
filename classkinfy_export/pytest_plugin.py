"""Parity as tests of pytest: one for each runtime, precision, form, stage and gate.

::

    pytest --classkinfy-bundle bundle --classkinfy-images photos --classkinfy-limit 200

Everything runs once, when tests are collected; then each test tells what was found for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from classkinfy_export.reporting.junit import Check


_TRUSTED = "CLASSKINFY_TRUSTED"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; without ``--classkinfy-bundle`` nothing is added to a run."""
    group = parser.getgroup("classkinfy", "parity of an exported bundle")
    group.addoption("--classkinfy-bundle", type=Path, metavar="PATH", help="A bundle to verify.")
    group.addoption("--classkinfy-images", type=Path, metavar="DIR", help="Photos.")
    group.addoption("--classkinfy-limit", type=int, metavar="N", help="At most so many photos.")
    group.addoption("--classkinfy-runtimes", metavar="NAMES", help="Comma-separated.")
    group.addoption(
        "--classkinfy-trusted",
        type=Path,
        action="append",
        metavar="KEYS",
        help=f"A public key, or a folder of them, to have signed it; {_TRUSTED} says it, too.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Verify the bundle, and add its checks to the tests."""
    path: Path | None = config.getoption("--classkinfy-bundle")
    if path is not None:
        collector = _Bundle.from_parent(session, name=path.name)
        items.extend(_Item.from_parent(collector, check=check) for check in _checks(config, path))


def _checks(config: pytest.Config, path: Path) -> Iterator[Check]:
    from classkinfy_export.bundle.reader import Bundle
    from classkinfy_export.errors import ClasskinfyError
    from classkinfy_export.frame import choose, list_images
    from classkinfy_export.parity.verify import verify
    from classkinfy_export.reporting.junit import checks

    images: Path | None = config.getoption("--classkinfy-images")
    runtimes: str | None = config.getoption("--classkinfy-runtimes")
    told: list[Path] | None = config.getoption("--classkinfy-trusted")
    trusted = told or [Path(p) for p in os.environ.get(_TRUSTED, "").split(os.pathsep) if p]
    try:
        found = list_images(images) if images is not None else []
        report = verify(
            Bundle.open(path, _keys(trusted)),
            choose(found, config.getoption("--classkinfy-limit")),
            names=[name.strip() for name in runtimes.split(",")] if runtimes else None,
        )
    except ClasskinfyError as error:
        raise pytest.UsageError(str(error)) from error
    yield from checks(report)


def _keys(trusted: list[Path]) -> tuple[str, ...]:
    if not trusted:  # without, what reads keys is not needed
        return ()
    from classkinfy_export.bundle import signature

    return signature.read_trusted(trusted)


class _Bundle(pytest.Collector):
    def collect(self) -> list[pytest.Item]:
        return []  # its items are added beside those of files


class _Item(pytest.Item):
    def __init__(self, *, check: Check, **given: Any) -> None:  # noqa: ANN401  (pytest's own)
        super().__init__(f"{check.group}[{check.name}]", **given)
        self.check = check

    def runtest(self) -> None:
        for line in self.check.lines:
            self.add_report_section("call", "parity", line)
        if self.check.skipped is not None:
            pytest.skip(self.check.skipped)
        if self.check.failures:
            pytest.fail("\n".join(self.check.failures), pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
