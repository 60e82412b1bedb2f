"""Ctrl-C and SIGTERM, at real processes in the middle of their work: 130, and nothing in halves."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COMMAND = Path(sys.executable).with_name("classkinfy")
SIGNALS = [signal.SIGINT, signal.SIGTERM]
TOOK_TOO_LONG = 90
STOPS_WITHIN = 20
SMALL = ("--set", "working_size={height: 96, width: 128}")


@contextmanager
def children_hear_ctrl_c() -> Iterator[None]:
    """A test run in the background may ignore Ctrl-C, and its children would inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def interrupt(arguments: list[object], number: signal.Signals, begun: Callable[[], bool]) -> str:
    """Start a command, wait until it has begun, signal it; return its standard error.

    Ctrl-C reaches the whole group of processes, as it does from a terminal.
    """
    with children_hear_ctrl_c():
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + TOOK_TOO_LONG
        while not begun():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=STOPS_WITHIN)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, stderr
    assert stdout == ""
    return stderr


def says_one_line(stderr: str) -> bool:
    """One line about the interrupt, after nothing but lines of progress."""
    *progress, last = stderr.splitlines()
    assert "Traceback" not in stderr
    assert all(line.endswith(")") and "/" in line for line in progress), stderr
    return last == "interrupted: nothing was left half-written"


def is_there(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(folder.glob(pattern))


def conversion(weights: Path, format: str, out: Path) -> list[object]:
    given = ["--classifier", weights / "classifier.safetensors"]
    given += ["--grader", f"mel={weights / 'grader_mel.safetensors'}"]
    given += ["--screen", weights / "screen.safetensors"]
    return ["export", *given, *SMALL, "--set", f"formats=[{format}]", "--out", out]


def test_an_interrupted_conversion_leaves_nothing(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = conversion(weights, "onnx", out / "bundle.ckb")
    begun = is_there(out, ".bundle.ckb.*/models/onnx")
    assert says_one_line(interrupt(command, signal.SIGTERM, begun))
    assert list(out.iterdir()) == []


def test_an_interrupted_conversion_leaves_the_old_bundle_as_it_was(
    weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    bundle = out / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("the old one")
    command = [*conversion(weights, "litert", bundle), "--overwrite"]
    begun = is_there(out, ".bundle.*/models/litert")
    assert says_one_line(interrupt(command, signal.SIGINT, begun))
    assert list(out.iterdir()) == [bundle]
    assert (bundle / "manifest.json").read_text() == "the old one"


def test_an_interrupted_quantisation_leaves_nothing(
    weights: Path, lesions: Path, classkinfy: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    bundle = conversion(weights, "pytorch", tmp_path / "bundle")
    assert classkinfy(*bundle, "--set", "golden=false").exit_code == 0
    command = ["quantize", tmp_path / "bundle", "--out", out / "new", "--calibration", lesions]
    assert says_one_line(interrupt(command, signal.SIGTERM, is_there(out, ".new.*")))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_drawing_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stderr = interrupt(
        ["data", "synthesise", "--out", out / "lesions", "--lesions", 500],
        number,
        is_there(out, ".lesions.*/HAM10000_images_part_1/*.jpg"),
    )
    assert says_one_line(stderr)
    assert list(out.iterdir()) == []


def check_whole(path: Path) -> None:
    """Read a file to its end, whatever it is."""
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "np") as weights:
            for name in weights.keys():  # noqa: SIM118  (not a dict)
                assert np.isfinite(weights.get_tensor(name)).all()
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        header, *rows = csv.reader(path.read_text().splitlines())
        assert all(len(row) == len(header) for row in rows)
    elif path.suffix == ".npy":
        np.load(path).sum()
    elif path.suffix == ".ckpt":
        assert torch.load(path, weights_only=True)["epoch"] >= 0
    elif path.name.startswith("events.out.tfevents"):
        EventAccumulator(str(path)).Reload()
    elif path.suffix == ".yaml":
        yaml.safe_load(path.read_text())
    else:
        raise AssertionError(f"a run holds {path.name}, which no test reads")


@pytest.mark.parametrize(
    ("number", "begun", "kept"),
    [
        (signal.SIGINT, "cache/.cache.*", {"recipe.json", "split.csv"}),
        (
            signal.SIGTERM,
            "log/graders/csv/*/metrics.csv",
            {"severity.csv", "classifier.safetensors"},
        ),
    ],
    ids=["decoding", "training"],
)
def test_an_interrupted_training_leaves_whole_files(
    number: signal.Signals,
    begun: str,
    kept: set[str],
    draw_lesions: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    data = draw_lesions(70)
    network = "classifier.network={architecture: test_efficientnet, weights: none, input_size: 64}"
    stderr = interrupt(
        [
            *("train", "train/smoke.yaml", "--data", data, "--out", run, *SMALL),
            *("--set", network, "--set", "classifier.fit.epochs=1"),
            *("--set", "graders.fit.epochs=10000", "--set", "taxonomy.graded=[mel]"),
        ],
        number,
        is_there(run, begun),
    )
    assert says_one_line(stderr)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert kept <= {path.name for path in files}
    assert list(run.rglob(".*")) == []
    assert not (run / "metrics.json").exists()
    for path in files:
        check_whole(path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_that_python_had_to_ignore_comes_again(number: signal.Signals) -> None:
    # In a destructor an exception is printed and dropped, and work goes on.
    script = """
import os, sys, time, typer
from classkinfy_export.cli.terminal import Group

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.01)

app = typer.Typer(cls=Group)
app.callback()(lambda: None)

@app.command()
def work(number: int) -> None:
    Destroyed()
    time.sleep(30)

app(["work", sys.argv[1]])
"""
    start = time.monotonic()
    with children_hear_ctrl_c():
        ran = subprocess.run(
            [sys.executable, "-c", script, str(int(number))],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 130
    assert says_one_line(ran.stderr)
    assert time.monotonic() - start < 20
