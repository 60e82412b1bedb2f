"""What a native library says of itself: its machine, and how its segments are aligned."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MACHINES = {62: "x86_64", 183: "arm64-v8a"}
_LOAD = 1


@dataclass(frozen=True)
class Library:
    """An ELF file of 64 bits."""

    abi: str
    alignments: tuple[int, ...]
    """Of the segments that are loaded, bytes."""

    @classmethod
    def parse(cls, data: bytes) -> Library:
        """Read the headers; raise ``ValueError`` when it is none of a phone's 64-bit libraries."""
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("no little-endian ELF file of 64 bits")
        (machine,) = struct.unpack_from("<H", data, 18)
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        segments = [struct.unpack_from("<IIQQQQQQ", data, table + i * size) for i in range(count)]
        alignments = tuple(segment[7] for segment in segments if segment[0] == _LOAD)
        if machine not in MACHINES or not alignments:
            raise ValueError(f"machine {machine}, {len(alignments)} loaded segments")
        return cls(MACHINES[machine], alignments)
