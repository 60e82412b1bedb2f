"""Any model in any runtime: a bundle in memory that holds just that one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from classkinfy_export.bundle.manifest import FileEntry, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.parity.graphs.base import Array, Graph
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Runtime

STAGE = ENTRY = "part"
"""The stage of such a bundle, and its entry in a LiteRT file."""


class Probe:
    """Runs parts of a graph.

    Args:
        bundle: whose graph it is.
        graph: the graph.
        runtime: where its parts run.
        precision: of the graph.
        threads: within an operator.
    """

    def __init__(
        self, bundle: Bundle, graph: Graph, runtime: Runtime, precision: Precision, threads: int
    ) -> None:
        self.bundle, self.graph, self.runtime = bundle, graph, runtime
        self.precision: Precision = precision
        self.threads = threads

    def run(self, given: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Compute tensors from others.

        Args:
            given: by name, in the graph's layouts and dtypes.
            wanted: names.

        Raises:
            BundleError: the runtime does not run this part.
        """
        part = _holding(self.bundle, self.graph, self.runtime, self.precision, given, wanted)
        with self.runtime.open(part, precision=self.precision, threads=self.threads) as engine:
            # A runtime may give views into memory that goes with the engine.
            return {name: value.copy() for name, value in engine.run(STAGE, given).items()}


def _holding(
    bundle: Bundle,
    graph: Graph,
    runtime: Runtime,
    precision: Precision,
    given: Mapping[str, Array],
    wanted: Sequence[str],
) -> Bundle:
    data = graph.cut(list(given), wanted)
    name = f"{STAGE}.{runtime.format}"
    sha256 = hashlib.sha256(data).hexdigest()
    used = {source for op in graph.needed(given, wanted) for source in op.inputs}
    spec = StageSpec(
        name=STAGE,
        kind="pipeline",
        inputs=tuple(_spec(graph, tensor) for tensor in given if tensor in used),
        outputs=tuple(_spec(graph, tensor) for tensor in wanted),
    )
    model = ModelFile(path=name, format=runtime.format, precision=precision, entries={STAGE: ENTRY})
    manifest = bundle.manifest.model_copy(
        update={
            "stages": (spec,),
            "pipeline": None,
            "models": (model,),
            "files": {name: FileEntry(sha256=sha256, size_bytes=len(data))},
        }
    )
    return Bundle(Path(name), _Memory({name: data}), manifest, sha256)


def _spec(graph: Graph, tensor: str) -> TensorSpec:
    content = {"name": tensor, "dtype": graph.dtype(tensor), "shape": graph.shape(tensor)}
    return TensorSpec.model_validate({**content, "unit": ""})


class _Memory:
    """Files that are nowhere but here."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return list(self._files)

    def size(self, name: str) -> int:
        return len(self._files[name])

    def read(self, name: str) -> bytes:
        return self._files[name]
