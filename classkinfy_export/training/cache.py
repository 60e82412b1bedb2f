"""Decode, frame, prepare and resize every image once; training then reads memory.

The cached bytes are what the deployed pipeline feeds its network: the same ``frame``, the same
``Prepare`` and ``Resize`` modules. The cache's name is a hash of everything that shapes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from classkinfy_export.contract import Capture, WorkingSize
from classkinfy_export.frame import frame
from classkinfy_export.imaging.layout import to_pixels, to_planes
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.prepare import Prepare

Levels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

_VERSION = "2"


def resized(
    records: pd.DataFrame,
    *,
    input_size: int,
    working_size: WorkingSize,
    hair_removal: bool,
    folder: Path,
    progress: Progress | None = None,
) -> Levels:
    """Return every record's network input, from the cache or made now.

    Args:
        records: with a column ``path``; row i of the result belongs to row i.
        input_size: side of the network's input, pixels.
        working_size: of the images that the network resizes.
        hair_removal: as deployed.
        folder: where the cache is kept.
        progress: called with (done, total).

    Returns:
        uint8 [n, input_size, input_size, 3], memory-mapped, read-only.

    Raises:
        ImageError: an image cannot be decoded; nothing is cached.
    """
    paths = [str(path) for path in records["path"]]
    file = folder / f"{_key(paths, input_size, working_size, hair_removal)}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".cache.", dir=folder))
        try:
            _fill(temporary / file.name, paths, input_size, working_size, hair_removal, progress)
            (temporary / file.name).replace(file)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    cached: Levels = np.load(file, mmap_mode="r")
    return cached


def _key(paths: list[str], input_size: int, size: WorkingSize, hair_removal: bool) -> str:
    digest = hashlib.sha256()
    settings = [_VERSION, input_size, *size.as_tuple(), hair_removal]
    digest.update(json.dumps(settings).encode())
    for path in paths:
        status = Path(path).stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _fill(
    file: Path,
    paths: list[str],
    input_size: int,
    size: WorkingSize,
    hair_removal: bool,
    progress: Progress | None,
) -> None:
    shape = (len(paths), input_size, input_size, 3)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    capture = Capture(height=size.height, width=size.width)
    prepare = Prepare(hair_removal)
    resize = Resize(size.as_tuple(), (input_size, input_size))

    def make(index: int) -> None:
        with torch.inference_mode():
            image = torch.from_numpy(frame(paths[index], capture))
            clean = prepare(image)["clean"]
            array[index] = to_pixels(resize(to_planes(clean).to(torch.float32)))[0].numpy()

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
    array.flush()
