"""A runtime's own benchmark program: which file it is, which phones run it, how it is called."""

from __future__ import annotations

import hashlib
import re
import struct
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

from classkinfy_export.contract import FormatName
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.latency.device.sample import Sample

_MACHINES = {(2, 183): "arm64-v8a", (1, 40): "armeabi-v7a", (2, 62): "x86_64", (1, 3): "x86"}
"""Android's ABIs by ELF class and machine."""


_PSS = re.compile(r"^Peak PSS: ([1-9]\d*) kB", re.MULTILINE)


class Call(NamedTuple):
    """One stage to measure, as paths on the phone."""

    folder: str
    """The tool's."""
    model: str
    entry: str
    """The signature of a LiteRT file."""
    pinned: str
    """What goes before the program to keep it on some cores."""
    threads: int
    n: int
    """Answers to time."""
    warmup: int
    """Answers before them."""


class Tool(ABC):
    """A program that measures one stage of one model file.

    Args:
        path: the program, or a folder that has it by its own name beside the libraries it needs.

    Raises:
        ClasskinfyError: there is no such file, or it is no program for Android.
    """

    runtime: ClassVar[str]
    format: ClassVar[FormatName]
    program: ClassVar[str]

    def __init__(self, path: Path) -> None:
        binary = path / self.program if path.is_dir() else path
        if not binary.is_file():
            raise ClasskinfyError(
                f"{binary} does not exist",
                hint=f"give {self.program} itself, or a folder that holds it and its libraries",
            )
        self.files = {self.program: binary}
        """What goes to the phone, by its name there."""
        if path.is_dir():
            self.files |= {file.name: file for file in sorted(path.glob("*.so*"))}
        header = binary.read_bytes()[:20]
        found = None
        if header[:4] == b"\x7fELF" and len(header) == 20:
            found = _MACHINES.get((header[4], struct.unpack("<H", header[18:20])[0]))
        if found is None:
            raise ClasskinfyError(
                f"{binary} is no program that Android runs",
                hint=f"give the {self.program} that was built for the phone, mostly arm64-v8a",
            )
        self.abi = found
        self.sha256 = hashlib.sha256(binary.read_bytes()).hexdigest()

    def timed(self, call: Call) -> str:
        """Return the shell command that measures a stage."""
        command = self.command(call, watched=False)
        answers = self.answers(call.folder)
        return f"rm -f {answers}; {command} && cat {answers}" if answers else command

    def watched(self, call: Call) -> str:
        """Return the shell command that runs a stage as when it is timed, and watches its memory.

        The shell looks at the process's own ``smaps_rollup``, which kernels have since 4.14, every
        20 ms until it is gone.
        """
        output = f"{call.folder}/output.txt"
        return (
            f"{self.command(call, watched=True)} >{output} 2>&1 & p=$!; m=0; "
            "while s=$(grep -s ^Pss: /proc/$p/smaps_rollup); do "
            "set -- $s; [ $2 -gt $m ] && m=$2; sleep 0.02; done; "
            f'wait $p; c=$?; cat {output}; echo; echo "Peak PSS: $m kB"; exit $c'
        )

    @abstractmethod
    def command(self, call: Call, *, watched: bool) -> str:
        """Return the shell's simple command: variables, program, arguments.

        Args:
            call: what to measure.
            watched: whether it is to report memory, and its time does not count.
        """

    def answers(self, folder: str) -> str:
        """Return the file that it writes the time of every answer to; empty for none."""
        return ""

    @abstractmethod
    def read(self, text: str, warmup: int) -> Sample:
        """Read what the command printed.

        Raises:
            ClasskinfyError: it is not what this tool prints.
        """

    def unreadable(self, what: str) -> ClasskinfyError:
        """Return the error for output that lacks something."""
        return ClasskinfyError(
            f"{self.program} printed no {what}",
            hint="is it the tool, in a version of the last years? Its output is read as documented "
            "in docs/latency-on-a-phone.md",
        )


def peak_pss_mib(text: str) -> float | None:
    """Return the peak that ``Tool.watched`` saw; None where the kernel did not tell."""
    found = _PSS.search(text)
    return int(found[1]) / 2**10 if found else None
