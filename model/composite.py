"""Composites of one scan: what is known of a whole from what is known of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clnet.anatomy.vocabulary import Anatomy, vocabulary
from clnet.model.statistics import AnatomyResult, Measure, State, combined_state

__all__ = ["CompositeResult", "derived_composites"]


@dataclass(frozen=True, slots=True)
class CompositeResult:
    """A composite that no decoder reports as such, derived from its parts.

    Attributes:
        result: what is known of it; its size is that of the parts that were looked for.
        parts_not_looked_for: leaves that no decoder looked for: if there are any, the size may
            be that of a part only.
    """

    result: AnatomyResult
    parts_not_looked_for: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return self.result.to_dict() | {"parts_not_looked_for": list(self.parts_not_looked_for)}


def derived_composites(results: Mapping[str, AnatomyResult]) -> dict[str, CompositeResult]:
    """Composites that `results` lacks but some of whose parts were looked for, by id.

    Args:
        results: by anatomy; what it lacks was not looked for.
    """
    known = vocabulary()
    looked_for = {
        anatomy: known.members(anatomy)
        for anatomy, result in results.items()
        if result.state is not State.NOT_LOOKED_FOR
    }
    found = {}
    for composite in known.composites:
        whole = known.members(composite.id)
        parts = {part: leaves for part, leaves in looked_for.items() if leaves < whole}
        if parts and composite.id not in results:
            found[composite.id] = _derived(composite, parts, results)
    return found


def _derived(
    composite: Anatomy, parts: Mapping[str, frozenset[str]], results: Mapping[str, AnatomyResult]
) -> CompositeResult:
    """A composite from its `parts`, with the leaves of each; they may lie within each other."""
    leaves = vocabulary().leaves(composite.id)
    covered = frozenset[str]().union(*parts.values())
    missing = tuple(leaf for leaf in leaves if leaf not in covered)
    # the size of a part is with what lies within it
    outer = [
        part for part, own in parts.items() if not any(own < other for other in parts.values())
    ]
    states = {part: results[part].state for part in outer}
    result = AnatomyResult(
        combined_state(states | dict.fromkeys(missing, State.NOT_LOOKED_FOR)),
        composite.layer,
        None,
        tuple(dict.fromkeys(ref for part in parts for ref in results[part].decoders)),
        sum((results[part].size for part in outer), Measure()),
        results[outer[0]].voxel_ml,
        sum(results[part].suppressed for part in parts),
    )
    return CompositeResult(result, missing)
