"""A bundle, its evidence and, where there are photos, where it looked: one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import DataError, require
from classkinfy_export.jobs import held_out
from classkinfy_export.jobs.target import Target

if TYPE_CHECKING:
    from classkinfy_export.reporting.montage import Montage

Report = Callable[[str, int, int], None]


def report(
    path: Path,
    *,
    data: Path | None = None,
    split_csv: Path | None = None,
    part: str | None = None,
    trusted: Sequence[str] = (),
    progress: Report = lambda what, done, total: None,
) -> tuple[str, Bundle]:
    """Draw the page.

    Args:
        path: of the bundle.
        data: a data set's folder; some photos of each class are then explained.
        split_csv: the data's split, where the model was trained on a part of them.
        part: of the split; ``test`` by default.
        trusted: public keys, one of which has to have signed the bundle.
        progress: told what is done.

    Returns:
        HTML, and the bundle opened.

    Raises:
        BundleError: the bundle holds no PyTorch weights to explain.
        DataError: as ``held_out.choose``; a split without data.
        MissingDependencyError: the ``report`` extra is not installed; with ``data``, ``train``.
    """
    for module in ("jinja2", "matplotlib"):
        require(module, extra="report", purpose="writing a report")
    from classkinfy_export.reporting.page import render

    bundle = Bundle.open(path, trusted)
    montages: tuple[Montage, ...] = ()
    if data is not None:
        require("pandas", extra="train", purpose="reading a data set")
        from classkinfy_export.jobs.explain import montages as explain_classes

        target = Target(path, bundle, exported=True)
        records, _ = held_out.choose(target, data, split_csv=split_csv, part=part)
        montages = explain_classes(bundle, records, progress)
    elif split_csv is not None or part is not None:
        raise DataError("there are no photos to take a part of", hint="give --data")
    page = render(bundle, lambda done, total: progress("drawing", done, total), montages)
    return page, bundle
