"""The classes and the strings of a ``classes.dex``."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Dex:
    """What is defined in it, and every string that it mentions, type descriptors among them."""

    classes: frozenset[str]
    """By name: ``org.classkinfy.core.Frame``."""
    strings: frozenset[str]

    @classmethod
    def parse(cls, data: bytes) -> Dex:
        """Read the tables; raise ``ValueError`` when it is no dex file."""
        if data[:4] != b"dex\n":
            raise ValueError("no dex file")
        count, at = struct.unpack_from("<II", data, 56)
        strings = [_string(data, offset) for offset in struct.unpack_from(f"<{count}I", data, at)]
        count, at = struct.unpack_from("<II", data, 64)
        types = struct.unpack_from(f"<{count}I", data, at)
        count, at = struct.unpack_from("<II", data, 96)
        defined = (struct.unpack_from("<I", data, at + 32 * i)[0] for i in range(count))
        names = (strings[types[index]][1:-1].replace("/", ".") for index in defined)
        return cls(frozenset(names), frozenset(strings))


def _string(data: bytes, offset: int) -> str:
    while data[offset] & 0x80:  # its length, in units of UTF-16
        offset += 1
    # Nearly UTF-8; what differs are characters that no name has.
    return data[offset + 1 : data.index(0, offset + 1)].decode("utf-8", "replace")
