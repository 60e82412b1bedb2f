"""Estimated latency: what a roofline says by hand, bounds, and phones that users add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import RecipeError
from classkinfy_export.latency.estimate import estimate, fit, phone
from classkinfy_export.latency.estimate.fit import Efficiency, Fit, HeldOut
from classkinfy_export.latency.estimate.phone import Phone
from classkinfy_export.latency.estimate.roofline import latency
from classkinfy_export.latency.estimate.work import Kind, Number, Operator, Work

ROOT = Path(__file__).parents[2]
HELD = HeldOut(median_error=0.1, p90_error=0.3, coverage=0.8, latencies=9)
PHONE: dict[str, Any] = {
    "name": "Mine",
    "soc": "a chip",
    "bandwidth_gb_s": 10.0,
    "bandwidth_source": "its data sheet",
    "clusters": [
        {
            "core": "a core",
            "count": 2,
            "clock_ghz": 2.0,
            "fp32_macs_per_cycle": 8,
            "int8_macs_per_cycle": 32,
            "clock_source": "its data sheet",
            "fp32_source": "its data sheet",
            "int8_source": "its data sheet",
        }
    ],
}


def fitted(**changes: Any) -> Fit:
    half = Efficiency(fp32=0.5, int8=0.25)
    values: dict[str, Any] = {
        "efficiency": dict.fromkeys(("convolution", "pointwise", "depthwise", "matrix"), half),
        "bandwidth_share": 0.4,
        "parallel_share": 0.9,
        "operator_cycles": 0.0,
        "below": 0.8,
        "above": 1.5,
        "phones_held_out": HELD,
        "networks_held_out": HELD,
        "both_held_out": HELD,
        "cores": (),
        "fitted_on": "nothing",
    }
    return Fit(**values | changes)


def work(*operators: Operator) -> Work:
    return Work(stage="classify", format="litert", precision="fp32", operators=operators)


def operator(kind: Kind, number: Number = "fp32", macs: int = 0, moved: int = 0) -> Operator:
    return Operator(
        place=0,
        name=kind,
        kind=kind,
        number=number,
        macs=macs,
        moved_bytes=moved,
        elements=moved // 8,
    )


def mine(**changes: Any) -> Phone:
    return Phone.model_validate(PHONE | changes)


def test_an_operator_takes_as_long_as_the_slower_of_multiplying_and_moving() -> None:
    # 2 GHz x 8 x 0.5 is 8e9 a second, 10 GB/s x 0.4 is 4e9.
    for macs, moved, ms in ((8_000_000, 0, 1.0), (8_000_000, 12_000_000, 3.0)):
        found, share = latency(
            work(operator("pointwise", "fp32", macs, moved)), mine(), 1, fitted()
        )
        assert found.ms == pytest.approx(ms)
        assert (found.low_ms, found.high_ms) == pytest.approx((0.8 * ms, 1.5 * ms))
        assert share == 1.0
    # int8: 2 GHz x 32 x 0.25 is 16e9 a second.
    found, _ = latency(work(operator("depthwise", "int8", 8_000_000)), mine(), 1, fitted())
    assert found.ms == pytest.approx(0.5)
    # Operators follow one another, each with 1,000 cycles of its own: half a microsecond.
    twice = work(*[operator("matrix", "fp32", 8_000_000)] * 2)
    found, _ = latency(twice, mine(), 1, fitted(operator_cycles=1000.0))
    assert found.ms == pytest.approx(2.001)


def test_threads_share_out_only_a_part() -> None:
    one, two = (
        latency(work(operator("pointwise", "fp32", 8_000_000)), mine(), threads, fitted())[0].ms
        for threads in (1, 2)
    )
    assert two == pytest.approx(one * (0.1 + 0.9 / 2))


def test_slower_cores_beside_a_fast_one_add_less() -> None:
    fast = PHONE["clusters"][0] | {"count": 1}
    slow = fast | {"clock_ghz": 1.0, "count": 3}
    assert mine(clusters=[fast, slow]).speedup("fp32", 3) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="has 4 large cores, not 5"):
        mine(clusters=[fast, slow]).speedup("fp32", 5)


def test_elementwise_operators_are_bounded_and_not_fitted() -> None:
    moved = 32_000_000
    found, share = latency(work(operator("elementwise", moved=moved)), mine(), 1, fitted())
    # 16 bytes a cycle at best, and 4e6 elements one after the other, each in 8 cycles.
    assert (found.low_ms, found.high_ms) == pytest.approx((1.0, 16.0))
    assert found.ms == pytest.approx(4.0), "the geometric mean"
    assert share == 0.0
    known, _ = latency(work(operator("pointwise", moved=moved)), mine(), 1, fitted())
    assert found.high_ms / found.low_ms > 4 * known.high_ms / known.low_ms


def test_a_bundle_is_estimated_on_every_phone(trunk_bundle: Path) -> None:
    bundle = Bundle.open(trunk_bundle)
    report = estimate(bundle)
    assert report.kind == "estimated"
    assert len(report.phones) == len(phone.shipped())
    for one in report.phones:
        assert [stage.stage for stage in one.stages] == [s.name for s in bundle.manifest.stages]
        for found in (one.total, *(stage.latency for stage in one.stages)):
            assert 0 < found.low_ms <= found.ms <= found.high_ms
        always = sum(stage.latency.ms for stage in one.stages if not stage.routed)
        graders = [stage.latency.ms for stage in one.stages if stage.routed]
        assert len(graders) == 3
        assert one.total.ms == pytest.approx(always + max(graders))
        shares = {stage.stage: stage.fitted_share for stage in one.stages}
        assert shares["prepare"] < 0.1, "it multiplies next to nothing"


def test_a_phone_is_asked_for_no_more_threads_than_it_has_cores(trunk_bundle: Path) -> None:
    report = estimate(Bundle.open(trunk_bundle), ["pixel-3a", "pixel-4"], threads=4)
    assert [one.threads for one in report.phones] == [2, 4]


def test_int8_is_faster_where_a_network_is_most_of_the_work(quantised_bundle: Path) -> None:
    bundle = Bundle.open(quantised_bundle)
    ms = {
        precision: {
            stage.stage: stage.latency.ms
            for stage in estimate(bundle, ["pixel-4"], precision=precision).phones[0].stages
        }
        for precision in ("fp32", "static_wi8_ai8")
    }
    assert ms["static_wi8_ai8"]["classify"] < ms["fp32"]["classify"]
    assert ms["static_wi8_ai8"]["prepare"] == ms["fp32"]["prepare"], "it stays as it is"


@pytest.mark.parametrize("name", phone.shipped())
def test_a_shipped_phone_tells_where_its_figures_are_from(name: str) -> None:
    one = phone.load(name)
    assert one.cores >= 1
    for cluster in one.clusters:
        assert cluster.int8_macs_per_cycle >= cluster.fp32_macs_per_cycle
        for source in (cluster.clock_source, cluster.fp32_source, cluster.int8_source):
            assert len(source) > 10


def test_a_user_adds_a_phone_with_a_file(trunk_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PHONE))
    report = estimate(Bundle.open(trunk_bundle), [str(path)])
    assert [one.phone for one in report.phones] == ["Mine"]
    # Twice the clock and the bandwidth: half the time.
    core = PHONE["clusters"][0] | {"clock_ghz": 4.0}
    path.write_text(yaml.safe_dump(PHONE | {"bandwidth_gb_s": 20.0, "clusters": [core]}))
    twice = estimate(Bundle.open(trunk_bundle), [str(path)])
    assert twice.phones[0].total.ms == pytest.approx(report.phones[0].total.ms / 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bandwith_gb_s": 10.0}, "unknown key 'bandwith_gb_s'; did you mean 'bandwidth_gb_s'?"),
        ({"bandwidth_gb_s": 0.0}, "bandwidth_gb_s: Input should be greater than 0"),
        ({"bandwidth_source": ""}, "bandwidth_source: String should have at least 1 character"),
        ({"clusters": []}, "clusters: Tuple should have at least 1 item"),
        (
            {
                "clusters": [
                    PHONE["clusters"][0] | {"clock_ghz": 1.0},
                    PHONE["clusters"][0],
                ]
            },
            "clusters are to stand fastest first",
        ),
    ],
)
def test_a_phone_that_makes_no_sense_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PHONE | change))
    with pytest.raises(RecipeError) as raised:
        phone.load(str(path))
    assert said in str(raised.value)


def test_a_phone_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"'nokia-3310' cannot be read.*pixel-4") as raised:
        phone.load("nokia-3310")
    assert "\n" not in str(raised.value)


def test_what_ships_is_what_the_benchmark_fitted() -> None:
    told = json.loads((ROOT / "benchmarks/estimate.json").read_text())
    shipped = fit.shipped()
    assert Fit.model_validate(told["fit"]) == shipped
    assert shipped.below < 1.0 < shipped.above
    # Half of the errors held out are within the median, and nine of ten within the next.
    off = [
        max(row["published_over_estimated"], 1.0 / row["published_over_estimated"]) - 1.0
        for row in told["rows"]
        if row["held_out"] == "both"
    ]
    held = shipped.both_held_out
    assert len(off) == held.latencies
    assert sum(one <= held.median_error + 0.002 for one in off) >= len(off) / 2
    assert sum(one <= held.p90_error + 0.002 for one in off) >= 0.88 * len(off)


def test_networks_that_were_counted_have_the_multiplications_that_their_authors_tell() -> None:
    counted = {
        row["network"]: row["macs"] / 1e6
        for row in json.loads((ROOT / "benchmarks/estimate.json").read_text())["rows"]
    }
    # Column MACs of research/slim/nets/mobilenet/README.md, whose figures are rounded.
    told = {
        "mobilenet_v2_1.0_224": 300,
        "mobilenet_v2_1.4_224": 582,
        "mobilenet_v2_1.0_96": 56,
        "mobilenet_v3_large": 217,
        "mobilenet_v3_large_minimalistic": 209,
        "mobilenet_edgetpu_1.0": 990,
    }
    assert {name: counted[name] for name in told} == pytest.approx(told, rel=0.01)
    # Column MAdds of efficientnet/lite/README.md counts normalisation and biases too.
    lite = {f"efficientnet_lite{n}": m for n, m in enumerate((407, 631, 899, 1440, 2640))}
    for name, most in lite.items():
        assert 0.93 * most < counted[name] < most
