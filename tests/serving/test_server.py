"""The server as a process: it listens, answers, and ends without cutting an answer off."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from disks import remount

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs.serve import Service
from classkinfy_export.taxonomy import DISCLAIMER

COMMAND = Path(sys.executable).with_name("classkinfy")


@contextmanager
def server(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [COMMAND, "serve", bundle, "--port", str(port), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([str(part) for part in command], **pipes)  # type: ignore[call-overload]
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.communicate()


def test_it_answers_what_it_has_begun_and_then_ends(
    trunk_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    record = f"sqlite:///{tmp_path / 'answers.db'}"
    photo = lesions[0].read_bytes()
    statuses: list[int] = []
    with server(trunk_bundle, "--record", record) as (process, url):

        def ask() -> None:
            files = [("image", photo)] * 12
            statuses.append(httpx.post(f"{url}/v1/predict/batch", files=files).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 20
        while "classkinfy_inside 1.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < until
        process.send_signal(signal.SIGTERM)
        asking.join()
        out, _ = process.communicate(timeout=30)
    assert statuses == [200]
    assert process.returncode == 0
    assert DISCLAIMER in out
    assert (tmp_path / "answers.db").stat().st_size > 0


def test_what_it_has_answered_is_on_record_after_it_was_killed(
    trunk_bundle: Path, lesions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what is killed leaves a folder for caches
    database, photo = tmp_path / "answers.db", lesions[0].read_bytes()
    answered: dict[str, object] = {}
    for moment in (0.0, 0.11, 0.23):
        before = len(answered)
        with server(trunk_bundle, "--record", f"sqlite:///{database}") as (process, url):

            def ask(url: str = url) -> None:
                with suppress(httpx.TransportError):  # until it is killed
                    while True:
                        told = httpx.post(f"{url}/v1/predict", files={"image": photo}).json()
                        answered[told["id"]] = told["probabilities"]

            asking = [threading.Thread(target=ask) for _ in range(2)]
            for one in asking:
                one.start()
            until = time.monotonic() + 20
            while len(answered) == before:
                assert time.monotonic() < until
            time.sleep(moment)
            process.kill()
            for one in asking:
                one.join()
    with closing(sqlite3.connect(database)) as opened:
        kept = dict(opened.execute("SELECT id, result FROM predictions"))
    assert answered.keys() <= kept.keys()
    assert all(json.loads(kept[name])["probabilities"] == answered[name] for name in answered)
    assert len(kept) - len(answered) <= 2 * 3, "but for those whose answer was on its way"


@pytest.mark.parametrize("full", ["disk", "limit"])
def test_on_a_full_disk_no_answer_is_given_until_there_is_room(
    full: str,
    trunk_bundle: Path,
    lesions: list[Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue("disk")(64) if full == "disk" else tmp_path
    database, photo = folder / "answers.db", lesions[0].read_bytes()
    with server(trunk_bundle, "--record", f"sqlite:///{database}") as (process, url):

        def ask() -> httpx.Response:
            return httpx.post(f"{url}/v1/predict", files={"image": photo})

        before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        if full == "limit":
            most = database.stat().st_size + 4096
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, before[1]))
        asked = [ask() for _ in range(20)]
        told = [answer for answer in asked if answer.status_code == 200]
        refused = [answer for answer in asked if answer.status_code == 503]
        assert len(told) + len(refused) == 20
        for answer in refused:
            assert answer.json()["error"] == "the answer could not be recorded"
            assert "Retry-After" in answer.headers
        assert httpx.get(f"{url}/healthz").status_code == 200
        if full == "limit":
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        else:
            remount(folder, "size=1m")
        told.append(ask())
        assert told[-1].status_code == 200
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert "an answer was not recorded" in said
    assert "Traceback" not in said
    with closing(sqlite3.connect(database)) as opened:
        kept = [name for (name,) in opened.execute("SELECT id FROM predictions")]
    assert refused
    assert sorted(kept) == sorted(answer.json()["id"] for answer in told)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--record-images",), "--record-images needs --record"),
        (("--record", "no url"), "cannot be recorded"),
        (("--record", "sqlite://"), "in memory"),
        (("--record", "sqlite:///x?timeout=abc"), "cannot be recorded"),
        (("--host", "203.0.113.1"), "cannot be listened on"),
        (("--record", "sqlite:////no/such/folder/answers.db"), "cannot be recorded"),
        (("--runtime", "none"), "none"),
        (("--precision", "static_wi8_ai8"), "static_wi8_ai8"),
    ],
)
def test_what_cannot_be_served_says_why(
    trunk_bundle: Path, options: tuple[str, ...], reason: str
) -> None:
    ran = subprocess.run(
        [COMMAND, "serve", trunk_bundle, "--port", "1", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert reason in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_a_connection_that_was_idle_as_long_as_clients_keep_theirs_is_still_there(
    trunk_bundle: Path,
) -> None:
    limits = httpx.Limits(keepalive_expiry=60)
    with server(trunk_bundle) as (_, url), httpx.Client(limits=limits) as client:
        sockets = []
        for idle_s in (6, 0):
            with client.stream("GET", f"{url}/healthz") as answer:
                assert answer.status_code == 200
                sockets.append(answer.extensions["network_stream"].get_extra_info("client_addr"))
                answer.read()
            time.sleep(idle_s)
    assert sockets[0] == sockets[1]


def test_an_answer_does_not_wait_for_an_acknowledgement(
    trunk_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        (listening,) = sockets
        with listening, socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                seen.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    Service(port=0).run(Bundle.open(trunk_bundle))
    assert seen == [1]
