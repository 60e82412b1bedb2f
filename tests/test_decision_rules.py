"""Any rules on any measures: the host, the graph and the contract's sentence agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import decision as oracle

from classkinfy_export.contract import QUALITY_MEASURES, QualityRule
from classkinfy_export.decision import Decision, decide
from classkinfy_export.stages.decide import Decide

Row = npt.NDArray[np.float32]

THRESHOLDS = (0.0, 0.05, 0.15, 0.2, 1 / 3, 7.5, 100.1)
"""Most of them no float32: a comparison in double would differ at the threshold."""


def in_graph(quality: Row, probabilities: Row, rules: tuple[QualityRule, ...]) -> Decision:
    outputs = Decide(rules)(torch.from_numpy(quality), torch.from_numpy(probabilities))
    for name in ("accepted", "reasons", "diagnosis"):
        assert outputs[name].dtype == torch.int32
    assert outputs["confidence"].dtype == torch.float32
    given = {name: tensor.numpy() for name, tensor in outputs.items()}
    assert all(value.shape == (1,) for value in given.values())
    return Decision(
        bool(given["accepted"][0]),
        int(given["reasons"][0]),
        int(given["diagnosis"][0]),
        float(given["confidence"][0]),
    )


def agree(
    quality: list[float], probabilities: list[float], rules: tuple[QualityRule, ...]
) -> Decision:
    """Decide three ways; give the host's."""
    measured, likely = np.array([quality], np.float32), np.array([probabilities], np.float32)
    host = decide(measured, likely, rules)
    assert in_graph(measured, likely, rules) == host
    plain_rules = [
        (r.measure, "above", r.above, r.effect)
        if r.above is not None
        else (r.measure, "below", r.below or 0.0, r.effect)
        for r in rules
    ]
    wanted = oracle.decide(measured[0].tolist(), likely[0].tolist(), plain_rules)
    assert (int(host.accepted), host.reasons, host.diagnosis, host.confidence) == wanted
    return host


def test_the_plain_formula_knows_the_measures_in_their_order() -> None:
    assert tuple(QUALITY_MEASURES) == oracle.MEASURES


thresholds = st.sampled_from(THRESHOLDS)
rules = st.builds(
    lambda measure, side, threshold, effect: QualityRule(
        measure=measure, reason="any", effect=effect, **{side: threshold}
    ),
    st.sampled_from(list(QUALITY_MEASURES)),
    st.sampled_from(["above", "below"]),
    thresholds,
    st.sampled_from(["refuse", "advise"]),
)
at_or_near_a_threshold = st.builds(
    lambda threshold, step: float(
        np.float32(threshold)
        if step == 0
        else np.nextafter(np.float32(threshold), np.float32(step * np.inf))
    ),
    thresholds,
    st.sampled_from([-1, 0, 1]),
)
measured = st.one_of(at_or_near_a_threshold, st.floats(0, 200, width=32))
likely = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])  # few values, so that there are ties


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    quality=st.lists(measured, min_size=4, max_size=4),
    probabilities=st.lists(likely, min_size=2, max_size=9),
    rules=st.lists(rules, max_size=31).map(tuple),
)
def test_host_graph_and_formula_decide_alike(
    quality: list[float], probabilities: list[float], rules: tuple[QualityRule, ...]
) -> None:
    agree(quality, probabilities, rules)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_measure_on_its_threshold_breaks_no_rule_and_one_float32_beyond_does(
    threshold: float,
) -> None:
    limit = np.float32(threshold)
    over, under = (np.nextafter(limit, np.float32(end)) for end in (np.inf, -np.inf))
    above = QualityRule(measure="hair_coverage", reason="hair", above=threshold)
    below = QualityRule(measure="hair_coverage", reason="hair", below=threshold)
    for rule, broken_at in ((above, over), (below, under)):
        for value in (under, limit, over):
            given = agree([float(value), 0, 0, 0], [0.3, 0.7], (rule,))
            assert given.reasons == int(value == broken_at)


def test_advice_accepts_and_refusal_hides_the_diagnosis_but_not_the_confidence() -> None:
    hair = QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse")
    dark = QualityRule(measure="dark_share", reason="dark", above=0.5)
    fine = agree([0.1, 50, 0.1, 0], [0.2, 0.8], (hair, dark))
    advised = agree([0.1, 50, 0.6, 0], [0.2, 0.8], (hair, dark))
    refused = agree([0.2, 50, 0.6, 0], [0.2, 0.8], (hair, dark))
    assert (fine.accepted, fine.reasons, fine.diagnosis) == (True, 0, 1)
    assert (advised.accepted, advised.reasons, advised.diagnosis) == (True, 0b10, 1)
    assert (refused.accepted, refused.reasons, refused.diagnosis) == (False, 0b11, -1)
    assert {d.confidence for d in (fine, advised, refused)} == {float(np.float32(0.8))}


def test_of_equal_probabilities_the_first_class_wins() -> None:
    for count in (2, 7, 40):
        assert agree([0, 0, 0, 0], [1 / count] * count, ()).diagnosis == 0
    assert agree([0, 0, 0, 0], [0.1, 0.4, 0.1, 0.4], ()).diagnosis == 1


def test_the_31st_rule_has_its_bit() -> None:
    blurred = QualityRule(measure="sharpness", reason="blurred", below=7.5)
    assert agree([0, 1, 0, 0], [0.5, 0.5], (blurred,) * 31).reasons == 2**31 - 1


def test_host_and_graph_agree_on_nan() -> None:
    rule = QualityRule(measure="sharpness", reason="blurred", below=7.5, effect="refuse")
    quality = np.full((1, 4), np.nan, np.float32)
    likely = np.array([[0.2, np.nan, 0.8]], np.float32)
    host, graph = decide(quality, likely, (rule,)), in_graph(quality, likely, (rule,))
    assert (host.accepted, host.reasons) == (graph.accepted, graph.reasons) == (True, 0)
    assert host.diagnosis == graph.diagnosis == 1
    assert np.isnan([host.confidence, graph.confidence]).all()
