"""The app's Kotlin on real photos against Python, on a desktop JVM with the real kernels.

    python benchmarks/android_jvm.py BUNDLE --images HAM10000

Photos of the shipped split's test part go through ``ClasskinfyPipeline`` as encoded files: as PNG
of the pixels that Pillow decodes, and as JPEG, which Java decodes. Python's ``predict`` answers the
same bytes in the same format and precision. Needs a JDK and what
``android_demo/jvm/toolchain.py`` fetches. Writes ``android_jvm.md`` and ``android_jvm.json`` beside
this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.progress import Progress
from table import to_markdown

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.frame import choose, list_images
from classkinfy_export.runtimes.session import Prediction, Session

sys.path.append(str(Path(__file__).parents[1] / "android_demo" / "jvm"))
import toolchain
from build import Build

SPLIT = Path(__file__).parents[1] / "checkpoints" / "mobile" / "split.csv"
RUNTIMES = ("onnxruntime", "litert")
PRECISIONS = ("fp32", "static_wi8_ai8")
MADE = ("diagnosis", "accepted", "reasons", "severity")


def test_photos(folder: Path, most: int) -> list[Path]:
    """Photos of the shipped split's test part, evenly spaced."""
    split = pd.read_csv(SPLIT)
    wanted = set(split.loc[split["part"] == "test", split.columns[0]])
    return choose([path for path in list_images(folder) if path.stem in wanted], most)


def kotlin(
    build: Build, bundle: Path, runtime: str, precision: str, folder: Path
) -> list[dict[str, Any]]:
    """Answer every file of a folder, in order of name, in one process."""
    done = build.replay("answer", bundle, runtime, precision, "staged", folder)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line)["answer"] for line in done.stdout.splitlines() if line[:1] == "{"]


def shift(answer: dict[str, Any], wanted: dict[str, Any], key: str) -> float:
    """Return the largest difference of a table of numbers, 0 where one of both does not give it."""
    if answer[key] is None or wanted[key] is None:
        return 0.0
    return max(abs(answer[key][name] - value) for name, value in wanted[key].items())


def compare(answers: list[dict[str, Any]], predictions: list[Prediction]) -> dict[str, Any]:
    wanted = [json.loads(json.dumps(prediction.to_json())) for prediction in predictions]
    pairs = list(zip(answers, wanted, strict=True))
    flips = {key: sum(a[key] != w[key] for a, w in pairs) for key in MADE}
    return {
        "photos": len(pairs),
        **{f"{key} flips": count for key, count in flips.items()},
        "largest dp": f"{max(shift(a, w, 'probabilities') for a, w in pairs):.1e}",
        "of severity": f"{max(shift(a, w, 'severity_probabilities') for a, w in pairs):.1e}",
        "quality differs": sum(
            np.float32(list(a["quality"].values())).tolist()
            != np.float32(list(w["quality"].values())).tolist()
            for a, w in pairs
        ),
    }


def measure(bundle: Bundle, photos: list[Path], scratch: Path) -> pd.DataFrame:
    """Return a row for each runtime, precision and kind of file."""
    folders = {kind: scratch / kind for kind in ("PNG", "JPEG")}
    for folder in folders.values():
        folder.mkdir()
    for path in photos:
        Image.open(path).convert("RGB").save(folders["PNG"] / f"{path.stem}.png")
        (folders["JPEG"] / f"{path.stem}.jpg").write_bytes(path.read_bytes())
    build = Build()
    photos = sorted(photos, key=lambda path: path.stem)
    rows = []
    with Progress() as progress:
        task = progress.add_task("answers", total=len(RUNTIMES) * len(PRECISIONS) * 3)
        for precision in PRECISIONS:
            wanted = {}
            for runtime in RUNTIMES:
                with runtimes.get(runtime).open(bundle, precision=precision) as engine:
                    session = Session(engine)
                    wanted[runtime] = [session.predict(path) for path in photos]
                progress.advance(task)
            for runtime, other in zip(RUNTIMES, reversed(RUNTIMES), strict=True):
                for kind, folder in folders.items():
                    answers = kotlin(build, bundle.path, runtime, precision, folder)
                    row: dict[str, Any] = {"runtime": runtime, "precision": precision, "file": kind}
                    control = compare(answers, wanted[other])["largest dp"]
                    row |= compare(answers, wanted[runtime])
                    rows.append({**row, "to the other runtime": control})
                    progress.advance(task)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    photos = test_photos(given.images, given.most)
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(bundle, photos, Path(scratch))
    versions = [f"{name} {runtimes.get(name).version()}" for name in RUNTIMES]
    versions.append(f"Kotlin {toolchain.KOTLIN.version}")
    lines = [
        "# The app's Kotlin on real photos",
        "",
        f"`python benchmarks/android_jvm.py BUNDLE --images HAM10000 --most {given.most}`;",
        f"{', '.join(versions)}.",
        f"Bundle `{bundle.manifest.name}` {bundle.sha256[:12]}; {len(photos)} photos of HAM10000's "
        "test part, evenly spaced, through `ClasskinfyPipeline` on a desktop JVM, on one thread.",
        "",
        *to_markdown(table),
        "",
        "Flips are answers unlike Python's `predict` in the same format and precision. PNG files "
        "hold the pixels that Pillow decodes, so that one decoder's rounding is left out; JPEG "
        "files are decoded by Java. `quality` is exact, and tells of any pixel that moves a share "
        "or a variance. The last column is a control: how far the same answers are from those of "
        "the other runtime in Python.",
        "",
        "The engines are the app's own sources, over the native libraries of Python's packages: "
        "ONNX Runtime through the classes and JNI library of its version 1.17, whose name for the "
        "native library is rewritten; LiteRT through its C API in place of Android's JNI library. "
        "This shows that the app's code asks the kernels for the same thing; a phone's own "
        "kernels (ARM) are another matter, which the app's self-test answers on that phone.",
    ]
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    target.with_suffix(".json").write_text(table.to_json(orient="records", indent=1) + "\n")


if __name__ == "__main__":
    main()
