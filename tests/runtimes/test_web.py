"""WebAssembly in Node and Chromium: the shipped model, a browser that dies, what is missing."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import shipped

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.jobs import web
from classkinfy_export.parity.verify import verify
from classkinfy_export.runtimes import worker
from classkinfy_export.runtimes.process import ProcessEngine
from classkinfy_export.runtimes.web import runtime as pages

NAMES = tuple(name for name in runtimes.NAMES if name.startswith("web-"))
NODE = "web-onnxruntime-node"
BROWSER = tuple(name for name in NAMES if name != NODE)

Opened = Callable[[str], ProcessEngine]


def wanted(name: str) -> runtimes.Runtime:
    runtime = runtimes.get(name)
    if runtime.version() is None:
        pytest.skip(f"{name} is not set up: {runtime.hint()}")
    return runtime


@pytest.fixture
def opened(trunk_bundle: Path) -> Iterator[Opened]:
    engines: list[ProcessEngine] = []

    def made(name: str) -> ProcessEngine:
        engine = wanted(name).open(Bundle.open(trunk_bundle))
        assert isinstance(engine, ProcessEngine)
        engines.append(engine)
        return engine

    yield made
    for engine in engines:
        engine.close()


def image(engine: ProcessEngine) -> dict[str, np.ndarray]:
    capture = engine.bundle.manifest.capture
    return {"image": np.full((1, capture.height, capture.width, 3), 90, np.uint8)}


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def processes_under(parent: int) -> set[int]:
    """The parent and all that it started, by what Linux tells; those that ended are not told of."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(above)
    found = {parent} & parents.keys()
    while below := {pid for pid, above in parents.items() if above in found} - found:
        found |= below
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if processes_under(pid)}


def ends(pids: set[int]) -> bool:
    limit = time.monotonic() + 20
    while alive(pids) and time.monotonic() < limit:
        time.sleep(0.05)
    return not alive(pids)


def runs_until_it_fails(engine: ProcessEngine) -> None:
    for _ in range(1000):
        engine.run("prepare", image(engine))


@pytest.mark.slow
def test_the_shipped_model_is_the_same_in_node_and_in_a_browser(
    shipped_bundle: Path, tmp_path: Path
) -> None:
    for name in NAMES:
        wanted(name)
    shipped.check(shipped_bundle, NAMES, tmp_path)


def test_javascript_reads_and_writes_messages_as_python_does() -> None:
    if pages.node() is None:
        pytest.skip("Node is not installed")
    arrays = {
        "pixels": np.arange(7, dtype=np.uint8).reshape(1, 7),  # what follows is not aligned
        "floats": np.array([1.5, np.nan, -0.0], np.float32),
        "nothing": np.empty((0, 3), np.int32),
        "number": np.int32(-5).reshape(()),
    }
    stream = io.BytesIO()
    worker.write(stream, {"run": "a\nü"}, arrays)
    echo = (
        "import {readFileSync, writeSync} from 'node:fs';"
        f"import {{decode, encode, sizeOf}} from '{(pages.HERE / 'messages.mjs').as_uri()}';"
        "const bytes = new Uint8Array(readFileSync(0));"
        "if (sizeOf(bytes) !== bytes.length || sizeOf(bytes.subarray(0, 9)) !== undefined) throw 1;"
        "const {head, arrays} = decode(bytes);"
        "writeSync(1, encode({run: head.run}, arrays));"
    )
    told = subprocess.run(
        ["node", "--input-type=module", "-e", echo],
        input=stream.getvalue(),
        capture_output=True,
        check=True,
    )
    head, given = worker.read(io.BytesIO(told.stdout))
    assert head["run"] == "a\nü"
    assert list(given) == list(arrays)
    for name, value in arrays.items():
        assert (given[name].dtype, given[name].shape) == (value.dtype, value.shape)
        assert given[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_run_is_said_and_it_goes_on(opened: Opened, name: str) -> None:
    engine = opened(name)
    wanted_clean = engine.run("prepare", image(engine))["clean"].copy()
    path = engine.opened()[0]
    question = {"run": path, "entry": "prepare", "outputs": ["clean"]}
    with pytest.raises(BundleError, match=f"runtime {name}: TypeError: image is int64"):
        engine._ask(question, {"image": image(engine)["image"].astype(np.int64)})
    with pytest.raises(BundleError, match=rf"runtime {name}: \w*Error: .*nothing"):
        engine._ask({**question, "outputs": ["nothing"]}, image(engine))
    with pytest.raises(BundleError, match=rf"runtime {name}: Error: .*load model"):
        engine._ask({"open": "broken"}, {"model": np.zeros(99, np.uint8)})
    np.testing.assert_array_equal(engine.run("prepare", image(engine))["clean"], wanted_clean)


def test_a_signature_or_an_element_type_that_litert_js_lacks_is_said(
    opened: Opened, tmp_path: Path
) -> None:
    engine = opened("web-litert")
    engine.run("prepare", image(engine))
    question = {"run": engine.opened()[0], "entry": "nowhere", "outputs": ["clean"]}
    with pytest.raises(BundleError, match=r"no signature nowhere, only .*prepare"):
        engine._ask(question, image(engine))
    # In a process of its own: the converter leaves much behind.
    script = (
        "import litert_torch, sys, torch\n"
        "class Bytes(torch.nn.Module):\n"
        "    def forward(self, x): return x.to(torch.int8)\n"
        "litert_torch.convert(Bytes().eval(), (torch.zeros(1, 4),)).export(sys.argv[1])\n"
    )
    path = tmp_path / "bytes.tflite"
    subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True)
    with pytest.raises(BundleError, match="Element type INT8 is not supported"):
        engine._ask({"open": "bytes"}, {"model": np.frombuffer(path.read_bytes(), np.uint8)})


@pytest.mark.parametrize("which", ["browser", "renderer", "worker"])
def test_a_browser_that_dies_is_told_and_started_again(opened: Opened, which: str) -> None:
    engine = opened("web-litert")
    before = engine.run("prepare", image(engine))["quality"].copy()
    assert engine._process is not None
    started = processes_under(engine._process.pid)
    assert len(started) > 3, "Chromium is many processes"
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in started}
    killed = {
        "browser": [p for p, c in commands.items() if "--headless" in c and "--type=" not in c],
        "renderer": [p for p, c in commands.items() if "--type=renderer" in c],
        "worker": [engine._process.pid],
    }[which]
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    said = {"browser": "1: .*Chromium ended", "renderer": "1: .*the page crashed", "worker": "-9: "}
    message = f"the process of runtime web-litert ended with {said[which]}"
    with pytest.raises(BundleError, match=message):
        runs_until_it_fails(engine)
    assert ends(started), "nothing of it is left"
    np.testing.assert_array_equal(engine.run("prepare", image(engine))["quality"], before)


def test_browser_and_temporary_files_end_with_the_engine(trunk_bundle: Path) -> None:
    engine = wanted("web-onnxruntime").open(Bundle.open(trunk_bundle))
    assert isinstance(engine, ProcessEngine)
    engine.run("prepare", image(engine))
    process, folder = engine._process, Path(engine._folder)
    assert process is not None
    started = processes_under(process.pid)
    assert any(folder.iterdir()), "the browser's profile"
    engine.close()
    assert process.returncode == 0
    assert ends(started)
    del engine
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("name", BROWSER)
def test_chromium_reaches_this_machine_alone(
    opened: Opened, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted(name)
    found = pages.chromium()
    assert found is not None
    log = tmp_path / "net.json"
    program(
        tmp_path / "bin" / "chromium",
        f'[ "$1" = --version ] && exec {found[0]} "$1"\nexec {found[0]} --log-net-log={log} "$@"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    engine = opened(name)
    engine.run("prepare", image(engine))
    engine.close()
    told = json.loads(log.read_text())
    kinds = {number: kind for kind, number in told["constants"]["logEventTypes"].items()}
    events = [(kinds[event["type"]], event.get("params", {})) for event in told["events"]]
    reached = [p["address"] for kind, p in events if kind == "TCP_CONNECT_ATTEMPT" and p]
    assert reached
    assert all(address.startswith("127.0.0.1:") for address in reached)
    happened = {kind for kind, _ in events}
    # Chromium tries to find its maker's hosts, and no look-up for them begins.
    assert not happened & {"UDP_BYTES_SENT", "HOST_RESOLVER_SYSTEM_TASK", "DNS_TRANSACTION"}


def test_node_connects_to_nothing(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, told = tmp_path / "hook.cjs", tmp_path / "told"
    hook.write_text(
        "const net = require('node:net'), fs = require('node:fs');"
        f"net.Socket.prototype.connect = () => {{ fs.writeFileSync('{told}', ''); throw 1; }};"
    )
    monkeypatch.setenv("NODE_OPTIONS", f"--require {hook}")
    ran = subprocess.run(
        ["node", "-e", "fetch('http://127.0.0.1:49151').catch(() => 0)"], check=False
    )
    assert ran.returncode == 0
    assert told.exists(), "the hook sees connections"
    told.unlink()
    engine = opened(NODE)
    engine.run("prepare", image(engine))
    assert not told.exists()


# What is missing


def installed(folder: Path, *packages: str) -> Path:
    """A folder as it is when it was filled, with some of the packages gone since."""
    folder.mkdir()
    dependencies = json.loads((pages.HERE / "package.json").read_text())["dependencies"]
    (folder / "installed.json").write_text(json.dumps(dependencies))
    for package in packages:
        (folder / "node_modules" / package).mkdir(parents=True)
    return folder


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own, with a Node that tells a version."""
    program(tmp_path / "bin" / "node", "echo v20.1.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_versions_name_the_package_and_what_it_runs_in(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs / "google-chrome", "echo Google Chrome 149.0.1.2")
    packages = ("onnxruntime-web", "@litertjs/core", "playwright-core")
    monkeypatch.setenv("CLASSKINFY_WEB", str(installed(tmp_path / "web", *packages)))
    assert {name: runtimes.get(name).version() for name in NAMES} == {
        "web-onnxruntime": "1.30.0 in Chromium 149.0.1.2",
        "web-onnxruntime-node": "1.30.0 in Node 20.1.0",
        "web-litert": "2.5.3 in Chromium 149.0.1.2",
    }


def test_without_npm_packages_it_is_said_how_to_get_them(
    trunk_bundle: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs / "chromium", "echo Chromium 149.0.1.2")
    bundle = Bundle.open(trunk_bundle)
    folders = (tmp_path / "nowhere", installed(tmp_path / "web", "playwright-core"))
    for folder in folders:
        monkeypatch.setenv("CLASSKINFY_WEB", str(folder))
        for name in NAMES:
            package = runtimes.get(name).package
            said = f"needs {package}, which is not installed: classkinfy doctor --install web"
            with pytest.raises(MissingDependencyError, match=said):
                runtimes.get(name).open(bundle)
    report = verify(bundle, names=["onnxruntime", *NAMES])
    assert not report.passed, "they were asked for"
    assert [missing.runtime for missing in report.not_run] == list(NAMES)
    assert all(runtimes.get(name).on_request for name in NAMES), "only where it is named"


def test_without_chromium_node_still_runs(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = ("onnxruntime-web", "@litertjs/core", "playwright-core")
    monkeypatch.setenv("CLASSKINFY_WEB", str(installed(tmp_path / "web", *packages)))
    # Ubuntu's, which only tells what to install.
    program(programs / "chromium-browser", "echo 'snap install chromium 1.2' >&2; exit 1")
    for name in BROWSER:
        runtime = runtimes.get(name)
        assert runtime.version() is None
        assert (runtime.missing(), runtime.hint()) == ("Chromium", "apt-get install chromium")
    assert runtimes.get(NODE).version() == "1.30.0 in Node 20.1.0"


def test_an_old_node_is_none(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "old" / "node", "echo v18.20.4")
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    assert runtimes.get(NODE).version() is None
    assert "install Node 20 or newer" in runtimes.get(NODE).hint()
    with pytest.raises(MissingDependencyError, match="need Node 20 and its npm"):
        web.install()


def test_npm_installs_what_is_pinned_and_runs_nothing_of_it(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_WEB", str(tmp_path / "web"))
    asked = tmp_path / "asked"
    made = "/bin/mkdir -p node_modules/onnxruntime-web"
    program(programs / "npm", f'echo "$@" > {asked}; test -f package-lock.json && {made}')
    told: list[str] = []
    versions = web.install(lambda what, done, total: told.append(what))
    assert asked.read_text().split()[:2] == ["ci", "--ignore-scripts"]
    assert versions == json.loads((pages.HERE / "package.json").read_text())["dependencies"]
    assert told == ["npm packages", "done"]
    assert runtimes.get(NODE).version() == "1.30.0 in Node 20.1.0"


def test_packages_that_cannot_be_had_leave_those_that_are_there(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_WEB", str(installed(tmp_path / "web", "onnxruntime-web")))
    with pytest.raises(MissingDependencyError, match="need Node 20 and its npm"):
        web.install()
    program(programs / "npm", "echo no such package >&2; exit 1")
    with pytest.raises(MissingDependencyError, match="npm ci failed with 1: no such package"):
        web.install()
    assert runtimes.get(NODE).version() == "1.30.0 in Node 20.1.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "web"]
    monkeypatch.setenv("CLASSKINFY_WEB", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="holds something that is no set of npm"):
        web.install()


def test_the_lock_pins_every_package_by_its_hash() -> None:
    named = json.loads((pages.HERE / "package.json").read_text())["dependencies"]
    lock = json.loads((pages.HERE / "package-lock.json").read_text())["packages"]
    assert lock[""]["dependencies"] == named
    brought = {path: entry for path, entry in lock.items() if path}
    assert {f"node_modules/{name}" for name in named} <= brought.keys()
    assert all(entry["integrity"].startswith("sha512-") for entry in brought.values())
