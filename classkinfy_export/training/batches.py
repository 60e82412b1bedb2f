"""Which examples make up each batch: drawn by class, the same on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from classkinfy_export.recipes import FitRecipe

Examples = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Measures = npt.NDArray[np.float32]
Row = tuple[Examples, int, Measures]

_POWERS = {"natural": 1.0, "square_root": 0.5, "balanced": 0.0}


class Rows(Dataset[Row]):
    """Stored examples with their labels, by row, and what a second task is to tell of them."""

    def __init__(self, examples: Examples, labels: Labels, measures: Measures) -> None:
        self.examples, self.labels, self.measures = examples, labels, measures

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Row:
        return np.array(self.examples[row]), int(self.labels[row]), self.measures[row]


class Draw(Sampler[int]):
    """The rows of an epoch in whole batches, of which each process takes its share.

    Each epoch has a seed of its own, so what is drawn depends neither on what was drawn before nor
    on the number of processes.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        chances: npt.NDArray[np.float64] | None,
        *,
        batch: int,
        seed: int,
        rank: int,
        processes: int,
    ) -> None:
        self.rows, self.chances, self.seed = rows, chances, seed
        self.rank, self.processes = rank, processes
        self.drawn = len(rows) // batch * batch
        self.epoch = 0

    def __len__(self) -> int:
        return self.drawn // self.processes

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.chances is None:
            order = rng.permutation(self.rows)
        else:
            order = rng.choice(self.rows, len(self.rows), p=self.chances)
        return iter(order[: self.drawn][self.rank :: self.processes].tolist())


class Batches(lightning.LightningDataModule):
    """The batches of a training, and of its validation.

    Args:
        rows: all examples.
        train: rows to train on.
        val: rows to validate on; may be empty.
        recipe: batch size and sampling.
        seed: of the draws.
    """

    def __init__(
        self,
        rows: Rows,
        train: npt.NDArray[np.int64],
        val: npt.NDArray[np.int64],
        recipe: FitRecipe,
        seed: int,
    ) -> None:
        super().__init__()
        self.rows, self.train, self.val = rows, train, val
        self.recipe, self.seed = recipe, seed

    def train_dataloader(self) -> DataLoader[Row]:
        """Draw this process's share of each batch."""
        assert self.trainer is not None
        batch = min(self.recipe.batch_size, len(self.train))
        processes = self.trainer.world_size
        draw = Draw(
            self.train,
            chances(self.rows.labels[self.train], self.recipe.sampling),
            batch=batch // processes * processes,
            seed=self.seed,
            rank=self.trainer.global_rank,
            processes=processes,
        )
        # A generator of its own, for a loader draws a number each time it begins.
        own = torch.Generator()
        return DataLoader(self.rows, batch // processes, sampler=draw, generator=own)

    def val_dataloader(self) -> DataLoader[Row] | list[Any]:
        """Go through the validation part once, in every process."""
        if len(self.val) == 0:
            return []
        return DataLoader(self.rows, batch_size=64, sampler=self.val.tolist())


def chances(labels: Labels, sampling: str) -> npt.NDArray[np.float64] | None:
    """Return each row's chance to be drawn next; None if each is to be drawn once."""
    if sampling == "natural":
        return None
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    each = np.zeros(len(counts))
    each[present] = shares(counts[present], sampling) / counts[present]
    return each[labels]


def shares(counts: npt.NDArray[Any], sampling: str) -> npt.NDArray[np.float64]:
    """Return each class's share of what is drawn, from how many images it has."""
    weights = counts.astype(np.float64) ** _POWERS[sampling]
    return weights / float(weights.sum())
