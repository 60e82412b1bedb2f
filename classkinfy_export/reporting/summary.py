"""Parity as Markdown, for the page of a CI job."""

from __future__ import annotations

from classkinfy_export.parity.report import ParityReport
from classkinfy_export.taxonomy import DISCLAIMER


def summary(report: ParityReport) -> str:
    """Return a report's verdict, its failures, and a line for each runtime and form."""
    lines = [
        f"## Parity of `{report.bundle}`: {'holds' if report.passed else '**FAILS**'}",
        "",
        f"Against {report.reference} on {report.images} images; manifest "
        f"`{report.manifest_sha256[:12]}`.",
        "",
    ]
    if not report.passed:
        lines += [f"- {_cell(failure)}" for failure in report.failures()] + [""]
    lines += [
        "| runtime | precision | form | beside | images | exact tensors | largest Δp | flips "
        "| flips, at most in truth | asked | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for d in report.decisions:
        exact = [
            t.minimum_tolerance == 0.0
            for t in report.tensors
            if (t.runtime, t.precision, t.form) == (d.runtime, d.precision, d.form)
            and t.tolerance == 0.0
        ]
        lines.append(
            f"| {_cell(d.runtime)} | {d.precision} | {d.form} | {_cell(d.reference)} | {d.images} "
            f"| {sum(exact)} of {len(exact)} equal | {d.largest_shift:.2g} | {d.flips} "
            f"| {d.flip_bound:.2%} | {d.flip_rate:.2%}{'' if d.proven else ', not proven'} "
            f"| {'passed' if d.passed else '**failed**'} |"
        )
    for missing in report.not_run:
        lines.append(f"| {_cell(missing.runtime)} | not run: {_cell(missing.reason)} |")
    if report.held:  # the reference itself, which is not compared with itself
        lines += [
            "",
            "| | stage | images | largest difference, levels | values that differ | allowed | |",
            "|---|---|---|---|---|---|---|",
        ]
    for t in report.held:
        lines.append(
            f"| {_cell(t.runtime)} {_cell(t.tensor)} | {_cell(t.stage)} | {t.images} "
            f"| {t.minimum_tolerance:.3g} | {t.unequal:.3%} | {t.tolerance:.3g} "
            f"| {'passed' if t.passed else '**failed**'} |"
        )
    if report.caveats:
        lines += ["", *(f"- {_cell(caveat)}" for caveat in report.caveats)]
    if report.not_covered:
        lines += ["", f"Not covered by so few images: {', '.join(report.not_covered)}."]
    return "\n".join([*lines, "", f"_{DISCLAIMER}_", ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
