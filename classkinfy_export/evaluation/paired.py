"""Two classifiers' answers to the same labelled images: what changed, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from classkinfy_export.evaluation import figures
from classkinfy_export.evaluation.report import Change, Paired
from classkinfy_export.taxonomy import Taxonomy

_COMPARED = ("accuracy", "balanced_accuracy", "auroc", "ece")


def compare(
    labels: npt.NDArray[np.int64],
    lesions: Sequence[str],
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    taxonomy: Taxonomy,
    *,
    resamples: int = 1000,
) -> Paired:
    """Compare two classifiers on the same images.

    Args:
        labels: int64 [n].
        lesions: of each image; drawn again together.
        before: probabilities, float64 [n, classes].
        after: likewise, of the other.
        taxonomy: the classes, and which are malignant.
        resamples: of the bootstrap.
    """

    def measure(weights: figures.Values) -> dict[str, figures.Values]:
        one, other = (_figures(labels, given, weights, taxonomy) for given in (before, after))
        # An error of calibration is biased in a resample, a change of it is not: its name does not
        # end as figures.bootstrap knows biased ones by.
        return {
            name: values
            for n in one
            for name, values in (
                (f"{n}/before", one[n]),
                (f"{n}/after", other[n]),
                (f"{n}/change", other[n] - one[n]),
            )
        }

    found = figures.bootstrap(measure, lesions, resamples=resamples)
    right, right_after = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels
    lost, gained = int((right & ~right_after).sum()), int((~right & right_after).sum())
    changed = lost + gained
    return Paired(
        images=len(labels),
        lesions=len(set(lesions)),
        changes={
            name: Change(
                before=found[f"{name}/before"].value,
                after=found[f"{name}/after"].value,
                change=found[f"{name}/change"],
            )
            for name in (n.removesuffix("/change") for n in found if n.endswith("/change"))
        },
        lost=lost,
        gained=gained,
        mcnemar_p=float(binomtest(lost, changed).pvalue) if changed else 1.0,
    )


def _figures(
    labels: npt.NDArray[np.int64],
    given: npt.NDArray[np.float64],
    weights: figures.Values,
    taxonomy: Taxonomy,
) -> dict[str, figures.Values]:
    malignant = np.isin(taxonomy.classes, taxonomy.malignant)
    every = figures.measure(labels, given, weights, taxonomy.classes)
    said, true = malignant[given.argmax(axis=1)], malignant[labels]
    return {
        **{name: every[name] for name in _COMPARED},
        **{f"recall/{dx}": every[f"recall/{dx}"] for dx in taxonomy.malignant},
        "sensitivity": _share(said, true, weights),
        "specificity": _share(~said, ~true, weights),
    }


def _share(
    chosen: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_], weights: figures.Values
) -> figures.Values:
    whole = weights @ of
    part = weights @ (chosen & of)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
