"""Counted instructions: the same twice, and a gate that does not flap."""

from __future__ import annotations

from pathlib import Path

import pytest

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.latency.instructions import CostReport, StageCost, count

A76, A53 = "arm64-litert", "arm64-a53-litert"


def report(**instructions: int) -> CostReport:
    rows = tuple(
        StageCost(
            runtime=A76,
            cpu="cortex-a76",
            precision="fp32",
            stage=stage,
            instructions=number,
            spread=0.0,
        )
        for stage, number in instructions.items()
    )
    return CostReport(bundle="b", manifest_sha256="0" * 64, rows=rows, conditions={})


def test_only_what_costs_more_than_allowed_is_a_regression() -> None:
    before = report(prepare=1000, classify=2000, screen=500)
    assert report(prepare=1020, classify=1500, screen=500).regressions(before, 0.02) == []
    (line,) = report(prepare=1021, classify=2000, screen=500).regressions(before, 0.02)
    assert line == f"{A76} fp32 prepare: 1,021 instructions, +2.1% of 1,000 (2.0% allowed)"
    (line,) = report(prepare=1000, classify=2000).regressions(before, 0.5)
    assert line == f"{A76} fp32 screen: counted before, and not now"
    others = before.model_copy(
        update={"rows": tuple(r.model_copy(update={"runtime": A53}) for r in before.rows)}
    )
    assert (
        before.regressions(before.model_copy(update={"rows": before.rows + others.rows}), 0.0) == []
    ), "what was not counted now is not missed"
    with pytest.raises(BundleError, match="counts none of these runtimes"):
        before.regressions(others, 0.02)


def test_a_runtime_that_counts_nothing_is_refused(trunk_bundle: Path) -> None:
    with pytest.raises(BundleError, match="onnxruntime counts no instructions: arm64-onnxruntime"):
        count(Bundle.open(trunk_bundle), names=["onnxruntime"])


def test_a_machine_without_a_compiler_counts_nothing(
    trunk_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_ARM64", str(tmp_path))
    (tmp_path / "installed.json").write_text('{"ai-edge-litert": "1.0", "onnxruntime": "1.0"}')
    with pytest.raises(ClasskinfyError, match="install gcc, then classkinfy doctor --install"):
        count(Bundle.open(trunk_bundle), names=[A76])


@pytest.mark.slow
def test_the_same_work_is_counted_the_same(trunk_bundle: Path) -> None:
    if runtimes.get(A76).version() is None:
        pytest.skip(f"the emulated machine is not set up: {runtimes.get(A76).hint()}")
    bundle = Bundle.open(trunk_bundle)
    first, second = (count(bundle, names=[A76]) for _ in range(2))
    costs = {row.stage: row.instructions for row in first.rows}
    assert set(costs) == {spec.name for spec in bundle.manifest.stages} | {"pipeline"}
    assert costs["classify"] > 1e6
    # The worker's own work is in it, a constant of a few ten thousand.
    parts = sum(costs[stage] for stage in bundle.manifest.unrouted)
    assert 0.5 < costs["pipeline"] / parts < 2.0
    for row in second.rows:
        if row.instructions > 1e6:  # of others most is the worker's own work
            assert row.instructions == pytest.approx(costs[row.stage], rel=1e-3)
