"""A folder of programs that ``classkinfy doctor --install`` fills, beside pip's packages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from classkinfy_export import files
from classkinfy_export.errors import MissingDependencyError


@dataclass(frozen=True)
class Installation:
    """Where runtimes are that pip does not install."""

    name: str
    """What ``doctor --install`` calls it."""
    what: str
    """What errors call it."""

    RECORD: ClassVar[str] = "installed.json"
    """Packages' versions, written last."""

    @property
    def variable(self) -> str:
        """The environment variable that moves it."""
        return f"CLASSKINFY_{self.name.upper()}"

    @property
    def hint(self) -> str:
        """How to fill it."""
        return f"classkinfy doctor --install {self.name}"

    def folder(self) -> Path:
        """Return where it is: as its variable says, or in the user's cache."""
        given = os.environ.get(self.variable)
        if given:
            return Path(given).expanduser().absolute()
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "classkinfy" / self.name

    def versions(self) -> dict[str, str]:
        """Return packages' versions, none where it was not filled."""
        path = self.folder() / self.RECORD
        if not path.is_file():
            return {}
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found

    @contextmanager
    def renewed(self) -> Iterator[tuple[Path, dict[str, str]]]:
        """Give a folder to fill and versions to write; the old one goes when that is done.

        Raises:
            MissingDependencyError: something else is in its place.
        """
        folder = self.folder()
        if folder.is_dir() and any(folder.iterdir()) and not (folder / self.RECORD).is_file():
            raise MissingDependencyError(
                f"{folder} holds something that is no {self.what}",
                hint=f"give {self.variable} a folder that is empty or not there",
            )
        versions: dict[str, str] = {}
        with files.new_folder(folder, overwrite=True) as made:
            yield made, versions
            record = json.dumps(versions, indent=2) + "\n"
            (made / self.RECORD).write_text(record, encoding="utf-8")
