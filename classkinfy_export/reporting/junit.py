"""Parity as JUnit XML, one test a gate, stage, runtime, precision and form, as CI pages show it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import NamedTuple

from classkinfy_export.parity.report import ParityReport


class Check(NamedTuple):
    """One gate of one stage in one runtime: what CI counts as a test."""

    group: str
    """``runtime.precision.form``."""
    name: str
    """``gate: stage``, or ``decisions``."""
    lines: tuple[str, ...]
    """What was measured."""
    failures: tuple[str, ...]
    skipped: str | None = None
    """Why it was not run."""


def checks(report: ParityReport) -> Iterator[Check]:
    """Give every check of a report, the verdict last.

    What did not run is skipped, never passed, and fails where it was asked for by name.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(report.tensors):
        key = (f"{row.runtime}.{row.precision}.{row.form}", f"{row.gate}: {row.stage}")
        rows.setdefault(key, []).append(number)
    for (group, name), numbers in rows.items():
        ours = [report.tensors[number] for number in numbers]
        told = [
            f"{r.tensor}: {r.minimum_tolerance:.3g} {_allowed(r.tolerance)}, {r.images} "
            f"images, worst {r.worst_image} at {list(r.worst_index)}: "
            f"{r.actual} instead of {r.expected}; {r.unequal:.3%} of values differ"
            for r in ours
        ]
        failed = [line for line, r in zip(told, ours, strict=True) if not r.passed]
        yield Check(group, name, tuple(told), tuple(failed))
    for d in report.decisions:
        line = (
            f"beside {d.reference}: {d.flips} of {d.images} decisions differ"
            + (f", widest margin {d.widest_flip:.3f}" if d.widest_flip is not None else "")
            + f"; {d.flip_bound:.2%} at most in truth, "
            f"{d.flip_rate:.2%} asked, {'proven' if d.proven else 'not proven'} "
            f"({d.images_needed} images without a flip prove it)"
        )
        flipped = f": {', '.join(d.flipped)}" if d.flipped else ""
        group = f"{d.runtime}.{d.precision}.{d.form}"
        yield Check(group, "decisions", (line,), () if d.passed else (line + flipped,))
    for missing in report.not_run:
        if missing.failed:
            yield Check(missing.runtime, "not run", (), (missing.reason,))
        else:
            yield Check(missing.runtime, "not run", (), (), missing.reason)
    verdict = () if report.passed else tuple(report.failures()) or (report.nothing_ran or "",)
    known = (*(f"not covered: {w}" for w in report.not_covered), *report.caveats)
    yield Check("all", "verdict", known, verdict)


def _allowed(tolerance: float | None) -> str:
    return "told, not gated" if tolerance is None else f"of {tolerance:.3g} allowed"


def junit(report: ParityReport) -> str:
    """Return the report as JUnit XML, in the form that GitHub, GitLab and Jenkins read."""
    found = list(checks(report))
    root = ET.Element(
        "testsuites",
        tests=str(len(found)),
        failures=str(sum(bool(c.failures) for c in found)),
        skipped=str(sum(c.skipped is not None for c in found)),
    )
    for group in dict.fromkeys(check.group for check in found):
        ours = [check for check in found if check.group == group]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"{report.bundle}.{group}",
            tests=str(len(ours)),
            failures=str(sum(bool(c.failures) for c in ours)),
            errors="0",
            skipped=str(sum(c.skipped is not None for c in ours)),
        )
        for check in ours:
            case = ET.SubElement(
                suite, "testcase", classname=f"{report.bundle}.{group}", name=check.name
            )
            if check.skipped is not None:
                ET.SubElement(case, "skipped", message=check.skipped)
            elif check.failures:
                failure = ET.SubElement(case, "failure", message=check.failures[0])
                failure.text = "\n".join(check.failures)
            if check.lines:
                ET.SubElement(case, "system-out").text = "\n".join(check.lines)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
