r"""How near a network comes to what one core can multiply, and what takes the rest of its time.

    python benchmarks/peak.py --bundle origin_bundle --precision static_wi8_ai8

LiteRT's profile of ``classify``, operator by operator, beside the multiply-adds that each has, and
beside the largest product of matrices that any kernel here reaches in the same minutes; profile and
products take turns, medians are over the rounds. Writes ``peak.md`` and ``peak.json`` beside this
file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import gemm
import pandas as pd
from table import to_markdown

from classkinfy_export import machine
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.latency.estimate.work import count
from classkinfy_export.latency.operators import profile
from classkinfy_export.latency.operators.report import StageProfile
from classkinfy_export.precision import Precision

_STAGE = "classify"


def profiled(bundle: Bundle, precision: Precision) -> StageProfile:
    """Profile the stage once."""
    (runtime,) = profile(bundle, names=["litert"], precision=precision).runtimes
    return next(stage for stage in runtime.stages if stage.stage == _STAGE)


def operators(bundle: Bundle, precision: Precision, rounds: Sequence[StageProfile]) -> pd.DataFrame:
    """Return the operators of the stage: what each is, its multiply-adds, its median time."""
    work = {str(o.place): o for o in count(bundle, _STAGE, precision).operators}
    rows = []
    for place, row in enumerate(rounds[0].operators):
        counted = work.get(row.node)
        macs = 0 if counted is None else counted.macs
        if macs and counted is not None:
            what = f"{counted.kind}, {counted.number}"
        else:
            what = f"{row.operator}, {row.dtype}{'' if row.kernel else ', outside XNNPACK'}"
        ms = pd.Series([one.operators[place].ms for one in rounds]).median()
        rows.append(
            {"what": what, "number": counted.number if macs else "", "MACs": macs, "ms": ms}
        )
    found = pd.DataFrame(rows)
    missed = sum(o.macs for o in work.values()) - int(found["MACs"].sum())
    assert missed == 0, f"{missed} multiply-adds are of operators that the profile does not tell of"
    return found


def table(found: pd.DataFrame, peak: dict[str, float]) -> pd.DataFrame:
    """Add operators up by what they are, dearest first."""
    of_what = found.groupby("what")[["MACs", "ms"]].transform("sum")
    told = (of_what["MACs"] > 0) | (of_what["ms"] >= 0.01 * found["ms"].sum())
    named = found.assign(what=found["what"].where(told, "others"))
    groups = named.groupby("what", as_index=False).agg(
        operators=("ms", "size"), number=("number", "first"), MACs=("MACs", "sum"), ms=("ms", "sum")
    )
    groups = groups.sort_values("ms", ascending=False)
    rate = groups["MACs"] / groups["ms"] / 1e6
    share = [
        f"{100 * r / peak[number]:.0f} %" if number else ""
        for r, number in zip(rate, groups["number"], strict=True)
    ]
    return pd.DataFrame(
        {
            "what": groups["what"],
            "operators": groups["operators"].astype(int),
            "MACs, 1e6": (groups["MACs"] / 1e6).map(lambda v: f"{v:.1f}" if v else ""),
            "time": (groups["ms"] / found["ms"].sum()).map("{:.1%}".format),
            "share of the peak": share,
        }
    )


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--precision", default="static_wi8_ai8")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    profiles: list[StageProfile] = []
    products = []
    for _ in range(given.rounds):
        products.append(gemm.peaks())
        profiles.append(profiled(bundle, given.precision))
    kernels = pd.DataFrame(products).median().to_dict()
    peak = {
        number: max(v for name, v in kernels.items() if name.startswith(number))
        for number in ("int8", "fp32")
    }
    found = operators(bundle, given.precision, profiles)
    wall = float(pd.Series([one.wall_ms for one in profiles]).median())
    macs, coded = int(found["MACs"].sum()), int(found.loc[found["number"] == "int8", "MACs"].sum())
    rate = macs / wall / 1e6
    network = bundle.manifest.networks[_STAGE]
    document = {
        "CPU": machine.cpu(),
        "rounds": given.rounds,
        "network": network.model_dump(mode="json"),
        "precision": given.precision,
        "kernels, 1e9 multiply-adds a second": kernels,
        "wall, ms": wall,
        "noisy rounds": sum(one.noisy for one in profiles),
        "multiply-adds": macs,
        "of them in int8": coded,
        "1e9 multiply-adds a second": rate,
        "share of int8 peak": rate / peak["int8"],
        "coverage": profiles[0].coverage and profiles[0].coverage.model_dump(),
        "operators": found.to_dict("records"),
    }
    path = Path(__file__).with_name("peak.json")
    path.write_text(json.dumps(document, indent=1) + "\n")
    reached = ", ".join(f"{name} {v:.0f}" for name, v in kernels.items())
    lines = [
        "# What one core could do, and what the network does",
        "",
        f"{network.architecture} at {network.input_size}, {given.precision}, LiteRT, one thread, "
        f"{given.rounds} rounds, {machine.cpu()}.",
        f"Large products of matrices, 1e9 multiply-adds a second: {reached}.",
        "",
        f"`{_STAGE}` has {macs / 1e6:.0f} million multiply-adds, {100 * coded / macs:.1f} % of",
        f"them in int8, and does {rate:.1f}e9 a second: "
        f"**{100 * rate / peak['int8']:.0f} % of the int8 peak**.",
        "",
        *to_markdown(table(found, peak)),
        "",
        "Times are of all operators' time; shares of the peak are of the best product in the same",
        "number (int8 or fp32).",
        "",
        f"`python benchmarks/peak.py --precision {given.precision}` "
        f"(ai-edge-litert {version('ai-edge-litert')}).",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
