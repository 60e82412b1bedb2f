"""The page's answers on real photos against Python's, and how long they take.

    python benchmarks/web_page.py BUNDLE --images HAM10000

Photos of the shipped split's test part go through the page in headless Chromium, a phone's screen
and one thread, as files are chosen: as JPEG, which Chromium decodes, and as PNG of the pixels that
Pillow decodes. Python's ``predict`` answers the same bytes in the same format and precision. Needs
``classkinfy doctor --install web``, Node and Chromium. Writes ``web_page.md`` and ``web_page.json``
beside this file.
"""

from __future__ import annotations

import argparse
import statistics
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
from classkinfy_export.jobs import web_page
from classkinfy_export.runtimes.session import Prediction, Session

# The browser is driven as the tests drive it.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from web.browsing import Browser, served

SPLIT = Path(__file__).parents[1] / "checkpoints" / "mobile" / "split.csv"
NATIVE = {"web-onnxruntime": "onnxruntime", "web-litert": "litert"}
PRECISIONS = ("fp32", "static_wi8_ai8")
READY = "await page.waitForFunction(() => document.body.dataset.offline);"
ANSWER = """
await page.evaluate(() => delete document.body.dataset.answer);
await page.setInputFiles('#file', given.photo);
await page.waitForFunction(() => document.body.dataset.answer);
return JSON.parse(await page.evaluate(() => document.body.dataset.answer));
"""


def test_photos(folder: Path, most: int) -> list[Path]:
    """Photos of the shipped split's test part, evenly spaced."""
    split = pd.read_csv(SPLIT)
    wanted = set(split.loc[split["part"] == "test", split.columns[0]])
    return choose([path for path in list_images(folder) if path.stem in wanted], most)


def shift(answer: dict[str, Any], wanted: Prediction) -> float:
    values = np.array(list(wanted.probabilities.values()))
    return float(np.abs(np.array(answer["probabilities"]) - values).max())


def flipped(answer: dict[str, Any], wanted: Prediction, severities: tuple[str, ...]) -> bool:
    classes = list(wanted.probabilities)
    index = -1 if wanted.diagnosis is None else classes.index(wanted.diagnosis)
    graded = None not in answer["severity"]
    severity = severities[int(np.argmax(answer["severity"]))] if graded else None
    return (answer["diagnosis"], answer["accepted"], severity) != (
        index,
        wanted.accepted,
        wanted.severity,
    )


def measure(bundle: Bundle, photos: list[Path], scratch: Path) -> pd.DataFrame:
    """Return a row for each runtime, precision and kind of file."""
    rows = []
    pngs = [scratch / f"{path.stem}.png" for path in photos]
    for path, png in zip(photos, pngs, strict=True):
        Image.open(path).convert("RGB").save(png)
    page = web_page.write(bundle, scratch / "page")
    browser = Browser(scratch)
    browser.begin()
    total = 2 * len(NATIVE) * len(PRECISIONS) * len(photos)
    with served(page) as url, Progress() as progress:
        task = progress.add_task("asking the page", total=total)
        browser.run(f"await page.goto(given.url); {READY}", url=url)
        for runtime, native in NATIVE.items():
            for precision in PRECISIONS:
                choice = {"runtime": runtime, "precision": precision, "threads": 1}
                keep = "(kept) => localStorage.setItem('classkinfy-choice', JSON.stringify(kept))"
                browser.run(
                    f"await page.evaluate({keep}, given.choice); await page.reload(); {READY}",
                    choice=choice,
                )
                engine = runtimes.get(native).open(bundle, precision=precision, threads=1)
                session = Session(engine)
                for kind, files in (("PNG", pngs), ("JPEG", photos)):
                    pairs = []
                    for file in files:
                        answer = browser.run(ANSWER, photo=str(file))
                        pairs.append((answer, session.predict(file)))
                        progress.advance(task)
                    rows.append(row(bundle, runtime, precision, kind, pairs))
    browser.close()
    return pd.DataFrame(rows)


def row(
    bundle: Bundle,
    runtime: str,
    precision: str,
    kind: str,
    pairs: list[tuple[dict[str, Any], Prediction]],
) -> dict[str, Any]:
    severities = bundle.manifest.taxonomy.severities
    stages = [answer["timings"] for answer, _ in pairs]
    return {
        "runtime": runtime,
        "precision": precision,
        "file": kind,
        "photos": len(pairs),
        "flips": sum(flipped(answer, wanted, severities) for answer, wanted in pairs),
        "largest change of a probability": f"{max(shift(*pair) for pair in pairs):.1e}",
        "quality differs": sum(a["quality"] != list(w.quality.values()) for a, w in pairs),
        "decode and frame, ms": statistics.median(t["decode"] + t["frame"] for t in stages),
        "stages, ms": statistics.median(sum(t.values()) - t["decode"] - t["frame"] for t in stages),
    }


def report(table: pd.DataFrame, bundle: Bundle, photos: int) -> str:
    versions = [
        f"{name} {version}"
        for runtime in (*NATIVE, *NATIVE.values())
        for name, version in [(runtime, runtimes.get(runtime).version())]
    ]
    rounded = table.assign(
        **{name: table[name].map("{:.0f}".format) for name in table if name.endswith("ms")}
    )
    return "\n".join(
        [
            "# The page's answers on real photos",
            "",
            f"`python benchmarks/web_page.py BUNDLE --images HAM10000 --most {photos}`;",
            f"{'; '.join(versions)}.",
            f"Bundle `{bundle.manifest.name}` {bundle.sha256[:12]}; {photos} photos of HAM10000's "
            "test part, evenly spaced, through the page in headless Chromium, on one thread.",
            "",
            *to_markdown(rounded),
            "",
            "A flip is another diagnosis, acceptance or severity than Python's `predict` gives for "
            "the same bytes in the same format and precision. PNG files hold the pixels that "
            "Pillow decodes, so that one decoder's rounding is left out; JPEG files are decoded by "
            "Chromium itself. `quality` is exact, and tells of any pixel that moves a share or a "
            "variance. Times are medians on a desktop core that others used too: of a page, not "
            "of a phone.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    photos = test_photos(given.images, given.most)
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(bundle, photos, Path(scratch))
    here = Path(__file__)
    here.with_suffix(".json").write_text(table.to_json(orient="records", indent=1) + "\n")
    here.with_suffix(".md").write_text(report(table, bundle, len(photos)))


if __name__ == "__main__":
    main()
