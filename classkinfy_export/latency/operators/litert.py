"""LiteRT with XNNPACK and a profiler.

XNNPACK names its own kernels; ``alignment`` tells whose they are. What has no event of LiteRT's
own is what XNNPACK took.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.parsing import parsing
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.latency.operators.alignment import align, partners
from classkinfy_export.latency.operators.litert_graph import LitertOperator, Part, SignatureGraph
from classkinfy_export.latency.operators.litert_library import CompiledModel, Event, EventKind
from classkinfy_export.latency.operators.recording import ProfilingEngine, Recorded, Recording
from classkinfy_export.latency.operators.report import UNPLACED, Coverage
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Array


class ProfiledLitert(ProfilingEngine):
    """A compiled model for each file.

    Args:
        bundle: an opened bundle.
        precision: of the models.
        threads: within an operator.
    """

    def __init__(self, bundle: Bundle, precision: Precision, threads: int) -> None:
        super().__init__(bundle, "litert", precision, threads)
        self._models: dict[str, CompiledModel] = {}
        self._walls_ms: dict[str, list[float]] = {}
        self._events: dict[str, list[list[Event]]] = {}

    def _load(self, model: ModelFile, stage: str) -> None:
        if model.path not in self._models:
            self._models[model.path] = CompiledModel(self.bundle.read(model.path), self.threads)

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        self._load(model, spec.name)
        compiled = self._models[model.path]
        compiled.start()
        start = time.perf_counter()
        given = compiled.run(model.entries[spec.name], inputs)
        wall = time.perf_counter() - start
        self._events.setdefault(spec.name, []).append(compiled.stop())
        self._walls_ms.setdefault(spec.name, []).append(wall * 1e3)
        return {
            tensor.name: np.frombuffer(given[tensor.name], tensor.dtype).reshape(tensor.shape)
            for tensor in spec.outputs
        }

    def recorded(self, stage: str, runs: int) -> Recording:
        """Return what the last runs took; see ``ProfilingEngine.recorded``."""
        events = self._events[stage][-runs:]
        if len({tuple((e.kind, e.name, e.place) for e in run) for run in events}) > 1:
            raise ClasskinfyError(f"LiteRT ran other operators of stage {stage} from run to run")
        model = self._model(stage)
        with parsing(model.path):
            graph = SignatureGraph(self.bundle.read(model.path), model.entries[stage])
        first = events[0]
        own = [e.place for e in first if e.kind is EventKind.OPERATOR]
        parts = graph.parts(set(own))
        left = Counter(graph.operators[index].kind for index in own)
        placed = graph.placed()
        rows = _owners(first, parts)
        return Recording(
            walls_ms=tuple(self._walls_ms[stage][-runs:]),
            operators=tuple(
                _recorded(event, of, placed, tuple(run[place].us for run in events))
                for place, (event, of) in enumerate(zip(first, rows, strict=True))
            ),
            coverage=Coverage(
                nodes=len(graph.operators),
                delegated=len(graph.operators) - len(own),
                partitions=sum(part.delegated for part in parts),
                left=dict(sorted(left.items(), key=lambda item: (-item[1], item[0]))),
            ),
        )

    def opened(self) -> list[str]:
        """Return the open model files."""
        return list(self._models)

    def close(self) -> None:
        """Free the models."""
        for model in self._models.values():
            model.close()
        self._models.clear()


def _owners(events: Sequence[Event], parts: Sequence[Part]) -> list[tuple[LitertOperator, ...]]:
    """Return the operators of each event: none where it is not certain, several of one kernel."""
    groups: list[list[int]] = []
    for place, event in enumerate(events):
        delegated = event.kind is EventKind.DELEGATED
        last = events[place - 1].kind is EventKind.DELEGATED if place else None
        if last is not delegated or (delegated and event.place == 0):
            groups.append([])
        groups[-1].append(place)
    found: list[tuple[LitertOperator, ...]] = [() for _ in events]
    if len(groups) != len(parts):
        return found  # it did not run in the parts that it should have
    for group, part in zip(groups, parts, strict=True):
        given = [events[place] for place in group]
        if not part.delegated:
            own = {op.index: op for op in part.operators}
            for place, event in zip(group, given, strict=True):
                found[place] = (own[event.place],) if event.place in own else ()
            continue
        # What reads constants alone is computed once, when the file is loaded.
        operators = [op for op in part.operators if op.inputs]
        aligned = align([event.name for event in given], operators)
        taken = {operators[at].index for at in aligned if at is not None}
        for place, at in zip(group, aligned, strict=True):
            if at is not None:
                op = operators[at]
                with_it = [o for o in partners(op, operators) if o.index not in taken]
                found[place] = (op, *with_it)
    return found


def _recorded(
    event: Event, of: tuple[LitertOperator, ...], placed: dict[int, str], us: tuple[int, ...]
) -> Recorded:
    kernel = event.name if event.kind is EventKind.DELEGATED else None
    if not of:
        return Recorded(UNPLACED if kernel else event.name, UNPLACED, None, kernel, "", (), us)
    return Recorded(
        operator="+".join(op.kind for op in of),
        node=str(of[0].index),
        module=placed.get(of[0].index),
        kernel=kernel,
        dtype=of[-1].dtype,
        shape=of[-1].shape,
        us=us,
    )
