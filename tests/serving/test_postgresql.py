"""Answers on record in a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.serving.records import Records

Serve = Callable[..., TestClient]

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian keeps them
pytestmark = pytest.mark.skipif(
    not BINARIES and shutil.which("pg_ctl") is None,
    reason="PostgreSQL is not installed: apt-get install postgresql",
)


class Server:
    """A database cluster of its own, on a socket in a folder that only its user can enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run("initdb", "--auth=trust", "--username=classkinfy", "--no-sync", folder / "data")
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self._control("start", "--log", self.folder / "log", "--options", options)

    def stop(self) -> None:
        """End without waiting for those who are connected."""
        self._control("stop", "--mode=immediate")

    def url(self, database: str = "postgres") -> str:
        """Return where it is, for SQLAlchemy."""
        return f"postgresql+psycopg://classkinfy@/{database}?host={self.folder}"

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the predictions, by another way than the records' own."""
        where = f"host={self.folder} user=classkinfy dbname=postgres"
        with psycopg.connect(where) as connection:
            return connection.execute(
                "select id, time, bundle, result, quality, image from predictions order by time"
            ).fetchall()

    def _control(self, *arguments: str | Path) -> None:
        self._run("pg_ctl", "--wait", "--silent", "--pgdata", self.folder / "data", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> None:
        found = shutil.which(program) or str(BINARIES[-1] / program)
        # It refuses to run as root.
        user = ("runuser", "--user", "postgres", "--") if os.geteuid() == 0 else ()
        command = [*user, found, *map(str, arguments)]
        quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd=self.folder, **quiet)  # type: ignore[call-overload]


@pytest.fixture
def postgresql() -> Iterator[Server]:
    # The path of a socket has at most 107 bytes, which pytest's folders may exceed.
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        if os.geteuid() == 0:
            shutil.chown(name, "postgres")
        server = Server(Path(name))
        try:
            yield server
        finally:
            server.stop()


def test_an_answer_is_there_as_it_was_given(
    serve: Serve, lesions: list[Path], postgresql: Server
) -> None:
    photo = lesions[0].read_bytes()
    for images in (False, True):
        client = serve(records=Records(postgresql.url(), images=images))
        answer = client.post("/v1/predict", files={"image": photo}).json()
        key, time, bundle, result, quality, image = postgresql.rows()[-1]
        assert (key, bundle) == (answer.pop("id"), answer["bundle"])
        assert timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=1)
        assert result == answer
        assert quality == answer["quality"]
        assert image == (photo if images else None)


def test_a_database_that_went_away_is_no_answer_and_one_that_came_back_is_used(
    serve: Serve, lesions: list[Path], postgresql: Server
) -> None:
    client = serve(records=Records(postgresql.url()))
    photo = {"image": lesions[0].read_bytes()}
    assert client.post("/v1/predict", files=photo).status_code == 200
    postgresql.stop()
    gone = client.post("/v1/predict", files=photo)
    assert gone.status_code == 503
    assert "recorded" in gone.json()["error"]
    assert "retry-after" in gone.headers
    postgresql.start()
    assert client.post("/v1/predict", files=photo).status_code == 200
    assert len(postgresql.rows()) == 2


def test_a_database_that_cannot_be_opened_is_told_of_without_its_password(
    postgresql: Server,
) -> None:
    url = postgresql.url("elsewhere").replace("classkinfy@", "classkinfy:secret@")
    with pytest.raises(ClasskinfyError, match='"elsewhere" does not exist') as refused:
        Records(url)
    assert "secret" not in str(refused.value)
