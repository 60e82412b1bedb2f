"""Nothing leaves this machine, and nothing is written but where it was asked for."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import tracing
from listing import listing

MAIN_JOB = Path(__file__).with_name("main_job.py")

Traced = pytest.mark.skipif(
    not tracing.works(), reason="strace is not installed, or may not trace here"
)


def environment(folder: Path) -> dict[str, str]:
    """A user's first day: an empty HOME, and nothing set."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        # Python's own: of what is imported for the first time, it keeps bytecode beside it.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.slow
@Traced
def test_the_main_job_writes_where_it_was_asked_to_and_calls_nobody(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, MAIN_JOB, out, port]
    ran, trace = tracing.run(command, tmp_path / "trace", environment(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert trace.called == frozenset()
    assert trace.outside(out, tmp_path / "tmp") == []
    assert listing(tmp_path / "home") == []
    assert listing(tmp_path / "tmp") == [], "temporary files are gone"
    made = {path.relative_to(out).as_posix() for path in trace.changed if path.is_relative_to(out)}
    assert {"report.html", "answers.db", "bundle"} <= made, "the trace has what was made"


@Traced
@pytest.mark.parametrize(
    ("script", "called", "changed"),
    [
        (
            "import socket; socket.create_connection(('192.0.2.1', 443), 1)",
            "192.0.2.1 port 443",
            "",
        ),
        ("import socket; socket.create_connection(('2001:db8::1', 443), 1)", "2001:db8::1", ""),
        ("import socket; s = socket.socket(type=2); s.sendto(b'', ('192.0.2.1', 9))", "port 9", ""),
        ("import socket; socket.create_connection(('127.0.0.1', 53), 1)", "127.0.0.1 port 53", ""),
        ("import os; os.mkdir(os.environ['HOME'] + '/.cache')", "", "home/.cache"),
        ("open('elsewhere', 'a')", "", "elsewhere"),
        ("import os; os.rename('old', 'new')", "", "new"),
        ("import subprocess; subprocess.run(['touch', 'elsewhere'])", "", "elsewhere"),
    ],
)
def test_the_trace_sees_what_must_not_be(
    script: str, called: str, changed: str, tmp_path: Path
) -> None:
    (tmp_path / "old").touch()
    program = f"import os; os.chdir({str(tmp_path)!r})\n{script}"
    command = [sys.executable, "-S", "-c", program]
    _, trace = tracing.run(command, tmp_path / "trace", environment(tmp_path))
    assert [called in address for address in trace.called] == [True] * bool(called)
    outside = trace.outside(tmp_path / "tmp")
    assert any(path.endswith(changed) for path in outside) == bool(changed)
