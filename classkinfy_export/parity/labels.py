"""What photos show, by their names: from a CSV file, without pandas."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy


class Label(NamedTuple):
    """Of one photo."""

    dx: str
    lesion: str
    """Photos of one lesion are near copies; the photo's own name where the file does not say."""


@dataclass(frozen=True)
class Labels:
    """Labels by a photo's name without its ending.

    Args:
        of: the labels.
        source: what they were read from, for messages.
    """

    of: dict[str, Label]
    source: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table with columns ``image_id`` and ``dx``, and ``lesion_id`` where there is one.

        Raises:
            DataError: the file cannot be read, lacks a column, or names a photo twice.
        """
        found: dict[str, Label] = {}
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                missing = {"image_id", "dx"} - set(rows.fieldnames or ())
                if missing:
                    raise DataError(
                        f"{path} has no column {' and no '.join(sorted(missing))}",
                        hint="labels are a CSV file with image_id, dx and, if known, lesion_id",
                    )
                for row in rows:
                    name = (row["image_id"] or "").strip()
                    if name in found:
                        raise DataError(f"{path} names {name!r} twice")
                    lesion = (row.get("lesion_id") or "").strip() or name
                    found[name] = Label((row["dx"] or "").strip(), lesion)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as CSV: {error}") from error
        return cls(found, str(path))

    def check(self, taxonomy: Taxonomy, names: Sequence[str]) -> None:
        """Check that these photos have labels, and that the bundle knows them.

        Raises:
            DataError: none has one, or one is of another class.
        """
        ours = [name for name in names if name in self.of]
        if not ours:
            raise DataError(
                f"{self.source} has no label for any of the {len(names)} images",
                hint="image_id is a photo's file name without its ending",
            )
        for name in ours:
            if self.of[name].dx not in taxonomy.classes:
                raise DataError(
                    f"{self.source} says that {name} is {self.of[name].dx!r}",
                    hint=f"the bundle knows {', '.join(taxonomy.classes)}",
                )
