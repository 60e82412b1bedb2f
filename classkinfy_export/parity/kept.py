"""What was seen of images, in files: a run that is stopped goes on, and one again takes seconds."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

import classkinfy_export


class Seen(BaseModel):
    """Something seen of an image."""

    image: str
    """The SHA-256 of its file; of a golden vector, its name."""


_Seen = TypeVar("_Seen", bound=Seen)


class Kept(Generic[_Seen]):
    """What was seen of images under the same conditions, a line each, added to as it is seen.

    Args:
        folder: where the file is; None keeps all in memory alone.
        name: begins the file's name.
        conditions: of these the file is, and of this toolkit's code: others have others.
        kind: of what is kept.
    """

    def __init__(
        self, folder: Path | None, name: str, conditions: object, kind: type[_Seen]
    ) -> None:
        self.seen: dict[str, _Seen] = {}
        """By image."""
        self._file: TextIO | None = None
        if folder is None:
            return
        given = json.dumps([_toolkit(), conditions], sort_keys=True)
        path = folder / f"{name}-{hashlib.sha256(given.encode()).hexdigest()[:32]}.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    seen = kind.model_validate_json(line)
                except ValidationError:
                    continue  # the last line of a run that was killed
                self.seen[seen.image] = seen
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size:
            self._file.write("\n")

    def add(self, seen: _Seen) -> None:
        """Keep what was seen of an image."""
        self.seen[seen.image] = seen
        if self._file is not None:
            self._file.write(seen.model_dump_json() + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@functools.cache
def _toolkit() -> str:
    """Return the hash of this package's code: of another nothing is believed that was kept."""
    digest = hashlib.sha256()
    for path in sorted(Path(classkinfy_export.__file__).parent.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()
