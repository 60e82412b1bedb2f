"""The severities that a run learns, and what the proxy measured of each image."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from classkinfy_export.contract import Capture
from classkinfy_export.data import masks
from classkinfy_export.data import severity as severities
from classkinfy_export.data.dataset import Dataset, Progress
from classkinfy_export.frame import frame
from classkinfy_export.recipes import TrainRecipe
from classkinfy_export.training import cache

_RATIOS = ["area_fraction", "irregularity"]
"""Measures that are told by their logarithm."""


class Proxy:
    """The severity proxy on a data set, measured once: on experts' masks, else on the screen's.

    Args:
        dataset: the images.
        recipe: of the run.
        split: column ``part``; ranges and cuts are fitted on ``train`` alone.
        lesion_masks: uint8 [n, h, w], the screen's.
        folder: of the cache.
        progress: called with (done, total) images.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: TrainRecipe,
        split: pd.DataFrame,
        lesion_masks: npt.NDArray[Any],
        folder: Path,
        progress: Progress,
    ) -> None:
        self.dataset, self.recipe, self.split = dataset, recipe, split
        self.lesion_masks, self.folder, self.progress = lesion_masks, folder, progress
        self.capture = Capture(**recipe.working_size.model_dump())

    def grades(self) -> tuple[pd.Series[int], str]:
        """Return each image's grade, by image, and what it was measured on."""
        features = self._features
        records = self.dataset.records.loc[features.index]
        train = self.split.loc[features.index, "part"] == "train"
        dx = records["dx"]
        scale = severities.SeverityScale.fit(features[train], dx[train], self.recipe.taxonomy)
        expert = int(records["mask"].notna().sum())
        source = f"proxy on {expert} expert masks and {len(features) - expert} of the screen's"
        return scale.grade(features, dx).rename("severity"), source

    def measures(self) -> npt.NDArray[np.float32]:
        """Return what was measured, of mean 0 and deviation 1 over the training part.

        Returns:
            float32 [n, 4] for all images of the data set, in its order; NaN where not measured.
        """
        index = self.dataset.records.index
        features = self._features.reindex(index)
        features[_RATIOS] = features[_RATIOS].apply(np.log)
        values = features.to_numpy(np.float64)
        train = values[(self.split.loc[index, "part"] == "train").to_numpy()]
        deviation = np.nanstd(train, axis=0)
        standard = (values - np.nanmean(train, axis=0)) / np.where(deviation > 0, deviation, 1.0)
        return np.asarray(standard, np.float32)

    @cached_property
    def _features(self) -> pd.DataFrame:
        records = self.dataset.records
        graded = records[records["dx"].isin(self.recipe.taxonomy.graded)]
        return cache.table(
            lambda: severities.measure_dataset(
                self.dataset,
                [str(image_id) for image_id in graded.index],
                screened=self._screened,
                progress=self.progress,
            ),
            [*graded["path"], *graded["mask"].dropna()],
            table_version=severities.VERSION,
            working_size=self.recipe.working_size,
            hair_removal=self.recipe.hair_removal,
            folder=self.folder,
        )

    def _screened(self, image_id: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return the framed photo and the mask that ``screen`` found on it."""
        row = self.dataset.records.index.get_loc(image_id)
        photo = frame(self.dataset.records["path"].iloc[row], self.capture)[0]
        return photo, masks.enlarge(self.lesion_masks[row], self.capture)
