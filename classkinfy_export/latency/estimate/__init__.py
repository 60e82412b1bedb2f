"""How long a stage would take on a phone's CPU, without the phone: estimated, never measured.

The stage's ``work`` is counted from its file, and laid on a ``phone``'s cores by a ``roofline``
whose shares (``fit``) are from latencies that others published. An interval is as wide as the
errors on phones and networks held out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.latency.estimate import fit
from classkinfy_export.latency.estimate import phone as phones_
from classkinfy_export.latency.estimate.fit import Fit
from classkinfy_export.latency.estimate.phone import Phone
from classkinfy_export.latency.estimate.report import (
    EstimateReport,
    Latency,
    PhoneEstimate,
    StageEstimate,
)
from classkinfy_export.latency.estimate.roofline import latency
from classkinfy_export.latency.estimate.work import Work, count
from classkinfy_export.precision import Precision


def estimate(
    bundle: Bundle,
    phones: Sequence[str] | None = None,
    *,
    precision: Precision = "fp32",
    threads: int = 1,
) -> EstimateReport:
    """Estimate the latency of a bundle's stages on phones.

    Args:
        bundle: an opened bundle.
        phones: names of shipped ones, or paths of YAML files; all shipped ones by default.
        precision: of the models.
        threads: on a phone's large cores, fastest first; no more than it has.

    Raises:
        BundleError: the bundle does not hold the precision.
        RecipeError: a phone cannot be read.
        MissingDependencyError: the package that reads the model files is not installed.
    """
    works = [count(bundle, stage.name, precision) for stage in bundle.manifest.stages]
    unrouted = bundle.manifest.unrouted
    loaded = [phones_.load(name) for name in phones or phones_.shipped()]
    return EstimateReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        precision=precision,
        formats=tuple(dict.fromkeys(work.format for work in works)),
        phones=tuple(
            _phone(one, works, unrouted, min(threads, one.cores), fit.shipped()) for one in loaded
        ),
        fit=fit.shipped(),
        conditions={
            "kernels": "XNNPACK's",
            "clock": "the highest of its cores: a warm phone is slower",
            "runs": "not the first one, which reads weights and packs them",
        },
    )


def _phone(
    phone: Phone, works: Sequence[Work], unrouted: Sequence[str], threads: int, fitted: Fit
) -> PhoneEstimate:
    stages = []
    for work in works:
        found, share = latency(work, phone, threads, fitted)
        stages.append(
            StageEstimate(
                stage=work.stage,
                routed=work.stage not in unrouted,
                latency=found,
                macs=work.macs,
                moved_bytes=work.moved_bytes,
                fitted_share=share,
            )
        )
    always = [stage.latency for stage in stages if not stage.routed]
    graders = [stage.latency for stage in stages if stage.routed]
    ran = [*always, *sorted(graders, key=lambda one: one.ms)[-1:]]
    return PhoneEstimate(
        phone=phone.name,
        soc=phone.soc,
        core=phone.clusters[0].core,
        threads=threads,
        stages=tuple(stages),
        # What makes one stage slower than estimated does so to all: bounds add up.
        total=Latency(
            ms=math.fsum(one.ms for one in ran),
            low_ms=math.fsum(one.low_ms for one in ran),
            high_ms=math.fsum(one.high_ms for one in ran),
        ),
    )
