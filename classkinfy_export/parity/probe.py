"""Parts of a graph in any runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classkinfy_export.bundle.alone import alone
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.parity.graphs.base import PART, Array, Graph
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Runtime


class Probe:
    """Runs parts of a graph.

    Args:
        graph: the graph.
        runtime: where its parts run.
        precision: of the graph.
        threads: within an operator.
    """

    def __init__(self, graph: Graph, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.graph, self.runtime = graph, runtime
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
        part = _holding(self.graph, self.runtime, self.precision, given, wanted)
        with self.runtime.open(part, precision=self.precision, threads=self.threads) as engine:
            # A runtime may give views into memory that goes with the engine.
            return {name: value.copy() for name, value in engine.run(PART, given).items()}


def _holding(
    graph: Graph,
    runtime: Runtime,
    precision: Precision,
    given: Mapping[str, Array],
    wanted: Sequence[str],
) -> Bundle:
    data = graph.cut(list(given), wanted)
    used = {source for op in graph.needed(given, wanted) for source in op.inputs}
    spec = StageSpec(
        name=PART,
        kind="pipeline",
        inputs=tuple(_spec(graph, tensor) for tensor in given if tensor in used),
        outputs=tuple(_spec(graph, tensor) for tensor in wanted),
    )
    return alone(data, spec, runtime.format, precision)


def _spec(graph: Graph, tensor: str) -> TensorSpec:
    content = {"name": tensor, "dtype": graph.dtype(tensor), "shape": graph.shape(tensor)}
    return TensorSpec.model_validate({**content, "unit": ""})
