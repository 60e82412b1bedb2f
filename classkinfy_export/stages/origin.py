"""Checkpoints of the origin project, read as they are and safely.

A ``.pth`` is a dict with the weights under ``model_state_dict``, ``state_dict`` or ``model``, or
is the weights themselves. The classifier is timm ``efficientnet_b3`` at 300 pixels and may carry
``label_map``; a grader is timm ``efficientnet_b2`` at 224 with an MLP head and may carry
``target_disease``. Only tensors and plain values are unpickled (``weights_only``).
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar as np_scalar
from torch import Tensor

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.document import brief
from classkinfy_export.errors import CheckpointError
from classkinfy_export.stages.checkpoint import Checkpoint, CheckpointInfo, build, read
from classkinfy_export.taxonomy import Taxonomy

CLASSIFIER = ("efficientnet_b3", 300)
GRADER = ("efficientnet_b2", 224)

_HEAD = ("head.0.weight", "head.0.bias")
_WRAPPERS = ("model_state_dict", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
# A NumPy scalar, such as a validation accuracy, is data; nothing else beyond torch's own is let
# in. NumPy 1 wrote the scalar's constructor under another name.
_PLAIN: list[Any] = [
    np.dtype,
    np_scalar,
    (np_scalar, "numpy.core.multiarray.scalar"),
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
]


def load_classifier(path: Path, taxonomy: Taxonomy, licence: str) -> Checkpoint:
    """Read a classifier; its outputs are put into the taxonomy's order by ``label_map``.

    Raises:
        CheckpointError: unreadable, unsafe, or not this network with these classes.
    """
    content = _unpickle(path)
    state = _weights(content, path)
    outputs = len(taxonomy.classes)
    spec = NetworkSpec(architecture=CLASSIFIER[0], input_size=CLASSIFIER[1], outputs=outputs)
    state = _rename(state, {"classifier.": "head.0."})
    rows = [state[name].shape[:1] for name in _HEAD if name in state]
    found = rows[0][0] if rows and rows[0] else outputs
    if found != outputs:
        raise CheckpointError(
            f"{path.name} has {found} classes, the taxonomy has {outputs} "
            f"({', '.join(taxonomy.classes)})",
            hint="write the checkpoint's own classes under 'taxonomy' in the export recipe",
        )
    order = _order(content.get("label_map"), taxonomy, path)
    if all(shape == (outputs,) for shape in rows):
        picked = torch.tensor(order)
        state |= {name: state[name].index_select(0, picked) for name in _HEAD if name in state}
    info = CheckpointInfo(
        role="classifier", network=spec, taxonomy=taxonomy, weights_licence=licence
    )
    return build(info, state, path.name)


def load_grader(path: Path, dx: str, taxonomy: Taxonomy, licence: str) -> Checkpoint:
    """Read the grader of one diagnosis.

    Raises:
        CheckpointError: unreadable, unsafe, not this network, or made for another disease.
    """
    content = _unpickle(path)
    target = content.get("target_disease")
    if isinstance(target, str) and target.lower() in taxonomy.classes and target.lower() != dx:
        raise CheckpointError(
            f"{path.name} was trained for {target!r}, not for {dx!r}",
            hint=f"pass it as --grader {target.lower()}={path.name}",
        )
    state = _rename(_weights(content, path), {"classifier.": "head."})
    spec = NetworkSpec(
        architecture=GRADER[0],
        input_size=GRADER[1],
        outputs=len(taxonomy.severities),
        head="mlp",
    )
    info = CheckpointInfo(
        role="grader", network=spec, taxonomy=taxonomy, diagnosis=dx, weights_licence=licence
    )
    return build(info, state, path.name)


def _unpickle(path: Path) -> dict[str, Any]:
    data = read(path)
    _check_archive(data, path)
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} is damaged, or holds more than weights, and was not opened",
            hint="save it again with torch.save(model.state_dict(), path)",
        ) from error
    except Exception as error:  # the unpickler raises whatever a broken stream makes it
        raise CheckpointError(
            f"{path.name} is not a PyTorch checkpoint, or is damaged",
            hint="copy it again from where it was trained",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not weights",
            hint="save it again with torch.save(model.state_dict(), path)",
        )
    return content


def _check_archive(data: bytes, path: Path) -> None:
    """Refuse a file with a changed byte: torch.load checks no sum, and its old format can crash."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # torch.save stores. What is compressed, or there under many names, could be any amount.
            stored = all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
            if not stored or sum(m.file_size for m in archive.infolist()) > len(data):
                raise ValueError("it holds more than its own size")
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises whatever a broken archive makes it
        raise CheckpointError(
            f"{path.name} is not a PyTorch checkpoint, or is damaged",
            hint="copy it again from where it was trained, or save it with PyTorch 1.6 or newer",
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path.name} is damaged: the checksum of {damaged} is wrong",
            hint="copy it again from where it was trained",
        )


def _weights(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    for name, tensor in state.items():
        # A view of a few bytes can have any shape.
        strided = tensor.layout == torch.strided and not tensor.is_meta
        if strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path.name} holds {brief(name)} as {list(tensor.shape)}, more than it has",
                hint="save dense tensors, as torch.save(model.state_dict(), path) does",
            )
    if not state:
        raise CheckpointError(
            f"{path.name} holds no weights; its keys are {brief(', '.join(map(str, content)))}",
            hint=f"the weights belong under one of {', '.join(_WRAPPERS)}, or at the top",
        )
    for prefix in _PREFIXES:
        if all(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _rename(state: dict[str, Tensor], heads: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for old, new in heads.items():
            if name.startswith(old):
                renamed[new + name.removeprefix(old)] = tensor
                break
        else:
            renamed[f"backbone.{name}"] = tensor
    return renamed


def _order(label_map: object, taxonomy: Taxonomy, path: Path) -> list[int]:
    """Return, for each class of the taxonomy, its row in the checkpoint."""
    if label_map is None:
        return list(range(len(taxonomy.classes)))
    if not isinstance(label_map, dict):
        raise CheckpointError(
            f"{path.name}: label_map is {brief(repr(label_map))}, not a dict",
            hint="it maps a class to its row",
        )
    rows = {}
    for key, value in label_map.items():
        label, row = (key, value) if isinstance(key, str) and not key.isdigit() else (value, key)
        try:
            rows[str(label).lower()] = int(row)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            raise CheckpointError(
                f"{path.name}: label_map gives {brief(repr(label))} the row {brief(repr(row))}, "
                "not a number",
                hint="it maps a class to its row",
            ) from None
    known = set(taxonomy.classes)
    if set(rows) != known or sorted(rows.values()) != list(range(len(known))):
        raise CheckpointError(
            f"{path.name}: label_map {brief(repr(label_map))} is not the taxonomy "
            f"({', '.join(taxonomy.classes)})",
            hint="write the checkpoint's own classes under 'taxonomy' in the export recipe",
        )
    return [rows[dx] for dx in taxonomy.classes]
