"""Every reader of bytes that anyone may have made, on files made wrong: what it refuses, and how.

    python benchmarks/fuzz.py --bundle bundle --cases 10000

The bundle is one with fp32 models in every format, staged. A case is a valid file made wrong as
its seed says (``mutation.py``), so that ``--reader NAME --first N --cases 1`` makes it again. What
is raised has to be a ``ClasskinfyError`` of one line that says what to do; a server's response what
OpenAPI documents, and no 5xx. Whatever else is raised is a crash; so is a process that ends, a case
of more than 20 s of CPU or ``--limit-s`` in all, and one that asks for more than 3 GiB. Memory that
grows by more than 64 MiB after the first fifth of the cases is a leak. Crashes are kept in
``--crashes``, a file for each. Exits with 1 where there is any. Writes ``fuzz.md`` and
``fuzz.json`` beside this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import multiprocessing
import os
import platform
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from table import to_markdown

from classkinfy_export import machine
from classkinfy_export.errors import ClasskinfyError

SEED = 0
MOST_BYTES = 3 * 2**30
LEAK_MIB = 64
SLOW_MS = 20_000
MESSAGE = 4000
"""Characters of a refusal."""
PACKAGES = ("numpy", "onnx", "pillow", "pydantic", "pyyaml", "safetensors", "starlette", "torch")


class Outcome(NamedTuple):
    """Of one case."""

    crash: str
    """A traceback, or what else is wrong; empty where it is as it should be."""
    refused: bool


def attempt(read: Callable[[Any], object], given: object) -> Outcome:
    """Read a case: a refusal says in one line what, which, and what to do."""
    try:
        read(given)
    except ClasskinfyError as error:
        told = str(error)
        fault = ""
        if "\n" in told or not error.message:
            fault = "a refusal that is not one line"
        elif not error.hint:
            fault = "a refusal that does not say what to do"
        elif len(told) > MESSAGE:
            fault = f"a refusal of {len(told)} characters"
        return Outcome(f"{fault}: {told[:MESSAGE]}\n{_place(error)}" if fault else "", True)
    except Exception:
        return Outcome(traceback.format_exc(), False)
    return Outcome("", False)


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def seeded(reader: str, number: int) -> random.Random:
    """Return the randomness of a case."""
    return random.Random(f"{SEED} {reader} {number}")


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def run(
    reader: str,
    bundle: Path,
    numbers: range,
    current: Synchronized[int],
    results: Connection,
) -> None:
    """Read cases, in a process of its own, and tell what became of each."""
    from readers import READERS

    with tempfile.TemporaryDirectory() as folder:
        made = READERS[reader](bundle, Path(folder))
        attempt(made.read, made.case(seeded(reader, 0)))  # what is imported when it is first used
        logging.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libtiff tells of every wrong file
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, held + MOST_BYTES))
        for number in numbers:
            given = made.case(seeded(reader, number))
            current.value = number
            start = time.process_time()
            outcome = attempt(made.read, given)
            ms = (time.process_time() - start) * 1e3
            if ms > SLOW_MS and not outcome.crash:
                outcome = outcome._replace(crash=f"{ms:.0f} ms of CPU")
            kept = repr(given)[:200_000] if outcome.crash else ""
            results.send((number, *outcome, ms, rss_mib(), kept))
        results.send(None)
        results.recv()  # the parent has all


class Found:
    """What became of a reader's cases."""

    def __init__(self, reader: str, crashes: Path) -> None:
        self.reader = reader
        self._folder = crashes
        self.cases = self.refused = 0
        self.ms: list[float] = []
        self.memory: list[float] = []
        self.crashed: list[int] = []

    def add(
        self, number: int, crash: str, refused: bool, ms: float, memory: float, given: str = ""
    ) -> None:
        self.cases += 1
        self.refused += refused and not crash
        self.ms.append(ms)
        self.memory.append(memory)
        if crash:
            self.crashed.append(number)
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{self.reader.replace(' ', '_')}_{number}.txt"
            (self._folder / name).write_text(
                f"--reader {self.reader!r} --first {number} --cases 1\n{crash}\n{given}\n",
                encoding="utf-8",
                errors="backslashreplace",
            )

    def growth_mib(self) -> float:
        settled = self.memory[len(self.memory) // 5 :] or [0.0]
        return settled[-1] - settled[0]

    def row(self) -> dict[str, Any]:
        return {
            "reader": self.reader,
            "cases": self.cases,
            "refused": self.refused,
            "accepted": self.cases - self.refused - len(self.crashed),
            "slowest, CPU ms": round(max(self.ms)),
            "grown, MiB": round(self.growth_mib(), 1),
            "crashes": len(self.crashed),
        }


def fuzz(reader: str, bundle: Path, numbers: range, limit_s: float, crashes: Path) -> Found:
    """Read a reader's cases; one that ends the process, or does not end, is a crash."""
    found = Found(reader, crashes)
    context = multiprocessing.get_context("spawn")
    first = numbers.start
    while first < numbers.stop:
        current = context.Value("q", -1)
        ours, theirs = context.Pipe()
        left = range(first, numbers.stop)
        process = context.Process(target=run, args=(reader, bundle, left, current, theirs))
        process.start()
        theirs.close()
        last, memory, begun, since = first - 1, 0.0, -1, time.monotonic()
        while True:
            try:
                if ours.poll(0.2):
                    told = ours.recv()
                    if told is None:
                        ours.send(None)
                        break
                    found.add(*told)
                    last, memory, since = told[0], told[4], time.monotonic()
                    continue
            except EOFError:
                break
            if begun != current.value:
                begun, since = current.value, time.monotonic()
            if last < begun and time.monotonic() - since > limit_s:
                process.kill()
                break
        process.join()
        if last + 1 == numbers.stop:
            return found
        if current.value < 0:
            raise SystemExit(f"{reader}: its process ended with {process.exitcode} before a case")
        reason = f"no answer in {limit_s:g} s" if process.exitcode == -9 else "the process ended"
        found.add(last + 1, f"{reason}, {process.exitcode}", False, limit_s * 1e3, memory)
        first = last + 2
    return found


def main() -> None:
    from readers import READERS

    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, action="append")
    parser.add_argument("--limit-s", type=float, default=120.0)
    parser.add_argument("--crashes", type=Path, default=Path("build/crashes"))
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.cases)
    rows, crashed = [], False
    for reader in given.reader or READERS:
        start = time.monotonic()
        found = fuzz(reader, given.bundle.resolve(), numbers, given.limit_s, given.crashes)
        rows.append(found.row())
        crashed |= bool(found.crashed) or found.growth_mib() > LEAK_MIB
        print(rows[-1], f"{time.monotonic() - start:.0f} s", flush=True)
    if given.reader is None:
        write(rows, given.cases)
    sys.exit(crashed)


def write(rows: list[dict[str, Any]], cases: int) -> None:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    found = {
        "cases": cases,
        "seed": SEED,
        "cpu": machine.cpu(),
        "python": platform.python_version(),
        "versions": versions,
        "readers": rows,
    }
    here = Path(__file__).with_suffix("")
    here.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# Files made wrong",
        "",
        f"`python benchmarks/fuzz.py --bundle bundle --cases {cases}`; Python "
        f"{platform.python_version()}, {told}.",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
        "A case is a valid file made wrong, by its bytes or by what they mean: JSON's values, a",
        "zip's members, a PNG's chunks with their checksums right, a manifest sealed again, a",
        "form's parts. `accepted` are those that are still valid, or are wrong where nothing is",
        "read. A crash is whatever is neither a refusal in one line that says what to do nor a",
        "documented response; a case of more than 20 s of CPU; one of more than 3 GiB. `grown`",
        "is by how much memory was more at the end than after the first fifth.",
    ]
    here.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
