"""SIGKILL at random moments of every job that writes: what is left, and how it ends begun again.

    python benchmarks/kills.py --kills 10

Draws lesions, trains a small model on them and exports it, unharmed, for reference. Then each job
is begun over and over, and its group of processes is killed at a moment that a seeded generator
draws, between the first file that it makes and its end. After each kill:

- train: every finished file is, byte for byte, the unharmed run's. The same command goes on from
  there; once nothing kills it, weights and metrics are the unharmed run's.
- export, quantise, pack, sign: the bundle is not there, or opens, every hash checked, and is the
  unharmed job's or, every second time, the one that was there before. The same command then ends
  with the unharmed job's.
- serve: every answer that a client got is in the records, as the client was told it.

Writes ``kills.md`` and ``kills.json`` beside this file, in which jobs that were not asked for stay
as they were; exits 1 where something is broken.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from killing import WAIT_S, BrokenError, Found, Job, kill, start, torment, unharmed, until
from PIL import Image
from table import to_markdown

from classkinfy_export import machine
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic

JOBS = ("train", "export", "quantise", "pack", "sign", "serve")
SIZE = "{height: 96, width: 128}"
NETWORK = "{architecture: test_efficientnet, weights: none, input_size: 64}"
TRAIN = (
    *("--set", f"working_size={SIZE}", "--set", f"classifier.network={NETWORK}"),
    *("--set", "classifier.fit.epochs=6", "--set", "graders.fit.epochs=6"),
    *("--set", "taxonomy.graded=[mel]", "--set", "hair_removal=false"),
)
EXPORT = (
    *("--recipe", "export/mobile.yaml", "--set", "formats=[pytorch, onnx]"),
    *("--set", f"capture={SIZE}", "--set", "forms=[staged]", "--set", "float_blocks={}"),
    *("--set", "hair_removal=false"),
    "--overwrite",
)
CLIENTS = 2
SERVED_S = 4.0
"""Kills of the server come within so many seconds of its first answer."""


class Place:
    """Everything that the jobs work on, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.reference = root / "lesions", root / "reference"
        self.old, self.new, self.key = root / "old.ckb", root / "new.ckb", root / "key.pem"
        self._draw()
        self.training = self._train()
        self.training_s = unharmed(self.training)
        shutil.move(root / "runs" / "run", self.reference)

    def make(self) -> None:
        """Make what the jobs with bundles are given."""
        for name, out in (("old", self.old), ("new", self.new)):
            done("export", self.reference, *EXPORT, "--set", f"name={name}", "--out", out)
        done("keygen", self.key)

    def _draw(self) -> None:
        self.data.mkdir()
        with (self.data / "HAM10000_metadata.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"))
            for index in range(70):
                dx, name = synthetic.CLASSES[index % 7], f"IMG_{index:03d}"
                drawn = synthetic.lesion(dx, index, height=96, width=128)
                Image.fromarray(drawn.image).save(self.data / f"{name}.jpg")
                table.writerow((f"LES_{index:03d}", name, dx, "histo", "50.0", "male", "back"))

    def _train(self) -> Job:
        run = self.root / "runs" / "run"
        before: set[tuple[Path, int]] = set()

        def files() -> set[tuple[Path, int]]:
            with suppress(FileNotFoundError):  # a temporary one
                return {(path, path.stat().st_mtime_ns) for path in run.rglob("*")}
            return set()

        def prepare(number: int) -> None:
            before.clear()
            before.update(files())

        def begun() -> bool:
            return files() != before

        def finished(of: Path) -> dict[str, bytes]:
            return {p.name: p.read_bytes() for p in of.glob("[!.]*") if p.is_file()}

        def check() -> str:
            wanted = finished(self.reference)
            for name, data in finished(run).items():
                if wanted.get(name) != data:
                    raise BrokenError(f"{name} is not the unharmed run's")
            return "in an epoch" if [*run.rglob("last.ckpt")] else "between trainings"

        def ended() -> bool:
            same = finished(run) == finished(self.reference)
            shutil.rmtree(run)
            return same

        command = ["train", "train/smoke.yaml", "--data", self.data, *TRAIN, "--out", run]
        return Job("train", command, prepare, begun, check, ended)

    def jobs(self) -> Iterator[Job]:
        """Give the jobs that make bundles."""
        out = self.root / "exported" / "bundle"
        yield self._making("export", ["export", self.reference, *EXPORT, "--out", out], out)
        out = self.root / "quantised" / "bundle.ckb"
        photos = ("--calibration", self.data, "--split", self.reference / "split.csv")
        command = ["quantize", self.new, *photos, "--set", "calibration.images=8", "--overwrite"]
        yield self._making("quantise", [*command, "--out", out], out)
        app = self.root / "app"
        out = app / "src" / "main" / "assets" / "classkinfy.ckb"
        yield self._making("pack", ["embed", self.new, "--android", app], out)
        out = self.root / "signed" / "bundle.ckb"
        yield self._making("sign", ["sign", out, "--key", self.key], out)

    def _making(self, name: str, command: list[Any], out: Path) -> Job:
        """Return a job that makes a bundle, or signs the one that is there."""
        first: list[tuple[str, str | None]] = []

        def what() -> tuple[str, str | None]:
            bundle = Bundle.open(out)
            return bundle.sha256, bundle.signer

        def prepare(number: int) -> None:
            shutil.rmtree(out.parent, ignore_errors=True)
            out.parent.mkdir(parents=True)
            if (number % 2 or name == "sign") and out.suffix:
                shutil.copyfile(self.old, out)
            elif number % 2:
                shutil.unpack_archive(self.old, out, "zip")

        def begun() -> bool:
            return any(path.name.startswith(f".{out.name}.") for path in out.parent.iterdir())

        def check() -> str:
            if not out.exists():
                return "nothing"
            if what() == (Bundle.open(self.old).sha256, None):
                return "the old one"
            if what() not in first:
                raise BrokenError(f"{out.name} is neither the old one nor the unharmed job's")
            return "the new one"

        def ended() -> bool:
            if not first:
                first.append(what())
            return what() in first

        return Job(name, command, prepare, begun, check, ended)


def done(*command: object) -> None:
    if start(list(command)).wait():
        raise BrokenError(f"{command[0]} fails where nothing kills it")


def ask(url: str, photo: bytes, answered: dict[str, Any]) -> None:
    """Ask without a pause until the server is killed, and keep what was answered."""
    last, served = time.monotonic() + WAIT_S, False
    while time.monotonic() < last:
        try:
            answer = httpx.post(f"{url}/v1/predict", files={"image": photo})
        except httpx.TransportError:
            if served:
                return
            time.sleep(0.02)
            continue
        served = True
        if answer.status_code == 200:
            told = answer.json()
            answered[told["id"]] = told["probabilities"]


def serve(place: Place, kills: int, draw: random.Random) -> Found:
    found = Found("serve")
    database, photo = place.root / "answers.db", next(place.data.glob("*.jpg")).read_bytes()
    answered: dict[str, Any] = {}
    while found.kills < kills:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = start(["serve", place.old, "--port", port, "--record", f"sqlite:///{database}"])
        before, given = len(answered), (f"http://127.0.0.1:{port}", photo, answered)
        clients = [threading.Thread(target=ask, args=given) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        until(lambda before=before: len(answered) > before, process)
        time.sleep(draw.uniform(0.0, SERVED_S))
        kill(process)
        for client in clients:
            client.join()
        found.kills += 1
        with sqlite3.connect(database) as opened:
            (state,) = opened.execute("PRAGMA integrity_check").fetchone()
            kept = dict(opened.execute("SELECT id, result FROM predictions"))
        lost = [
            name
            for name, told in answered.items()
            if name not in kept or json.loads(kept[name])["probabilities"] != told
        ]
        if lost or state != "ok":
            found.broken.append(f"{len(lost)} answers lost, the database is {state}")
        print("serve", found.kills, len(answered), "answered", len(kept), "kept", flush=True)
    found.after[f"answer given, with {len(kept)} on record"] = len(answered)
    return found


def run(root: Path, wanted: list[str], kills: int, seed: int) -> Iterator[Found]:
    place, draw = Place(root), random.Random(seed)
    if "train" in wanted:
        yield torment(place.training, kills, place.training_s, draw)
    if set(wanted) - {"train"}:
        place.make()
    if "serve" in wanted:
        yield serve(place, kills, draw)
    for job in place.jobs():
        if job.name in wanted:
            seconds = unharmed(job)
            if not job.ended() or job.check() == "the old one":
                raise BrokenError(f"{job.name} makes nothing where nothing kills it")
            yield torment(job, kills, seconds, draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="Of each job.")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    path = Path(__file__).with_name("kills.json")
    rows = (
        {row["job"]: row for row in json.loads(path.read_text())["jobs"]} if path.is_file() else {}
    )
    broken = []
    with tempfile.TemporaryDirectory(prefix="kills.") as root:
        os.environ["TMPDIR"] = root  # what is killed leaves a folder for caches
        for found in run(Path(root), given.jobs.split(","), given.kills, given.seed):
            rows[found.job] = found.row()
            broken += [f"{found.job}: {text}" for text in found.broken]
            write(path, [rows[job] for job in JOBS if job in rows], given.seed)
    for text in broken:
        print(text)
    sys.exit(bool(broken))


def write(path: Path, rows: list[dict[str, Any]], seed: int) -> None:
    document = {"CPU": machine.cpu(), "seed": seed, "jobs": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
    most = max(row["kills"] for row in rows)
    lines = [
        "# SIGKILL at random moments",
        "",
        f"{sum(row['kills'] for row in rows)} kills of whole groups of processes.",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
        f"`python benchmarks/kills.py --kills {most} --seed {seed}`.",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
