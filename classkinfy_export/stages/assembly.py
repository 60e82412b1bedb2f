"""Checkpoints to stages: which modules a pipeline is made of, and what each takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from classkinfy_export import contract
from classkinfy_export.contract import Capture, GraderVariant, QualityRule, StageSpec, WorkingSize
from classkinfy_export.errors import CheckpointError, RecipeError
from classkinfy_export.stages.checkpoint import Checkpoint
from classkinfy_export.stages.classify import Classify
from classkinfy_export.stages.decide import Decide
from classkinfy_export.stages.front_end import FrontEnd
from classkinfy_export.stages.grade import GradeHead, GradeNetwork, Head
from classkinfy_export.stages.network import Network
from classkinfy_export.stages.pipeline import Pipeline
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.stages.screen import Profiles, Screen
from classkinfy_export.taxonomy import Taxonomy


@dataclass(frozen=True)
class Assembly:
    """A pipeline in parts. ``modules`` and ``specs`` have the same keys, in running order."""

    taxonomy: Taxonomy
    working_size: WorkingSize
    """The size of ``clean``."""
    variant: GraderVariant | None
    """None when nothing is graded."""
    modules: dict[str, nn.Module]
    specs: dict[str, StageSpec]
    decide: Decide
    pipeline: Pipeline
    pipeline_spec: StageSpec
    checkpoints: dict[str, Checkpoint]

    def networks(self) -> tuple[str, ...]:
        """Return the stages that hold a network, which can be quantised."""
        holders = (Classify, GradeNetwork)
        return tuple(name for name, module in self.modules.items() if isinstance(module, holders))

    def network(self, stage: str) -> Network:
        """Return the network of a stage that holds one."""
        module = self.modules[stage]
        assert isinstance(module, Classify | GradeNetwork)
        return module.network

    def weighted(self) -> tuple[str, ...]:
        """Return the stages that hold trained layers: networks, and heads on the trunk."""
        holders = (Classify, GradeNetwork, GradeHead)
        return tuple(name for name, module in self.modules.items() if isinstance(module, holders))


def assemble(
    classifier: Checkpoint,
    graders: Mapping[str, Checkpoint],
    *,
    screen: Checkpoint | None = None,
    capture: Capture,
    working_size: WorkingSize | None = None,
    hair_removal: bool,
    rules: tuple[QualityRule, ...],
    pipeline_outputs: tuple[str, ...] = (),
) -> Assembly:
    """Put checkpoints together into stages.

    Args:
        classifier: the first-stage checkpoint.
        graders: by diagnosis; any subset of the classes.
        screen: the profiles of the instant answer; without them there is none.
        capture: what the app hands over.
        working_size: of ``clean``, where the checkpoint does not say at which it was trained; the
            capture's by default.
        hair_removal: whether ``prepare`` fills hair.
        rules: quality rules.
        pipeline_outputs: also give these of ``clean``, ``lesion_mask`` and ``features`` in the
            fused graph.

    Raises:
        CheckpointError: a grader or the profiles do not belong to this classifier, or there are
            none and it asks them.
        RecipeError: the capture has not the working size's shape; what the screen finds is wanted
            without profiles.
    """
    taxonomy = classifier.info.taxonomy
    variant = _variant(classifier, graders)
    network = classifier.module
    assert isinstance(network, Network)
    working_size = _working_size(capture, classifier.info.working_size or working_size)
    size = working_size.as_tuple()
    width = network.embedding_width if variant == "trunk" else None

    prepare = Prepare(hair_removal, FrontEnd(capture, working_size))
    pooling = classifier.info.pooling
    weight = None if pooling is None else pooling.screen_weight
    classify = Classify(network, size, embedding=width is not None, screen_weight=weight)
    grades = {dx: _grade(graders[dx], size) for dx in taxonomy.classes if dx in graders}
    optional = ("clean", "lesion_mask", "features")
    extra = tuple(name for name in optional if name in pipeline_outputs)
    screened = [name for name in extra if name != "clean"]
    if screen is None and variant == "trunk":
        raise CheckpointError(
            "heads on the trunk grade by what the screen measures, and there is no screen",
            hint="give the screen's checkpoint, or export the run as a whole",
        )
    if screen is None and pooling is not None:
        raise CheckpointError(
            "the classifier pools its run's screen's answer with its own, and there is no screen",
            hint="put the run's screen.safetensors beside it, or name it with export's --screen",
        )
    if screen is None and screened:
        raise RecipeError(
            f"pipeline_outputs asks for {screened[0]}, and there is no screen stage to find it",
            hint=f"give the screen's checkpoint, or leave {' and '.join(screened)} out",
        )
    modules: dict[str, nn.Module] = {"prepare": prepare}
    specs = {"prepare": contract.prepare_spec(capture, working_size)}
    checkpoints = {}
    screening = None
    if screen is not None:
        screening = _screen(screen, classifier, working_size, hair_removal)
        modules["screen"] = screening
        specs["screen"] = contract.screen_spec(working_size, taxonomy)
        checkpoints["screen"] = screen
    modules["classify"] = classify
    specs["classify"] = contract.classify_spec(
        working_size, taxonomy, width, asks_screen=pooling is not None
    )
    checkpoints["classify"] = classifier
    for dx, module in grades.items():
        stage = contract.grade_stage(dx)
        modules[stage] = module
        specs[stage] = contract.grade_spec(working_size, taxonomy, dx, width)
        checkpoints[stage] = graders[dx]
    decide = Decide(rules)
    pipeline = Pipeline(prepare, classify, decide, grades, taxonomy, screening, extra)
    for part in (*modules.values(), decide, pipeline):
        part.eval().requires_grad_(False)
    return Assembly(
        taxonomy=taxonomy,
        working_size=working_size,
        variant=variant,
        modules=modules,
        specs=specs,
        decide=decide,
        pipeline=pipeline,
        pipeline_spec=contract.pipeline_spec(
            capture, working_size, taxonomy, screened=screen is not None, extra=extra
        ),
        checkpoints=checkpoints,
    )


def _working_size(capture: Capture, known: WorkingSize | None) -> WorkingSize:
    if known is None:
        return WorkingSize(height=capture.height, width=capture.width)
    if capture.height * known.width != capture.width * known.height:
        raise RecipeError(
            f"a capture of {capture.height}x{capture.width} has not the shape of the "
            f"{known.height}x{known.width} that the networks were trained on",
            hint=f"choose a multiple of it, {_proportional(known)} for instance",
        )
    return known


def _proportional(size: WorkingSize) -> str:
    return f"{size.height * 8 // 5}x{size.width * 8 // 5}"


def _screen(
    profiles: Checkpoint, classifier: Checkpoint, size: WorkingSize, hair_removal: bool
) -> Screen:
    if profiles.info.role != "screen":
        raise CheckpointError(f"the checkpoint given as screen is a {profiles.info.role}")
    if profiles.info.taxonomy.classes != classifier.info.taxonomy.classes:
        raise CheckpointError(
            f"the screen's classes are {', '.join(profiles.info.taxonomy.classes)}, the "
            f"classifier's {', '.join(classifier.info.taxonomy.classes)}",
            hint="give profiles that were fitted with the classifier's taxonomy",
        )
    fitted = profiles.info.working_size
    if fitted is not None and fitted != size:
        raise CheckpointError(
            f"the screen was fitted on images of {fitted.height}x{fitted.width}, "
            f"the working size is {size.height}x{size.width}",
            hint="export at the size of its training",
        )
    if profiles.info.hair_removal not in (None, hair_removal):
        raise CheckpointError(
            f"the screen was fitted with hair_removal {profiles.info.hair_removal}, "
            f"the recipe says {hair_removal}",
            hint="export with hair_removal as in its training",
        )
    if min(size.as_tuple()) < contract.SCREEN_SMALLEST:
        raise CheckpointError(
            f"a screen needs {contract.SCREEN_SMALLEST} pixels a side and more, the working size "
            f"is {size.height}x{size.width}",
            hint="export at another size"
            + (", or without the screen" if classifier.info.pooling is None else ""),
        )
    pooling = classifier.info.pooling
    if pooling is not None and pooling.screen_sha256 != profiles.sha256:
        raise CheckpointError(
            "the classifier pools its run's screen's answer with its own, and this screen is of "
            "another run",
            hint="give the run's own screen.safetensors, or export the run's folder",
        )
    assert isinstance(profiles.module, Profiles)
    return Screen(profiles.module)


def _grade(checkpoint: Checkpoint, size: tuple[int, int]) -> GradeNetwork | GradeHead:
    if isinstance(checkpoint.module, Network):
        return GradeNetwork(checkpoint.module, size)
    assert isinstance(checkpoint.module, Head)
    return GradeHead(checkpoint.module)


def _variant(classifier: Checkpoint, graders: Mapping[str, Checkpoint]) -> GraderVariant | None:
    if classifier.info.role != "classifier":
        raise CheckpointError(f"the checkpoint given as classifier is a {classifier.info.role}")
    taxonomy = classifier.info.taxonomy
    for dx, grader in graders.items():
        if dx not in taxonomy.classes:
            raise CheckpointError(
                f"a grader is given for {dx!r}, which is not a class "
                f"({', '.join(taxonomy.classes)})"
            )
        if grader.info.role != "grader" or grader.info.diagnosis != dx:
            raise CheckpointError(
                f"the checkpoint given as grader of {dx!r} is "
                f"{grader.info.role} of {grader.info.diagnosis!r}"
            )
        if grader.info.taxonomy.severities != taxonomy.severities:
            raise CheckpointError(f"the grader of {dx!r} has other severities than the classifier")
        if grader.info.variant == "trunk" and grader.info.trunk_sha256 != classifier.sha256:
            raise CheckpointError(
                f"the head of {dx!r} was trained on another classifier's features",
                hint="export the run as a whole, or train the graders again",
            )
    variants = {grader.info.variant for grader in graders.values()}
    if len(variants) > 1:
        raise CheckpointError("graders of both variants are given; all must be of one")
    return variants.pop() if variants else None


def trace(assembly: Assembly, image: Tensor) -> dict[str, Tensor]:
    """Run everything on one image: the pipeline, and every grader whether routed to or not.

    Args:
        assembly: the stages.
        image: uint8 [1, H, W, 3].

    Returns:
        the pipeline's tensors, ``clean``, ``embedding``, ``lesion_mask`` and ``features`` where
        there are any, and ``severity_<dx>`` of every grader.
    """
    with torch.inference_mode():
        tensors = assembly.pipeline(image)
        for stage, spec in assembly.specs.items():
            known = {**tensors, "image": image}
            given = assembly.modules[stage](*(known[tensor.name] for tensor in spec.inputs))
            if spec.diagnosis is not None:
                given = {f"severity_{spec.diagnosis}": given["severity"]}
            tensors |= given
    return dict(tensors)
