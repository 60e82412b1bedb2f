"""A job that is begun over and over, and killed at moments that are drawn; for ``kills``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classkinfy_export.errors import ClasskinfyError

COMMAND = Path(sys.executable).with_name("classkinfy")
WAIT_S = 600.0


class BrokenError(Exception):
    """What must hold does not."""


@dataclass
class Job:
    """A command, and what has to hold of its place after a kill."""

    name: str
    command: list[Any]
    prepare: Callable[[int], None]
    """Make the place ready, for the n-th time."""
    begun: Callable[[], bool]
    """Whether something is written already."""
    check: Callable[[], str]
    """Say what is there after a kill; raise BrokenError where it must not be."""
    ended: Callable[[], bool]
    """Whether the end is as if nothing had ever been killed."""


@dataclass
class Found:
    """What came of a job."""

    job: str
    kills: int = 0
    ends: int = 0
    """Times that it was begun again and ended."""
    after: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "kills": self.kills,
            "found after them": ", ".join(
                f"{n} x {what}" for what, n in sorted(self.after.items())
            ),
            "begun again, ended as unharmed": self.ends,
            "broken": len(self.broken),
        }


def start(command: list[Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(part) for part in (COMMAND, *command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def until(begun: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + WAIT_S
    while not begun() and process.poll() is None:
        if time.monotonic() > last:
            raise TimeoutError
        time.sleep(0.001)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unharmed(job: Job) -> float:
    """Run a job to its end, and return the seconds between its first file and that."""
    job.prepare(0)
    process = start(job.command)
    until(job.begun, process)
    begun = time.monotonic()
    if process.wait():
        raise BrokenError(f"{job.name} fails where nothing kills it")
    return time.monotonic() - begun


def torment(job: Job, kills: int, seconds: float, draw: random.Random) -> Found:
    """Kill a job so many times, at moments within ``seconds`` of its first file."""
    found, number = Found(job.name), 0
    while found.kills < kills:
        job.prepare(number)
        number += 1
        process = start(job.command)
        until(job.begun, process)
        moment = draw.uniform(0.0, seconds)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            kill(process)
            found.kills += 1
            try:
                found.after[job.check()] += 1
            except (BrokenError, ClasskinfyError, OSError) as error:
                found.broken.append(f"after {moment:.3f} s: {error}")
        else:
            _end(job, found, process.returncode)
        print(job.name, found.kills, f"{moment:.2f} s", dict(found.after), flush=True)
    _end(job, found, start(job.command).wait())
    return found


def _end(job: Job, found: Found, code: int) -> None:
    if code == 0 and job.ended():
        found.ends += 1
    else:
        found.broken.append(f"begun again it ended otherwise, with exit code {code}")
