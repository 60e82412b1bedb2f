r"""What each precision of a bundle changes, beside fp32 in the same runtime.

    classkinfy export checkpoints/mobile --calibration HAM10000 --out bundle \
        --set 'precisions=[fp32, fp16, weight_only_wi8_afp32, static_wi8_ai8]'
    python benchmarks/precisions.py --bundle bundle --images HAM10000 \
        --split checkpoints/mobile/split.csv

Photos of the split's test part go through ``frame``, ``prepare`` and ``screen`` once, and through
``classify`` in every precision, one after the other, so that a noisy moment is all of theirs.
Labels are the whole pipeline's. Intervals are of the paired difference, by bootstrap over lesions;
McNemar's test is of right and wrong answers. Writes ``precisions.md`` and ``precisions.json``
beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track
from table import to_markdown

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.evaluation import paired
from classkinfy_export.evaluation.report import Paired
from classkinfy_export.frame import choose, frame
from classkinfy_export.quantization.search import fidelity

FORMATS = {"onnxruntime": "onnx", "litert": "litert"}
"""By runtime."""
PACKAGES = ("onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "torch")


def answers(bundle: Bundle, photos: list[Path]) -> tuple[dict[tuple[str, str], Any], pd.Series]:
    """Return probabilities by runtime and precision, and the median time of ``classify``."""
    manifest = bundle.manifest
    precisions = list(dict.fromkeys(m.precision for m in manifest.models if m.format == "onnx"))
    engines = {
        (name, precision): runtimes.get(name).open(bundle, precision=precision)
        for name in FORMATS
        for precision in precisions
    }
    given, took = defaultdict(list), defaultdict(list)
    for photo in track(photos, "photos"):
        tensors: dict[str, Any] = {"image": frame(photo, manifest.capture, manifest.fit)}
        for stage in ("prepare", "screen"):
            tensors |= engines["onnxruntime", "fp32"].run(stage, tensors)
        for key, engine in engines.items():
            start = time.perf_counter()
            found = engine.run("classify", tensors)
            took[key].append(time.perf_counter() - start)
            given[key].append(found["probabilities"][0])
    times = pd.Series({key: float(np.median(values)) for key, values in took.items()})
    return {key: np.stack(values).astype(np.float64) for key, values in given.items()}, times


def row(key: tuple[str, str], given: dict[tuple[str, str], Any], found: Paired) -> dict[str, str]:
    """Return a row of the table."""
    before, after = given[key[0], "fp32"], given[key]
    flips = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    shift = np.abs(after - before)
    divergence = (before * np.log(np.maximum(before, 1e-12) / np.maximum(after, 1e-12))).sum(axis=1)
    balanced = found.changes["balanced_accuracy"].change
    melanoma = found.changes["recall/mel"]
    return {
        "runtime": key[0],
        "precision": key[1],
        "same label": f"{100 * (1 - flips / len(before)):.2f} % ({flips} of {len(before)} differ)",
        "mean Δp": f"{shift.mean():.5f}",
        "mean KL": f"{divergence.mean():.5f}",
        "SQNR of log-probabilities": f"{fidelity(before, after).sqnr_db or math.inf:.1f} dB",
        "change of balanced accuracy": (
            f"{balanced.value:+.3f} ({balanced.low:+.3f} to {balanced.high:+.3f})"
        ),
        "McNemar": f"{found.gained} gained, {found.lost} lost, p {found.mcnemar_p:.2f}",
        "sensitivity for melanoma": f"{melanoma.before:.3f} to {melanoma.after:.3f}",
    }


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", default="precisions", help="name of the table's files")
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    manifest = bundle.manifest
    taxonomy = manifest.taxonomy
    records = open_dataset(given.images, taxonomy).records
    parts = pd.read_csv(given.split, index_col="image_id")["part"].reindex(records.index)
    records = records[parts == "test"]
    photos = choose(records["path"].tolist(), given.limit or len(records))
    records = records.set_index("path").loc[photos]
    labels = records["dx"].map(taxonomy.index).to_numpy(np.int64)
    found, times = answers(bundle, photos)
    rows, kept = [], {}
    for key in found:
        if key[1] == "fp32":
            continue
        changes = paired.compare(
            labels, records["lesion_id"].tolist(), found[key[0], "fp32"], found[key], taxonomy
        )
        models = {
            precision: manifest.find_model("classify", FORMATS[key[0]], precision)
            for precision in ("fp32", key[1])
        }
        sizes = [manifest.files[m.path].size_bytes for m in models.values() if m]
        ratios = {
            "size of the file": f"{sizes[1] / sizes[0]:.3f}x",
            "time": f"{times[key] / times[key[0], 'fp32']:.2f}x",
        }
        rows.append(row(key, found, changes) | ratios)
        kept["/".join(key)] = rows[-1] | {"paired": changes.model_dump(mode="json")}
    versions = {package: version(package) for package in PACKAGES}
    here = Path(__file__).parent
    content = {"images": len(photos), "bundle": bundle.sha256, "versions": versions, "rows": kept}
    (here / f"{given.out}.json").write_text(json.dumps(content, indent=1) + "\n")
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    specs = manifest.networks.values()
    networks = ", ".join(dict.fromkeys(f"{s.architecture} at {s.input_size}" for s in specs))
    floats = "; ".join(
        f"in {name} {' '.join(own)} of {stage}"
        for stage, blocks in manifest.provenance.recipe.get("float_blocks", {}).items()
        for name, own in blocks.items()
    )
    calibrated = manifest.calibration.images if manifest.calibration else 0
    lines = [
        f"# Precisions of {manifest.name}, beside fp32 in the same runtime",
        "",
        f"{len(photos)} photos of the test part, whose lesions neither training nor calibration",
        f"saw; {calibrated} photos calibrated on. Networks: {networks}.",
        f"Their blocks in float beside int8: {floats or 'none'}. Sizes are of the file that holds",
        "`classify`, in LiteRT with all stages; times are of `classify`, its exact resize",
        "included, on one thread, medians over all photos, each precision in turn.",
        "",
        *to_markdown(pd.DataFrame(rows)),
        "",
        f"`python benchmarks/precisions.py` ({used}).",
    ]
    (here / f"{given.out}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
