"""The page's modules in Node."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classkinfy_export.runtimes.web import runtime as pages

SOURCE = Path(__file__).parents[2] / "web_demo" / "src"

_PRELUDE = """
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = ({ buffer, byteOffset, byteLength }) =>
  Buffer.from(buffer, byteOffset, byteLength).toString("base64");
const load = (name) => import(`${given.source}/${name}.mjs`);
const run = async () => {
"""
_END = "};\nconsole.log(JSON.stringify((await run()) ?? null));\n"


def run(body: str, **given: Any) -> Any:
    """Run the body of an async function; ``load`` imports a module of the page's."""
    node = pages.node()
    if node is None:
        pytest.skip(f"Node {pages.NODE} is not installed")
    ran = subprocess.run(
        [node[0], "--input-type=module", "-e", _PRELUDE + body + _END],
        input=json.dumps({"source": SOURCE.as_uri(), **given}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def packed(data: bytes | np.ndarray) -> str:
    """Bytes as JSON takes them."""
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    return base64.b64encode(raw).decode()


def unpacked(text: str) -> bytes:
    """What ``packed`` packed."""
    return base64.b64decode(text)
