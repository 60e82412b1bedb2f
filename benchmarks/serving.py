"""A server under load: its capacity, what it does at three times that, and how long answers take.

    python benchmarks/serving.py --bundle bundle --images HAM10000 --minutes 10

The server has one worker and the first core, the client the second. Capacity is what the client
gets with always two requests under way; a loop of ``predict`` on the first core takes turns with
it. Then requests come evenly spaced, whatever becomes of those before: at 0.7 of capacity for a
fifth of the time, then at capacity and at three times it. Every answer is compared with ``predict``
on the same bytes. Memory is the server's proportional set (Linux), after a tenth of a phase and at
its end. Writes ``serving.md`` and ``serving.json`` beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from table import to_markdown

from classkinfy_export import machine, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.frame import choose, list_images
from classkinfy_export.runtimes.session import Session

PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
SERVER, CLIENT = {0}, {1}
ROUNDS = 7
PHASES = (("0.7 of capacity", 0.7, 0.2), ("capacity", 1.0, 1.0), ("3x capacity", 3.0, 1.0))
"""Each its name, its share of capacity, and of the time."""
SETTLED = 0.1
"""Share of a phase after which memory is first read."""
UNTIMED = ("timings_ms", "id")


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in UNTIMED}


def predicted(session: Session, photos: list[bytes]) -> float:
    """Return how many photos ``predict`` answers a second, on the server's core."""
    os.sched_setaffinity(0, SERVER)
    start = time.perf_counter()
    for photo in photos:
        session.predict(photo)
    rate = len(photos) / (time.perf_counter() - start)
    os.sched_setaffinity(0, CLIENT)
    return rate


@contextmanager
def server(bundle: Path, precision: str) -> Iterator[int]:
    command = [str(Path(sys.executable).with_name("classkinfy")), "serve", str(bundle)]
    command += ["--port", str(PORT), "--precision", precision]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, SERVER)
    )
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{URL}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Load:
    """What one phase saw."""

    def __init__(self, photos: list[bytes], answers: list[Any]) -> None:
        self.photos, self.answers = photos, answers
        self.statuses: Counter[str] = Counter()
        self.wrong = 0
        self.seconds: list[float] = []

    async def ask(self, client: httpx.AsyncClient, i: int) -> None:
        i %= len(self.photos)
        start = time.perf_counter()
        try:
            response = await client.post(f"{URL}/v1/predict", files={"image": self.photos[i]})
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(response.status_code)] += 1
        if response.status_code == 200:
            self.seconds.append(time.perf_counter() - start)
            self.wrong += plain(response.json()) != self.answers[i]
        elif response.status_code == 503 and "retry-after" not in response.headers:
            self.statuses["503 without Retry-After"] += 1

    def row(self, memory: tuple[float, float]) -> dict[str, Any]:
        others = {what: n for what, n in self.statuses.items() if what not in ("200", "503")}
        p50, p99 = (float(v) * 1e3 for v in np.percentile(self.seconds, (50, 99)))
        return {
            "asked": sum(self.statuses.values()),
            "answered": self.statuses["200"],
            "503": self.statuses["503"],
            "other": ", ".join(f"{n} {what}" for what, n in others.items()) or "none",
            "wrong": self.wrong,
            "p50, ms": f"{p50:.1f}",
            "p99, ms": f"{p99:.1f}",
            "p99 over p50": f"{p99 / p50:.2f}",
            "MiB, first and last": f"{memory[0]:.1f}, {memory[1]:.1f}",
        }


async def closed(load: Load, seconds: float, at_once: int) -> float:
    """Keep so many requests under way, and return how many are answered a second."""
    start = time.perf_counter()

    async def one(first: int) -> None:
        i = first
        while time.perf_counter() - start < seconds:
            await load.ask(client, i)
            i += at_once

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=64)) as client:
        await asyncio.gather(*(one(i) for i in range(at_once)))
    return load.statuses["200"] / (time.perf_counter() - start)


async def paced(load: Load, seconds: float, rate: float, pid: int) -> tuple[float, float]:
    """Ask evenly spaced; return memory once settled, and at the end."""
    asking: set[asyncio.Task[None]] = set()
    first = None
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=256)) as client:
        start = time.perf_counter()
        for i in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, start + i / rate - time.perf_counter()))
            task = asyncio.create_task(load.ask(client, i))
            asking.add(task)
            task.add_done_callback(asking.discard)
            if first is None and time.perf_counter() - start > SETTLED * seconds:
                first = pss_mib(pid)
        await asyncio.gather(*asking)
    return first or pss_mib(pid), pss_mib(pid)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--precision", default="static_wi8_ai8")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    photos = [path.read_bytes() for path in choose(list_images(given.images), given.photos)]
    os.sched_setaffinity(0, CLIENT)
    rows, rounds = [], []
    with (
        server(given.bundle, given.precision) as pid,
        runtimes.get("onnxruntime").open(
            Bundle.open(given.bundle), precision=given.precision
        ) as engine,
    ):
        session = Session(engine)
        answers = [plain(session.predict(photo).to_json()) for photo in photos]
        asyncio.run(closed(Load(photos, answers), 5, 2))  # warm
        for _ in range(ROUNDS):
            alone = predicted(session, photos)
            rounds.append((alone, asyncio.run(closed(Load(photos, answers), 5, 2))))
        capacity = float(np.median([served for _, served in rounds]))
        for name, share, part in PHASES:
            load = Load(photos, answers)
            seconds = part * given.minutes * 60
            memory = asyncio.run(paced(load, seconds, share * capacity, pid))
            rows.append({"phase": name, "minutes": f"{part * given.minutes:g}", **load.row(memory)})
            print(rows[-1], flush=True)
    ratios = [served / alone for alone, served in rounds]
    found = {
        "predict_per_second": float(np.median([alone for alone, _ in rounds])),
        "capacity_per_second": capacity,
        "throughput_over_predict": ratios,
        "minutes": given.minutes,
        "photos": len(photos),
        "precision": given.precision,
        "cpu": machine.cpu(),
        "phases": rows,
    }
    here = Path(__file__).with_suffix("")
    here.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [
        "# A server under load",
        "",
        f"One worker on one core, the client on another; {len(photos)} photos, "
        f"{given.precision}. Capacity, with two requests always under way: {capacity:.1f} answers "
        f"a second, {np.median(ratios):.2f}x of a loop of `predict` on the same core "
        f"({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds, in turns).",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
        "`wrong` are answers that are not `predict`'s on the same bytes. Every 503 has a "
        "`Retry-After`, or it counts under `other` again.",
        "",
        f"`python benchmarks/serving.py --minutes {given.minutes:g}` ({machine.cpu()}).",
    ]
    here.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
