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
            return tuple, ((type(found).__qualname__, settings),)
        if isinstance(found, BaseModel):
            return tuple, ((type(found).__qualname__, found.model_dump_json()),)
        return NotImplemented


def key(stages: object) -> str:
    """Return a name for a conversion of these stages."""
    written = io.BytesIO()
    _Contents(written).dump(stages)
    return hashlib.sha256(written.getvalue()).hexdigest()
