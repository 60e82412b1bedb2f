"""One supervised training, of a network or of a head: a Lightning module and its trainer."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import lightning
import numpy as np
import numpy.typing as npt
import torch
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from timm.models import group_parameters
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.transforms import v2

from classkinfy_export import files
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import AugmentRecipe, FitRecipe, Hardware
from classkinfy_export.stages.network import Network
from classkinfy_export.training.augment import Augment
from classkinfy_export.training.auxiliary import Auxiliary
from classkinfy_export.training.batches import Batches, Examples, Labels, Measures, Rows
from classkinfy_export.training.loss import Loss
from classkinfy_export.training.teacher import Teacher

_LAST, _BEST = "last", "best"
_KNOWN = (
    ".*does not have many workers.*",
    ".*log_every_n_steps.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*Total length of `list` across ranks is zero.*",
)
"""Warnings of Lightning about what is meant."""
_WATCHED = "val_balanced_accuracy"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""
_SIZE_STEP = 32
"""Sizes that images grow through; the network's last stage has a pixel for as many."""


class Task(lightning.LightningModule):
    """Train ``module`` on what ``transform`` makes of a batch.

    Args:
        module: takes float32 batches, returns logits.
        transform: from a stored batch to the module's input; varies it in training mode.
        loss: of logits and target probabilities.
        recipe: optimiser, schedule, mixing.
        outputs: number of classes.
        seed: of augmentation and dropout.
        auxiliary: a second task; ``module`` is then a ``Network``.
        teacher: whose answers to learn beside the labels.
        distillation: share of the loss that is the distance from them.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: nn.Module,
        loss: Loss,
        recipe: FitRecipe,
        outputs: int,
        seed: int,
        auxiliary: Auxiliary | None = None,
        teacher: Teacher | None = None,
        distillation: float = 0.0,
    ) -> None:
        super().__init__()
        self.module = module
        self.transform = transform
        self.loss = loss
        self.recipe = recipe
        self.outputs = outputs
        self.seed = seed
        self.auxiliary = auxiliary
        self.teacher = teacher
        self.distillation = distillation
        self.mix = {"none": None, "mixup": v2.MixUp, "cutmix": v2.CutMix}[recipe.augment.mix]
        self.balanced_accuracy = torchmetrics.classification.MulticlassAccuracy(
            num_classes=outputs, average="macro"
        )

    def on_train_epoch_start(self) -> None:
        """Draw each epoch's random numbers from its own seed: a resumed run draws the same."""
        sequence = np.random.SeedSequence((self.seed, self.current_epoch, self.global_rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))
        for module in self.module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                frozen = not all(own.requires_grad for own in module.parameters())
                if frozen or self.recipe.freeze_norm:
                    module.eval()

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one augmented batch."""
        examples, labels, measures = batch
        inputs = self.transform(examples)
        if self.teacher is None:
            inputs = self._sized(inputs)
        mixed = self.mix is not None and float(torch.rand(())) < self.recipe.augment.mix_share
        if self.mix is not None and mixed:
            mix = self.mix(alpha=self.recipe.augment.mix_alpha, num_classes=self.outputs)
            inputs, targets = mix(inputs, labels)
        else:
            targets = nn.functional.one_hot(labels, self.outputs).to(torch.float32)
        answers = None
        if self.teacher is not None:  # it sees images in full
            answers = self.teacher(inputs)
            inputs = self._sized(inputs)
        if self.auxiliary is None:
            loss = self._labelled(self.module(inputs), targets, answers)
        else:
            logits, told = self.auxiliary(self.module, inputs)
            loss = self._labelled(logits, targets, answers)
            # Of two lesions in one image there is nothing to tell.
            loss = loss + (not mixed) * self.auxiliary.loss(told, measures)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def _labelled(self, logits: Tensor, targets: Tensor, answers: Tensor | None) -> Tensor:
        loss: Tensor = self.loss(logits, targets)
        if answers is None:
            return loss
        taught = nn.functional.cross_entropy(logits, answers)
        return (1.0 - self.distillation) * loss + self.distillation * taught

    def _sized(self, inputs: Tensor) -> Tensor:
        """Shrink images while the training is young."""
        start, own = self.recipe.start_size, inputs.shape[-1]
        if start is None:
            return inputs
        grown = min(1.0, 2.0 * self.current_epoch / self.recipe.epochs)
        side = min(own, round((start + grown * (own - start)) / _SIZE_STEP) * _SIZE_STEP)
        if grown == 1.0 or side == own:
            return inputs
        return nn.functional.interpolate(inputs, (side, side), mode="bilinear", antialias=True)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Log cross-entropy and balanced accuracy."""
        examples, labels, _ = batch
        logits = self.module(self.transform(examples))
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.balanced_accuracy(logits, labels)
        self.log(_WATCHED, self.balanced_accuracy, prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (Lightning's union of a dozen types)
        """AdamW without decay on norms and biases, and the recipe's schedule."""
        learnt = [p for p in self.parameters() if p.requires_grad]
        decayed = [p for p in learnt if p.ndim > 1]
        plain = [p for p in learnt if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
        )
        if self.recipe.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, mode="max", factor=0.3, patience=5
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": _WATCHED},
            }
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.recipe.learning_rate, total_steps=max(steps, 2)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class _Patience(EarlyStopping):
    """Stops a training that had stopped early before it was killed."""

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _State(TorchCheckpointIO):
    """Writes the state to go on from beside its place, and whole.

    Lightning's own writes it to the folder of temporary files, which may be on another disk; then
    it is copied, and what is killed in the middle of that leaves a part of it.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ANN401  (as Lightning has it)
    ) -> None:
        """Write a state in one step."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        files.write(Path(path), buffer.getvalue())


class _Progress(lightning.Callback):
    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self.progress = progress

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object
    ) -> None:
        self.progress(trainer.global_step, int(trainer.estimated_stepping_batches))


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
    hardware: Hardware,
    aspect: float = 1.0,
    measures: Measures | None = None,
    measures_weight: float = 0.0,
    teacher: Teacher | None = None,
    distillation: float = 0.0,
    progress: Callable[[int, int], None],
) -> None:
    """Train ``module`` in place; it ends with its averaged weights.

    A training that was stopped goes on from the last epoch it finished, and ends as if it had not
    been stopped; one that has ended ends at once, until its state is forgotten.

    Args:
        module: takes float32 batches, returns logits [n, outputs].
        examples: uint8 [n, s, s, 3] pixels, or float32 [n, width] embeddings.
        labels: int64 [n].
        train: rows to train on.
        val: rows to validate on; may be empty.
        outputs: number of classes.
        recipe: how to train.
        seed: of sampling, augmentation and dropout.
        folder: where the logs go, and the state to go on from, which stays there.
        hardware: devices and nodes to train on.
        aspect: width over height of the photos that pixels were squashed from.
        measures: float32 [n, m], what a second task is to tell of each example, NaN where it is not
            known; ``module`` is then a ``Network``.
        measures_weight: of that task's loss.
        teacher: whose answers to learn beside the labels.
        distillation: share of the loss that is the distance from them.
        progress: called with (done, total) batches over all epochs.

    Raises:
        DataError: the recipe needs validation, and there is none; it freezes all there is.
        KeyboardInterrupt: the user stopped it; ``module`` is then unusable.
    """
    if len(val) == 0 and (recipe.patience is not None or recipe.schedule == "plateau"):
        raise DataError(
            "'patience' and 'plateau' watch the validation part, and it is empty",
            hint="raise split.val, or leave them out",
        )
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if recipe.freeze_stages:
        assert isinstance(module, Network)
        _freeze(module, recipe.freeze_stages)
    _keep_memory()
    # TensorBoard imports TensorFlow where it is installed, for file systems that are not used
    # here. Its LLVM and that of torch's triton do not live in one process; this name says no.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    torch.manual_seed(seed)
    auxiliary = None
    if measures is None:
        measures = np.empty((len(labels), 0), np.float32)
    else:
        assert isinstance(module, Network)
        auxiliary = Auxiliary(module.embedding_width, measures.shape[1], measures_weight)
    task = Task(
        module.to(memory_format=torch.channels_last),
        _transform(examples, recipe.augment, aspect),
        Loss.of(recipe, labels[train], outputs),
        recipe,
        outputs,
        seed,
        auxiliary,
        teacher,
        distillation,
    )
    callbacks: list[lightning.Callback] = [_Progress(progress)]
    best = ModelCheckpoint(folder, filename=_BEST, monitor=_WATCHED, mode="max")
    if recipe.patience is not None:
        callbacks += [_Patience(_WATCHED, patience=recipe.patience, mode="max"), best]
    # After those whose state it holds, the best epoch and how long it has been.
    callbacks.append(ModelCheckpoint(folder, filename=_LAST, enable_version_counter=False))
    if recipe.ema_decay > 0:
        callbacks.append(WeightAveraging(multi_avg_fn=_averaging(recipe.ema_decay)))
    with warnings.catch_warnings():
        for message in _KNOWN:
            warnings.filterwarnings("ignore", message=message)
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs,
            accelerator="auto",
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            precision=_precision(recipe),
            logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
            callbacks=callbacks,
            plugins=[_State()],
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=recipe.gradient_clip,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            use_distributed_sampler=False,
        )
        state = folder / f"{_LAST}.ckpt"
        batches = Batches(Rows(examples, labels, measures), train, val, recipe, seed)
        try:
            trainer.fit(task, batches, ckpt_path=state if state.is_file() else None)
        except SystemExit:
            raise KeyboardInterrupt from None  # Lightning's answer to Ctrl-C
    if trainer.is_global_zero:
        # The averaged weights, also where the last epoch had been finished before.
        kept = best.best_model_path if recipe.patience is not None else state
        task.load_state_dict(torch.load(kept, weights_only=True)["state_dict"])
    # Each process averaged the batch norm statistics of its own images: one set is kept.
    module.load_state_dict(trainer.strategy.broadcast(module.state_dict()))
    trainer.strategy.barrier()
    module.eval()


def forget(folder: Path) -> None:
    """Remove the state to go on from: of a training whose result is kept elsewhere."""
    for path in (folder / f"{_LAST}.ckpt", *folder.glob("*.ckpt")):  # first what names the best
        path.unlink(missing_ok=True)


def _freeze(network: Network, stages: int) -> None:
    """Keep the first stages of a backbone, in the groups that timm has it in.

    Raises:
        DataError: there would be no stage left to train.
    """
    backbone: Any = network.backbone
    groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
    if stages >= len(groups):
        raise DataError(
            f"fit.freeze_stages is {stages}, {network.spec.architecture} has {len(groups)} stages",
            hint="leave some to train",
        )
    kept = {name for stage in range(stages) for name in groups[stage]}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name not in kept)


def _keep_memory() -> None:
    """Let glibc keep freed memory for the next batch, which needs as much.

    It maps anew what is larger than 32 MiB, and the kernel clears every page of that: a third of
    the time of a batch on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Return an exponential moving average that forgets the untrained weights.

    Of few updates a long memory would hold little but the start, so the decay rises to its value:
    ``min(decay, (1 + updates) / (10 + updates))``, as TensorFlow's average does.
    """

    def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        warm = min(decay, (1.0 + float(updates)) / (10.0 + float(updates)))
        get_ema_multi_avg_fn(warm)(averaged, current, updates)  # type: ignore[no-untyped-call]

    return average


def _transform(examples: Examples, recipe: AugmentRecipe, aspect: float) -> nn.Module:
    """Return what makes inputs of stored examples; embeddings are inputs already."""
    if examples.dtype != np.uint8:
        return nn.Identity()
    return Augment(recipe, examples.shape[1], aspect)


def _precision(recipe: FitRecipe) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    if recipe.precision == "16-mixed" and not torch.cuda.is_available():
        return "32-true"
    return recipe.precision


def predict(module: nn.Module, examples: Examples, batch_size: int = 64) -> Tensor:
    """Run a module over stored examples, without augmentation.

    Returns:
        float32 [n, outputs] logits, or whatever the module gives; [0, 0] without examples.
    """
    transform = _transform(examples, AugmentRecipe(), 1.0).eval()
    outputs = []
    with torch.inference_mode():
        for first in range(0, len(examples), batch_size):
            batch = torch.from_numpy(np.array(examples[first : first + batch_size]))
            outputs.append(module(transform(batch)))
    return torch.cat(outputs) if outputs else torch.empty(0, 0)
