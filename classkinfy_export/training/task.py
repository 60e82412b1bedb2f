"""One supervised training, of a network or of a head: a Lightning module and its data."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torchmetrics
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler, WeightedRandomSampler

from classkinfy_export.recipes import FitRecipe
from classkinfy_export.training.augment import Augment

Examples = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Task(lightning.LightningModule):
    """Train ``module`` on what ``transform`` makes of a batch, with cross-entropy.

    Args:
        module: takes float32 batches, returns logits.
        fit: optimiser, schedule, smoothing.
        outputs: number of classes.
        transform: from a stored batch to the module's input, in training.
        plain: the same without augmentation, in validation.
    """

    def __init__(
        self,
        module: nn.Module,
        fit: FitRecipe,
        outputs: int,
        transform: Callable[[Tensor], Tensor],
        plain: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.module = module
        self.fit_recipe = fit
        self.transform = transform
        self.plain = plain
        self.balanced_accuracy = torchmetrics.classification.MulticlassAccuracy(
            num_classes=outputs, average="macro"
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one augmented batch."""
        examples, labels = batch
        logits = self.module(self.transform(examples))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.fit_recipe.label_smoothing)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and balanced accuracy."""
        examples, labels = batch
        logits = self.module(self.plain(examples))
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.balanced_accuracy(logits, labels)
        self.log("val_balanced_accuracy", self.balanced_accuracy, prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (Lightning's union of a dozen types)
        """AdamW without decay on norms and biases, one-cycle schedule."""
        decayed = [p for p in self.module.parameters() if p.ndim > 1]
        plain = [p for p in self.module.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.fit_recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.fit_recipe.learning_rate,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.fit_recipe.learning_rate, total_steps=max(steps, 2)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class _Progress(lightning.Callback):
    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self.progress = progress

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object
    ) -> None:
        self.progress(trainer.global_step, int(trainer.estimated_stepping_batches))


class _Rows(Dataset[tuple[Examples, int]]):
    def __init__(self, examples: Examples, rows: npt.NDArray[np.int64], labels: Labels) -> None:
        self.examples, self.rows, self.labels = examples, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Examples, int]:
        row = self.rows[index]
        return np.array(self.examples[row]), int(self.labels[row])


def fit(
    module: nn.Module,
    examples: Examples,
    labels: Labels,
    *,
    train: npt.NDArray[np.int64],
    val: npt.NDArray[np.int64],
    outputs: int,
    recipe: FitRecipe,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Train ``module`` in place; it ends with its averaged weights.

    Args:
        module: takes float32 batches, returns logits [n, outputs].
        examples: uint8 [n, s, s, 3] pixels, or float32 [n, width] embeddings.
        labels: int64 [n].
        train: rows to train on.
        val: rows to validate on; may be empty.
        outputs: number of classes.
        recipe: how to train.
        seed: of sampling, augmentation and dropout.
        folder: where the log goes.
        progress: called with (done, total) batches over all epochs.

    Raises:
        KeyboardInterrupt: the user stopped it; ``module`` is then unusable.
    """
    lightning.seed_everything(seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    images = examples.dtype == np.uint8
    plain = Augment(flips=False, colour_jitter=0.0) if images else nn.Identity()
    transform = Augment(recipe.flips, recipe.colour_jitter) if images else nn.Identity()
    task = Task(module.to(memory_format=torch.channels_last), recipe, outputs, transform, plain)
    callbacks: list[lightning.Callback] = [_Progress(progress)]
    if recipe.ema_decay > 0:
        average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        callbacks.append(WeightAveraging(multi_avg_fn=average))
    shutil.rmtree(folder, ignore_errors=True)  # the log of a training that was interrupted
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs,
            accelerator="auto",
            logger=CSVLogger(str(folder.parent), name=folder.name, version=""),
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=recipe.gradient_clip,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
        )
        try:
            trainer.fit(
                task,
                _loader(examples, train, labels, recipe, outputs, seed),
                DataLoader(_Rows(examples, val, labels), batch_size=64) if len(val) else None,
            )
        except SystemExit:
            raise KeyboardInterrupt from None  # Lightning's answer to Ctrl-C
    module.eval()


def _loader(
    examples: Examples,
    rows: npt.NDArray[np.int64],
    labels: Labels,
    recipe: FitRecipe,
    outputs: int,
    seed: int,
) -> DataLoader[tuple[Examples, int]]:
    generator = torch.Generator().manual_seed(seed)
    counts = np.bincount(labels[rows], minlength=outputs).astype(np.float64)
    power = {"natural": 0.0, "square_root": 0.5, "balanced": 1.0}[recipe.sampling]
    weights = (1.0 / np.maximum(counts, 1.0) ** power)[labels[rows]]
    sampler: Sampler[int] = WeightedRandomSampler(
        weights.tolist(), len(rows), replacement=power > 0, generator=generator
    )
    return DataLoader(
        _Rows(examples, rows, labels),
        batch_size=min(recipe.batch_size, len(rows)),
        sampler=sampler,
        drop_last=True,
    )


def predict(module: nn.Module, examples: Examples, batch_size: int = 64) -> Tensor:
    """Run a module over stored examples, without augmentation.

    Returns:
        float32 [n, outputs] logits, or whatever the module gives; [0, 0] without examples.
    """
    images = examples.dtype == np.uint8
    plain = Augment(flips=False, colour_jitter=0.0).eval() if images else nn.Identity()
    outputs = []
    with torch.inference_mode():
        for first in range(0, len(examples), batch_size):
            batch = torch.from_numpy(np.array(examples[first : first + batch_size]))
            outputs.append(module(plain(batch)))
    return torch.cat(outputs) if outputs else torch.empty(0, 0)
