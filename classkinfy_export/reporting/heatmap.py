"""Error by tensor and image as a heat-map: one runtime, precision and form beside its reference.

What holds is blue, the darker the nearer to its tolerance. What does not is vermilion, hatched and
outlined, and counted at the end of its row: neither colour nor size alone tells it.
"""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from classkinfy_export.parity.error_map import ErrorMap
from classkinfy_export.reporting.drawing import (
    FAINT,
    INK,
    Plot,
    canvas,
    finish,
    legend,
    short,
    style,
)

MOST = 200
"""Images in one heat-map."""
_WIDTH, _ROW = 10.4, 0.27
_DECADES = 4
"""Of what is allowed, under which blue gets no paler."""
_NAMED = 24
"""So many images have room for their names."""
_BROKEN, _EQUAL, _ABSENT = "#D55E00", "#e6edf4", "#ffffff"
_STEPS = ((0.001, "under 1/1000"), (0.01, "1/100"), (0.1, "1/10"), (1.0, "all of what is allowed"))


def columns(errors: ErrorMap, most: int = MOST) -> tuple[list[int], int]:
    """Choose images: the worst, and of the others some that are evenly spaced.

    Args:
        errors: of all images.
        most: how many.

    Returns:
        indices of images, the worst first; and how many of them are there for being the worst.
    """
    ratios = np.nan_to_num(errors.ratios, nan=-1.0, posinf=math.inf)
    keys = (errors.broken.sum(axis=0), ratios.max(axis=0, initial=-1.0))
    order = [int(i) for i in np.lexsort((*(-key for key in keys),))]
    if len(order) <= most:
        return order, len(order)
    worst, others = order[: most // 2], order[most // 2 :]
    evenly = np.linspace(0, len(others) - 1, most - len(worst)).round().astype(int)
    return [*worst, *(others[i] for i in evenly)], len(worst)


def heatmap(errors: ErrorMap) -> Plot:
    """Draw one map: tensors as rows, images as columns, the worst at the left."""
    shown, worst = columns(errors)
    ratios, broken = errors.ratios[:, shown], errors.broken[:, shown]
    rows, count = ratios.shape
    named = count <= _NAMED
    with style():
        figure, axes = canvas(1.25 + _ROW * rows + (0.9 if named else 0.0), _WIDTH)
        axes.imshow(_painted(ratios, broken), aspect="auto", interpolation="none")
        _mark(axes, broken)
        axes.set_yticks(range(rows), [_row(errors, row) for row in range(rows)])
        told = axes.twinx()
        told.set_ylim(axes.get_ylim())
        told.set_yticks(range(rows), [_worst(errors, row) for row in range(rows)])
        for label, row in zip(told.get_yticklabels(), errors.tensors, strict=True):
            if not row.passed:
                label.set(color=_BROKEN, fontweight="bold")
        for side in (axes, told):
            side.tick_params(length=0)
            side.spines[:].set_visible(False)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", axis="y", color="white", linewidth=1.6)
        axes.tick_params(which="minor", length=0)
        if named:
            names = [short(errors.images[i].name) for i in shown]
            axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
        if worst < count:
            axes.axvline(worst - 0.5, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xlabel(_chosen(errors, count, worst))
        legend(figure, _keys(errors))
        return finish(figure, _alt(errors, count))


def _painted(
    ratios: npt.NDArray[np.float64], broken: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return colours, float64 [rows, columns, 3], 0..1."""
    painted = np.empty((*ratios.shape, 3))
    painted[:] = to_rgb(_EQUAL)
    within = (ratios > 0.0) & ~broken
    painted[within] = np.reshape([_blue(ratio) for ratio in ratios[within]], (-1, 3))
    painted[np.isnan(ratios)] = to_rgb(_ABSENT)
    painted[broken] = to_rgb(_BROKEN)
    return painted


def _blue(ratio: float) -> tuple[float, float, float]:
    depth = 1.0 + math.log10(max(min(ratio, 1.0), 10.0**-_DECADES)) / _DECADES
    red, green, blue, _ = mpl.colormaps["Blues"](0.25 + 0.75 * depth)
    return red, green, blue


def _mark(axes: Axes, broken: npt.NDArray[np.bool_]) -> None:
    """Outline and hatch each run of cells that do not hold."""
    for row, cells in enumerate(broken):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], cells, [False]))))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            corner = (float(first) - 0.5, row - 0.5)
            run = Rectangle(corner, float(end - first), 1.0, hatch="xxxx", zorder=3)
            run.set(facecolor="none", edgecolor=INK, linewidth=1.0)
            axes.add_patch(run)


def _row(errors: ErrorMap, row: int) -> str:
    of = errors.tensors[row]
    return short(of.tensor if errors.form == "fused" else f"{of.stage}: {of.tensor}")


def _worst(errors: ErrorMap, row: int) -> str:
    of = errors.tensors[row]
    broken = int(errors.broken[row].sum())
    if broken:
        return f"\N{BALLOT X} {broken} of {of.images}"
    if of.minimum_tolerance == 0.0:
        return "equal"
    assert of.tolerance is not None, "a map has rows that are gated"
    return f"{of.minimum_tolerance / of.tolerance:.2g} of allowed"


def _chosen(errors: ErrorMap, count: int, worst: int) -> str:
    if worst == count:
        return f"all {count} images, from the worst to the best"
    others = len(errors.images) - worst
    return (
        f"left of the line the {worst} worst images, right of it {count - worst} of the other "
        f"{others}, evenly spaced from worse to better"
    )


def _keys(errors: ErrorMap) -> list[Patch]:
    """Return what the legend explains: of what is there to be seen."""
    differences = errors.differences
    keys = [Patch(facecolor=_BROKEN, edgecolor=INK, hatch="xxxx", label="beyond its tolerance")]
    keys += [Patch(facecolor=_EQUAL, label="equal")]
    if (differences > 0.0).any():
        keys += [Patch(facecolor=_blue(ratio), label=label) for ratio, label in _STEPS]
    if np.isnan(differences).any():
        keys.append(Patch(facecolor=_ABSENT, edgecolor=FAINT, label="this grader did not run"))
    return keys


def _alt(errors: ErrorMap, count: int) -> str:
    which = f"{errors.runtime} {errors.precision} {errors.form}"
    broken = [
        f"{row.tensor} on {int(cells.sum())} of {row.images} images, worst on {row.worst_image}"
        for row, cells in zip(errors.tensors, errors.broken, strict=True)
        if cells.any()
    ]
    told = "; ".join(broken) or "none"
    return (
        f"Error of {which} by tensor and image, {count} of {len(errors.images)} images. "
        f"Beyond tolerance: {told}."
    )
