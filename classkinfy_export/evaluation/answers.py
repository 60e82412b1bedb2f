"""What a session answers on a data set: a row for each image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from classkinfy_export.runtimes.session import Session

PROBABILITY = "p_"
_KNOWN = ("dx", "lesion_id", "age", "sex", "site")


def collect(
    session: Session,
    records: pd.DataFrame,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Predict every image of a data set.

    Args:
        session: the opened bundle.
        records: as of ``data.dataset.Dataset``.
        progress: called with (done, total).

    Returns:
        index ``image_id``; ``dx``, ``lesion_id``, ``age``, ``sex``, ``site`` of the records, and
        ``p_<class>``, ``diagnosis``, ``confidence``, ``severity``, ``accepted``. A refused image
        has probabilities all the same: quality is advice about a photo, not part of the figures.

    Raises:
        ImageError: an image cannot be read.
    """
    rows = []
    for done, path in enumerate(records["path"], start=1):
        answer = session.predict(path)
        rows.append(
            {
                **{f"{PROBABILITY}{dx}": p for dx, p in answer.probabilities.items()},
                "diagnosis": answer.diagnosis,
                "confidence": answer.confidence,
                "severity": answer.severity,
                "accepted": answer.accepted,
            }
        )
        progress(done, len(records))
    return records[list(_KNOWN)].join(pd.DataFrame(rows, index=records.index))


def probabilities(answers: pd.DataFrame, classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the probabilities, float64 [n, classes]."""
    return answers[[f"{PROBABILITY}{dx}" for dx in classes]].to_numpy(np.float64)
