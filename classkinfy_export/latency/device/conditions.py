"""Under which conditions a phone measures: what it is, how warm it is, what its cores may do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from classkinfy_export.document import Document
from classkinfy_export.latency.device.adb import Adb

STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's thermal statuses, from 0; it throttles from light on (``PowerManager``)."""

_CPUS = "/sys/devices/system/cpu"
_ONLINE = f"{_CPUS}/online"
_CORES = f"{_CPUS}/cpu[0-9]*/cpufreq"
"""A pattern of the phone's shell."""
_CURRENT = "/sys/class/power_supply/battery/current_now"
_DEGREES = {0, 1, 2, 3, 9}
"""Types of Android's ``Temperature`` that are one: CPU, GPU, battery, skin, NPU. Others of the same
list are currents and voltages, or a modem's."""


class Core(Document):
    """One core, as cpufreq has it."""

    number: int
    max_mhz: float
    """Of the hardware."""
    governor: str | None
    """None where the phone does not tell."""


class Phone(Document):
    """What a phone is. Its serial number is left out: it would tell whose phone it is."""

    manufacturer: str
    model: str
    soc: str
    android: str
    api_level: int | None
    abis: tuple[str, ...]
    """The best first."""
    cores: tuple[Core, ...]
    """Those that are online and tell their clock; empty where none does."""


class State(Document):
    """What changes while a phone works. None is what it does not tell."""

    thermal_status: int | None
    """An index into ``STATUSES``; phones tell it since Android 10."""
    temperatures_c: dict[str, float]
    battery_percent: float | None
    battery_temperature_c: float | None
    plugged: bool | None
    """Whether it is charged; over USB it always is, so the current is not the load's alone."""
    battery_current_ua: int | None
    """As the kernel reports it. Its sign is the manufacturer's choice, and some give mA."""
    caps_mhz: dict[int, float]
    """By core, the most that its clock may be now."""


def identify(adb: Adb) -> Phone:
    """Ask a phone what it is."""
    clock, governor = f"{_CORES}/cpuinfo_max_freq", f"{_CORES}/scaling_governor"
    text = adb.run(f"getprop; grep -sH . {_ONLINE} {clock} {governor}").text
    told = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", text, re.MULTILINE))

    def first(*names: str) -> str:
        return next((told[name] for name in names if told.get(name)), "")

    level = first("ro.build.version.sdk")
    return Phone(
        manufacturer=first("ro.product.manufacturer"),
        model=first("ro.product.model"),
        soc=first("ro.soc.model", "ro.board.platform", "ro.hardware"),
        android=first("ro.build.version.release"),
        api_level=int(level) if level.isdigit() else None,
        abis=tuple(first("ro.product.cpu.abilist", "ro.product.cpu.abi").split(",")),
        cores=_cores(text),
    )


def read_state(adb: Adb) -> State:
    """Ask a phone how it is now, all at once so as to keep it from little."""
    files = f"{_CURRENT} {_CORES}/scaling_max_freq"
    text = adb.run(f"dumpsys thermalservice; dumpsys battery; grep -sH . {files}").text
    status = re.search(r"^Thermal Status: (\d)", text, re.MULTILINE)
    tenths = _number(text, "temperature")
    level, scale = _number(text, "level"), _number(text, "scale")
    powered = re.findall(r"^  (?:AC|USB|Wireless|Dock) powered: (\w+)", text, re.MULTILINE)
    current = re.search(rf"^{_CURRENT}:(-?\d+)$", text, re.MULTILINE)
    return State(
        thermal_status=int(status[1]) if status else None,
        temperatures_c=temperatures(text),
        battery_percent=100.0 * level / scale if level is not None and scale else None,
        battery_temperature_c=tenths / 10.0 if tenths is not None else None,
        plugged="true" in powered if powered else None,
        battery_current_ua=int(current[1]) if current else None,
        caps_mhz=_clocks(text, "scaling_max_freq"),
    )


def temperatures(text: str) -> dict[str, float]:
    """Read ``dumpsys thermalservice``: degrees Celsius by sensor.

    What the sensors say now; where they cannot be asked, what they last reported.
    """
    _, now, after = text.partition("Current temperatures from HAL:")
    section = after.partition("Current cooling devices")[0] if now else text
    rows = re.findall(r"Temperature\{mValue=([-\d.]+), mType=(-?\d+), mName=([^,}]+)", section)
    return {name: float(value) for value, kind, name in rows if int(kind) in _DEGREES}


def fastest(cores: Sequence[Core], threads: int) -> tuple[int, ...]:
    """Return the fastest cluster's cores, and the next one's while there are fewer than threads.

    Args:
        cores: with their clocks; cores of one clock are one cluster.
        threads: how many are to run at a time.

    Returns:
        core numbers in order; empty where no core tells its clock.
    """
    chosen: list[int] = []
    for clock in sorted({core.max_mhz for core in cores}, reverse=True):
        if len(chosen) >= threads:
            break
        chosen += [core.number for core in cores if core.max_mhz == clock]
    return tuple(sorted(chosen))


def pin(cores: Sequence[int]) -> str:
    """Return what comes before a command to keep it on some cores; nothing for no cores."""
    return f"taskset {sum(1 << core for core in set(cores)):x} " if cores else ""


def _cores(text: str) -> tuple[Core, ...]:
    governors = dict(re.findall(rf"^{_CPUS}/cpu(\d+)/cpufreq/scaling_governor:(\S+)$", text, re.M))
    listed = re.search(rf"^{_ONLINE}:([\d,-]+)$", text, re.MULTILINE)
    ranges = re.findall(r"(\d+)(?:-(\d+))?", listed[1]) if listed else []
    online = {core for low, high in ranges for core in range(int(low), int(high or low) + 1)}
    return tuple(
        Core(number=core, max_mhz=mhz, governor=governors.get(str(core)))
        for core, mhz in sorted(_clocks(text, "cpuinfo_max_freq").items())
        if not online or core in online
    )


def _clocks(text: str, name: str) -> dict[int, float]:
    """Return clocks of cpufreq, MHz, by core. Cores that are off have none."""
    rows = re.findall(rf"^{_CPUS}/cpu(\d+)/cpufreq/{name}:(\d+)$", text, re.MULTILINE)
    return {int(core): int(khz) / 1e3 for core, khz in rows}


def _number(text: str, name: str) -> int | None:
    found = re.search(rf"^  {name}: (-?\d+)\s*$", text, re.MULTILINE)
    return int(found[1]) if found else None
