"""How a release is put together from its parent and new decoders: pure rules, no database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from clnet.decoders_registry.records import DecoderRecord
from clnet.errors import Incompatible

__all__ = ["Tiers", "check_claims", "check_pinned", "check_supported", "fold", "leaned_on"]

Tiers: TypeAlias = tuple[tuple[DecoderRecord, ...], ...]


def fold(parent: Tiers, chosen: Sequence[DecoderRecord]) -> Tiers:
    """The parent's tiers with chosen versions in their group's old place, new groups last.

    A chosen version replaces the parent's version of its group where that stands, so the
    merge order of everything else is untouched. New groups form one more tier, by name.

    Raises:
        Incompatible: two versions of one group are chosen.
    """
    by_group: dict[str, DecoderRecord] = {}
    for decoder in chosen:
        other = by_group.setdefault(decoder.group, decoder)
        if other.ref != decoder.ref:
            raise Incompatible(
                f"{other.ref} and {decoder.ref} are versions of one group; choose one of them"
            )
    kept = tuple(tuple(by_group.pop(old.group, old) for old in tier) for tier in parent)
    new = tuple(by_group[group] for group in sorted(by_group))
    return (*kept, new) if new else kept


def check_pinned(decoders: Iterable[DecoderRecord], encoder: str, body_part_model: str) -> None:
    """Look that all decoders belong to these two, given by hash.

    Raises:
        Incompatible: names the first that does not.
    """
    for decoder in decoders:
        if decoder.encoder_sha256 != encoder:
            raise Incompatible(
                f"{decoder.ref} was trained on {decoder.encoder_ref} "
                f"({decoder.encoder_sha256[:12]}...), the release has another encoder "
                f"({encoder[:12]}...); a release has one encoder"
            )
        if decoder.body_part_model_sha256 != body_part_model:
            raise Incompatible(
                f"{decoder.ref} has its ranges from {decoder.body_part_model_ref} "
                f"({decoder.body_part_model_sha256[:12]}...), the release has another body-part "
                f"model ({body_part_model[:12]}...); a release has one"
            )


def check_claims(tiers: Tiers, policy: Mapping[str, Any]) -> None:
    """Look that no anatomy is predicted by two decoders, unless the policy is anomaly-aware.

    A composite taught as a union and one of its parts taught exactly are different claims:
    the composite yields to its parts in the merge.

    Raises:
        Incompatible: names the anatomy and both decoders.
    """
    if policy.get("anomaly_aware", False):
        return
    owners: dict[frozenset[str], DecoderRecord] = {}
    for decoder in (decoder for tier in tiers for decoder in tier):
        for claim in _claims(decoder):
            other = owners.setdefault(claim, decoder)
            if other is not decoder:
                raise Incompatible(
                    f"{' + '.join(sorted(claim))} is predicted by {other.ref} and by "
                    f"{decoder.ref}; keep one of them in the release, or let the more certain "
                    "one decide: a merge policy with anomaly_aware: true"
                )


def _claims(decoder: DecoderRecord) -> set[frozenset[str]]:
    exact = {frozenset({anatomy}) for anatomy in decoder.learned}
    return exact | {frozenset(union) for union in decoder.unions}


def check_supported(decoders: Sequence[DecoderRecord]) -> None:
    """Look that whatever a decoder leans on is there, at its pinned version.

    Raises:
        Incompatible: names the first that is missing.
    """
    there = {(decoder.ref, decoder.sha256) for decoder in decoders}
    for decoder in decoders:
        for supporter in decoder.supporters:
            if (supporter.ref, supporter.sha256) not in there:
                raise Incompatible(
                    f"{decoder.ref} leans on {supporter.ref}, which is not in the release"
                )


def leaned_on(
    decoders: Iterable[DecoderRecord], find: Callable[[str], DecoderRecord]
) -> tuple[DecoderRecord, ...]:
    """Decoders that these lean on, directly or not, and that are not among them.

    Exactly the pinned versions, by ref; `find` looks one up.
    """
    queue = list(decoders)
    there = {decoder.ref for decoder in queue}
    extra: dict[str, DecoderRecord] = {}
    while queue:
        for supporter in queue.pop().supporters:
            if supporter.ref not in there and supporter.ref not in extra:
                extra[supporter.ref] = find(supporter.ref)
                queue.append(extra[supporter.ref])
    return tuple(extra[ref] for ref in sorted(extra))
