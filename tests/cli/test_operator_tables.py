"""Tables of a profile: the dearest operators with their modules, and what XNNPACK took."""

from __future__ import annotations

import pytest

from classkinfy_export.cli.operator_tables import show
from classkinfy_export.latency.operators.report import (
    Coverage,
    OperatorTime,
    ProfileReport,
    RuntimeProfile,
    StageProfile,
    summed,
)


def test_tables_show_the_ten_dearest_and_the_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    rows = tuple(
        OperatorTime(
            operator="CONV_2D",
            node=str(place),
            module=None if place == 11 else f"blocks.{place}",
            kernel="Convolution [x]",
            dtype="int8",
            shape=(1, 2),
            ms=float(place),
            share=place / 66.0,
            hint="mend it" if place == 9 else None,
        )
        for place in range(12)
    )
    coverage = Coverage(nodes=14, delegated=12, partitions=3, left={"CAST": 2})
    stage = StageProfile(
        stage="classify",
        wall_ms=70.0,
        profiled_ms=75.0,
        operators_ms=66.0,
        noisy=True,
        operators=rows,
        coverage=coverage,
    )
    by_operator, by_module = summed([stage])
    ours = RuntimeProfile(
        runtime="litert",
        version="2",
        form="staged",
        stages=(stage,),
        by_operator=by_operator,
        by_module=by_module,
    )
    show(
        ProfileReport(
            bundle="b",
            manifest_sha256="0" * 64,
            precision="static_wi8_ai8",
            image="given",
            threads=2,
            warmup=1,
            n=7,
            runtimes=(ours,),
            not_run={"onnxruntime": "not installed"},
            conditions={"cpu": "a cpu"},
        )
    )
    shown = capsys.readouterr().out
    assert "static_wi8_ai8, 2 threads, median of 7, on a cpu" in shown
    assert "12 of 14" in shown
    assert "2 CAST" in shown
    assert "noisy" in shown
    assert "blocks.2 " in shown
    assert "blocks.1 " not in shown, "the eleventh"
    assert "│ ?" in shown
    assert "Convolution [x]" in shown
    assert "hint 1 mend it" in shown
    assert "onnxruntime: not installed" in shown
