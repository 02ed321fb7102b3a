"""A release's merge policy: what it may say, and what is meant by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError, UnknownAnatomy

__all__ = ["MergePolicy"]

Precedence = Literal["parent", "newest", "equal"]
SWITCHES = ("gating", "calibration", "anomaly_aware")


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """How a release turns logits into labels.

    Attributes:
        gating: drop what lies outside an anatomy's body range.
        calibration: divide logits by each decoder's temperature before comparing.
        anomaly_aware: decoders of several groups may look for the same anatomy, and of those in
            one tier the most certain decides; one that learned from diseased organs is certain
            where another, that saw healthy ones only, is not. Otherwise whoever finds it is right.
        precedence: whose voxels stay. ``parent``: each tier claims what earlier ones left
            background, so that a release that only adds changes no old mask. ``newest``: the
            last tier first, and earlier ones claim what it leaves. ``equal``: all as one tier,
            in which finer anatomies, then scores decide, or uncertainty if anomaly-aware.
        largest_component: leaf anatomies of which only the largest connected part is kept; of a
            label that unites several of them, one part per side of the body, of bones and
            muscles one per member.
    """

    gating: bool = True
    calibration: bool = True
    anomaly_aware: bool = False
    precedence: Precedence = "parent"
    largest_component: tuple[str, ...] = ()

    def turn(self, tier: int) -> int:
        """When a tier of the release is folded: the lowest turn has the first claim."""
        return {"parent": tier, "newest": -tier, "equal": 0}[self.precedence]

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON-able values."""
        return asdict(self) | {"largest_component": list(self.largest_component)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MergePolicy:
        """Inverse of :meth:`to_dict`; what is not given keeps its default.

        Anatomies may be given by any name that the vocabulary knows; a composite stands for its
        leaves, each of which is cleaned up by itself where it has a label of its own.

        Raises:
            InputError: a setting that does not exist, or cannot have the value given.
            UnknownAnatomy: a name that the vocabulary does not know.
        """
        known = {*SWITCHES, "precedence", "largest_component"}
        if unknown := sorted(str(key) for key in set(values) - known):
            raise InputError(
                f"merge policy: no setting {', '.join(unknown)}; there are "
                f"{', '.join(sorted(known))}"
            )
        given = dict(values)
        for name in SWITCHES:
            if not isinstance(given.get(name, True), bool):
                raise InputError(
                    f"merge policy: {name}: true or false expected, not {given[name]!r}"
                )
        if given.get("precedence", "parent") not in get_args(Precedence):
            raise InputError(
                f"merge policy: precedence: one of {', '.join(get_args(Precedence))} expected, "
                f"not {given['precedence']!r}"
            )
        given["largest_component"] = _leaves(given.get("largest_component", ()))
        return cls(**given)


def _leaves(names: Any) -> tuple[str, ...]:
    field = "merge policy: largest_component"
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{field}: a list of anatomies expected, not {names!r}")
    known = vocabulary()
    found: list[str] = []
    for name in names:
        try:
            anatomy = known[known.resolve(name)]
        except UnknownAnatomy as error:
            raise UnknownAnatomy(f"{field}: {error}") from None
        if anatomy.coarse:
            parts = ", ".join(anatomy.parts)
            raise InputError(f"{field}: {name}: not an anatomy of its own; name its parts: {parts}")
        found += known.leaves(name)
    return tuple(dict.fromkeys(found))
