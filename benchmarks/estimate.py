r"""What published latencies say of phones' kernels, and how well that carries over to others.

    python benchmarks/estimate.py

Networks of ``published.yaml`` are built by timm or torchvision, converted to LiteRT as a bundle's
are, and their work is counted. The shares of a core's peak that they reached are fitted on the
published latencies (least squares of the logarithm, robust, each table's family of networks on a
phone weighing as much as another), and checked on those held out: each phone in turn, each family
of networks in turn, and each pair of both, which is what an estimate of another network on another
phone is. From the errors of the last come the intervals, and their own coverage is told of a phone
by the errors on the others.

TensorFlow Lite had kernels of its own before XNNPACK's; how much slower they were is fitted too,
and estimates are for XNNPACK's. Latencies whose source leaves something open are never fitted to,
and are compared at the end.

Writes ``classkinfy_export/latency/estimate/fit.yaml``, and ``estimate.md``, ``estimate.json`` and
``estimate.svg`` beside this file. Counting takes half an hour; --cache keeps what was counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from fitting import (
    COVERAGE,
    Fitted,
    Point,
    coverage,
    factors,
    fit,
    held_out,
    summary,
)
from matplotlib.figure import Figure
from published import Published, count, int8
from rich.progress import track
from table import to_markdown

from classkinfy_export.latency.estimate import fit as fits
from classkinfy_export.latency.estimate import roofline
from classkinfy_export.latency.estimate.fit import Fit
from classkinfy_export.latency.estimate.phone import load
from classkinfy_export.latency.estimate.work import Work


def by(found: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return errors by phone, family or number."""
    named = found.assign(**{key: found["point"].map(lambda point: getattr(point, key))})
    off = named.assign(
        off=100 * np.expm1(named["error"].abs()), tilt=100 * np.expm1(named["error"])
    )
    groups = off.groupby(key)
    return pd.DataFrame(
        {
            "latencies": groups.size(),
            "median error, %": groups["off"].median().round(0).astype(int),
            "90th percentile, %": groups["off"].quantile(0.9).round(0).astype(int),
            "published over estimated, median, %": groups["tilt"].median().map("{:+.0f}".format),
        }
    ).reset_index()


def points(published: Published, works: Mapping[str, Work], use: str) -> list[Point]:
    """Return the published latencies of a use, one for each thread count that is possible."""
    phones = {row.phone for source in published.sources for row in source.rows}
    devices = {name: load(name) for name in phones}
    return [
        Point(
            source=source.id,
            kernels=source.kernels,
            network=row.network,
            family=published.networks[row.network].family,
            number=row.number,
            phone=row.phone,
            threads=threads,
            ms=row.ms,
            work=works[row.network] if row.number == "fp32" else int8(works[row.network]),
            device=devices[row.phone],
        )
        for source in published.sources
        if source.use == use
        for row in source.rows
        for threads in row.threads
    ]


def draw(found: pd.DataFrame, document: Fit, path: Path) -> None:
    """Plot published over estimated latency, where neither phone nor network was fitted to."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    published = found["point"].map(lambda point: point.ms)
    estimated = published / np.exp(found["error"])
    for phone, here in found.groupby(found["point"].map(lambda point: point.phone)):
        axis.scatter(estimated[here.index], published[here.index], s=14, label=phone)
    ends = np.array([0.5 * estimated.min(), 2.0 * estimated.max()])
    axis.plot(ends, ends, color="grey", linewidth=0.8)
    axis.fill_between(ends, ends * document.below, ends * document.above, color="grey", alpha=0.15)
    axis.set(xscale="log", yscale="log", xlabel="estimated, ms", ylabel="published, ms")
    axis.set_title("Phone and network both held out")
    axis.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def checks(found: Sequence[Point], fitted: Fitted, document: Fit) -> pd.DataFrame:
    """Compare what was never fitted to, on each thread count that it may have been on."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for point in found:
        row = rows.setdefault(
            (point.source, point.phone, point.network, point.number),
            {
                "source": point.source,
                "phone": point.phone,
                "network": point.network,
                "number": point.number,
                "published, ms": f"{point.ms:g}",
            },
        )
        own = fitted.ms(point, document)
        lone, _ = roofline.latency(point.work, point.device, point.threads, document)
        low, high = own * lone.low_ms / lone.ms, own * lone.high_ms / lone.ms
        row[f"estimated on {point.threads}, ms"] = f"{own:.3g} ({low:.3g} to {high:.3g})"
    return pd.DataFrame(rows.values()).fillna("")


def report(
    document: Fit, fitted: Fitted, held: Mapping[str, pd.DataFrame], checked: pd.DataFrame
) -> list[str]:
    """Return the document's lines."""
    summaries = pd.DataFrame(
        [
            {
                "held out": name,
                "latencies": one.latencies,
                "median error, %": round(100 * one.median_error),
                "90th percentile, %": round(100 * one.p90_error),
                "within the interval, %": round(100 * one.coverage),
            }
            for name, one in (
                ("a phone", document.phones_held_out),
                ("a family of networks", document.networks_held_out),
                ("both", document.both_held_out),
            )
        ]
    )
    shares = pd.DataFrame(
        [
            {
                "kind": kind,
                "fp32, % of peak": round(100 * e.fp32),
                "int8, % of peak": round(100 * e.int8),
            }
            for kind, e in document.efficiency.items()
        ]
    )
    both = held["both"]
    return [
        "# Estimated latency against published",
        "",
        f"Fitted on {document.fitted_on}. An interval is the estimate times {document.below:.2f} "
        f"to {document.above:.2f}, {COVERAGE:.0%} of the errors where phone and network were both "
        "held out, phones weighing alike; of elementwise operators it is what a core can do at "
        "best, and one element at a time on one thread.",
        "",
        *to_markdown(summaries),
        "",
        "Of both, the last column is of each phone by intervals from the errors on the others.",
        "",
        "## Both held out, by phone",
        "",
        *to_markdown(by(both, "phone")),
        "",
        "## Both held out, by family",
        "",
        *to_markdown(by(both, "family")),
        "",
        "## Both held out, by number",
        "",
        *to_markdown(by(both, "number")),
        "",
        "## What was fitted",
        "",
        *to_markdown(shares),
        "",
        f"One thread moves {document.bandwidth_share:.0%} of the memory's bandwidth, several share "
        f"out {document.parallel_share:.0%} of the work, and an operator costs "
        f"{document.operator_cycles:.0f} cycles beside its work. TensorFlow Lite's own kernels "
        f"took {fitted.values['builtin']:.2f} times XNNPACK's latency.",
        "",
        "## Never fitted to",
        "",
        "Their sources leave something open, mostly the number of threads (`published.yaml`).",
        "",
        *to_markdown(checked),
        "",
    ]


def main() -> None:
    """Fit, check and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="a folder to keep counted work in")
    given = parser.parse_args()
    published = Published.load()
    with tempfile.TemporaryDirectory() as folder:
        cache = given.cache or Path(folder)
        works = {
            name: count(network, cache)
            for name, network in track(published.networks.items(), "counting")
        }
    fitting = points(published, works, "fit")
    fitted = fit(fitting)
    held = {
        "phone": held_out(fitting, lambda p: (p.phone,), "phones"),
        "network": held_out(fitting, lambda p: (p.family,), "families"),
        "both": held_out(fitting, lambda p: (p.phone, p.family), "both"),
    }
    below, above = factors(held["both"])
    kernels = len({p.kernels for p in fitting})
    told = (
        f"{len(fitting)} published latencies of {len({p.network for p in fitting})} networks on "
        f"{len({p.phone for p in fitting})} phones, with {kernels} generations of kernels"
    )
    cores = tuple(sorted({point.device.clusters[0].core for point in fitting}))
    document = fitted.document(below=below, above=above, cores=cores, fitted_on=told)
    both = summary(held["both"], document)
    document = document.model_copy(
        update={
            "phones_held_out": summary(held["phone"], document),
            "networks_held_out": summary(held["network"], document),
            "both_held_out": both.model_copy(update={"coverage": coverage(held["both"], fitted)}),
        }
    )
    checked = checks(points(published, works, "check"), fitted, document)
    content = document.model_dump(mode="json")
    written = "# Written by benchmarks/estimate.py: not to be edited.\n" + yaml.safe_dump(
        _rounded(content), sort_keys=False
    )
    (Path(fits.__file__).with_name("fit.yaml")).write_text(written, encoding="utf-8")
    path = Path(__file__).with_suffix(".json")
    rows = [
        {
            "held_out": name,
            **{k: getattr(p, k) for k in ("source", "phone", "network", "number", "threads", "ms")},
            "macs": p.work.macs,
            "published_over_estimated": round(float(np.exp(error)), 3),
        }
        for name, found in held.items()
        for p, error in zip(found["point"], found["error"], strict=True)
    ]
    everything = {"fit": _rounded(content), "builtin": _rounded(dict(fitted.values)), "rows": rows}
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    text = "\n".join(report(document, fitted, held, checked))
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(held["both"], document, path.with_suffix(".svg"))
    print(text)


def _rounded(content: object) -> object:
    """Keep four digits of every figure: more would differ from one machine to the next."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    return float(f"{content:.4g}") if isinstance(content, float) else content


if __name__ == "__main__":
    main()
