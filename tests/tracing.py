"""What a program and all that it starts do to files and to the network, by strace.

    python tests/tracing.py FOLDER classkinfy demo --out FOLDER/demo

runs a command with an empty HOME and no network, FOLDER being all that it may write to, and tells
what it did beside that: exit code 1 where there is anything.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_FILES = (
    *("open", "openat", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat"),
    *("renameat2", "unlink", "unlinkat", "rmdir", "link", "linkat", "symlink", "symlinkat"),
    *("truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "utimensat"),
)
_NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)")
_TEXT = re.compile(r'(?:AT_FDCWD|\d+)<([^>]*)>, "((?:[^"\\]|\\.)*)"|"((?:[^"\\]|\\.)*)"')
_WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)')
_DNS = 53
_NO_FILES = re.compile(r"/dev/null|/dev/shm/sem\..+|/proc/self/.+|/proc/\d+/.+")
"""What is written to and keeps nothing: the first; semaphores of Python's multiprocessing, which
joblib makes as it is imported, and removes at once; a process's own settings."""


@dataclass(frozen=True)
class Trace:
    """What was done."""

    changed: frozenset[Path]
    """Files and folders that were opened for writing, made, renamed or removed."""
    called: frozenset[str]
    """Addresses beyond this machine that were called, name servers anywhere among them."""

    def outside(self, *folders: Path) -> list[str]:
        """What was changed in none of these folders, nor is in ``_NO_FILES``.

        A relative path of a call that takes no folder could be anywhere, and is outside.
        """
        inside = [folder.resolve() for folder in folders]
        return sorted(
            str(path)
            for path in self.changed
            if not any(path.is_relative_to(folder) for folder in inside)
            if not _NO_FILES.fullmatch(str(path))
        )


def without_network() -> list[str]:
    """How to start a program that has loopback and no other network; empty where that is barred."""
    command = ["unshare", "--map-root-user", "--net"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    # A new network's loopback is down; 0x8914 sets an interface's flags, 1 is up.
    up = "import fcntl, os, socket, struct, sys; "
    up += "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1)); "
    up += "os.execvp(sys.argv[1], sys.argv[1:])"
    return [] if tried.returncode else [*command, sys.executable, "-S", "-c", up]


def works() -> bool:
    """Whether strace is here, and may trace."""
    try:
        tried = subprocess.run(
            ["strace", "-o", "/dev/null", "true"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return tried.returncode == 0


def run(
    command: Sequence[str | Path], folder: Path, environment: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], Trace]:
    """Run a command to its end.

    Args:
        command: the program and its arguments.
        folder: a new one, for what strace writes.
        environment: the command's, whole.
    """
    folder.mkdir()
    strace = ["strace", "-f", "-ff", "-qq", "-y", "-s", "4096", "--seccomp-bpf"]
    strace += ["-e", f"trace={','.join((*_FILES, *_NETWORK))}", "-o", str(folder / "trace")]
    ran = subprocess.run(
        [*without_network(), *strace, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    changed, called = set[Path](), set[str]()
    for name, arguments, result in _calls(folder):
        if name in _NETWORK:
            called.update(_elsewhere(arguments))
        elif not result.startswith("-") and (
            not name.startswith("open") or any(flag in arguments for flag in _WRITES)
        ):
            changed.update(_paths(arguments))
    return ran, Trace(frozenset(changed), frozenset(called))


def _calls(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in folder.iterdir():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = _CALL.match(line)
            if found:
                yield found[1], found[2], found[3]


def _paths(arguments: str) -> Iterator[Path]:
    for base, under, alone in _TEXT.findall(arguments):
        yield Path(base, under or alone)


def _elsewhere(arguments: str) -> Iterator[str]:
    for port, address in _ADDRESS.findall(arguments):
        if int(port) == _DNS or not ipaddress.ip_address(address).is_loopback:
            yield f"{address} port {port}"


def main(folder: Path, command: list[str]) -> int:
    """Run a command by hand."""
    folder.mkdir()
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ran, trace = run(command, folder / "trace", environment)
    sys.stdout.write(f"{ran.stdout}\n{ran.stderr}\n")
    left = [path for name in ("home", "tmp") for path in (folder / name).rglob("*")]
    wrong = [*trace.outside(folder), *trace.called, *map(str, left)]
    told = "\n".join(wrong) or "nothing"
    sys.stdout.write(f"{len(trace.changed)} paths changed; beside what was asked:\n{told}\n")
    return int(bool(wrong or ran.returncode))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
