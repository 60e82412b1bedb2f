"""The severity proxy: four features on the lesion mask, one score, terciles within a diagnosis.

No public data set grades severity. The origin scores area, border irregularity, darkness and
colour variance with weights .3 .3 .2 .2; so does this, redefined: area is a fraction of the image
(the origin's 10,000 pixels saturate on nearly every lesion), darkness is of the lesion and not of
the whole image, and ranges and cuts are fitted on the training part alone. It is a proxy, never
assessed by a clinician: ``taxonomy.PROXY_NOTICE`` goes wherever a grade is shown.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from pydantic import model_validator
from skimage.measure import label, perimeter_crofton

from classkinfy_export.data.dataset import Dataset, Progress
from classkinfy_export.data.folder import read_table
from classkinfy_export.data.masks import LESION_ABOVE
from classkinfy_export.document import Document
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

WEIGHTS = {"area_fraction": 0.3, "irregularity": 0.3, "darkness": 0.2, "colour_deviation": 0.2}
VERSION = 1
"""Of what is measured; it changes with how that is done."""
RANGE_PERCENTILES = (5, 95)
_GRAY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class Features:
    """What the proxy looks at, on the largest connected region (8 neighbours) of the mask.

    Attributes:
        area_fraction: its pixels over the image's, 0..1.
        irregularity: perimeter² / (4π area), 1 for a disc. The perimeter is Crofton's with four
            directions: a disc of 40 pixels' radius and more comes within 1.2 %, where counting
            border pixels makes it 1.1. Holes and the image's edge are border too.
        darkness: 1 - mean gray / 255 inside, gray by BT.601, 0..1. Absolute, not relative to the
            skin around: that needs skin, which lesions that fill the frame leave none of, and
            does not tell a lesion's photos better (intraclass correlation .88 against .89 on
            801 HAM10000 images of 350 lesions).
        colour_deviation: mean over R, G and B of the standard deviation inside, levels of 0..255.
    """

    area_fraction: float
    irregularity: float
    darkness: float
    colour_deviation: float


def measure(
    rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]
) -> Features:
    """Measure a lesion.

    Args:
        rgb: uint8 [H, W, 3] RGB, 0..255.
        mask: uint8 or bool [H, W]; the lesion is where it is not 0.

    Raises:
        DataError: the mask is empty, or of another size than the image.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if mask.shape != rgb.shape[:2]:
        sizes = f"{list(mask.shape)}, its image {list(rgb.shape[:2])}"
        raise DataError(f"the lesion mask is {sizes}", hint="give a mask of the image's size")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise DataError("the lesion mask is empty", hint="mark the lesion with 255 in the mask")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    regions = label(mask[box] != 0, connectivity=2)  # type: ignore[no-untyped-call]
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    area, region = int(areas.max()), regions == areas.argmax()
    pixels = rgb[box][region].astype(np.float64)
    perimeter = float(perimeter_crofton(region, directions=4))  # type: ignore[no-untyped-call]
    return Features(
        area_fraction=area / mask.size,
        irregularity=perimeter**2 / (4 * math.pi * area),
        darkness=1 - float(pixels.mean(axis=0) @ _GRAY) / 255,
        colour_deviation=float(pixels.std(axis=0).mean()),
    )


class SeverityScale(Document):
    """What turns features into a grade, fitted on the training part: it travels as JSON.

    Attributes:
        severities: names of the grades, mildest first.
        weights: of each feature in the score; they sum to 1.
        ranges: of each feature, the values that count as 0 and as 1: the 5th and 95th percentile
            over all graded images of the training part. Values beyond are clipped.
        cuts: of each diagnosis, the scores at which the next grade begins: quantiles of the
            training part's scores that make the grades equally frequent there.
    """

    severities: tuple[str, ...]
    weights: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    cuts: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.weights) != set(WEIGHTS) or set(self.ranges) != set(WEIGHTS):
            raise ValueError(f"weights and ranges must name {', '.join(WEIGHTS)}")
        if min(self.weights.values()) < 0 or not math.isclose(sum(self.weights.values()), 1):
            raise ValueError("weights must be positive and sum to 1")
        for feature, limits in self.ranges.items():
            if not (np.isfinite(limits).all() and limits[0] <= limits[1]):
                raise ValueError(f"range of {feature} is not ascending: {limits}")
        for dx, cuts in self.cuts.items():
            if len(cuts) != len(self.severities) - 1:
                raise ValueError(f"{dx} has {len(cuts)} cuts for {len(self.severities)} grades")
            if not (np.isfinite(cuts).all() and (np.diff(cuts) > 0).all()):
                raise ValueError(f"cuts of {dx} are not ascending: {cuts}")
        return self

    @classmethod
    def fit(cls, features: pd.DataFrame, dx: pd.Series[str], taxonomy: Taxonomy) -> Self:
        """Fit ranges and cuts.

        Args:
            features: index image, columns as ``Features``, of the training part **only**.
            dx: diagnosis by image. Images of ungraded diagnoses are left out.
            taxonomy: the graded diagnoses and the severities.

        Raises:
            DataError: too few or too like images of a graded diagnosis; a NaN.
        """
        dx = _aligned(dx, features)
        graded = features[dx.isin(taxonomy.graded)]
        remedy = "add images, or leave it out of taxonomy.graded"
        for graded_dx in taxonomy.graded:
            if (count := int((dx == graded_dx).sum())) < len(taxonomy.severities):
                raise DataError(
                    f"{graded_dx} has {count} training images, too few to grade", hint=remedy
                )
        limits = np.percentile(_values(graded), RANGE_PERCENTILES, axis=0).T.tolist()
        ranges = {name: (low, high) for name, (low, high) in zip(WEIGHTS, limits, strict=True)}
        uncut = cls(severities=taxonomy.severities, weights=WEIGHTS, ranges=ranges, cuts={})
        score = uncut.score(graded)
        quantiles = np.arange(1, len(taxonomy.severities)) / len(taxonomy.severities)
        cuts: dict[str, tuple[float, ...]] = {}
        for graded_dx in taxonomy.graded:
            found = np.quantile(score[dx[score.index] == graded_dx].to_numpy(), quantiles)
            if not (np.diff(found) > 0).all():
                raise DataError(f"severity scores of {graded_dx} are too alike", hint=remedy)
            cuts[graded_dx] = tuple(found.tolist())
        return cls(**{**uncut.model_dump(), "cuts": cuts})

    def score(self, features: pd.DataFrame) -> pd.Series[float]:
        """Return the weighted score of each image, 0..1. Raises DataError on NaN."""
        total = np.zeros(len(features))
        # One order of summation, so that a reloaded scale scores alike.
        for feature, values in zip(WEIGHTS, _values(features).T, strict=True):
            low, high = self.ranges[feature]
            if high > low:  # a feature that is the same in all images says nothing
                total += self.weights[feature] * np.clip((values - low) / (high - low), 0, 1)
        return pd.Series(total, features.index, name="score")

    def grade(self, features: pd.DataFrame, dx: pd.Series[str]) -> pd.Series[int]:
        """Return each image's grade, int64, 0 (mildest) .. number of severities - 1.

        A score on a cut takes the graver grade.

        Raises:
            DataError: an image's diagnosis is missing or is not a graded one.
        """
        dx = _aligned(dx, features)
        ungraded = ~dx.isin(list(self.cuts))
        if ungraded.any():
            raise DataError(
                f"image {dx.index[ungraded][0]} is {dx[ungraded].iloc[0]}, which is not graded",
                hint=f"graded are {', '.join(self.cuts)}",
            )
        pairs = zip(dx, self.score(features), strict=True)
        grades = [int(np.searchsorted(self.cuts[d], s, side="right")) for d, s in pairs]
        return pd.Series(grades, features.index, np.int64, name="severity")


def _values(features: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = features[list(WEIGHTS)].to_numpy(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(f"image {features.index[~finite][0]} has a feature that is no number")
    return values


def _aligned(dx: pd.Series[str], features: pd.DataFrame) -> pd.Series[str]:
    missing = features.index.difference(dx.index)
    if len(missing):
        raise DataError(f"image {missing[0]} has features and no diagnosis")
    return dx.loc[features.index]


def measure_dataset(
    dataset: Dataset,
    ids: Sequence[str],
    screened: Callable[[str], tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure images of a data set, on the experts' masks, or where there is none on ``screen``'s.

    Args:
        dataset: where they and their masks lie. In a mask file, above 127 is lesion.
        ids: which images.
        screened: from an image's id to the framed photo, uint8 [H, W, 3], and the mask that
            ``screen`` found on it, bool [H, W].
        progress: called with (done, total) after each image.

    Returns:
        index ``image_id`` in the order of ``ids``; float64 columns as ``Features``. Images where
        ``screen`` found nothing are left out.

    Raises:
        DataError: an unknown image, one without any mask, an expert's mask that is empty, cannot
            be decoded or has another size.
    """
    unknown = [i for i in ids if i not in dataset.records.index]
    if unknown:
        raise DataError(f"image {unknown[0]} is not in {dataset.root}")
    chosen = dataset.records.loc[list(ids)]
    unmasked = chosen.index[chosen["mask"].isna()]
    if len(unmasked) and screened is None:
        raise DataError(
            f"{len(unmasked)} of {len(chosen)} images have no lesion mask, the first is "
            f"{unmasked[0]}",
            hint="provide masks (a *segmentation* folder with <image_id>_segmentation.png), "
            "or your own grades in severity.csv",
        )
    rows: dict[str, dict[str, Any]] = {}
    for done, (image_id, path, mask) in enumerate(
        zip(chosen.index, chosen["path"], chosen["mask"], strict=True), start=1
    ):
        if progress is not None:
            progress(done, len(chosen))
        try:
            if pd.notna(mask):
                rgb, lesion = _decode(path, "RGB"), _decode(mask, "L") > LESION_ABOVE
            else:
                assert screened is not None
                rgb, lesion = screened(image_id)
                if not lesion.any():
                    continue
            features = measure(rgb, lesion)
        except (DataError, OSError, SyntaxError, ValueError) as error:
            used = "the screen's mask" if pd.isna(mask) else f"mask {mask}"
            raise DataError(
                f"image {image_id} with {used} cannot be measured: {error}",
                hint="mend or replace the file",
            ) from error
        rows[image_id] = dataclasses.asdict(features)
    index = pd.Index(list(rows), name="image_id")
    return pd.DataFrame(list(rows.values()), index=index, columns=list(WEIGHTS), dtype=np.float64)


def _decode(path: str, mode: str) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode), np.uint8)


def read_csv(path: Path, dataset: Dataset, taxonomy: Taxonomy) -> pd.Series[int]:
    """Read a user's own grades: ``image_id,severity``, a name or a number from 0.

    Args:
        path: the CSV file. Images that it leaves out are not graded.
        dataset: where the images are.
        taxonomy: the graded diagnoses and the severities.

    Returns:
        int64 grade by image id, 0 (mildest) .. number of severities - 1, sorted by id.

    Raises:
        DataError: the file cannot be read; an image that is unknown, repeated or of a diagnosis
            that is not graded; an unknown severity.
    """
    table = read_table(path, ("image_id", "severity")).set_index("image_id").sort_index()
    grade_of = {name: grade for grade, name in enumerate(taxonomy.severities)}
    grade_of |= {str(grade): grade for grade in range(len(taxonomy.severities))}
    unknown = table.index.difference(dataset.records.index)
    if len(unknown):
        raise DataError(
            f"{path} grades image {unknown[0]}, which is not in {dataset.root} "
            f"({len(unknown)} are not)",
            hint="image_id is the image file's name without its ending",
        )
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"{path} grades image {twice} twice", hint="keep one row for each image")
    wrong = ~table["severity"].isin(list(grade_of))
    if wrong.any():
        raise DataError(
            f"{path} gives image {table.index[wrong][0]} the unknown severity "
            f"{table['severity'][wrong].iloc[0]!r}",
            hint=f"allowed are {', '.join(grade_of)}",
        )
    dx = dataset.records["dx"].loc[table.index]
    ungraded = ~dx.isin(taxonomy.graded)
    if ungraded.any():
        raise DataError(
            f"{path} grades image {dx.index[ungraded][0]}, which is {dx[ungraded].iloc[0]}",
            hint=f"graded are {', '.join(taxonomy.graded)}; see taxonomy.graded in the recipe",
        )
    return table["severity"].map(grade_of).astype(np.int64)
