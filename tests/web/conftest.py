"""A page with a small bundle, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from web.browsing import Browser

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import web_page


@pytest.fixture(scope="session")
def page(once: Callable[[str, Callable[[Path], object]], Path], trunk_bundle: Path) -> Path:
    """The page as it is written. Copy it before altering it."""
    runtime = runtimes.get("web-litert")
    if runtime.version() is None:
        pytest.skip(f"{runtime.missing()} is not set up: {runtime.hint()}")
    return once("page", lambda folder: web_page.write(Bundle.open(trunk_bundle), folder))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Iterator[Browser]:
    """Chromium, started once. It depends on the page, whose needs are its own."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """Chromium that has forgotten everything."""
    chromium.begin()
    return chromium
