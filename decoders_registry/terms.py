"""What the terms of all data in a release add up to, and when they cannot be met together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from clnet.decoders_registry.records import Record
from clnet.errors import Incompatible, InputError

__all__ = ["ReleaseTerms", "combine", "obligations_of"]

_KNOWN = frozenset({"BY", "NC", "SA", "ND", "AGREEMENT"})


class ReleaseTerms(Record):
    """The union of obligations that a release carries.

    Attributes:
        obligations: BY name the source, NC no commerce, SA share alike, AGREEMENT bound by
            a contract.
        sources: per obligation the datasets that ask for it.
        licences: per dataset.
        attribution: per dataset whom to name.
    """

    obligations: tuple[str, ...]
    sources: dict[str, tuple[str, ...]]
    licences: dict[str, str]
    attribution: dict[str, str]


class _Source(NamedTuple):
    ref: str
    licence: str
    obligations: frozenset[str]


def obligations_of(ref: str, terms: Mapping[str, Any]) -> frozenset[str]:
    """The obligations in a dataset's terms.

    Raises:
        InputError: one that nobody defined.
    """
    given = terms.get("obligations") or ()
    found = frozenset(str(item).upper() for item in given)
    if found - _KNOWN:
        raise InputError(
            f"dataset {ref}: terms.obligations: {', '.join(sorted(found - _KNOWN))} is not one "
            f"of {', '.join(sorted(_KNOWN))}"
        )
    return found


def combine(datasets: Mapping[str, Mapping[str, Any]]) -> ReleaseTerms:
    """Unite the terms of datasets, given by ref.

    Raises:
        Incompatible: ND is among them (a trained model is a derivative), two share-alike
            licences differ, or a share-alike licence meets an obligation it does not allow.
    """
    sources = [
        _Source(ref, str(terms.get("licence") or f"terms of {ref}"), obligations_of(ref, terms))
        for ref, terms in sorted(datasets.items())
    ]
    _refuse_no_derivatives(sources)
    _refuse_share_alike(sources)
    everything = sorted(frozenset().union(*(source.obligations for source in sources)))
    return ReleaseTerms(
        obligations=tuple(everything),
        sources={
            obligation: tuple(s.ref for s in sources if obligation in s.obligations)
            for obligation in everything
        },
        licences={source.ref: source.licence for source in sources},
        attribution={
            ref: str(terms["attribution"])
            for ref, terms in sorted(datasets.items())
            if terms.get("attribution")
        },
    )


def _refuse_no_derivatives(sources: list[_Source]) -> None:
    bound = [source.ref for source in sources if "ND" in source.obligations]
    if bound:
        raise Incompatible(
            f"{', '.join(bound)}: the terms forbid derivatives (ND), and a model trained on the "
            "data is one; leave out the decoders that learned from it"
        )


def _refuse_share_alike(sources: list[_Source]) -> None:
    for alike in (source for source in sources if "SA" in source.obligations):
        for other in sources:
            if "SA" in other.obligations and other.licence != alike.licence:
                raise Incompatible(
                    f"{alike.ref} ({alike.licence}) and {other.ref} ({other.licence}) both ask "
                    "to be shared under their own licence (SA); put them in separate releases"
                )
            extra = other.obligations - alike.obligations - {"BY"}
            if extra:
                raise Incompatible(
                    f"{alike.ref} is shared alike under {alike.licence}, which allows no further "
                    f"restriction, but {other.ref} adds {', '.join(sorted(extra))}; put them in "
                    "separate releases"
                )
