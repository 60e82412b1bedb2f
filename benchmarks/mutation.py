"""Valid files made wrong: by bytes, by JSON's values, by a zip's members; by seed, the same."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[bytes, random.Random], bytes]

_MOST = 4 * 2**20
"""Bytes that a case may grow to."""
_SIZES = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_DEEP = "\uffffdeep\uffff"
"""Stands in a document for lists in one another, deeper than Python's stack."""
_LONG = "\uffffdigits\uffff"
"""Stands for a number of more digits than Python reads."""
_TEXTS = (
    "",
    "\0",
    "\ud800",
    "\u202e",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "a\\..\\b",
    "a" * 300,
    "a/" * 3000,
    "long" * 5000,
    "NaN",
    "1e999",
    "$(id)",
    "%s%n",
    _DEEP,
    _LONG,
)
_NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -1e-308, 0.5)
_ODD: tuple[object, ...] = (None, True, False, [], {}, float("nan"), float("inf"), -float("inf"))
_NAMES = (
    "../outside",
    "/tmp/absolute",
    "a/../../b",
    "a\\b",
    "C:/x",
    "manifest.json",
    "MANIFEST.JSON",
    "manifest.json/",
    "x" * 300,
    "nul\0byte",
    "",
)


def some_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, move or overwrite bytes, once or a few times."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        length = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(changed) - at)
        kind = rng.randrange(8)
        if kind == 0 and changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 100))
        elif kind == 4:
            source = rng.randrange(len(changed) + 1)
            changed[at : at + length] = changed[source : source + length]
        elif kind == 5:
            changed[at : at + length] = rng.randbytes(length)
        elif kind == 6:
            # A length, a count or an offset, of any width and order.
            code = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
            width = struct.calcsize(code)
            value = rng.choice((*_SIZES, len(changed))) % 256**width
            changed[at : at + width] = struct.pack(code, value)
        else:
            changed[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        del changed[_MOST:]
    return bytes(changed)


def hostile_value(rng: random.Random) -> object:
    """Return what no document expects."""
    return rng.choice(rng.choice((_TEXTS, _NUMBERS, _ODD)))


def document(content: Any, rng: random.Random) -> Any:  # noqa: ANN401  (of any shape)
    """Change a document of dicts, lists and values in place, once or a few times; return it."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = list(_places(content))
        if not places:
            return hostile_value(rng)
        holder, key = rng.choice(places)
        kind = rng.randrange(7)
        if kind <= 2:
            holder[key] = hostile_value(rng)
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            holder[key] = rng.choice(([holder[key]], {"value": holder[key]}, str(holder[key])))
        elif kind == 5:
            other, place = rng.choice(places)
            holder[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else 0))
        elif isinstance(holder, dict):
            holder[str(hostile_value(rng))[:20_000]] = holder[key]
        else:
            holder.extend([holder[key]] * rng.choice((1, 2, 1000)))
    return content


def _places(content: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    waiting: list[Any] = [content]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in list(keys):
            yield holder, key
            if isinstance(holder[key], dict | list) and holder[key]:
                waiting.append(holder[key])


def to_json(content: object, rng: random.Random) -> bytes:
    """Serialise what may be in no valid document."""
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    depth = rng.choice((50, 1000, 200_000))
    for mark, value in ((_DEEP, "[" * depth + "]" * depth), (_LONG, "9" * 5000)):
        text = text.replace(json.dumps(mark), value).replace(f'"{mark}"', value)
    return text.encode("utf-8", "surrogatepass")


def json_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change a JSON file's values, or its bytes."""
    if rng.random() < 0.25:
        return some_bytes(data, rng)
    return to_json(document(json.loads(data), rng), rng)


def zip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change an archive's members, or its directory, or its bytes."""
    kind = rng.randrange(4)
    if kind == 0:
        return some_bytes(data, rng)
    if kind == 1:
        # The directory is a small part of the file, and rules over the rest.
        start = data.index(b"PK\x01\x02")
        return data[:start] + some_bytes(data[start:], rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    return members_to_zip(members, rng)


def members_to_zip(members: list[tuple[zipfile.ZipInfo, bytes]], rng: random.Random) -> bytes:
    """Write members as an archive, after one of them was made what no archive should have."""
    at = rng.randrange(len(members))
    info, content = members[at]
    kind = rng.randrange(8)
    if kind == 0:
        members.append((_named(rng.choice(_NAMES)), content))
    elif kind == 1:
        members.append((_named(info.filename), rng.choice((content, b""))))
    elif kind == 2:
        del members[at]
    elif kind == 3:
        packed = _named(info.filename)
        packed.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        members[at] = (packed, rng.choice((content, bytes(2**20))))
    elif kind == 4:
        link = _named(info.filename)
        link.external_attr = 0o120777 << 16
        members[at] = (link, b"/etc/passwd")
    elif kind == 5:
        members[at] = (info, some_bytes(content, rng))
    elif kind == 6:
        members += [(_named(f"many/{i}"), b"") for i in range(rng.choice((10, 2000)))]
    else:
        rng.shuffle(members)
    written = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for member, bytes_ in members:
            archive.writestr(member, bytes_, compress_type=member.compress_type)
    return written.getvalue()


def _named(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
    info.filename = name  # ZipInfo would cut it at a zero byte
    return info


def png_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change a PNG's chunks, their checksums right: what is behind these is reached."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    chosen = rng.choice(chunks)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), chosen)
    else:
        chosen[1] = some_bytes(chosen[1], rng)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def text_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change a text of lines, as YAML is: its words, its lines, its indents."""
    if rng.random() < 0.2:
        return some_bytes(data, rng)
    lines = data.decode().split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        line = lines[at]
        key = line.partition(":")[0]
        kind = rng.randrange(6)
        if kind == 0:
            lines[at] = f"{key}: {rng.choice(YAML)}"
        elif kind == 1:
            lines[at] = f"{key}: {json.dumps(hostile_value(rng))}"
        elif kind == 2:
            lines.insert(at, rng.choice(lines))
        elif kind == 3:
            lines[at] = " " * rng.randrange(6) + line.strip()
        elif kind == 4:
            lines[at] = some_bytes(line.encode(), rng)[:1000].decode("utf-8", "replace")
        else:
            lines.insert(at, rng.choice(YAML))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _laughs(kind: str, depth: int = 12) -> str:
    """Return aliases that stand for ``9 ** depth`` items: lists, or keys that are merged."""
    if kind == "merge":
        first = "a0: &a0 {x: 1}\n"
        rows = (f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, depth))
    else:
        first = "a0: &a0 [1]\n"
        rows = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth))
    return first + "\n".join(rows)


YAML = (
    "!!int ''",
    "!!float ''",
    "!!bool maybe",
    "!!timestamp now",
    "!!binary '*'",
    "!!python/object/apply:os.system [id]",
    "!!set {a, b}",
    "!!omap [a]",
    "!!pairs [[1]]",
    "&a [*a]",
    "&a {x: *a}",
    "*nothing",
    "? [1, 2]\n: 3",
    "{{a: 1}: 2}",
    "2001-99-99",
    "190:20:30.15",
    "0x",
    "1_",
    "1e999",
    ".nan",
    "[" * 600,
    "<<: 3",
    "%TAG ! x",
    "--- {}",
    "\t x",
    _laughs("list"),
    _laughs("merge"),
)
