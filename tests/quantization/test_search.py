"""The ladder, the front and the choice, on made-up figures; fidelity against plain NumPy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from classkinfy_export.evaluation.search import Fidelity, Search, Sensitivity, Trial
from classkinfy_export.precision import Precision
from classkinfy_export.quantization import search
from classkinfy_export.recipes import QatRecipe

INT8: Precision = "static_wi8_ai8"
EXCITED: Precision = "static_wi8_ai8_se_fp32"
QAT = QatRecipe(epochs=3)
choose = partial(search.choose, qat=QAT)


def noise(block: str, sqnr: float | None) -> Sensitivity:
    found = Fidelity(agreement=1.0, mean_change=0.0, sqnr_db=sqnr)
    return Sensitivity(stage="classify", block=block, fidelity=found)


def trial(
    precision: Precision,
    time: float,
    sqnr: float | None,
    *,
    floats: tuple[str, ...] = (),
    size: float = 0.3,
    holds: bool = True,
    stage: str = "classify",
    instructions: float | None = None,
    trained: bool = False,
) -> Trial:
    return Trial(
        stage=stage,
        precision=precision,
        float_blocks=floats,
        trained=trained,
        fidelity=Fidelity(agreement=0.99, mean_change=0.0, sqnr_db=sqnr),
        time=time,
        instructions=instructions,
        size=size,
        holds=holds,
    )


def test_fidelity_is_what_its_words_say() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (50, 7))
    others = logits + generator.normal(0, 0.1, (50, 7))
    one, two = (np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) for a in (logits, others))
    found = search.fidelity(one.astype(np.float32), two.astype(np.float32))
    same = sum(int(a.argmax() == b.argmax()) for a, b in zip(logits, others, strict=True))
    assert found.agreement == same / 50
    assert found.mean_change == pytest.approx(np.abs(one - two).mean(), rel=1e-5)
    centred, noisy = (a - a.mean(axis=1, keepdims=True) for a in (logits, others))
    expected = 10 * np.log10(np.square(centred).sum() / np.square(centred - noisy).sum())
    assert found.sqnr_db == pytest.approx(expected, abs=0.01)


def test_the_same_answers_have_no_noise() -> None:
    answers = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert search.fidelity(answers, answers) == Fidelity(
        agreement=1.0, mean_change=0.0, sqnr_db=None
    )


def test_the_ladder_leaves_the_noisiest_in_float_first() -> None:
    noises = [noise("conv_stem", 20.0), noise("blocks.0.0", 12.0), noise("conv_head", None)]
    rungs = list(search.ladder(noises, excitation=False))
    assert [rung.float_blocks for rung in rungs if rung.precision == INT8] == [
        (),
        ("blocks.0.0",),
        ("blocks.0.0", "conv_stem"),
    ]
    assert [rung.precision for rung in rungs[3:]] == ["weight_only_wi8_afp32", "fp16"]
    assert EXCITED in {rung.precision for rung in search.ladder(noises, excitation=True)}


def test_the_front_is_what_nothing_beats() -> None:
    fast, exact = trial(INT8, 0.5, 20.0), trial("fp16", 1.0, 70.0, size=0.5)
    beaten = trial(EXCITED, 0.6, 19.0)
    elsewhere = trial(INT8, 0.9, 10.0, stage="grade_mel")
    perfect = trial("weight_only_wi8_afp32", 1.2, None)
    found = Search(
        agreement=0.98,
        images=9,
        images_sha256="0" * 64,
        sensitivity=(),
        trials=(fast, beaten, exact, elsewhere, perfect),
        choice=None,
    )
    assert found.front() == [fast, exact, elsewhere, perfect]


def test_the_fastest_static_precision_that_holds_in_every_stage_is_chosen() -> None:
    trials = [
        trial(INT8, 0.4, 10.0, holds=False),
        trial(INT8, 0.5, 20.0, floats=("conv_stem",)),
        trial(INT8, 0.6, 22.0, floats=("conv_stem", "blocks.0.0")),
        trial(EXCITED, 0.45, 20.0),
        trial(EXCITED, 0.45, 20.0, stage="grade_mel", holds=False),
        trial(INT8, 0.4, 20.0, stage="grade_mel"),
        trial("fp16", 0.1, 70.0),
        trial("fp16", 0.1, 70.0, stage="grade_mel"),
    ]
    found = choose(trials, {"classify": 0.02, "grade_mel": 0.03})
    assert found is not None
    assert found.precision == INT8, "the other one does not hold in grade_mel"
    assert found.float_blocks == {"classify": ("conv_stem",)}


def test_a_dear_stage_weighs_more() -> None:
    trials = [
        *(trial(INT8, 0.4, 9.0), trial(INT8, 0.9, 9.0, stage="grade_mel")),
        *(trial(EXCITED, 0.8, 9.0), trial(EXCITED, 0.6, 9.0, stage="grade_mel")),
    ]
    for times, precision in (((0.9, 0.1), INT8), ((0.1, 0.9), EXCITED)):
        found = choose(trials, dict(zip(("classify", "grade_mel"), times, strict=True)))
        assert found is not None
        assert found.precision == precision


def test_a_network_without_branches_has_nothing_to_leave_in_float_of_them() -> None:
    trials = [
        trial(INT8, 0.5, 20.0, floats=("conv_stem",)),
        trial(INT8, 0.5, 5.0, holds=False, stage="grade_mel"),
        trial(EXCITED, 0.6, 20.0, stage="grade_mel"),
    ]
    found = choose(trials, {"classify": 0.02, "grade_mel": 0.03})
    assert found is not None
    assert found.precision == EXCITED
    assert found.float_blocks == {"classify": ("conv_stem",)}


def test_of_what_is_as_fast_the_least_noisy_is_chosen() -> None:
    trials = [
        trial(INT8, 0.500, 20.0),
        trial(INT8, 0.510, 22.0, floats=("conv_stem",)),
        trial(INT8, 0.530, 25.0, floats=("conv_stem", "blocks.0.0")),
    ]
    found = choose(trials, {"classify": 0.02})
    assert found is not None
    assert found.float_blocks == {"classify": ("conv_stem",)}


def test_what_is_slower_than_fp32_is_not_chosen_for_its_speed() -> None:
    trials = [trial(INT8, 1.1, 20.0), trial("fp16", 1.0, 70.0, size=0.5)]
    found = choose(trials, {"classify": 0.02})
    assert found is not None
    assert found.precision == "fp16"


def test_without_a_static_precision_the_lightest_is_chosen_and_without_any_none() -> None:
    weights, halves = trial("weight_only_wi8_afp32", 1.1, 30.0), trial("fp16", 1.0, 70.0, size=0.5)
    static = trial(INT8, 0.5, 9.0, holds=False)
    found = choose([static, weights, halves], {"classify": 0.02})
    assert found is not None
    assert found.precision == "weight_only_wi8_afp32"
    assert choose([static], {"classify": 0.02}) is None


def test_where_instructions_are_counted_they_are_the_cost() -> None:
    trials = [
        trial(INT8, 0.4, 20.0, instructions=0.5),
        trial(EXCITED, 0.6, 20.0, instructions=0.3),
        trial(EXCITED, 0.3, 25.0, instructions=0.4, floats=("conv_stem",)),
    ]
    found = choose(trials, {"classify": 1e9})
    assert found is not None
    assert (found.precision, found.float_blocks) == (EXCITED, {})


def test_networks_trained_for_int8_are_chosen_whole() -> None:
    """Never one stage trained and another not: an export trains all or none."""
    rungs = list(search.ladder([noise("conv_stem", 9.0)], excitation=True, trained=True))
    assert rungs == [search.Rung(INT8, (), trained=True), search.Rung(EXCITED, (), trained=True)]
    trials = [
        *(trial(INT8, 0.4, 9.0), trial(INT8, 0.4, 9.0, stage="grade_mel", holds=False)),
        *(trial("fp16", 1.0, 70.0), trial("fp16", 1.0, 70.0, stage="grade_mel")),
        trial(INT8, 0.5, 20.0, trained=True),
    ]
    costs = {"classify": 0.02, "grade_mel": 0.03}
    found = choose(trials, costs)
    assert found is not None
    assert (found.precision, found.qat) == ("fp16", None)
    found = choose([*trials, trial(INT8, 0.5, 20.0, stage="grade_mel", trained=True)], costs)
    assert found is not None
    assert (found.precision, found.qat) == (INT8, QAT)
