"""The decision on the host, in the graph, and as a sentence of the contract."""

from __future__ import annotations

import numpy as np
import torch

from classkinfy_export.contract import QUALITY_MEASURES, QualityRule
from classkinfy_export.decision import decide
from classkinfy_export.stages.decide import Decide

RULES = (
    QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
    QualityRule(measure="sharpness", reason="blurred", below=8.3, effect="advise"),
    QualityRule(measure="bright_share", reason="overexposed", above=0.3, effect="refuse"),
)


def test_host_and_graph_decide_alike_also_at_the_thresholds() -> None:
    rng = np.random.default_rng(0)
    measures = list(QUALITY_MEASURES)
    graph = Decide(RULES)
    seen = set()
    for number in range(400):
        quality = rng.random((1, len(measures))).astype(np.float32) * np.float32(0.4)
        quality[0, 1] *= 40
        if number % 4 == 0:  # on the threshold, and one float32 to either side of it
            rule = RULES[number // 4 % 3]
            exact = np.float32(rule.above if rule.above is not None else rule.below)
            towards = rng.choice([-np.inf, np.inf])
            value = exact if number % 8 else np.nextafter(exact, np.float32(towards))
            quality[0, measures.index(rule.measure)] = value
        probabilities = rng.dirichlet(np.ones(7), 1).astype(np.float32)
        host = decide(quality, probabilities, RULES)
        given = graph(torch.from_numpy(quality), torch.from_numpy(probabilities))

        broken = [
            quality[0, 0] > np.float32(0.15),
            quality[0, 1] < np.float32(8.3),
            quality[0, 3] > np.float32(0.3),
        ]
        refused = broken[0] or broken[2]
        assert host.reasons == int(given["reasons"]) == sum(1 << i for i in range(3) if broken[i])
        assert host.accepted == bool(given["accepted"]) == (not refused)
        winner = int(probabilities.argmax())
        assert host.diagnosis == int(given["diagnosis"]) == (-1 if refused else winner)
        assert host.confidence == float(given["confidence"]) == float(probabilities.max())
        seen.add((host.accepted, host.reasons))
    assert len(seen) == 8, "every combination of reasons occurs"
