"""Writes an APK's entries as packagers do: stored ones where a phone can map them into memory."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

PAGE = 16384
"""Bytes; some Androids since 15 have such pages, and load no library that lies otherwise."""
WORD = 4
_ALIGNMENT_FIELD = 0xD935
"""Extra field of that purpose, which apksigner keeps to."""
_LOCAL_HEADER = 30


def add_stored(apk: zipfile.ZipFile, name: str, data: bytes, alignment: int) -> None:
    """Add an entry whose data are not compressed, and begin at a multiple of ``alignment``."""
    info = zipfile.ZipInfo(name)
    assert apk.fp is not None  # it is open
    start = apk.fp.tell() + _LOCAL_HEADER + len(name.encode()) + 6
    padding = -start % alignment
    info.extra = struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, alignment) + bytes(padding)
    apk.writestr(info, data, zipfile.ZIP_STORED)


def data_offset(apk: Path, info: zipfile.ZipInfo) -> int:
    """Return where an entry's data begin."""
    with apk.open("rb") as stream:
        stream.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)
