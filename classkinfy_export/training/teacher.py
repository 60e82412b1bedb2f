"""Networks that were trained before, whose answers a new one learns beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.data.folder import read_table
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import TrainRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.network import Network
from classkinfy_export.training import folder


class Teacher:
    """The mean answer of classifiers to the images that the new one sees (Beyer et al., 2022).

    No ``nn.Module``: a network that learns from it neither holds nor trains it.

    Args:
        networks: classifiers of the same classes.
        names: the hashes of their weights, to tell teachers apart.
    """

    def __init__(self, networks: Sequence[Network], names: Sequence[str]) -> None:
        self.networks, self.names = list(networks), list(names)

    @classmethod
    def of_runs(cls, runs: Sequence[Path], recipe: TrainRecipe, split: pd.DataFrame) -> Self:
        """Load the classifiers of training runs.

        Args:
            runs: their folders.
            recipe: of the new run; they must have its classes and have seen images as it does.
            split: the new run's own, by ``image_id``.

        Raises:
            DataError: a folder is no run, its classifier does not fit the recipe, or was trained on
                lesions that the new run is to be judged by.
            CheckpointError: its classifier cannot be read.
        """
        held = split[split["part"] != "train"]
        networks, names = [], []
        for run in runs:
            path = run / folder.SPLIT
            if not path.is_file():
                raise DataError(
                    f"{run} holds no training run: {folder.SPLIT} is missing",
                    hint="a teacher is a run's folder, for its split says what it has seen",
                )
            given = read_table(path, ("image_id", "lesion_id", "part"))
            taught = given[given["part"] == "train"]
            seen = held.index.isin(taught["image_id"]) | held["lesion_id"].isin(taught["lesion_id"])
            if seen.any():
                raise DataError(
                    f"the teacher {run} was trained on lesions of {seen.sum()} images that this "
                    "run holds back",
                    hint=f"train with --split {path}, the teacher's own",
                )
            loaded = checkpoint.load(run / folder.CLASSIFIER)
            if loaded.info.taxonomy.classes != recipe.taxonomy.classes:
                raise DataError(
                    f"the teacher {run} knows the classes "
                    f"{', '.join(loaded.info.taxonomy.classes)}, the recipe has "
                    f"{', '.join(recipe.taxonomy.classes)}"
                )
            for name in ("working_size", "hair_removal"):
                own, asked = getattr(loaded.info, name), getattr(recipe, name)
                if own != asked:
                    raise DataError(
                        f"the teacher {run} was trained with {name} {own!r}, the recipe has "
                        f"{asked!r}",
                        hint="a teacher is asked about images as the recipe prepares them",
                    )
            assert isinstance(loaded.module, Network)
            networks.append(loaded.module)
            names.append(loaded.sha256)
        return cls(networks, names)

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> Tensor:
        """Answer images, float32 [n, 3, s, s], 0..255, with probabilities, float32 [n, classes]."""
        answers = []
        for network in self.networks:
            side = network.spec.input_size
            fitting = levels
            if levels.shape[-1] != side:
                fitting = F.interpolate(levels, (side, side), mode="bilinear", antialias=True)
            network.to(levels.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            answers.append(torch.softmax(network(fitting), dim=1))
        return torch.stack(answers).mean(dim=0)
