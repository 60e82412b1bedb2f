"""An engine in another process: its errors are told, and its death is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.runtimes import worker
from classkinfy_export.runtimes.process import ProcessEngine


@pytest.fixture
def engine(trunk_bundle: Path) -> Iterator[ProcessEngine]:
    with runtimes.get("tensorflow").open(Bundle.open(trunk_bundle)) as opened:
        assert isinstance(opened, ProcessEngine)
        yield opened


def image(engine: ProcessEngine) -> dict[str, np.ndarray]:
    capture = engine.bundle.manifest.capture
    return {"image": np.full((1, capture.height, capture.width, 3), 90, np.uint8)}


def test_messages_are_read_as_they_were_written() -> None:
    stream = io.BytesIO()
    arrays = {
        "pixels": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2],
        "nothing": np.empty((0, 3), np.float32),
        "number": np.float32(1.5).reshape(()),
    }
    worker.write(stream, {"run": "a\nb"}, arrays)
    worker.write(stream, {}, {})
    stream.seek(0)
    head, given = worker.read(stream)
    assert head["run"] == "a\nb"
    for name, value in arrays.items():
        np.testing.assert_array_equal(given[name], value)
        assert given[name].dtype == value.dtype
    assert worker.read(stream)[1] == {}
    with pytest.raises(EOFError):
        worker.read(stream)
    with pytest.raises(EOFError):
        worker.read(io.BytesIO(stream.getvalue()[:-60]))


def test_what_it_cannot_run_is_said_and_it_goes_on(engine: ProcessEngine) -> None:
    assert engine.run("prepare", image(engine))["clean"].any()
    with pytest.raises(BundleError, match=r"runtime tensorflow: \w+: .*nowhere"):
        engine._ask({"run": engine.opened()[0], "entry": "nowhere", "outputs": []}, {})
    assert engine.run("prepare", image(engine))["clean"].any()


def test_a_process_that_died_is_told_and_started_again(engine: ProcessEngine) -> None:
    engine.run("prepare", image(engine))
    process = engine._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(BundleError, match="the process of runtime tensorflow ended with -9"):
        engine.run("prepare", image(engine))
    assert engine.run("prepare", image(engine))["clean"].any()


def test_it_ends_with_the_engine(engine: ProcessEngine) -> None:
    engine.run("prepare", image(engine))
    process = engine._process
    assert process is not None
    engine.close()
    assert process.returncode == 0


def test_an_answer_that_was_not_waited_for_is_not_taken_for_the_next(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = {"image": np.zeros_like(image(engine)["image"])}
    wanted = engine.run("prepare", black)["quality"].copy()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.run("prepare", image(engine))
    np.testing.assert_array_equal(engine.run("prepare", black)["quality"], wanted)
