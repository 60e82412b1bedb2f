"""One phone over ``adb``: what it answers, or an error that says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from classkinfy_export.errors import ClasskinfyError, MissingDependencyError

_MARK = "@classkinfy:"
"""Printed behind a command with its exit code. Without it the command did not end: before Android 7
``adb shell`` tells no exit code, and one whose phone is unplugged just stops."""
_ANSWER_S = 30.0
_PUSH_BYTES_PER_S = 2**20
"""Slower than USB 2 through a bad hub."""

_ALLOW = "unlock the phone and allow this computer in its question about USB debugging"
_STATES = {
    "unauthorized": _ALLOW,
    "authorizing": _ALLOW,
    "offline": "unplug it and plug it in again, or run 'adb reconnect offline'",
    "no permissions": "give your user the right to USB devices: on Debian, apt install "
    "android-sdk-platform-tools-common, then plug it in again",
}
"""What to do about a phone that is listed and cannot be used, by how its state begins."""
_RECONNECT = "plug the phone in again and repeat the command: nothing of this run is kept"


class Answer(NamedTuple):
    """What a command on the phone printed, on either stream, and its exit code."""

    code: int
    text: str


class Adb:
    """A phone that is ready for commands.

    Args:
        program: where ``adb`` is.
        serial: the phone's, as ``adb devices`` lists it.
    """

    def __init__(self, program: str, serial: str) -> None:
        self._program = program
        self.serial = serial

    @classmethod
    def connect(cls, serial: str | None = None) -> Adb:
        """Find ``adb`` and the phone.

        Args:
            serial: which phone; None means the only one.

        Raises:
            MissingDependencyError: there is no ``adb`` on PATH.
            ClasskinfyError: there is no phone, more than one, not this one, or it is not ready.
        """
        program = shutil.which("adb")
        if program is None:
            raise MissingDependencyError(
                "measuring on a phone needs adb, which is not on PATH",
                hint="install Android's platform-tools; on Debian, apt install adb",
            )
        ran = _call([program, "devices"], _ANSWER_S)
        listed = _listed(ran.stdout)
        if not listed:
            said = _complaint(ran)
            raise ClasskinfyError(
                "no phone is connected" + (f": {said}" if said else ""),
                hint="plug one in, with USB debugging on in its developer options, until 'adb "
                "devices' lists it",
            )
        names = ", ".join(f"{name} ({state})" for name, state in listed.items())
        if serial is None and len(listed) > 1:
            raise ClasskinfyError(f"{len(listed)} phones are connected", hint=f"name one: {names}")
        serial = serial if serial is not None else next(iter(listed))
        if serial not in listed:
            raise ClasskinfyError(f"phone {serial!r} is not connected", hint=f"there is {names}")
        state = listed[serial]
        if state != "device":
            remedies = (what for start, what in _STATES.items() if state.startswith(start))
            raise ClasskinfyError(
                f"phone {serial} is {state}", hint=next(remedies, "start Android on it: adb reboot")
            )
        return cls(program, serial)

    def run(self, command: str, timeout_s: float = _ANSWER_S) -> Answer:
        """Run a shell command on the phone, whatever its exit code.

        Raises:
            ClasskinfyError: the connection was lost, or the command took longer than the timeout.
        """
        script = f"({command}) 2>&1; echo {_MARK}$?"
        ran = self._call(f"running {_short(command)!r} on", timeout_s, "shell", script)
        text, mark, code = ran.stdout.replace("\r", "").rpartition(_MARK)
        if not mark or not code.strip().isdigit():
            said = _complaint(ran) or f"adb ended with {ran.returncode}, the command did not"
            raise ClasskinfyError(
                f"lost phone {self.serial} while it ran {_short(command)!r}: {said}",
                hint=_RECONNECT,
            )
        return Answer(int(code), text)

    def shell(self, command: str, timeout_s: float = _ANSWER_S) -> str:
        """Run a shell command that has to succeed, and return what it printed.

        Raises:
            ClasskinfyError: it failed, the connection was lost, or it took too long.
        """
        code, text = self.run(command, timeout_s)
        if code:
            raise ClasskinfyError(
                f"{_short(command)!r} failed on the phone with {code}: {_reason(text)}",
                hint=_remedy(text, f"try it by hand: adb -s {self.serial} shell"),
            )
        return text

    def push(self, local: Path, folder: str) -> None:
        """Copy a file, or a folder with all in it, into a folder of the phone that exists.

        Raises:
            ClasskinfyError: there is not the space for it, or it was not copied whole.
        """
        size = sum(path.stat().st_size for path in local.rglob("*") if path.is_file())
        free = self.free_bytes(folder)
        if free < size:
            raise ClasskinfyError(
                f"{local.name} has {size / 2**20:.1f} MiB, and {folder} on the phone "
                f"{free / 2**20:.1f} MiB free",
                hint="free some space on the phone, or measure a smaller bundle",
            )
        timeout_s = _ANSWER_S + size / _PUSH_BYTES_PER_S
        ran = self._call(f"copying {local.name} to", timeout_s, "push", str(local), folder)
        if ran.returncode:
            said = _complaint(ran) or f"adb ended with {ran.returncode}"
            raise ClasskinfyError(
                f"copying {local.name} to phone {self.serial} failed: {said}",
                hint=_remedy(said, _RECONNECT),
            )

    def free_bytes(self, folder: str) -> int:
        """Return how much space there is in the file system of a folder on the phone."""
        text = self.shell(f"df -k {folder}")
        fields = last_line(text).split()
        if len(fields) < 6 or not fields[-3].isdigit():
            raise ClasskinfyError(f"the phone tells no free space of {folder}: {last_line(text)!r}")
        return int(fields[-3]) * 1024

    def _call(
        self, doing: str, timeout_s: float, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        try:
            return _call([self._program, "-s", self.serial, *arguments], timeout_s)
        except subprocess.TimeoutExpired:
            raise ClasskinfyError(
                f"{doing} phone {self.serial} took more than {timeout_s:.0f} s",
                hint="is it still connected, and awake? See 'adb devices'",
            ) from None


def last_line(text: str) -> str:
    """Return the last line that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "(nothing)")


def _reason(text: str) -> str:
    """Return why a program failed: the first line that names an error, or else its last words."""
    named = (line.strip() for line in text.splitlines() if re.search(r"\berror\b", line, re.I))
    return next(named, last_line(text))


def _call(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    # adb shell would read what is typed meanwhile.
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def _listed(text: str) -> dict[str, str]:
    """Return each phone's state by serial, from ``adb devices``."""
    rows = re.findall(r"^(\S+)\t(.+?)\s*$", text, re.MULTILINE)
    # Some bring advice: "no permissions (user in plugdev group; are your udev rules wrong?)".
    return {serial: re.split(r"[;(]", state)[0].strip() for serial, state in rows}


def _complaint(ran: subprocess.CompletedProcess[str]) -> str:
    """Return adb's own reason: its first line that is one, without its name before it."""
    for line in [*ran.stderr.splitlines(), *ran.stdout.splitlines()]:
        found = re.match(r"(?:adb(?:\.exe)?: )?(?:error: )?(.*)", line.strip())
        if found and found[1] and found[0] != found[1]:
            return found[1]
    return ""


def _remedy(said: str, otherwise: str) -> str:
    if "No space left on device" in said:
        return "free some space on the phone"
    return otherwise


def _short(command: str) -> str:
    return command if len(command) <= 60 else f"{command[:57]}..."
