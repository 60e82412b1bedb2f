"""What a conversion is known by: its modules' types, settings and weights, and its specs."""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch
from pydantic import BaseModel


class _Contents(pickle.Pickler):
    """Pickles modules and tensors by what they hold, the same in every process."""

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            data = found.detach().contiguous().numpy().tobytes()
            return tuple, ((str(found.dtype), tuple(found.shape), data),)
        if isinstance(found, torch.nn.Module):
            settings = [(k, sorted(v) if isinstance(v, set) else v) for k, v in vars(found).items()]
            return tuple, ((_name(found), settings),)
        if isinstance(found, BaseModel):
            return tuple, ((_name(found), found.model_dump_json()),)
        return NotImplemented


def _name(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"


def key(stages: object) -> str | None:
    """Return a name for a conversion of these stages; None of modules with functions of a test."""
    written = io.BytesIO()
    try:
        _Contents(written).dump(stages)
    except (AttributeError, pickle.PicklingError):
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()
