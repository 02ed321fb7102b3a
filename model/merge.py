"""The rules of the merge: who may claim a voxel, and in which order.

Tiers are folded one after the other: a later tier claims only voxels that the earlier ones
left background in that layer, or gave to an ancestor of the claimed anatomy. Within a tier
finer anatomies come before coarser ones, then the calibrated score decides, then the canonical
id; this order is total, so the result does not depend on the order of decoders. Where several
decoders of a tier look for the same anatomy, the one that is most certain decides whether it
is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.outputs import Output

__all__ = ["Codebook", "Contest", "Merged", "contests", "is_ancestor"]


class Codebook:
    """Numbers for what decoders may claim while merging, and what the order between them is.

    An anatomy has a number per decoder that looks for it, so that a merged voxel tells whose it
    is, but one label value. Both go up by tier, then id, so that what an older release had keeps
    its label values.

    Args:
        outputs: tier, key of the decoder, and an output of it.
    """

    def __init__(self, outputs: Iterable[tuple[int, str, Output]]) -> None:
        entries = list(outputs)
        first: dict[str, int] = {}
        for tier, _, output in entries:
            first[output.anatomy] = min(tier, first.get(output.anatomy, tier))
        entries.sort(key=lambda entry: (first[entry[2].anatomy], entry[2].anatomy, *entry[:2]))
        self.outputs = tuple(output for _, _, output in entries)
        self.keys = tuple(key for _, key, _ in entries)
        self.code = {(k, o.anatomy): i for i, (_, k, o) in enumerate(entries, start=1)}
        size = len(entries) + 1
        by_id = sorted(self.code, key=lambda entry: (entry[1], entry[0]))
        place = {entry: rank for rank, entry in enumerate(by_id)}
        self.leaves = np.array([0, *(len(o.members) for o in self.outputs)])
        self.rank = np.array([0, *(place[entry] for entry in self.code)])
        self.yields = np.zeros((size, size), bool)
        self.yields[0] = True
        for earlier in range(1, size):
            for claim in range(1, size):
                self.yields[earlier, claim] = is_ancestor(
                    self.outputs[earlier - 1], self.outputs[claim - 1]
                )

    @property
    def anatomies(self) -> frozenset[str]:
        """What any decoder may claim."""
        return frozenset(output.anatomy for output in self.outputs)

    def layers(self, reported: Collection[str]) -> dict[str, dict[str, list[int]]]:
        """Layer to its anatomies among `reported`, in order, and the codes of each."""
        found: dict[str, dict[str, list[int]]] = {}
        for code, output in enumerate(self.outputs, start=1):
            if output.anatomy in reported:
                anatomies = found.setdefault(output.layer, {})
                anatomies.setdefault(output.anatomy, []).append(code)
        return dict(sorted(found.items()))


def is_ancestor(earlier: Output, claim: Output) -> bool:
    """Whether `earlier` contains `claim`: as a composite, or as a parent in the vocabulary."""
    part = set(claim.members) < set(earlier.members)
    return part or vocabulary().descends(claim.anatomy, earlier.anatomy)


@dataclass(frozen=True, slots=True)
class Merged:
    """Label maps on the scan's canonical grid.

    Attributes:
        labels: layer to label map ``(Z, Y, X)``, uint8, or uint16 above 255 labels.
        names: layer to label value to anatomy.
        suppressed: anatomy to the voxels that gating took from it.
        won: anatomy to decoder to the voxels that are labelled as it by that decoder.
        denied: anatomy to decoder to the voxels that it claimed and a more certain one denied.
    """

    labels: dict[str, NDArray[Any]]
    names: dict[str, dict[int, str]]
    suppressed: dict[str, int]
    won: dict[str, dict[str, int]]
    denied: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Contest:
    """What a decoder shares with others of its tier.

    Attributes:
        bond: names the decoders that share anatomies, directly or through others.
        outputs: its outputs that another looks for too.
    """

    bond: str
    outputs: tuple[int, ...]


def contests(decoders: Mapping[str, tuple[int, tuple[Output, ...]]]) -> dict[str, Contest]:
    """By key, decoders that look for anatomies which others of their tier look for too.

    Args:
        decoders: tier and outputs by key.
    """
    seekers: dict[tuple[int, str], list[str]] = {}
    for key, (tier, outputs) in sorted(decoders.items()):
        for output in outputs:
            seekers.setdefault((tier, output.anatomy), []).append(key)
    bond: dict[str, str] = {}
    for keys in seekers.values():
        if len(keys) > 1:
            joined = {bond.get(key, key) for key in keys}
            name = min(joined)
            bond |= dict.fromkeys(keys, name)
            bond |= {key: name for key, known in bond.items() if known in joined}
    return {
        key: Contest(
            name,
            tuple(
                index
                for index, output in enumerate(decoders[key][1])
                if len(seekers[decoders[key][0], output.anatomy]) > 1
            ),
        )
        for key, name in bond.items()
    }
