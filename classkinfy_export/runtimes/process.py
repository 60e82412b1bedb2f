"""An engine whose models run in a process of their own, such as ``worker`` is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, cast

import numpy as np

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes import worker
from classkinfy_export.runtimes.base import Array, Engine

_COUNTED = b"instructions "
"""Begins a line that ``instructions.c`` prints."""
_TOLD = 400
"""Characters of what a worker printed, told when it dies."""


def python_worker(
    kind: str, threads: int, python: Sequence[str] = (sys.executable,)
) -> tuple[str, ...]:
    """Return how to start ``worker``.

    Args:
        kind: one of ``worker.KINDS``.
        threads: within an operator.
        python: how to start the Python that runs it.
    """
    # -P: the worker's folder holds a tensorflow.py that is not the one it wants.
    return (*python, "-P", worker.__file__, kind, str(threads))


class ProcessEngine(Engine):
    """A bundle opened in another process, which starts with the first stage and ends with this.

    Model files are read here, where their hashes are checked, and handed over as bytes.

    Args:
        bundle: an opened bundle.
        format: of the models.
        precision: of the models.
        threads: within an operator.
        kind: what errors call it.
        command: how to start a program that answers the messages of ``worker``.
        counted: whether that counts instructions, see ``instructions``.
    """

    def __init__(
        self,
        bundle: Bundle,
        format: FormatName,
        precision: Precision,
        threads: int,
        *,
        kind: str,
        command: Sequence[str],
        counted: bool = False,
    ) -> None:
        super().__init__(bundle, format, precision, threads)
        self.kind, self.counted = kind, counted
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        # A program that is killed leaves its temporary files.
        self._folder = tempfile.mkdtemp(prefix="classkinfy-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the engine)
        self._opened: list[str] = []

    def _load(self, model: ModelFile, stage: str) -> None:
        if model.path not in self._opened:
            data = np.frombuffer(self.bundle.read(model.path), np.uint8)
            self._ask({"open": model.path}, {"model": data})
            self._opened.append(model.path)

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        self._load(model, spec.name)
        outputs = [tensor.name for tensor in spec.outputs]
        head = {
            "run": model.path,
            "entry": model.entries[spec.name],
            "outputs": outputs,
            "mark": self.counted,
        }
        return self._ask(head, inputs)

    def instructions(self) -> int:
        """Return how many instructions the last run of a stage took, in a process that counts."""
        self._printed.seek(0)
        counts = [
            int(line.removeprefix(_COUNTED))
            for line in self._printed.read().splitlines()
            if line.startswith(_COUNTED)
        ]
        before, after = counts[-2:]
        return after - before

    def _ask(self, head: Mapping[str, object], arrays: dict[str, Array]) -> dict[str, Array]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                env={**os.environ, "TMPDIR": self._folder},
            )
        process = self._process
        try:
            worker.write(cast(BinaryIO, process.stdin), dict(head), arrays)
            answer, given = worker.read(cast(BinaryIO, process.stdout))
        except BaseException as error:
            # Also when interrupted: the answer to this is not to be taken for that to the next.
            if not isinstance(error, EOFError | OSError):
                process.kill()
            code = process.wait()
            self._forget(process)
            if not isinstance(error, EOFError | OSError | ValueError):
                raise
            raise BundleError(
                f"the process of runtime {self.kind} ended with {code}: {self._last_words()}"
            ) from None
        if "error" in answer:
            raise BundleError(f"runtime {self.kind}: {answer['error']}")
        return given

    def _last_words(self) -> str:
        self._printed.seek(0)
        return self._printed.read().decode(errors="replace")[-_TOLD:]

    def opened(self) -> list[str]:
        """Return the open model files."""
        return list(self._opened)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._forget(self._process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written
                    pipe.close()
        self._process = None
        self._opened.clear()

    def __del__(self) -> None:
        self.close()
        self._printed.close()
