"""Whether a phone slowed itself down: waiting until it is cool, and seeing whether it stays so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from classkinfy_export.latency.device.adb import Adb
from classkinfy_export.latency.device.conditions import STATUSES, State, read_state

_EVERY_S = 10.0


def cooled(
    adb: Adb, warmest: int, patience_s: float, told: Callable[[str], None] = lambda what: None
) -> State:
    """Wait until the phone's thermal status is low enough, or patience ends.

    Args:
        adb: the phone.
        warmest: the status to wait for, an index into ``STATUSES``.
        patience_s: the longest wait, seconds.
        told: called with what it waits for, each time that the status is still too high.

    Returns:
        the state at the end, which may still be too warm: ``remarks`` says so.
    """
    until = time.monotonic() + patience_s
    while True:
        state = read_state(adb)
        status = state.thermal_status
        if status is None or status <= warmest or time.monotonic() >= until:
            return state
        told(f"cooling the phone, thermal status {STATUSES[status]}")
        time.sleep(_EVERY_S)


def remarks(
    start: State, before: State, after: State, warmest: int, cores: Sequence[int]
) -> list[str]:
    """Say why what was measured between two states may be a throttled phone's.

    Args:
        start: of the whole run, to whose clocks the others are compared.
        before: the measurement.
        after: the measurement.
        warmest: the thermal status that it should start at, at most.
        cores: those that it ran on; none means any.

    Returns:
        reasons; none where nothing was seen.
    """
    found = []
    if before.thermal_status is not None and before.thermal_status > warmest:
        found.append(f"started at thermal status {STATUSES[before.thermal_status]}")
    statuses = before.thermal_status, after.thermal_status
    if statuses[0] is not None and statuses[1] is not None and statuses[1] > statuses[0]:
        found.append(f"thermal status went from {STATUSES[statuses[0]]} to {STATUSES[statuses[1]]}")
    for core, most in start.caps_mhz.items():
        now = min(state.caps_mhz.get(core, most) for state in (before, after))
        if now < most and (core in cores or not cores):
            found.append(f"cpu{core} was held at {now:.0f} MHz, and had {most:.0f} at the start")
    return found


def visible(state: State) -> bool:
    """Whether a phone tells anything by which throttling could be seen."""
    return state.thermal_status is not None or bool(state.caps_mhz)
