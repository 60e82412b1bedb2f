"""The report's plots.

Colours are Okabe and Ito's for runtimes and Tol's muted set for stages and classes: both are told
apart by colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from classkinfy_export.evaluation.report import Bin, Evaluation
from classkinfy_export.evaluation.search import Sensitivity
from classkinfy_export.latency.report import Latency
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.reporting.drawing import (
    FAIL,
    FAINT,
    INK,
    WIDTH,
    Plot,
    canvas,
    finish,
    legend,
    short,
    style,
)

_ROW = 0.27
_RUNTIMES = {"pytorch": "#E69F00", "onnxruntime": "#0072B2", "litert": "#009E73"}
_OTHERS = ("#CC79A7", "#56B4E9", "#D55E00", "#7f7f7f")
_STAGES = ("#88CCEE", "#332288", "#44AA99", "#DDCC77", "#CC6677", "#AA4499", "#117733", "#999933")
_FORMS = {"staged": "o", "fused": "D"}


def confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Plot:
    """Draw a confusion matrix: shares of each true class, with counts.

    Args:
        classes: the names, in order.
        matrix: counts, [true][predicted].
    """
    counts, size = np.asarray(matrix, np.int64), len(classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    with style():
        figure, axes = canvas(WIDTH * 0.9)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(size), [short(c) for c in classes], rotation=45 if size > 8 else 0)
        axes.set_yticks(range(size), [short(c) for c in classes])
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="minor", length=0)
        for true in range(size):
            for guess in range(size):
                _cell(axes, guess, true, int(counts[true, guess]), float(shares[true, guess]), size)
        right = ", ".join(f"{c} {counts[i, i]} of {totals[i, 0]}" for i, c in enumerate(classes))
        return finish(figure, f"Confusion matrix. Correct of each true class: {right}.")


def recall(classes: Sequence[str], values: Sequence[float], malignant: Sequence[str]) -> Plot:
    """Draw the recall of each class, the malignant side set apart.

    Args:
        classes: those that occur.
        values: their recall, 0..1.
        malignant: the classes of the malignant side.
    """
    mean = float(np.mean(values)) if values else math.nan
    colours = ["#D55E00" if name in malignant else "#56B4E9" for name in classes]
    with style():
        figure, axes = canvas(max(2.2, 1.35 + 0.36 * len(classes)))
        axes.barh(range(len(classes)), values, color=colours, height=0.66)
        for row, value in enumerate(values):
            axes.text(value + 0.012, row, f"{value:.2f}", va="center", color=INK)
        if math.isfinite(mean):
            axes.axvline(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(classes)), [short(c) for c in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.09)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.set_xlabel("recall, share of the true class (0 to 1)")
        axes.grid(axis="x")
        handles: list[Patch | Line2D] = [
            Patch(color="#D55E00", label="malignant side"),
            Patch(color="#56B4E9", label="benign side"),
            Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="mean of classes"),
        ]
        legend(figure, handles)
        told = ", ".join(f"{n} {v:.2f}" for n, v in zip(classes, values, strict=True))
        return finish(figure, f"Recall of each class: {told}; mean {mean:.2f}.")


def roc(evaluation: Evaluation) -> Plot:
    """Draw the receiver operating characteristic of each class against the rest."""
    figures = evaluation.figures
    named = {dx: f"{short(dx)} {figures[f'auroc/{dx}'].value:.3f}" for dx in evaluation.curves}
    with style():
        figure, axes = canvas(WIDTH * 0.9)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        handles = []
        for number, (dx, label) in enumerate(named.items()):
            colour, curve = _STAGES[number % len(_STAGES)], evaluation.curves[dx]
            axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=colour)
            handles.append(Line2D([], [], color=colour, label=label))
        axes.set_xlabel("false positive rate, 1 - specificity")
        axes.set_ylabel("true positive rate, sensitivity")
        axes.grid()
        legend(figure, handles)
        told = ", ".join(named.values()) or "none"
        return finish(figure, f"ROC of each class against the rest; areas: {told}.")


def reliability(bins: Sequence[Bin]) -> Plot:
    """Draw accuracy over confidence; the larger a dot, the more images it stands for.

    Args:
        bins: of confidence, each with an image at least.
    """
    total = sum(b.n for b in bins)
    with style():
        figure, axes = canvas(WIDTH * 0.8)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.plot(x, y, color="#0072B2", linewidth=1)
        axes.scatter(x, y, s=[20 + 600 * b.n / total for b in bins], color="#0072B2", alpha=0.6)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of the likeliest class")
        axes.set_ylabel("how often it is right")
        axes.grid()
        told = ", ".join(f"{b.accuracy:.2f} right at {b.confidence:.2f} ({b.n})" for b in bins)
        return finish(figure, f"Reliability: {told}.")


def parity(rows: Sequence[TensorParity]) -> Plot:
    """Draw the largest difference of every tensor beside what is allowed, on a log scale.

    Zero has a place of its own at the left, infinity at the right.

    Args:
        rows: one for each runtime, form and tensor.
    """
    tensors = list(dict.fromkeys(row.tensor for row in rows))
    runs = list(dict.fromkeys((row.runtime, row.form) for row in rows))
    seen = [v for r in rows for v in (r.minimum_tolerance, r.tolerance or 0.0) if 0 < v < math.inf]
    low = math.floor(math.log10(min(seen, default=1e-8)))
    high = max(math.ceil(math.log10(max(seen, default=1e-3))), low + 1)
    zero, endless = low - 1.2, high + 1.2
    unbounded = any(not row.minimum_tolerance < math.inf for row in rows)

    def place(value: float) -> float:
        if not value < math.inf:
            return endless
        return zero if value <= 0 else math.log10(value)

    with style():
        figure, axes = canvas(1.5 + 0.42 * len(tensors))
        for number, tensor in enumerate(tensors):
            ours = [row for row in rows if row.tensor == tensor]
            limit = place(ours[0].tolerance or 0.0)
            axes.plot([limit, limit], [number - 0.38, number + 0.38], color=INK, linewidth=2)
            for row in ours:
                lane = runs.index((row.runtime, row.form)) - (len(runs) - 1) / 2
                point = _marker(row.runtime, row.form)
                point.set_data(
                    [place(row.minimum_tolerance)], [number + lane * min(0.18, 0.7 / len(runs))]
                )
                if not row.passed:
                    filled = _colour(row.runtime)
                    point.set(mec=FAIL, mew=2.4, markersize=8, mfc=filled)
                axes.add_line(point)
        axes.set_yticks(range(len(tensors)), [short(t) for t in tensors])
        axes.set_ylim(len(tensors) - 0.4, -0.6)
        step = max(1, (high - low) // 6)
        powers = list(range(low, high + 1, step))
        ticks = [zero, *powers, *([endless] if unbounded else [])]
        labels = ["0", *(f"1e{p}" for p in powers), *(["∞"] if unbounded else [])]
        axes.set_xticks(ticks, labels)
        axes.set_xlim(zero - 0.35, (endless if unbounded else high) + 0.35)
        axes.axvline(low - 0.6, color=FAINT, linewidth=0.8, linestyle=":")
        axes.set_xlabel("largest |Δ| from the reference, in the tensor's unit (log scale)")
        axes.grid(axis="both")
        allowed = Line2D([], [], ls="", marker="|", ms=11, color=INK, label="allowed")
        legend(figure, [*(_marker(*run, short(" ".join(run))) for run in runs), allowed])
        failed = ", ".join(f"{r.runtime} {r.form} {r.tensor}" for r in rows if not r.passed)
        told = f"{len(tensors)} tensors, {len(runs)} configurations; failed: {failed or 'none'}"
        return finish(figure, f"Largest difference beside the allowed one. {told}.")


def latency(rows: Sequence[Latency]) -> Plot:
    """Draw the median answer of each configuration, with a whisker to the 90th percentile.

    Args:
        rows: measured configurations.
    """
    names = [_configuration(row) for row in rows]
    p50 = _finite([row.p50_ms for row in rows])
    p90 = np.maximum(_finite([row.p90_ms for row in rows]), p50)
    with style():
        figure, axes = canvas(1.0 + _ROW * 1.25 * len(rows))
        places = _grouped(rows)
        bars = axes.barh(places, p50, height=0.72, color=[_colour(r.runtime) for r in rows])
        for bar, row in zip(bars, rows, strict=True):
            if row.form == "fused":
                bar.set(hatch="///", edgecolor="white", linewidth=0)
        whiskers = np.stack([np.zeros_like(p50), p90 - p50])
        axes.errorbar(p50, places, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
        widest = float(p90.max()) if len(rows) else 1.0
        for place, middle, end, row in zip(places, p50, p90, rows, strict=True):
            said = f"{middle:.1f}{' noisy' if row.noisy else ''}"
            axes.text(end + widest * 0.02, place, said, va="center")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, widest * 1.2 or 1.0)
        axes.set_xlabel("one answer, ms (bar: p50, whisker: p90)")
        axes.grid(axis="x")
        told = "; ".join(f"{n} {m:.1f} ms" for n, m in zip(names, p50, strict=True))
        return finish(figure, f"Median latency of one answer: {told}.")


def stages(rows: Sequence[Latency]) -> Plot:
    """Draw what each stage adds to the median answer of the staged configurations.

    Args:
        rows: configurations with more than one stage.
    """
    order = list(dict.fromkeys(stage for row in rows for stage in row.stages_p50_ms))
    places = _grouped(rows)
    left = np.zeros(len(rows))
    totals = _finite([sum(_finite(list(row.stages_p50_ms.values()))) for row in rows])
    widest = float(totals.max()) if len(rows) else 1.0
    with style():
        figure, axes = canvas(1.35 + _ROW * 1.25 * len(rows))
        for number, stage in enumerate(order):
            colour = _STAGES[number % len(_STAGES)]
            values = _finite([row.stages_p50_ms.get(stage, 0.0) for row in rows])
            axes.barh(places, values, left=left, height=0.72, color=colour, label=short(stage))
            for place, start, value in zip(places, left, values, strict=True):
                if value > 0.1 * widest:
                    ink = "white" if _dark(colour) else INK
                    middle = start + value / 2
                    axes.text(middle, place, f"{value:.1f}", va="center", ha="center", color=ink)
            left = left + values
        axes.set_yticks(places, [_configuration(row) for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, widest * 1.05 or 1.0)
        axes.set_xlabel("p50 of each stage, ms")
        axes.grid(axis="x")
        legend(
            figure,
            [Patch(color=_STAGES[i % len(_STAGES)], label=short(s)) for i, s in enumerate(order)],
        )
        told = "; ".join(
            f"{_configuration(row)}: {', '.join(f'{s} {v:.1f} ms' for s, v in times)}"
            for row in rows
            for times in [row.stages_p50_ms.items()]
        )
        return finish(figure, f"Median time of each stage. {told}.")


def _marker(runtime: str, form: str, label: str = "") -> Line2D:
    colour = _colour(runtime)
    hollow = "white" if form == "fused" else colour
    return Line2D(
        [],
        [],
        linestyle="",
        marker=_FORMS.get(form, "s"),
        markerfacecolor=hollow,
        markeredgecolor=colour,
        markeredgewidth=1.4,
        label=label,
    )


def _cell(axes: Axes, x: int, y: int, count: int, share: float, size: int) -> None:
    if size > 12:
        return
    ink = "white" if share > 0.55 else (INK if count else "#b6bcc4")
    raised = y - 0.12 if count else y
    axes.text(x, raised, str(count), ha="center", va="center", color=ink)
    if count:
        axes.text(x, y + 0.24, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=7.5)


def _grouped(rows: Sequence[Latency]) -> list[float]:
    """Return a place for each row, a gap between runtimes."""
    places: list[float] = []
    for number, row in enumerate(rows):
        step = 1.0 if number and rows[number - 1].runtime == row.runtime else 1.35
        places.append(places[-1] + step if places else 0.0)
    return places


def _configuration(row: Latency) -> str:
    threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
    precision = "" if row.precision == "fp32" else f" {row.precision}"
    return short(f"{row.runtime} {row.form}{precision}, {threads}")


def _finite(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.nan_to_num(np.array(values, np.float64), posinf=0.0, neginf=0.0)


def _colour(runtime: str) -> str:
    return _RUNTIMES.get(runtime) or _OTHERS[sum(runtime.encode()) % len(_OTHERS)]


def _dark(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def sensitivity(rows: Sequence[Sensitivity]) -> Plot:
    """Draw the noise of each block of a network, alone in int8; the shorter a bar, the noisier.

    Args:
        rows: of one stage, in the order of computing; one without noise has the longest bar.
    """
    seen = [row.fidelity.sqnr_db for row in rows]
    most = max((ratio for ratio in seen if ratio is not None), default=1.0)
    ratios = [most if ratio is None else ratio for ratio in seen]
    with style():
        figure, axes = canvas(0.8 + _ROW * len(rows))
        axes.barh(range(len(rows)), ratios, color="#0072B2", height=0.66)
        for place, row in enumerate(rows):
            told = f"{row.fidelity.agreement:.1%} the same"
            told += ", no noise" if seen[place] is None else ""
            axes.text(max(ratios[place], 0.0) + 0.4, place, told, va="center", color=INK)
        axes.set_yticks(range(len(rows)), [short(row.block) for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(min(0.0, *ratios), max(most, 1.0) * 1.3)
        axes.set_xlabel("signal to noise of the log-probabilities, dB; and decisions")
        axes.grid(axis="x")
        blocks = ", ".join(
            f"{row.block} {'no noise' if ratio is None else f'{ratio:.1f} dB'}"
            for row, ratio in zip(rows, seen, strict=True)
        )
        return finish(figure, f"Each block alone in int8: {blocks}.")
