"""The whole pipeline as one module: camera bytes in, decision out.

Heads on a shared trunk cost nothing, so all of them are computed and the right row is selected:
no control flow, and every format can hold the graph. Separate networks are routed by a Python
branch, which runs but does not export; ONNX composes its fused graph from the stages instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from classkinfy_export.contract import grade_stage
from classkinfy_export.stages.classify import Classify
from classkinfy_export.stages.decide import Decide
from classkinfy_export.stages.grade import GradeHead, GradeNetwork
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.stages.screen import Screen
from classkinfy_export.stages.select import Select
from classkinfy_export.taxonomy import Taxonomy


class Pipeline(nn.Module):
    """``image`` to everything in ``contract.pipeline_spec``.

    Args:
        prepare: hair removal and quality.
        classify: the classifier; gives ``embedding`` when the graders are heads.
        decide: the quality rules.
        graders: by diagnosis, all of one variant; may be empty.
        taxonomy: the classes.
        screen: the instant answer; may be left out, where neither the classifier asks it nor a
            grader is a head.
        extra: also output these of ``clean``, ``lesion_mask`` and ``features``.
    """

    def __init__(
        self,
        prepare: Prepare,
        classify: Classify,
        decide: Decide,
        graders: Mapping[str, GradeNetwork | GradeHead],
        taxonomy: Taxonomy,
        screen: Screen | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.classify = classify
        self.decide = decide
        self.graders = nn.ModuleDict(dict(graders))
        routes = tuple(taxonomy.index(dx) for dx in graders)
        self.select = Select(routes, len(taxonomy.severities))
        self.screen = screen
        self.extra = extra

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [1, h, w, 3] RGB."""
        prepared = self.prepare(image)
        screened = {} if self.screen is None else self.screen(prepared["clean"])
        classified = self.classify(prepared["clean"], screened.get("preliminary"))
        decided = self.decide(prepared["quality"], classified["probabilities"])
        if "embedding" in classified:
            given = {
                grade_stage(dx): grader(classified["embedding"], screened["features"])["severity"]
                for dx, grader in self.graders.items()
            }
            severity = self.select(decided["diagnosis"], **given)["severity"]
        else:
            severity = self._route(decided["diagnosis"], prepared["clean"])
        outputs = {
            "quality": prepared["quality"],
            "accepted": decided["accepted"],
            "reasons": decided["reasons"],
            "probabilities": classified["probabilities"],
            "diagnosis": decided["diagnosis"],
            "confidence": decided["confidence"],
            "severity": severity,
        }
        if screened:
            outputs["preliminary"] = screened["preliminary"]
        found = {**prepared, **screened}
        return outputs | {name: found[name] for name in self.extra}

    def _route(self, diagnosis: Tensor, clean: Tensor) -> Tensor:
        for route, grader in zip(self.select.routes, self.graders.values(), strict=True):
            if int(diagnosis) == route:
                severity: Tensor = grader(clean)["severity"]
                return severity
        return self.select.ungraded()
