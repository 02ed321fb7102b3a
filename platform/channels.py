"""What a decoder's channels are, from what its data labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clnet.anatomy.stratification import AnatomyGroup
from clnet.anatomy.vocabulary import vocabulary
from clnet.data_catalog import PlanStore, split_cases
from clnet.errors import InputError
from clnet.model.decoder import Channel

__all__ = ["Labels", "Taught", "channels_for", "split_of", "survey", "taught"]

Labels = Mapping[tuple[str, ...], int]
"""Sorted members of a label to its voxels: one member is exact, several are a union."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What labels teach the channels of a decoder.

    Attributes:
        learned: leaf anatomies with an exact label.
        unions: labels over several leaves, all of them in the decoder's channels.
    """

    learned: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...]


def split_of(
    stores: Sequence[PlanStore], fraction: float
) -> tuple[list[tuple[PlanStore, str]], list[tuple[PlanStore, str]]]:
    """Training and held-out cases, as (store, case id); a single case is never held out."""
    cases = [(store, case_id) for store in stores for case_id in store.case_ids]
    held = split_cases([store.case_sha256(case_id) for store, case_id in cases], fraction)
    train = [case for case in cases if case[0].case_sha256(case[1]) not in held]
    return train, [case for case in cases if case[0].case_sha256(case[1]) in held]


def survey(cases: Iterable[tuple[PlanStore, str]]) -> Labels:
    """Voxels of every label in the cases; labels without a voxel are left out."""
    found: dict[tuple[str, ...], int] = {}
    for store, case_id in cases:
        for entry in store.describe(case_id)["entries"]:
            if entry["voxels"]:
                members = tuple(sorted(entry["members"]))
                found[members] = found.get(members, 0) + int(entry["voxels"])
    return found


def channels_for(
    group: AnatomyGroup, labels: Labels, asked: Sequence[str] = ()
) -> tuple[Channel, ...]:
    """Channels of a decoder of `group`, in the group's order.

    By default a channel for every leaf with an exact label, and one for the whole of a union
    that is all that the data knows of its leaves. A union that reaches beyond the group teaches
    nothing by itself.

    Args:
        asked: names of leaves or composites instead.

    Raises:
        InputError: `asked` is not of the group, or nothing labelled would teach a channel.
    """
    inside = {m: n for m, n in labels.items() if set(m) <= set(group.anatomies)}
    if asked:
        return tuple(_asked(group, inside, name) for name in asked)
    exact = {members[0] for members in inside if len(members) == 1}
    unions = [members for members in inside if len(members) > 1]
    members_of: dict[str, tuple[str, ...]] = {leaf: (leaf,) for leaf in exact}
    for union in unions:
        others = {leaf for other in unions if other != union for leaf in other}
        if set(union) & (exact | others):
            members_of |= {leaf: (leaf,) for leaf in union}
        else:
            members_of[vocabulary().composite_of(union)] = union
    if not members_of:
        raise InputError(
            f"{group.id}: the training cases label none of {', '.join(group.anatomies)}; "
            "choose another dataset or group"
        )
    order = {leaf: index for index, leaf in enumerate(group.anatomies)}
    channels = [Channel(name, members) for name, members in members_of.items()]
    return tuple(sorted(channels, key=lambda c: (min(order[m] for m in c.members), c.name)))


def taught(channels: Sequence[Channel], labels: Labels) -> Taught:
    """What `labels` teach a decoder with these channels."""
    covered = {member for channel in channels for member in channel.members}
    learned, unions = set(), set()
    for members in labels:
        if not set(members) <= covered:
            continue
        if len(members) == 1:
            learned.add(members[0])
        else:
            unions.add(members)
    return Taught(tuple(sorted(learned)), tuple(sorted(unions)))


def _asked(group: AnatomyGroup, inside: Labels, name: str) -> Channel:
    anatomy = vocabulary().resolve(name)
    leaves = tuple(sorted(vocabulary().leaves(anatomy)))
    if not set(leaves) <= set(group.anatomies):
        raise InputError(
            f"{group.id}: {anatomy} is not of this group, which has {', '.join(group.anatomies)}"
        )
    known = {member for members in inside for member in members}
    if not set(leaves) <= known:
        missing = ", ".join(sorted(set(leaves) - known))
        raise InputError(f"{group.id}: no training case labels {missing}, which {anatomy} needs")
    return Channel(anatomy, leaves)
