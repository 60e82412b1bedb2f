"""Whether the phone was cool, and on which cores it worked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from fake_phone import TRANSCRIPTS, Phone

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.device.conditions import Core, State, fastest, pin, temperatures


def test_it_waits_until_the_phone_is_cool(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], clock: SimpleNamespace
) -> None:
    phone.write(thermal=[3, 3, 3, 2, 0])
    told: list[str] = []
    report = bench_on_device(
        bundle,
        tools={"litert": tool("benchmark_model")},
        threads=(1,),
        rounds=1,
        progress=lambda what, done, total: told.append(what),
    )
    assert clock.now == 30.0
    assert [what for what in told if "cooling" in what] == [
        "cooling the phone, thermal status severe",
        "cooling the phone, thermal status severe",
        "cooling the phone, thermal status moderate",
    ]
    (row,) = report.rows
    assert (row.throttled, row.remarks) == (False, ())
    assert report.before.thermal_status == 3


def test_a_phone_that_stays_hot_is_measured_and_marked(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], clock: SimpleNamespace
) -> None:
    phone.write(thermal=[1])
    tools = {"litert": tool("benchmark_model")}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1, patience_s=60.0)
    assert clock.now == 60.0
    (row,) = report.rows
    assert row.throttled
    assert row.noisy
    assert row.remarks[0] == "prepare: round 1: started at thermal status light"
    warm = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1, cool_to=1)
    assert (warm.rows[0].throttled, clock.now) == (False, 60.0)


def test_one_that_heats_up_under_the_work_is_marked(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], clock: SimpleNamespace
) -> None:
    phone.write(thermal=[0, 0, 0, 3], caps={"3": [2342400, 2342400, 2342400, 1401600]})
    tools = {"litert": tool("benchmark_model")}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    (row,) = report.rows
    assert row.throttled
    assert row.noisy
    assert row.remarks[:2] == (
        "classify: round 1: thermal status went from none to severe",
        "classify: round 1: cpu3 was held at 1402 MHz, and had 2342 at the start",
    )
    assert not any(remark.startswith("prepare") for remark in row.remarks)
    assert (report.after.thermal_status, report.after.caps_mhz[3]) == (3, 1401.6)


def test_a_core_that_it_did_not_run_on_does_not_count(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(caps={"0": [1593600, 1593600, 300000]})
    tools = {"litert": tool("benchmark_model")}
    (row,) = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1).rows
    assert row.cores == (2, 3)
    assert row.throttled is False
    (row,) = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1, cores=[0]).rows
    assert row.cores == (0,)


def test_a_phone_that_tells_nothing_is_not_said_to_be_cool(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(thermal=[None], clocks={}, current=None, battery="battery_low.txt")
    tools = {"litert": tool("benchmark_model")}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    (row,) = report.rows
    assert (row.throttled, row.cores) == (None, ())
    assert not any("taskset" in line for line in phone.commands())
    assert report.after == State(
        thermal_status=None,
        temperatures_c={},
        battery_percent=9.0,
        battery_temperature_c=None,
        plugged=True,
        battery_current_ua=None,
        caps_mhz={},
    )


def test_conditions_are_the_transcripts(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    tools = {"litert": tool("benchmark_model")}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    assert (report.phone.model, report.phone.soc) == ("MI 5s Plus", "msm8996")
    assert (report.phone.android, report.phone.api_level) == ("11", 30)
    assert [core.max_mhz for core in report.phone.cores] == [1593.6, 1593.6, 2342.4, 2342.4]
    assert {core.governor for core in report.phone.cores} == {"schedutil"}
    state = report.before
    assert (state.thermal_status, state.battery_percent, state.plugged) == (0, 100.0, True)
    assert (state.battery_temperature_c, state.battery_current_ua) == (27.4, -412000)
    assert state.temperatures_c["cpu1-silver-usr"] == 44.1, "now, not when it last changed"
    assert state.temperatures_c["mb-therm-monitor"] == 30.147001
    assert "usbc-therm-monitor" not in state.temperatures_c


def test_currents_and_voltages_are_no_temperatures() -> None:
    text = (TRANSCRIPTS / "thermalservice_pixel.txt").read_text()
    assert temperatures(text) == {
        "TPU": 25.000002,
        "G3D": 26.000002,
        "BIG": 26.000002,
        "LITTLE": 27.000002,
        "VIRTUAL-SKIN": 24.83324,
        "battery": 22.1,
    }


def test_the_fastest_cores_are_chosen_and_slower_ones_only_for_more_threads() -> None:
    clocks = [1800.0] * 4 + [2400.0] * 3 + [2840.0]
    cores = [Core(number=n, max_mhz=mhz, governor=None) for n, mhz in enumerate(clocks)]
    assert fastest(cores, 1) == (7,)
    assert fastest(cores, 2) == (4, 5, 6, 7)
    assert fastest(cores, 5) == tuple(range(8))
    assert fastest([], 1) == ()
    assert pin((4, 5, 6, 7)) == "taskset f0 "
    assert pin(()) == ""
