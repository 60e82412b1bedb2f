"""What a stage costs on a phone's cores, in instructions: an emulator counts them.

The same on every machine and on a busy one, so it can be gated to a percent. A measure of work for
comparing two models or versions; no latency, for instructions do not all take as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from classkinfy_export import runtimes
from classkinfy_export.bundle.alone import alone
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.data import synthetic
from classkinfy_export.document import Document
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.arm64 import Arm64Runtime
from classkinfy_export.runtimes.base import Array
from classkinfy_export.runtimes.process import ProcessEngine

NAMES = tuple(name for name in runtimes.NAMES if name.startswith("arm64"))
_REPEATS = 3
"""After a run that is not counted, in which memory is laid out."""


class StageCost(Document):
    """A stage in one runtime and core."""

    runtime: str
    cpu: str
    precision: str
    stage: str
    instructions: int
    """Of one run, the least of three."""
    spread: float
    """How much more the dearest of them took, as a share."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is the cost of."""
        return self.runtime, self.precision, self.stage


class CostReport(Document):
    """Costs of a bundle's stages."""

    bundle: str
    manifest_sha256: str
    rows: tuple[StageCost, ...]
    conditions: dict[str, str]

    def regressions(self, baseline: CostReport, most: float) -> list[str]:
        """Return one line for each stage that costs more than before, by more than a share.

        Args:
            baseline: counted before.
            most: the share, as 0.02. Of the runtimes counted now, each stage of the baseline must
                be there.

        Raises:
            BundleError: the baseline has none of these runtimes.
        """
        now = {row.key: row.instructions for row in self.rows}
        counted = {row.runtime for row in self.rows}
        before = [row for row in baseline.rows if row.runtime in counted]
        if not before:
            raise BundleError("the baseline counts none of these runtimes", hint="count it anew")
        lines = []
        for row in before:
            name = " ".join(row.key)
            if row.key not in now:
                lines.append(f"{name}: counted before, and not now")
            elif now[row.key] > row.instructions * (1.0 + most):
                change = now[row.key] / row.instructions - 1.0
                lines.append(
                    f"{name}: {now[row.key]:,} instructions, {change:+.1%} of {row.instructions:,} "
                    f"({most:.1%} allowed)"
                )
        return lines


def count(
    bundle: Bundle,
    image: Pixels | None = None,
    *,
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CostReport:
    """Count the instructions of every stage.

    Args:
        bundle: an opened bundle.
        image: uint8 RGB, framed; None means a synthetic lesion.
        names: emulated runtimes; all that the bundle holds a format for by default.
        progress: called with (done, total) stages.

    Raises:
        BundleError: a runtime is not an emulated one, or the bundle holds nothing that they run.
        MissingDependencyError: the emulated machine is not set up.
    """
    manifest = bundle.manifest
    if image is None:
        drawn = synthetic.lesion("nv", seed=0, hair=0.0).image
        image = frame(drawn, manifest.capture, manifest.fit)
    stages = [*manifest.stages, *([manifest.pipeline] if manifest.pipeline else [])]
    held: dict[str, list[Precision]] = {model.format: [] for model in manifest.models}
    for model in manifest.models:
        held[model.format].append(model.precision)
    chosen: list[tuple[str, Precision]] = []
    for name in names or NAMES:
        precisions = held.get(runtimes.get(name).format, ["fp32"] if names else [])
        chosen += [(name, precision) for precision in dict.fromkeys(precisions)]
    rows: list[StageCost] = []
    versions = {}
    for place, (name, precision) in enumerate(chosen):
        runtime = runtimes.get(name)
        if not isinstance(runtime, Arm64Runtime):
            raise BundleError(f"{name} counts no instructions", hint=", ".join(NAMES))
        versions[name] = runtime.version() or ""
        with runtime.counting(bundle, precision) as engine:
            tensors: dict[str, Array] = {"image": image}
            for done, stage in enumerate(stages):
                if not engine.has(stage.name):
                    continue
                given, least, spread = _counted(engine, stage.name, tensors)
                tensors |= given if stage.name != "pipeline" else {}
                rows.append(
                    StageCost(
                        runtime=name,
                        cpu=runtime.cpu,
                        precision=engine.precision,
                        stage=stage.name,
                        instructions=least,
                        spread=spread,
                    )
                )
                progress(place * len(stages) + done + 1, len(chosen) * len(stages))
    if not rows:
        raise BundleError("the bundle holds nothing that an emulated runtime runs")
    return CostReport(
        bundle=manifest.name,
        manifest_sha256=bundle.sha256,
        rows=tuple(rows),
        conditions=versions,
    )


def count_model(
    data: bytes, spec: StageSpec, runtime: Arm64Runtime, given: Mapping[str, Array]
) -> int:
    """Count the instructions of a model file by itself.

    Args:
        data: the file.
        spec: its one stage.
        runtime: an emulated one that runs it.
        given: the stage's inputs.

    Raises:
        MissingDependencyError: the emulated machine is not set up.
    """
    with runtime.counting(alone(data, spec, runtime.format)) as engine:
        return _counted(engine, spec.name, given)[1]


def _counted(
    engine: ProcessEngine, stage: str, given: Mapping[str, Array]
) -> tuple[dict[str, Array], int, float]:
    """Return what a stage gives, the instructions of its cheapest run, and their spread."""
    answers = engine.run(stage, given)
    engine.instructions()
    counts = []
    for _ in range(_REPEATS):
        engine.run(stage, given)
        counts.append(engine.instructions())
    least = min(counts)
    return answers, least, max(counts) / least - 1.0
