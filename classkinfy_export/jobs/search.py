"""What of a bundle's networks can be int8: noise by block, and the cheapest rung that holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import InferenceSession

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import DataError, MissingDependencyError, RecipeError
from classkinfy_export.evaluation.search import (
    Choice,
    Cost,
    Fidelity,
    Search,
    Sensitivity,
    Trial,
)
from classkinfy_export.formats.onnx.stages import StageGraphs
from classkinfy_export.jobs import of_bundle
from classkinfy_export.latency.instructions import count_model
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.quantization import blocks, preparation
from classkinfy_export.quantization.calibration import CalibrationSet, Feed
from classkinfy_export.quantization.search import Rung, choose, fidelity, ladder
from classkinfy_export.recipes import QatRecipe
from classkinfy_export.runtimes.arm64 import Arm64Runtime
from classkinfy_export.runtimes.onnxruntime import open_session
from classkinfy_export.stages.assembly import Assembly

Report = Callable[[str, int, int], None]

_SCANNED: Precision = "static_wi8_ai8"
_JUDGING = 500
"""Photos that rungs are judged by, where there are so many."""
_TIMED = 40
"""Photos that a rung is timed on, in turn with fp32."""


def search(
    bundle: Bundle,
    calibration: Path,
    *,
    agreement: float,
    split: Path | None = None,
    cost: Cost | None = None,
    overrides: tuple[str, ...] = (),
    report: Report = lambda what, done, total: None,
) -> Search:
    """Search the networks of a bundle.

    Args:
        bundle: an opened bundle with weights in format ``pytorch``.
        calibration: photos or a data set, as of ``export``; up to 500 more of them are what rungs
            are judged by.
        agreement: the least share of decisions that must be those of fp32.
        split: of these photos.
        cost: what is to be least; instructions where an emulated core is set up, by default.
        overrides: ``calibration.images=500`` over the bundle's recipe, of nothing that is searched;
            ``qat.epochs=8`` of how networks are trained where nothing else in int8 holds, and
            ``qat=null`` for not at all.
        report: told of each step.

    Raises:
        BundleError: the bundle has no weights.
        DataError: photos cannot be taken, or none is left to judge by.
        ExportError: a network cannot be quantised.
        MissingDependencyError: instructions are wanted, and no core is set up.
        RecipeError: an override of what a new export alone can change, or of what is searched; the
            bundle holds more than fp32.
    """
    core = _phone_core(cost)
    held = [model.precision for model in bundle.manifest.models if model.precision != "fp32"]
    if held:
        raise RecipeError(
            f"{bundle.path.name} holds {held[0]} already, which may be found, or changed",
            hint="search with a bundle that holds fp32 alone",
        )
    for override in overrides:
        if override.startswith(("precisions", "float_blocks")):
            raise RecipeError(f"--set {override}: that is what is searched", hint="leave it out")
    unset = (*overrides, "float_blocks={}")
    sources = of_bundle.sources(bundle)
    recipe = sources.settled(of_bundle.recipe(bundle, (_SCANNED,), unset))
    photos = sources.photos(recipe, calibration, split)
    assert photos is not None, "the precision that is scanned takes some"
    judging = sources.others(_JUDGING, photos, calibration, split)
    if not judging.paths:
        raise DataError(
            f"no photo of {calibration} is left to judge by: all are calibrated or measured on",
            hint="give more, or take fewer with --set calibration.images",
        )
    assembly = sources.assemble(recipe)

    calibration_set = CalibrationSet(
        photos, assembly, recipe, partial(report, "calibration photos")
    )
    judged = CalibrationSet(judging, assembly, recipe, partial(report, "photos to judge by"))
    untrained = recipe.qat is None and any(override.startswith("qat=") for override in overrides)
    return search_assembly(
        assembly,
        calibration_set,
        judged,
        agreement,
        recipe.opset,
        qat=None if untrained else recipe.qat or QatRecipe(),
        core=core,
        report=report,
    )


def search_assembly(
    assembly: Assembly,
    calibration: CalibrationSet,
    photos: CalibrationSet,
    agreement: float,
    opset: int,
    *,
    qat: QatRecipe | None,
    core: Arm64Runtime | None = None,
    report: Report = lambda what, done, total: None,
) -> Search:
    """Search every network of an assembly, as ONNX Runtime runs it.

    Args:
        assembly: the stages.
        calibration: photos to calibrate on.
        photos: of other lesions, to judge by.
        agreement: the least share of decisions that must be those of fp32.
        opset: of the graphs.
        qat: how networks are trained for int8, where they have to be; None if never.
        core: what to count instructions on; of none time is the cost.
        report: told of each model tried.

    Raises:
        BundleError: the emulated core does not run a model.
        ExportError: a network cannot be quantised.
    """
    prepare = partial(preparation.prepare, assembly, calibration, report=report)
    graphs = StageGraphs(assembly, prepare(None), opset)
    # All first, so that a core that does not run them says so before minutes of scanning.
    judges = {
        s: Judge(graphs.plain(s), assembly.specs[s], photos, core) for s in assembly.networks()
    }
    costs = {stage: judge.cost for stage, judge in judges.items()}
    scanned = {s: list(_scan(graphs, assembly, s, photos, report)) for s in judges}
    trials: list[Trial] = []

    def climb(graphs: StageGraphs, *, trained: bool) -> Choice | None:
        for stage, noises in scanned.items():
            excitation = blocks.has_excitation(assembly.network(stage))
            rungs = list(ladder(noises, excitation=excitation, trained=trained))
            for done, rung in enumerate(rungs):
                report(f"{stage}: {name(rung)}", done, len(rungs))
                model, _ = graphs.lighter(stage, rung.precision, rung.float_blocks)
                trials.append(judges[stage].trial(stage, rung, model, agreement))
        return choose(trials, costs, qat)

    choice = climb(graphs, trained=False)
    if qat is not None and (choice is None or not calibrated(choice.precision)):
        learnt = prepare(qat)
        if any(noise.less for noise in learnt.noises.values()):
            choice = climb(StageGraphs(assembly, learnt, opset), trained=True)
    return Search(
        agreement=agreement,
        images=len(photos),
        images_sha256=photos.sha256,
        core=core and f"{core.cpu}, {core.package} {core.version()}",
        sensitivity=tuple(noise for noises in scanned.values() for noise in noises),
        trials=tuple(trials),
        choice=choice,
    )


def _scan(
    graphs: StageGraphs, assembly: Assembly, stage: str, photos: CalibrationSet, report: Report
) -> Iterator[Sensitivity]:
    """Give the noise of each block, alone in int8."""
    parts = blocks.names(assembly.network(stage))
    judge = Judge(graphs.rounded(stage), assembly.specs[stage], photos)
    for done, block in enumerate(parts):
        report(f"{stage}: {block} alone in int8", done, len(parts))
        rest = [part for part in parts if part != block]
        model, _ = graphs.lighter(stage, _SCANNED, rest)
        yield Sensitivity(stage=stage, block=block, fidelity=judge.fidelity(model))


def _phone_core(cost: Cost | None) -> Arm64Runtime | None:
    """Return the core that instructions are counted on, where it is set up and they are wanted."""
    core = runtimes.get("arm64-onnxruntime")
    assert isinstance(core, Arm64Runtime)
    if cost == "instructions" and not core.counts():
        raise MissingDependencyError(
            "instructions are counted on an emulated core, which is not set up with its counter",
            hint=f"{core.hint()}, with gcc installed; or take --cost time",
        )
    return core if cost != "time" and core.counts() else None


def name(rung: Rung | Trial) -> str:
    """Return a rung in words: the precision, and what it leaves in float."""
    floats = (f"{block} float" for block in rung.float_blocks)
    return ", ".join((rung.precision, *floats, *(("trained",) if rung.trained else ())))


class Judge:
    """Compares models of a stage with one of them, in ONNX Runtime on one thread.

    Args:
        model: to compare with.
        spec: of the stage; its first output is what it decides by, probabilities.
        photos: to compare on.
        core: a phone's, emulated, to count instructions on.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        spec: StageSpec,
        photos: CalibrationSet,
        core: Arm64Runtime | None = None,
    ) -> None:
        self._spec, self._core = spec, core
        self._output = spec.outputs[0].name
        self._feeds = tuple(photos.feeds(spec))
        self._size = len(model.SerializeToString())
        self._session = open_session(model.SerializeToString(), threads=1)
        self._answers = self._answer(self._session)
        self._seconds = float(np.median([self._time(self._session, f) for f in self._timed()]))
        self._instructions = self._count(model.SerializeToString())

    @property
    def cost(self) -> float:
        """Of the model that others are compared with: instructions, or seconds of no core."""
        return self._seconds if self._instructions is None else float(self._instructions)

    def fidelity(self, model: onnx.ModelProto) -> Fidelity:
        """Compare a model's answers."""
        session = open_session(model.SerializeToString(), threads=1)
        return fidelity(self._answers, self._answer(session))

    def trial(self, stage: str, rung: Rung, model: onnx.ModelProto, agreement: float) -> Trial:
        """Compare a rung's answers, time and size; it holds from an agreement on."""
        data = model.SerializeToString()
        session = open_session(data, threads=1)
        found = fidelity(self._answers, self._answer(session))
        took = [
            [self._time(one, feed) for one in (self._session, session)] for feed in self._timed()
        ]
        before, after = np.median(took, axis=0)
        counted = self._count(data)
        return Trial(
            stage=stage,
            precision=rung.precision,
            float_blocks=rung.float_blocks,
            trained=rung.trained,
            fidelity=found,
            time=float(after / before),
            instructions=counted and self._instructions and counted / self._instructions,
            size=len(data) / self._size,
            holds=found.agreement >= agreement,
        )

    def _count(self, data: bytes) -> int | None:
        if self._core is None:
            return None
        return count_model(data, self._spec, self._core, self._feeds[0])

    def _timed(self) -> tuple[Feed, ...]:
        return self._feeds[:_TIMED]

    def _answer(self, session: InferenceSession) -> npt.NDArray[np.float32]:
        rows = [session.run([self._output], feed)[0] for feed in self._feeds]
        return np.concatenate(rows)

    def _time(self, session: InferenceSession, feed: Feed) -> float:
        start = time.perf_counter()
        session.run([self._output], feed)
        return time.perf_counter() - start
