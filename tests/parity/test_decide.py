"""Decisions, and what so many images prove of them."""

from __future__ import annotations

import pytest
from scipy.stats import beta

from classkinfy_export.parity.decide import (
    Answer,
    DecisionParity,
    decisions,
    images_needed,
    upper_bound,
)
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe, RuntimeParity

TAXONOMY = Taxonomy()
CLASSES = TAXONOMY.classes


def answer(dx: str, second: str = "vasc", share: float = 0.6, **changes: int | None) -> Answer:
    probabilities = [0.0] * len(CLASSES)
    probabilities[CLASSES.index(dx)] = share
    probabilities[CLASSES.index(second)] = 1.0 - share
    given = {"diagnosis": CLASSES.index(dx), "accepted": 1, "reasons": 0, "severity": 0} | changes
    return Answer(probabilities=tuple(probabilities), **given)


def decided(*pairs: tuple[Answer, Answer], asked: RuntimeParity | None = None) -> DecisionParity:
    recipe = ParityRecipe(runtimes={"onnxruntime": asked} if asked else {})
    named = [(f"image{n}", before, after) for n, (before, after) in enumerate(pairs)]
    return decisions(
        named,
        TAXONOMY,
        recipe,
        runtime="onnxruntime",
        precision="fp32",
        form="staged",
        reference="pytorch",
    )


@pytest.mark.parametrize(
    ("flips", "images"), [(0, 1), (0, 50), (0, 1000), (1, 50), (7, 1000), (49, 50), (30, 6011)]
)
def test_the_bound_is_clopper_and_pearsons(flips: int, images: int) -> None:
    assert upper_bound(flips, images) == pytest.approx(beta.ppf(0.95, flips + 1, images - flips))


def test_as_many_images_as_needed_prove_a_rate_and_one_less_does_not() -> None:
    assert images_needed(0.003) == 998
    for rate in (0.5, 0.03, 0.003, 0.0001):
        needed = images_needed(rate)
        assert upper_bound(0, needed) <= rate
        assert needed == 1 or upper_bound(0, needed - 1) > rate
    assert upper_bound(3, 3) == 1.0


def test_each_kind_of_flip_is_counted_as_what_it_is() -> None:
    same = answer("nv"), answer("nv")
    to_malignant = answer("nv"), answer("mel")
    to_benign_side = answer("nv"), answer("bkl")
    ungraded = answer("nv", severity=0), answer("df", severity=None)
    grade = answer("mel", severity=0), answer("mel", severity=2)
    refused = answer("nv"), answer("nv", diagnosis=-1, accepted=0, reasons=1, severity=None)
    advised = answer("nv"), answer("nv", reasons=2)
    found = decided(same, to_malignant, to_benign_side, ungraded, grade, refused, advised)
    assert found.images == 7
    assert found.label_flips == 3
    assert found.label_agreement == pytest.approx(4 / 7)
    assert found.malignancy_flips == 1
    assert found.routing_flips == 4, "three labels, and one that is refused"
    assert found.severity_flips == 1
    assert found.decision_flips == 5
    assert found.flips == 6
    assert found.flipped == tuple(f"image{n}" for n in range(1, 7))
    assert not found.passed


def test_changes_near_the_threshold_are_told_apart() -> None:
    close = answer("nv", "mel", 0.505), answer("nv", "mel", 0.501)
    clear = answer("nv", "mel", 0.9), answer("nv", "mel", 0.8)
    found = decided(close, clear)
    assert found.close_calls == 1
    assert found.largest_close_shift == pytest.approx(0.004)
    assert found.largest_shift == pytest.approx(0.1)
    assert found.widest_flip is None
    flipped = decided(clear, (answer("nv", "mel", 0.505), answer("mel", "nv", 0.505)))
    assert flipped.widest_flip == pytest.approx(0.01)


def test_a_gate_passes_on_its_bound_where_there_are_images_enough() -> None:
    same, flip = (answer("nv"), answer("nv")), (answer("nv"), answer("bkl"))
    few = decided(*[same] * 50)
    assert (few.passed, few.proven) == (True, False), "nothing proven, and nothing wrong"
    assert few.flip_bound == pytest.approx(0.0582, abs=1e-4)
    assert decided(*[same] * 1000).proven
    assert not decided(flip, *[same] * 49).passed
    assert not decided(flip, *[same] * 5999).passed, "not one, unless the recipe allows it"
    assert decided(*[same] * 1, asked=RuntimeParity(flip_rate=0.95)).proven
    some = RuntimeParity(flips="any", flip_rate=0.005)
    assert decided(flip, *[same] * 999, asked=some).passed
    assert not decided(flip, flip, *[same] * 998, asked=some).passed, "6 in 1,000 at most in truth"
    assert not decided(flip, *[same] * 499, asked=some).passed, "too few to allow one"
