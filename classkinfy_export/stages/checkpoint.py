"""Weights on disk: this project's safetensors, which say what they are, and reading them back.

A checkpoint is one network, one head or the screen's profiles, in one ``.safetensors`` file whose
header holds a hash and ``CheckpointInfo`` as JSON. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from classkinfy_export.contract import (
    SCREEN_VERSION,
    GraderVariant,
    NetworkSpec,
    WeightsDtype,
    WorkingSize,
)
from classkinfy_export.document import Document, brief, explain
from classkinfy_export.errors import CheckpointError
from classkinfy_export.stages.grade import Head
from classkinfy_export.stages.network import Network
from classkinfy_export.stages.screen import Profiles
from classkinfy_export.taxonomy import Taxonomy

SUFFIX = ".safetensors"
_HEADER = "classkinfy"
_KEPT = {"float32": torch.float32, "float16": torch.float16}
_OTHER = "give the checkpoint of this architecture, or change the architecture"
_SLACK = 1_000_000
"""Weights of a network that may be built though they are not held: what does not fit is told."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Pooling(Document):
    """The screen whose answer a classifier pools with its own, ``stages.classify.pooled``."""

    screen_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """The hash of its weights."""
    screen_weight: float = Field(ge=0, le=1)
    """Fitted with the temperature."""


class CheckpointInfo(Document):
    """What a checkpoint is: enough to rebuild the network and to fit it into a pipeline."""

    schema_version: Literal[1] = 1
    role: Literal["classifier", "grader", "screen"]
    network: NetworkSpec | None = None
    """None for the screen, whose profiles are no network."""
    taxonomy: Taxonomy
    variant: GraderVariant = "separate"
    diagnosis: str | None = None
    """The class that a grader grades."""
    trunk_sha256: str | None = None
    """For a head: the hash of the classifier weights whose embedding it was trained on."""
    pooling: Pooling | None = None
    """For a classifier: the screen that it asks; None when it answers alone."""
    weights_licence: str = "unknown"
    weights_dtype: WeightsDtype = "float32"
    """What the file holds them in; they are float32 when they are loaded."""
    working_size: WorkingSize | None = None
    """The size of the images it was trained on, before the network's resize, where known."""
    hair_removal: bool | None = None
    """Whether it was trained on images without their hair, where known."""
    screen_version: int | None = None
    """``contract.SCREEN_VERSION`` of the features that a screen or a head was fitted on."""

    @model_validator(mode="after")
    def _outputs_fit_taxonomy(self) -> Self:
        if (self.network is None) != (self.role == "screen"):
            raise ValueError("a classifier or a grader needs 'network', a screen has none")
        if self.pooling is not None and self.role != "classifier":
            raise ValueError(f"a {self.role} asks no screen, and has no 'pooling'")
        measured = self.role == "screen" or (self.role == "grader" and self.variant == "trunk")
        if measured and self.screen_version != SCREEN_VERSION:
            raise ValueError(
                f"the {self.role} is fitted on features of version {self.screen_version}, this "
                f"toolkit measures version {SCREEN_VERSION}; delete it and run 'classkinfy train' "
                "again"
            )
        if self.network is None:
            return self
        names = self.taxonomy.classes if self.role == "classifier" else self.taxonomy.severities
        if self.network.outputs != len(names):
            raise ValueError(
                f"the {self.role} has {self.network.outputs} outputs, its taxonomy names "
                f"{len(names)} ({', '.join(names)}); give the taxonomy that it was trained with"
            )
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    ``module`` is a ``Network``, a ``Head`` when ``info.variant`` is ``trunk``, or the screen's
    ``Profiles``.
    ``sha256`` is that of the weights, whatever file they came from.
    """

    info: CheckpointInfo
    module: nn.Module
    sha256: str


def build(info: CheckpointInfo, state: dict[str, Tensor], source: str) -> Checkpoint:
    """Build the network that ``info`` describes and load the weights into it.

    Args:
        info: what the weights are.
        state: the weights, under this project's names.
        source: what to call them in an error.

    Raises:
        CheckpointError: names or shapes do not fit, or a value is NaN or infinite.
    """
    module: nn.Module
    if info.network is None:
        module = Profiles(len(info.taxonomy.classes))
        _load(module, state, f"profiles of {len(info.taxonomy.classes)} classes", source)
        return Checkpoint(info, module.eval(), weights_sha256(module))
    if info.variant == "trunk":
        module = _empty_head(state, info.network.outputs)
        what = f"a head on the trunk with {info.network.outputs} outputs"
    else:
        what = f"{info.network.architecture} with {info.network.outputs} outputs"
        try:
            with _no_larger(sum(tensor.numel() for tensor in state.values())):
                module = Network(info.network)
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error.message}", hint=error.hint) from error
        except _TooLargeError:
            raise CheckpointError(
                f"{source} does not fit {what}: it lacks most of its weights", hint=_OTHER
            ) from None
    _load(module, state, what, source)
    return Checkpoint(info, module.eval(), weights_sha256(module))


class _TooLargeError(Exception):
    pass


@contextmanager
def _no_larger(held: int) -> Iterator[None]:
    """Stop a network from being built that has many times the weights that are held for it.

    A header of a few bytes can name an architecture of any size.
    """
    most, here, made = 2 * held + _SLACK, threading.get_ident(), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal made
        if parameter is not None and threading.get_ident() == here:
            made += parameter.numel()
            if made > most:
                raise _TooLargeError

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _empty_head(state: dict[str, Tensor], outputs: int) -> Head:
    """Return a head as wide as its weights; ``_load`` says what is wrong with others."""
    axes, mean = state.get("axes"), state.get("mean")
    if axes is None or mean is None or axes.ndim != 2 or mean.numel() < len(axes):
        return Head(0, 0, 0, outputs)
    components, embedding = axes.shape
    return Head(embedding, mean.numel() - components, components, outputs)


def _load(module: nn.Module, state: dict[str, Tensor], what: str, source: str) -> None:
    expected = module.state_dict()
    # BatchNorm's batch counter is not a weight; older checkpoints lack it.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    if missing or unexpected:
        which = f"lacks {missing[0]!r}" if missing else f"has {brief(unexpected[0])!r}"
        raise CheckpointError(
            f"{source} does not fit {what}: it {which} "
            f"({len(missing)} missing, {len(unexpected)} unexpected)",
            hint="delete it and run 'classkinfy train' again"
            if isinstance(module, Head)
            else _OTHER,
        )
    for name, tensor in state.items():
        wanted = expected[name].dtype
        dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized)
        if not dense or tensor.dtype not in (_FLOATS if wanted in _FLOATS else (wanted,)):
            raise CheckpointError(
                f"{source} holds {name} as {tensor.dtype}, {tensor.layout}, on {tensor.device}, "
                f"which cannot be read as {wanted}",
                hint="save dense float tensors",
            )
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{source} does not fit {what}: {name} "
                f"has shape {list(tensor.shape)}, expected {list(expected[name].shape)}",
                hint="check the number of classes and the architecture",
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{source} holds NaN or infinite weights in {name}",
                hint="the training diverged; export an earlier checkpoint",
            )
    module.load_state_dict(state, strict=False)


def weights_sha256(module: nn.Module) -> str:
    """Return the SHA-256 over names, shapes and bytes of a module's weights, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def rounded(info: CheckpointInfo, module: nn.Module) -> Checkpoint:
    """Round trained weights, in place, to what ``info`` says that they are kept in.

    Raises:
        CheckpointError: a weight is NaN, infinite, or too large for that.
    """
    for name, tensor in module.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"training the {info.role} diverged: its weights are NaN or infinite",
                hint="lower fit.learning_rate",
            )
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(_KEPT[info.weights_dtype]))
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(
                    f"the {info.role} holds a weight in {name} beyond {info.weights_dtype}",
                    hint="set weights_dtype: float32",
                )
    return Checkpoint(info, module, weights_sha256(module))


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Serialise a checkpoint: the same weights give the same bytes."""
    kept = _KEPT[checkpoint.info.weights_dtype]
    assert all(
        torch.equal(t, t.to(kept).to(t.dtype))
        for t in checkpoint.module.state_dict().values()
        if t.is_floating_point()
    ), "not rounded"
    tensors = {
        name: tensor.detach()
        .cpu()
        .to(kept if tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in checkpoint.module.state_dict().items()
    }
    info = checkpoint.info.model_dump_json()
    # One entry: safetensors writes several in an order that changes from run to run.
    header = f"{_seal(info, checkpoint.sha256)}\n{info}"
    return safetensors.torch.save(tensors, metadata={_HEADER: header})


def from_bytes(data: bytes, source: str) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError when it is not one of this project's, or broken."""
    try:
        state = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        seal, _, header = json.loads(data[8 : 8 + length])["__metadata__"][_HEADER].partition("\n")
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source} is not a checkpoint of this toolkit, or is damaged: {brief(str(error))}",
            hint="give a .safetensors file that 'classkinfy train' wrote, or an origin .pth",
        ) from error
    try:
        info = CheckpointInfo.model_validate_json(header)
    except ValidationError as error:
        raise CheckpointError(
            f"{source}: {explain(error, CheckpointInfo)}",
            hint="give a .safetensors file that 'classkinfy train' wrote",
        ) from error
    checkpoint = build(info, state, source)
    if seal != _seal(header, checkpoint.sha256):
        raise CheckpointError(
            f"{source} is damaged: its weights or its header are not those that were saved",
            hint="copy it again, or train again",
        )
    return checkpoint


def _seal(info: str, weights: str) -> str:
    return hashlib.sha256(f"{info}\n{weights}".encode()).hexdigest()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file. Raises CheckpointError when it is missing, foreign or damaged."""
    return from_bytes(read(path), path.name)


def read(path: Path) -> bytes:
    """Return a file's bytes. Raises CheckpointError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be read: {error.strerror}",
            hint="check the path",
        ) from error
