"""What the terms of all data behind a thing add up to, and when they cannot be met together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, TypeAdapter

from clnet.anatomy.strict_yaml import load_yaml
from clnet.decoders_registry.records import Record
from clnet.errors import Incompatible, InputError

__all__ = ["ReleaseTerms", "UnitedTerms", "combine", "implied_by", "obligations_of", "unite"]

Known = Literal["BY", "NC", "SA", "ND", "AGREEMENT"]
_KNOWN = frozenset(get_args(Known))
# what came in before identifiers were checked, or on another hub, may lack the version
_CREATIVE_COMMONS = re.compile(r"CC-BY((?:-(?:NC|SA|ND))*)(?:-?\d.*)?", re.IGNORECASE)
_SHOWN = 5


class ReleaseTerms(Record):
    """The union of obligations that a release carries.

    Attributes:
        obligations: BY name the source, NC no commerce, SA share alike, ND no derivatives,
            AGREEMENT bound by a contract.
        sources: per obligation the datasets that ask for it.
        licences: per dataset.
        attribution: per dataset whom to name.
        consent: per dataset on what ground its images may be used.
    """

    obligations: tuple[str, ...]
    sources: dict[str, tuple[str, ...]]
    licences: dict[str, str]
    attribution: dict[str, str]
    consent: dict[str, str] = Field(default_factory=dict)


class UnitedTerms(ReleaseTerms):
    """The union of obligations behind an encoder, a decoder version or any other thing.

    Attributes:
        conflicts: why a release with it would be refused; empty if it would not.
    """

    conflicts: tuple[str, ...] = ()


class _Source(NamedTuple):
    ref: str
    licence: str
    obligations: frozenset[str]


def implied_by(licence: str) -> frozenset[str]:
    """What a well-known licence demands, whether a contributor spelled it out or not.

    Of an SPDX expression all parts count, also those joined by OR: to forget an obligation is
    worse than to keep one that could have been avoided.
    """
    found: set[str] = set()
    for part in re.split(r"[\s()]+", licence):
        creative_commons = _CREATIVE_COMMONS.fullmatch(part)
        if creative_commons:
            found |= {"BY", *creative_commons[1].upper().split("-")} - {""}
        for beginning, obligations in _by_beginning().items():
            if part.upper().startswith(beginning):
                found |= obligations
    return frozenset(found)


@cache
def _by_beginning() -> dict[str, frozenset[str]]:
    text = resources.files("clnet.decoders_registry").joinpath("licences.yaml").read_text("utf-8")
    table = TypeAdapter(dict[str, frozenset[Known]]).validate_python(load_yaml(text))
    return {beginning.upper(): obligations for beginning, obligations in table.items()}


def obligations_of(ref: str, terms: Mapping[str, Any]) -> frozenset[str]:
    """The obligations in a dataset's terms: those declared, and those of its licence.

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
    return found | implied_by(str(terms.get("licence") or ""))


def unite(datasets: Mapping[str, Mapping[str, Any]]) -> UnitedTerms:
    """Unite the terms of datasets, given by ref; what contradicts is told, not refused."""
    ordered = sorted(datasets.items())
    sources = [
        _Source(ref, str(terms.get("licence") or f"terms of {ref}"), obligations_of(ref, terms))
        for ref, terms in ordered
    ]
    everything = sorted(frozenset().union(*(source.obligations for source in sources)))
    return UnitedTerms(
        obligations=tuple(everything),
        sources={
            obligation: tuple(s.ref for s in sources if obligation in s.obligations)
            for obligation in everything
        },
        licences={source.ref: source.licence for source in sources},
        attribution=_texts(ordered, "attribution"),
        consent=_texts(ordered, "consent"),
        conflicts=tuple(dict.fromkeys(_conflicts(sources))),
    )


def combine(datasets: Mapping[str, Mapping[str, Any]]) -> ReleaseTerms:
    """Unite the terms of everything in a release.

    Raises:
        Incompatible: ND is among them (a trained model is a derivative), two share-alike
            licences differ, or a share-alike licence meets an obligation it does not allow.
    """
    united = unite(datasets)
    if united.conflicts:
        more = len(united.conflicts) - _SHOWN
        told = "; ".join(united.conflicts[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise Incompatible(f"terms that cannot be met together: {told}")
    return ReleaseTerms(**united.model_dump(exclude={"conflicts"}))


def _texts(datasets: list[tuple[str, Mapping[str, Any]]], key: str) -> dict[str, str]:
    return {ref: str(terms[key]) for ref, terms in datasets if terms.get(key)}


def _conflicts(sources: list[_Source]) -> Iterator[str]:
    bound = [source.ref for source in sources if "ND" in source.obligations]
    if bound:
        yield (
            f"{', '.join(bound)}: the terms forbid derivatives (ND), and a model trained on the "
            "data is one; leave out the decoders that learned from it"
        )
    alike = [source for source in sources if "SA" in source.obligations]
    for one in alike:
        for other in alike:
            if other.ref > one.ref and other.licence != one.licence:
                yield (
                    f"{one.ref} ({one.licence}) and {other.ref} ({other.licence}) both ask "
                    "to be shared under their own licence (SA); put them in separate releases"
                )
        for other in sources:
            extra = other.obligations - one.obligations - {"BY", "ND", "SA"}
            if extra:
                yield (
                    f"{one.ref} is shared alike under {one.licence}, which allows no further "
                    f"restriction, but {other.ref} adds {', '.join(sorted(extra))}; put them in "
                    "separate releases"
                )
