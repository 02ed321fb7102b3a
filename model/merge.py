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
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError
from clnet.model.outputs import Output

__all__ = ["Codebook", "Contest", "MergePolicy", "Merged", "contests", "is_ancestor"]


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """How a release turns logits into labels.

    Attributes:
        gating: drop what lies outside an anatomy's body range.
        calibration: divide logits by each decoder's temperature before comparing.
        anomaly_aware: where several decoders of a tier look for the same anatomy, the most
            certain decides; one that learned from diseased organs is certain where another,
            that saw healthy ones only, is not. Otherwise whoever finds it is right.
        largest_component: anatomies of which only the largest connected part is kept.
    """

    gating: bool = True
    calibration: bool = True
    anomaly_aware: bool = True
    largest_component: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON-able values."""
        return asdict(self) | {"largest_component": list(self.largest_component)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MergePolicy:
        """Inverse of :meth:`to_dict`; what is not given keeps its default.

        Raises:
            InputError: a setting that does not exist.
        """
        known = {"gating", "calibration", "anomaly_aware", "largest_component"}
        if set(values) - known:
            raise InputError(f"merge policy: unknown {sorted(set(values) - known)}, not {known}")
        kept = tuple(values.get("largest_component", ()))
        return cls(**(dict(values) | {"largest_component": kept}))


class Codebook:
    """Numbers for anatomies while merging, and what the order between them is.

    Numbers go up by tier, then id, so that what an older release had keeps its label values.
    """

    def __init__(self, outputs: Iterable[tuple[int, Output]]) -> None:
        first: dict[str, tuple[int, Output]] = {}
        for tier, output in outputs:
            known = first.get(output.anatomy)
            if known is None or tier < known[0]:
                first[output.anatomy] = (tier, output)
        ordered = sorted(first.values(), key=lambda entry: (entry[0], entry[1].anatomy))
        self.outputs = tuple(output for _, output in ordered)
        self.code = {output.anatomy: i for i, output in enumerate(self.outputs, start=1)}
        size = len(self.outputs) + 1
        by_id = sorted(self.code)
        self.leaves = np.array([0, *(len(o.members) for o in self.outputs)])
        self.rank = np.array([0, *(by_id.index(o.anatomy) for o in self.outputs)])
        self.yields = np.zeros((size, size), bool)
        self.yields[0] = True
        for earlier in self.outputs:
            for claim in self.outputs:
                self.yields[self.code[earlier.anatomy], self.code[claim.anatomy]] = is_ancestor(
                    earlier, claim
                )

    def layers(self, reported: Collection[str]) -> dict[str, list[int]]:
        """Layer to the codes of its anatomies among `reported`, ascending."""
        found: dict[str, list[int]] = {}
        for code, output in enumerate(self.outputs, start=1):
            if output.anatomy in reported:
                found.setdefault(output.layer, []).append(code)
        return dict(sorted(found.items()))


def is_ancestor(earlier: Output, claim: Output) -> bool:
    """Whether `earlier` contains `claim`: as a composite, or as a parent in the vocabulary."""
    if set(claim.members) < set(earlier.members):
        return True
    known = vocabulary()
    parent = known[claim.anatomy].parent if claim.anatomy in known else None
    while parent is not None and parent != earlier.anatomy:
        parent = known[parent].parent
    return parent is not None


@dataclass(frozen=True, slots=True)
class Merged:
    """Label maps on the scan's canonical grid.

    Attributes:
        labels: layer to label map ``(Z, Y, X)``, uint8, or uint16 above 255 labels.
        names: layer to label value to anatomy.
        suppressed: anatomy to the voxels that gating took from it.
    """

    labels: dict[str, NDArray[Any]]
    names: dict[str, dict[int, str]]
    suppressed: dict[str, int]


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
