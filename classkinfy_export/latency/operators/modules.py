"""Which module an operator without weights computes for, told by those before and after it.

A module that is called once gets all its inputs before any of its operators run and gives its
outputs after the last. So what lies on a way from one of its operators to another is computed in
that call too: an activation between two convolutions of a block is that block's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def common(*paths: str) -> str:
    """Return the innermost module that holds all of some: ``a.b`` of ``a.b.c`` and ``a.b.d``."""
    shared: list[str] = []
    for parts in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def place(
    operators: Mapping[str, tuple[Sequence[str], Sequence[str]]], known: Mapping[str, str]
) -> dict[str, str]:
    """Return the module of each operator for which one can be told.

    Args:
        operators: the tensors that each reads and gives, by its name.
        known: modules of some of them, each called once.

    Returns:
        ``known``, and of the operators between those the innermost module that must hold them.
    """
    makers = {tensor: name for name, (_, gives) in operators.items() for tensor in gives}
    before = {
        name: [makers[tensor] for tensor in reads if tensor in makers]
        for name, (reads, _) in operators.items()
    }
    after: dict[str, list[str]] = {name: [] for name in operators}
    for name, sources in before.items():
        for source in sources:
            after[source].append(name)
    found = dict(known)
    for name in operators:
        if name in known:
            continue
        reached = _nearest(name, after, known)
        held = [common(path, other) for path in _nearest(name, before, known) for other in reached]
        if held:
            found[name] = max(held, key=lambda path: path.count(".") + bool(path))
    return found


def _nearest(
    name: str, neighbours: Mapping[str, Sequence[str]], known: Mapping[str, str]
) -> set[str]:
    """Return the modules that are met first on every way in one direction."""
    met, seen, waiting = set(), {name}, [name]
    while waiting:
        for other in neighbours[waiting.pop()]:
            if other in known:
                met.add(known[other])
            elif other not in seen:
                seen.add(other)
                waiting.append(other)
    return met
