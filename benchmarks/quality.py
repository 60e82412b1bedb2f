"""Fit the thresholds of the quality rules, and count whom they would turn away.

    python benchmarks/quality.py --ham HAM10000 --pad PAD-UFES-20

Real photos are degraded: blurred by a Gaussian of 2 pixels, and exposed 1.5 stops less and more in
linear light. A threshold is the value that one untouched photo in 125 of the training part
is beyond; areas under the ROC curve, detections and refusals are counted on the other parts, whose
lesions it has not seen. Writes ``quality.md`` and ``quality.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import track
from sklearn.metrics import roc_auc_score
from table import to_markdown

from classkinfy_export.contract import QUALITY_MEASURES, Capture
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.data.splits import split
from classkinfy_export.frame import frame
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.taxonomy import Taxonomy

Pixels = npt.NDArray[np.uint8]

CAPTURE = Capture(height=450, width=600)
HAIR_LIMIT = 0.15
BEYOND = 0.008
RULES = {"sharpness": ("blurred", -1), "dark_share": ("darker", 1), "bright_share": ("brighter", 1)}
"""By measure: the degradation it is to find, and the sign that makes larger mean worse."""


def exposed(image: Pixels, stops: float) -> Pixels:
    """Scale linear light by ``2**stops``; sRGB as in IEC 61966-2-1."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear * 2.0**stops, 0, 1)
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curve * 255).astype(np.uint8)[image])


def versions_of(image: Pixels) -> dict[str, Pixels]:
    return {
        "untouched": image,
        "blurred": np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8),
        "darker": exposed(image, -1.5),
        "brighter": exposed(image, 1.5),
    }


def measure(folder: Path, step: int, degraded: bool) -> pd.DataFrame:
    """Return a row for each photo and version: its class, part, and quality measures."""
    dataset = open_dataset(folder, Taxonomy())
    parts = split(dataset, SplitRecipe())["part"]
    prepare = Prepare(hair_removal=False)
    rows = []
    for image_id, record in track(list(dataset.records[::step].iterrows()), dataset.name):
        image = frame(record["path"], CAPTURE)[0]
        for name, pixels in versions_of(image).items() if degraded else [("untouched", image)]:
            with torch.inference_mode():
                quality = prepare(torch.from_numpy(pixels)[None])["quality"][0].tolist()
            rows.append((record["dx"], parts[image_id], name, *quality))
    return pd.DataFrame(rows, columns=["dx", "part", "version", *QUALITY_MEASURES])


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each measure: its threshold, and how well it tells the degraded photos."""
    table = []
    for name, (version_name, sign) in RULES.items():
        badness = sign * rows[name]
        untouched, degraded = rows["version"] == "untouched", rows["version"] == version_name
        threshold = float(np.quantile(badness[untouched & (rows["part"] == "train")], 1 - BEYOND))
        unseen = rows["part"] != "train"
        chosen = unseen & (untouched | degraded)
        table.append(
            {
                "measure": name,
                "degradation": version_name,
                "threshold": float(f"{sign * threshold:.3g}"),
                "auroc": roc_auc_score(degraded[chosen], badness[chosen]),
                "detected": (badness[unseen & degraded] > threshold).mean(),
                "untouched_beyond": (badness[unseen & untouched] > threshold).mean(),
            }
        )
    return pd.DataFrame(table)


def refusals(rows: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """Return, by class and for all, the share of untouched photos that each rule is set off by."""
    rows = rows[rows["version"] == "untouched"]
    hits = pd.DataFrame({"dx": rows["dx"], "hair_coverage": rows["hair_coverage"] > HAIR_LIMIT})
    for rule in fitted.itertuples():
        sign = RULES[str(rule.measure)][1]
        hits[str(rule.measure)] = sign * rows[rule.measure] > sign * rule.threshold
    hits["apart from hair"] = hits[list(RULES)].any(axis=1)
    by_class = hits.groupby("dx").mean()
    by_class.loc["all"] = hits.drop(columns="dx").mean()
    by_class.insert(0, "images", [*hits.groupby("dx").size(), len(hits)])
    return by_class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ham", type=Path, required=True, help="HAM10000, for the fit")
    parser.add_argument("--pad", type=Path, required=True, help="PAD-UFES-20, phone photos")
    parser.add_argument("--step", type=int, default=3, help="of HAM10000, every so many photos")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    ham = measure(arguments.ham, arguments.step, degraded=True)
    pad = measure(arguments.pad, 1, degraded=False)
    fitted = fit(ham)
    everyone = {"HAM10000": refusals(ham, fitted), "PAD-UFES-20": refusals(pad, fitted)}

    command = (
        f"python benchmarks/quality.py --ham {arguments.ham.name} --pad {arguments.pad.name} "
        f"--step {arguments.step}"
    )
    packages = ("torch", "opencv-python-headless", "scikit-learn", "numpy")
    lines = [
        "# Quality rules: thresholds, and whom they turn away",
        "",
        f"`{command}`; {', '.join(f'{name} {version(name)}' for name in packages)}.",
        f"Thresholds: what {BEYOND:.1%} of the training part's untouched photos are beyond.",
        "AUROC, detections and `untouched_beyond` are of the other parts.",
        "",
        *to_markdown(fitted),
    ]
    for name, table in everyone.items():
        lines += ["", f"## Share of untouched {name} photos that set a rule off", ""]
        lines += to_markdown(table.reset_index())
    (arguments.out / "quality.md").write_text("\n".join([*lines, ""]))
    report = {"command": command, "fitted": fitted.to_dict(orient="records")}
    report["refusals"] = {k: v.reset_index().to_dict(orient="records") for k, v in everyone.items()}
    (arguments.out / "quality.json").write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
