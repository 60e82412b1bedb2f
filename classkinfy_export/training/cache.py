"""Decode, frame and prepare every image once, and keep what trainings read; they read memory then.

Kept are the networks' pixels and the screen's measurements. The bytes are what the deployed
pipeline has there: the same ``frame``, the same ``Prepare``, ``Resize`` and ``Measure`` modules.
The cache's name is a hash of what shapes it, ``_VERSION`` among it, which changes with the code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from classkinfy_export import files
from classkinfy_export.contract import (
    SCREEN_FEATURES,
    SCREEN_SCALE,
    SCREEN_VERSION,
    Capture,
    WorkingSize,
)
from classkinfy_export.frame import frame
from classkinfy_export.imaging.layout import to_pixels, to_planes
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.stages.screen import Measure

Progress = Callable[[int, int], None]

_MEASURED = ("features", "lesion_mask")
"""What is kept of the screen."""
_VERSION = 1
"""Of ``prepare`` and the resize; the screen has a version of its own."""


def pixels(side: int) -> str:
    """Return the name under which the input of a network of this side is kept."""
    return f"pixels_{side}"


def prepared(
    records: pd.DataFrame,
    sides: Sequence[int],
    *,
    working_size: WorkingSize,
    hair_removal: bool,
    folder: Path,
    progress: Progress | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of every record, from the cache or made now.

    Args:
        records: with a column ``path``; row i of each array belongs to row i.
        sides: of the networks' inputs, pixels.
        working_size: of ``clean``.
        hair_removal: as deployed.
        folder: where the cache is kept.
        progress: called with (done, total).

    Returns:
        memory-mapped, read-only: ``pixels(side)`` of each side, uint8 [n, side, side, 3]; of
        ``screen``, ``features``, float32 [n, features], and ``lesion_mask``, uint8 [n, h, w].

    Raises:
        ImageError: an image cannot be decoded; nothing is cached.
    """
    paths = [str(path) for path in records["path"]]
    folder = folder / _key(paths, working_size, hair_removal)
    wanted = [*map(pixels, sides), *_MEASURED]
    missing = [side for side in sides if not (folder / f"{pixels(side)}.npy").is_file()]
    unmeasured = not all((folder / f"{name}.npy").is_file() for name in _MEASURED)
    if missing or unmeasured:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".cache.", dir=folder.parent))
        try:
            keep = _Keep(working_size, missing, measured=unmeasured)
            _fill(temporary, paths, keep, working_size, hair_removal, progress)
            for path in temporary.iterdir():
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in wanted}


def table(
    make: Callable[[], pd.DataFrame],
    paths: Sequence[str],
    *,
    table_version: int,
    working_size: WorkingSize,
    hair_removal: bool,
    folder: Path,
) -> pd.DataFrame:
    """Return a table of floats by image, from the cache or made now.

    Args:
        make: makes it; its index is ``image_id``.
        paths: of the images and masks it is made of.
        table_version: of how it is made.
        working_size: of ``clean``.
        hair_removal: as deployed.
        folder: where the cache is kept.
    """
    key = _key(list(paths), working_size, hair_removal)
    path = folder / f"{key}.{table_version}.csv"
    if not path.is_file():
        files.write(path, make().to_csv(lineterminator="\n").encode())
    # Read also when just made: a run that goes on has the same floats, to the last bit.
    return pd.read_csv(path, dtype={"image_id": str}).set_index("image_id")


class _Keep(nn.Module):
    """``clean`` to what is kept."""

    def __init__(self, size: WorkingSize, sides: Sequence[int], *, measured: bool) -> None:
        super().__init__()
        self.resizes = nn.ModuleDict(
            {pixels(side): Resize(size.as_tuple(), (side, side)) for side in sides}
        )
        self.measure = Measure() if measured else None
        blank = torch.zeros((1, *size.as_tuple(), 3), dtype=torch.uint8)
        self.sample = {name: value.numpy()[0] for name, value in self(blank).items()}

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        planes = to_planes(clean).to(torch.float32)
        resized = {name: to_pixels(resize(planes)) for name, resize in self.resizes.items()}
        measured: dict[str, Tensor] = {} if self.measure is None else self.measure(clean)
        return resized | measured


def _key(paths: list[str], size: WorkingSize, hair_removal: bool) -> str:
    digest = hashlib.sha256()
    settings = [
        _VERSION,
        SCREEN_VERSION,
        *size.as_tuple(),
        hair_removal,
        SCREEN_SCALE,
        *SCREEN_FEATURES,
    ]
    digest.update(json.dumps(settings).encode())
    for path in paths:
        status = Path(path).stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """Make an array on the disk, with the place that it takes.

    Without, a disk that is full is told of by a signal that ends the process.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with files.named(path), path.open("r+b") as file:
        if not _reserved(file.fileno(), path.stat().st_size):
            file.seek(array.offset)
            row = bytes(array[0].nbytes)
            for _ in range(len(array)):
                file.write(row)
            file.flush()
            os.fsync(file.fileno())  # some disks say no sooner that they are full
    return array


def _reserved(file: int, size_bytes: int) -> bool:
    """Reserve a file's place; False where the system or the file system offers no such thing."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(file, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


def _fill(
    folder: Path,
    paths: list[str],
    keep: _Keep,
    size: WorkingSize,
    hair_removal: bool,
    progress: Progress | None,
) -> None:
    arrays = {
        name: _array(folder / f"{name}.npy", (len(paths), *one.shape), one.dtype)
        for name, one in keep.sample.items()
    }
    capture = Capture(height=size.height, width=size.width)
    prepare = Prepare(hair_removal)

    def make(index: int) -> None:
        with torch.inference_mode():
            clean = prepare(torch.from_numpy(frame(paths[index], capture)))["clean"]
            for name, value in keep(clean).items():
                arrays[name][index] = value[0].numpy()

    # Threads, for decoding and tensor work release Python's lock: one image a core.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        for done, _ in enumerate(pool.map(make, range(len(paths))), start=1):
            if progress is not None:
                progress(done, len(paths))
    finally:
        try:
            pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(threads)
    for array in arrays.values():
        array.flush()
