"""TensorFlow's own TFLite, in a process of its own: it and torch do not live in one."""

from __future__ import annotations

from typing import ClassVar

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.process import ProcessEngine, python_worker


class TensorflowRuntime(Runtime):
    """``tf.lite`` of the ``tensorflow`` package, CPU, XNNPACK as it was when that was built."""

    name: ClassVar[str] = "tensorflow"
    format: ClassVar[FormatName] = "litert"
    package: ClassVar[str] = "tensorflow-cpu"
    module: ClassVar[str] = "tensorflow"
    extra: ClassVar[str] = "tensorflow"
    in_process: ClassVar[bool] = False

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        command = python_worker(self.name, threads)
        return ProcessEngine(
            bundle, self.format, precision, threads, kind=self.name, command=command
        )
