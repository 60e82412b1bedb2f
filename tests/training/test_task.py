"""One training: what is drawn, that it goes on where it stopped, on one process and on two."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from torch import nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import FitRecipe, Hardware
from classkinfy_export.stages.network import Network
from classkinfy_export.training import batches, task

TRAINER = Path(__file__).parent / "trainer.py"
RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), (120, 60, 20)).astype(np.int64)
EXAMPLES = (RNG.normal(size=(200, 8)) + 2.0 * np.eye(3, 8)[LABELS]).astype(np.float32)
VAL = np.arange(0, 200, 4)
TRAIN = np.setdiff1d(np.arange(200), VAL)


class StoppedError(Exception):
    pass


def train(
    folder: Path,
    *,
    stop: int | None = None,
    steps: list[int] | None = None,
    val: npt.NDArray[np.int64] = VAL,
    devices: int = 1,
    **recipe: Any,
) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def progress(done: int, total: int) -> None:
        if steps is not None:
            steps.append(done)
        if stop is not None and done == stop:
            raise StoppedError

    settings = {"epochs": 6, "batch_size": 16, "learning_rate": 1e-2, "ema_decay": 0.9}
    task.fit(
        module,
        EXAMPLES,
        LABELS,
        train=TRAIN,
        val=val,
        outputs=3,
        recipe=FitRecipe.model_validate(settings | recipe),
        seed=0,
        folder=folder,
        hardware=Hardware(devices=devices),
        progress=progress,
    )
    return module


def weights(module: nn.Module) -> npt.NDArray[np.float32]:
    return nn.utils.parameters_to_vector(module.parameters()).detach().numpy()


@pytest.mark.parametrize(
    ("sampling", "shares"),
    [("natural", (0.6, 0.3, 0.1)), ("square_root", (0.47, 0.33, 0.19)), ("balanced", (1 / 3,) * 3)],
)
def test_classes_are_drawn_as_asked(sampling: str, shares: tuple[float, ...]) -> None:
    chances = batches.chances(LABELS, sampling)
    draw = batches.Draw(np.arange(200), chances, batch=20, seed=0, rank=0, processes=1)
    drawn: Counter[int] = Counter()
    for epoch in range(50):
        draw.set_epoch(epoch)
        rows = list(draw)
        assert len(rows) == len(draw) == 200
        if sampling == "natural":
            assert sorted(rows) == list(range(200))
        drawn.update(LABELS[rows].tolist())
    for label, share in enumerate(shares):
        assert drawn[label] / drawn.total() == pytest.approx(share, abs=0.02)


def test_processes_share_the_batches_that_one_would_draw() -> None:
    def shares_of(rank: int, processes: int) -> npt.NDArray[np.int64]:
        draw = batches.Draw(TRAIN, None, batch=16, seed=1, rank=rank, processes=processes)
        draw.set_epoch(3)
        return np.array(list(draw)).reshape(-1, 16 // processes)

    whole, halves = shares_of(0, 1), [shares_of(rank, 2) for rank in range(2)]
    for batch, *shares in zip(whole, *halves, strict=True):
        assert sorted(batch) == sorted(np.concatenate(shares))


@pytest.mark.parametrize(
    ("stop", "schedule"), [(1, "one_cycle"), (27, "one_cycle"), (53, "plateau")]
)
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, stop: int, schedule: str
) -> None:
    whole = train(tmp_path / "whole", schedule=schedule)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped", schedule=schedule, stop=stop)
    steps: list[int] = []
    continued = train(tmp_path / "stopped", schedule=schedule, steps=steps)
    assert steps == list(range((stop - 1) // 9 * 9 + 1, 55)), "nine steps an epoch, six epochs"
    np.testing.assert_array_equal(weights(continued), weights(whole))


def test_the_state_to_go_on_from_is_not_carried_over_from_another_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is moved from one disk to another is copied, and a kill leaves a part of it.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    train(tmp_path / "run")
    assert (tmp_path / "run" / "last.ckpt").is_file()


PATIENT = {"epochs": 60, "patience": 4, "learning_rate": 0.3, "ema_decay": 0.0}
"""A rate so high that it only gets worse after a while."""


@pytest.mark.parametrize("recipe", [{}, PATIENT], ids=["average", "patience"])
def test_a_training_that_was_stopped_after_its_last_epoch_ends_as_if_it_had_not_been(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    whole = train(tmp_path, **recipe)
    steps: list[int] = []
    continued = train(tmp_path, steps=steps, **recipe)
    assert not steps
    np.testing.assert_array_equal(weights(continued), weights(whole))
    task.forget(tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_training_that_was_stopped_while_it_waited_keeps_its_best_epoch(tmp_path: Path) -> None:
    steps: list[int] = []
    whole = train(tmp_path / "whole", steps=steps, **PATIENT)
    with pytest.raises(StoppedError):  # in the epoch after the best, three before its end
        train(tmp_path / "stopped", stop=len(steps) - 3 * 9 - 4, **PATIENT)
    continued = train(tmp_path / "stopped", **PATIENT)
    np.testing.assert_array_equal(weights(continued), weights(whole))


def test_a_long_average_of_a_short_training_forgets_the_start(tmp_path: Path) -> None:
    start = weights(train(tmp_path / "start", epochs=1, learning_rate=1e-9))
    last = weights(train(tmp_path / "last", ema_decay=0.0))
    averaged = weights(train(tmp_path / "averaged", ema_decay=0.9999))
    moved = np.linalg.norm(last - start)
    assert np.linalg.norm(averaged - last) < 0.3 * moved
    assert np.linalg.norm(averaged - start) > 0.7 * moved


def test_patience_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    module = train(tmp_path, **PATIENT)
    (log,) = tmp_path.rglob("metrics.csv")
    watched = pd.read_csv(log)["val_balanced_accuracy"].dropna()
    assert len(watched) < 60
    assert watched.idxmax() == watched.index[-5]
    predicted = task.predict(module, EXAMPLES[VAL]).argmax(dim=1).numpy()
    recalls = [(predicted[LABELS[VAL] == c] == c).mean() for c in range(3)]
    assert np.mean(recalls) == pytest.approx(watched.max(), abs=1e-6)


def test_watching_an_empty_validation_part_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="validation part, and it is empty"):
        train(tmp_path, val=np.array([], np.int64), patience=3)


def fit_images(
    network: nn.Module, pixels: npt.NDArray[np.uint8], recipe: FitRecipe, folder: Path
) -> None:
    """Train on images of the training rows' labels, without validation."""
    task.fit(
        network,
        pixels,
        LABELS[TRAIN],
        train=np.arange(len(TRAIN)),
        val=np.array([], np.int64),
        outputs=3,
        recipe=recipe,
        seed=0,
        folder=folder,
        hardware=Hardware(),
        progress=lambda done, total: None,
    )


class Watched(nn.Module):
    """A network that remembers what it was given in training."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.given: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.given.append(inputs.detach().clone())
        logits: torch.Tensor = self.convolution(inputs).mean(dim=(2, 3))
        return logits


def watch(folder: Path, pixels: npt.NDArray[np.uint8], **recipe: Any) -> list[torch.Tensor]:
    """Train for four epochs of nine batches; return what the network was given."""
    network = Watched()
    nothing = {"flips": False, "colour": 0.0, "white_balance": 0.0}
    settings = {"epochs": 4, "batch_size": 16, "augment": nothing | recipe.pop("augment", {})}
    fit_images(network, pixels, FitRecipe.model_validate(settings | recipe), folder)
    return network.given


def test_images_grow_to_the_networks_size_by_the_middle_of_the_training(tmp_path: Path) -> None:
    pixels = np.full((len(TRAIN), 128, 128, 3), 100, np.uint8)
    given = watch(tmp_path, pixels, start_size=64)
    sides = [images.shape[-1] for images in given]
    assert sides == [64] * 9 + [96] * 9 + [128] * 18
    assert all(torch.allclose(images, torch.tensor(100.0)) for images in given)


def test_a_share_of_the_batches_is_mixed(tmp_path: Path) -> None:
    """Images are black or white; a mixed batch has grays."""
    pixels = np.zeros((len(TRAIN), 8, 8, 3), np.uint8)
    pixels[::2] = 255
    for share, low, high in ((1.0, 36, 36), (0.5, 9, 27)):
        augment = {"mix": "mixup", "mix_alpha": 5.0, "mix_share": share}
        given = watch(tmp_path / str(share), pixels, augment=augment)
        gray = [bool(((images > 1) & (images < 254)).any()) for images in given]
        assert low <= sum(gray) <= high


def run_trainer(folder: Path, devices: int, norm: str) -> None:
    command = [sys.executable, str(TRAINER), str(folder), str(devices), norm]
    subprocess.run(command, check=True, timeout=300, capture_output=True)


def test_two_processes_end_with_the_same_weights_and_statistics(tmp_path: Path) -> None:
    run_trainer(tmp_path, 2, "learning")
    first, second = (torch.load(path) for path in sorted(tmp_path.glob("*.pt")))
    assert any("running_mean" in name for name in first)
    for name, value in first.items():
        assert torch.equal(second[name], value), name


def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    losses, states = [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        run_trainer(folder, devices, "frozen")
        (log,) = folder.rglob("metrics.csv")
        losses.append(pd.read_csv(log)["train_loss"].dropna().to_numpy())
        states.append([torch.load(path) for path in sorted(folder.glob("*.pt"))])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert [len(group) for group in states] == [1, 2]
    for name, value in states[0][0].items():
        for other in states[1]:
            np.testing.assert_allclose(other[name], value, atol=1e-5)


def test_the_first_stages_stay_as_they_started_statistics_and_all(tmp_path: Path) -> None:
    spec = NetworkSpec(architecture="test_efficientnet", input_size=32, outputs=3)
    pixels = np.random.default_rng(0).integers(0, 256, (len(TRAIN), 32, 32, 3), np.uint8)

    def trained(stages: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        network = Network(spec)
        before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
        recipe = FitRecipe(epochs=1, batch_size=16, ema_decay=0.5, freeze_stages=stages)
        fit_images(network, pixels, recipe, tmp_path / str(stages))
        return before, network.backbone.state_dict()

    before, after = trained(2)
    first = {name for name in before if name.startswith(("conv_stem", "bn1", "blocks.0."))}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not first & moved
    assert any(name.startswith("blocks.1.") for name in moved)
    before, after = trained(0)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert first <= moved
    with pytest.raises(DataError, match=r"test_efficientnet has 6 stages"):
        trained(6)
