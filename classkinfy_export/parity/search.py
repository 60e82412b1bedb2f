"""Where a stage goes wrong: the tensor whose true value, put in its place, heals what follows.

::

    PyTorch    input ── convolution ── batch_norm ── hardtanh ── convolution ── …
                 ‖                                      ‖             ‖
    the file   input ───────── CONV_2D ──────────────── t1 ──── CONV_2D ──── t2 ── …  differs

Every tensor of the file is computed, and those that are one of PyTorch's are known by value. From
an output that differs the way leads back to the first tensor that is not known. PyTorch's tensors
after the known ones are put in its place, one after the other: with the right one, what follows is
known again. If none is right, it is a tensor that PyTorch does not have, and the next one is tried.
The operators between the known tensors and that one are then run alone, on PyTorch's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from classkinfy_export.parity.compare import difference
from classkinfy_export.parity.graphs.base import MOVING, Array
from classkinfy_export.parity.match import Layout, Match, Matcher, laid_out, layouts, same
from classkinfy_export.parity.probe import Probe
from classkinfy_export.parity.reproducer import Allowed
from classkinfy_export.runtimes.pytorch import Intermediate

_TRIED = 24
"""Of the reference's tensors, in the place of one."""
_HEALED = 24
"""Tensors after it that are looked at."""

_OUTPUT_DB = 80.0
"""SQNR of an output, traced, of what the stage gave: other kernels of the same library."""


@dataclass(frozen=True)
class Suspect:
    """A tensor that is wrong, and the part of the graph that shows it."""

    tensor: str
    match: Match
    """Which of the reference's it should be."""
    given: tuple[str, ...]
    """What the part is given."""
    wanted: tuple[str, ...]
    """What it gives: the tensor, or where only the whole stage shows it, the stage's outputs."""
    whole_stage: bool
    """Whether no smaller part shows it."""
    alone: bool
    """Whether the reference's value in its place makes every output of the stage hold."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    values: dict[str, Array]
    """Every tensor that can be compared, as the runtime computes it."""
    matches: dict[str, Match]
    """Counterparts, also of what comes after the suspect."""
    suspect: Suspect | None
    least_db: float
    """The SQNR below which a tensor was taken to differ."""


class Search:
    """A search in one stage.

    Args:
        probe: runs parts of the stage's graph.
        trace: the reference's tensors.
        inputs: the stage's, of the reference.
        expected: the stage's outputs, of the reference.
        allowed: largest absolute difference of each output.
    """

    def __init__(
        self,
        probe: Probe,
        trace: Sequence[Intermediate],
        inputs: Mapping[str, Array],
        expected: Mapping[str, Array],
        allowed: Mapping[str, float],
    ) -> None:
        self.probe, self.graph, self.trace = probe, probe.graph, trace
        self.inputs = {name: inputs[name] for name in self.graph.inputs}
        self.expected = {name: expected[name] for name in self.graph.outputs}
        self.allowed = allowed
        self._places = {tensor.name: place for place, tensor in enumerate(trace)}

    def run(self, least_db: Sequence[float]) -> Found:
        """Search.

        Args:
            least_db: SQNR below which a tensor differs; the next is taken where nothing that is
                found with one is wrong by itself.
        """
        values = self.probe.run(self.inputs, self.graph.compared)
        wrong = [name for name in self.graph.outputs if not self._holds(name, values[name])]
        known: dict[str, Match] = {}
        unproven: tuple[Matcher, dict[str, Match], str, Match] | None = None
        for level in least_db:
            matcher = Matcher(self.trace, level)
            known = matcher.find_all(self.graph.compared, values)
            known = {name: match for name, match in known.items() if name not in wrong}
            if wrong:
                found = self._first_wrong(matcher, known, values, wrong)
            else:
                found = self._first_untapped(matcher, known)
            if found is None:
                continue
            tensor, match = found
            given = self.graph.boundary(known, tensor)
            if self._shows(given, known, tensor, match, level):
                return self._found(matcher, known, values, tensor, match, given, wrong)
            unproven = unproven or (matcher, known, tensor, match)
        if unproven is None:
            return Found(values, known, None, level)
        # It takes more than one operator: those that a runtime fuses, for instance.
        matcher, known, tensor, match = unproven
        wider = self._wider(known, tensor, match, matcher.least_db)
        return self._found(matcher, known, values, tensor, match, wider, wrong)

    def _found(
        self,
        matcher: Matcher,
        known: Mapping[str, Match],
        values: dict[str, Array],
        tensor: str,
        match: Match,
        given: Sequence[str] | None,
        wrong: Sequence[str],
    ) -> Found:
        after, elsewhere = self._put_right(matcher, tensor, match)
        alone = not elsewhere and {tensor, *self.graph.after(tensor)}.issuperset(wrong)
        suspect = Suspect(
            tensor=tensor,
            match=match,
            given=self.graph.inputs if given is None else tuple(given),
            wanted=self.graph.outputs if given is None else (tensor,),
            whole_stage=given is None,
            alone=alone,
        )
        return Found(values, {**after, **known, tensor: match}, suspect, matcher.least_db)

    def value(self, tensor: str, match: Match) -> Array:
        """Return the reference's value of a tensor, as the graph has it."""
        return laid_out(
            self.trace[match.reference].value,
            match.layout,
            self.graph.shape(tensor),
            self.graph.dtype(tensor),
        )

    def limit(self, tensor: str, least_db: float) -> Allowed:
        """Return how far a tensor may be from the reference's."""
        if tensor in self.allowed:
            return Allowed(largest=self.allowed[tensor])
        return Allowed(least_db=least_db)

    def _holds(self, output: str, value: Array) -> bool:
        expected = self.expected[output]
        return difference(expected, value, nan_is_equal=True).largest <= self.allowed[output]

    def _differs(self, tensor: str, match: Match, value: Array, least_db: float) -> bool:
        if tensor in self.allowed:
            return not self._holds(tensor, value)
        return not same(self.value(tensor, match), value, least_db)

    def _first_wrong(
        self,
        matcher: Matcher,
        known: Mapping[str, Match],
        values: Mapping[str, Array],
        wrong: Sequence[str],
    ) -> tuple[str, Match] | None:
        """Return the first tensor on the way to wrong outputs that, put right, heals the rest."""
        way = [name for op in self.graph.needed(known, wrong) for name in op.outputs]
        for tensor in way:
            if tensor in known or tensor not in values:
                continue
            match = self._heals(matcher, known, tensor, wrong)
            if match is not None:
                return tensor, match
        return None

    def _heals(
        self, matcher: Matcher, known: Mapping[str, Match], tensor: str, wrong: Sequence[str]
    ) -> Match | None:
        """Return which of the reference's tensors heals what follows in the place of a tensor.

        What is only moved does not count: moved, a wrong value is still the reference's.
        """
        own = self._output(tensor)
        after = self.graph.after(tensor)
        computed = [name for name in after if self.graph.producer[name].kind not in MOVING]
        looked_at = [name for name in computed if name not in known][:_HEALED]
        looked_at += [name for name in wrong if name in after and name not in looked_at]
        if not looked_at:
            return own
        best, most = None, 0
        for match in [own] if own is not None else self._candidates(matcher, known, tensor):
            given = {**self.inputs, tensor: self.value(tensor, match)}
            healed = self.probe.run(given, looked_at)
            count = sum(
                self._holds(name, value)
                if name in self.allowed
                else matcher.find(name, value, match.reference) is not None
                for name, value in healed.items()
            )
            if count > most:
                best, most = match, count
            if count == len(looked_at):
                break
        return best

    def _output(self, tensor: str) -> Match | None:
        """Return the counterpart of an output, which is known by its name."""
        if tensor not in self.expected:
            return None
        expected = self.expected[tensor]
        straight = tuple(range(expected.ndim))
        for place in range(len(self.trace) - 1, -1, -1):
            value = self.trace[place].value
            if value.shape == expected.shape and same(expected, value, _OUTPUT_DB):
                return Match(place, straight)
        return None

    def _candidates(
        self, matcher: Matcher, known: Mapping[str, Match], tensor: str
    ) -> Iterator[Match]:
        """Give what a tensor may be: first what comes of its inputs, the nearest to them first."""
        before = {
            known[name].reference if name in known else self._places[name]
            for name in self.graph.boundary(known, tensor)
        }
        shape = self.graph.shape(tensor)
        start = max(before, default=0)
        descends = self._descendants(before)

        def order(place: int) -> tuple[bool, bool, int]:
            far = abs(place - start)
            return self.trace[place].name != tensor, place not in descends, far

        tried = 0
        for place in sorted(matcher.of_size(math.prod(shape)), key=order):
            for layout in layouts(self.trace[place].value.shape, shape):
                if tried == _TRIED:
                    return
                tried += 1
                yield Match(place, layout)

    def _descendants(self, before: set[int]) -> set[int]:
        """Return the places of tensors and of what is computed with them."""
        reached = set(before)
        for place, tensor in enumerate(self.trace):
            if any(self._places[name] in reached for name in tensor.inputs):
                reached.add(place)
        return reached

    def _put_right(
        self, matcher: Matcher, tensor: str, match: Match
    ) -> tuple[dict[str, Match], list[str]]:
        """Put the reference's value in a tensor's place.

        Returns:
            the counterparts of what follows, and the outputs that still differ.
        """
        after = self.graph.after(tensor)
        if not after:
            return {}, []
        given = {**self.inputs, tensor: self.value(tensor, match)}
        found = matcher.find_all(after, self.probe.run(given, after))
        outputs = [name for name in after if name in self.expected]
        found |= {n: m for n in outputs if (m := self._output(n)) is not None}
        # Alone, for a runtime that fuses does otherwise where every tensor is asked for.
        values = self.probe.run(given, outputs) if outputs else {}
        return found, [name for name, value in values.items() if not self._holds(name, value)]

    def _shows(
        self,
        given: Sequence[str],
        known: Mapping[str, Match],
        tensor: str,
        match: Match,
        least_db: float,
    ) -> bool:
        """Whether a tensor differs when it is computed of the reference's values of others."""
        inputs = {name: self.given(name, known) for name in given}
        (value,) = self.probe.run(inputs, [tensor]).values()
        return self._differs(tensor, match, value, least_db)

    def _wider(
        self, known: Mapping[str, Match], tensor: str, match: Match, least_db: float
    ) -> list[str] | None:
        """Return what the smallest part is given that shows the fault, an operator more each time.

        None where only the whole stage does.
        """
        given = self.graph.boundary(known, tensor)
        while not all(name in self.inputs for name in given):
            before = [
                source
                for name in given
                for source in ([name] if name in self.inputs else self.graph.boundary(known, name))
            ]
            given = list(dict.fromkeys(before))
            if self._shows(given, known, tensor, match, least_db):
                return given
        return None

    def given(self, name: str, matches: Mapping[str, Match]) -> Array:
        """Return the reference's value of a tensor that a part is given."""
        return self.inputs[name] if name in self.inputs else self.value(name, matches[name])

    def _first_untapped(
        self, matcher: Matcher, known: Mapping[str, Match]
    ) -> tuple[str, Match] | None:
        """Return the first tensor that is wrong where no tensor before it is asked for.

        Of a fault that is not there when every tensor is: the runtime makes it when it fuses.
        Halves what is left until one tensor is.
        """
        order = [name for name in self.graph.compared if name in known]
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            (value,) = self.probe.run(self.inputs, [order[middle]]).values()
            if self._differs(order[middle], known[order[middle]], value, matcher.least_db):
                high = middle
            else:
                low = middle + 1
        return (order[low], known[order[low]]) if low < len(order) else None


def between(trace: Sequence[Intermediate], before: Sequence[int], last: int) -> list[Intermediate]:
    """Return the reference's operators between tensors and one that is computed of them.

    Args:
        trace: the reference's tensors.
        before: places of those that are given.
        last: the place of the one that is computed.
    """
    places = {tensor.name: place for place, tensor in enumerate(trace)}
    stop, found, waiting = set(before), set(), [last]
    while waiting:
        place = waiting.pop()
        if place in found or place in stop or trace[place].operator == "input":
            continue
        found.add(place)
        waiting += [places[name] for name in trace[place].inputs]
    return [trace[place] for place in sorted(found)]


def layout_name(layout: Layout) -> str:
    """Return a layout as it is called: ``NHWC``, or the order of the axes."""
    if list(layout) == sorted(layout):
        return ""
    return "NHWC" if layout == (0, 2, 3, 1) else str(list(layout))
