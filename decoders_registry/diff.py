"""What changed from one release to another."""

from __future__ import annotations

from typing import Any

from clnet.decoders_registry.records import Record
from clnet.decoders_registry.releases import ReleaseRecord

__all__ = ["Change", "ReleaseDiff", "compare"]


class Change(Record):
    """One group whose served version differs."""

    group: str
    before: str
    after: str


class ReleaseDiff(Record):
    """Groups added, removed, changed and kept, and whether the ground under them moved.

    Attributes:
        parent: of the two releases.
        descends: whether `before` is an ancestor of `after`, or the same release.
        tiers: per group its tier before and after; none where it is not served.
        exposed: groups of both that another one may take voxels from now and could not before:
            it is claimed in the same tier or an earlier one, or the policy's precedence says so.
        policy: per policy key that differs, its value before and after.
        warnings: what of this may change voxels of groups that both serve, in words.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]
    kept: tuple[str, ...]
    parent: tuple[str | None, str | None]
    descends: bool
    tiers: dict[str, tuple[int | None, int | None]]
    exposed: tuple[str, ...]
    encoder_changed: bool
    body_part_model_changed: bool
    policy: dict[str, tuple[Any, Any]]
    warnings: tuple[str, ...]


def compare(before: ReleaseRecord, after: ReleaseRecord, *, descends: bool) -> ReleaseDiff:
    """Compare two releases by group, decoder hash, tier, parent, pins and policy.

    Args:
        descends: whether `before` is an ancestor of `after`, which their records alone do not
            tell.
    """
    old = {decoder.group: decoder for decoder in before.decoders}
    new = {decoder.group: decoder for decoder in after.decoders}
    both = sorted(old.keys() & new.keys())
    moved = [group for group in both if old[group].sha256 != new[group].sha256]
    keys = sorted(before.policy.keys() | after.policy.keys())
    was, now = _tiers(before), _tiers(after)
    exposed = _exposed(_turns(before), _turns(after))
    same = before.sha256 == after.sha256
    return ReleaseDiff(
        before=before.name,
        after=after.name,
        added=tuple(new[group].ref for group in sorted(new.keys() - old.keys())),
        removed=tuple(old[group].ref for group in sorted(old.keys() - new.keys())),
        changed=tuple(
            Change(group=group, before=old[group].ref, after=new[group].ref) for group in moved
        ),
        kept=tuple(old[group].ref for group in both if group not in moved),
        parent=(before.parent, after.parent),
        descends=descends or same,
        tiers={group: (was.get(group), now.get(group)) for group in sorted(was | now)},
        exposed=exposed,
        encoder_changed=before.encoder_sha256 != after.encoder_sha256,
        body_part_model_changed=before.body_part_model_sha256 != after.body_part_model_sha256,
        policy={
            key: (before.policy.get(key), after.policy.get(key))
            for key in keys
            if before.policy.get(key) != after.policy.get(key)
        },
        warnings=tuple(_warnings(before.name, after.name, descends or same, exposed)),
    )


def _tiers(release: ReleaseRecord) -> dict[str, int]:
    return {d.group: tier for tier, decoders in enumerate(release.tiers) for d in decoders}


def _turns(release: ReleaseRecord) -> dict[str, int]:
    """When each group claims its voxels: what claims later never takes from what was earlier."""
    sign = {"newest": -1, "equal": 0}.get(release.policy.get("precedence", "parent"), 1)
    return {group: sign * tier for group, tier in _tiers(release).items()}


def _exposed(was: dict[str, int], now: dict[str, int]) -> tuple[str, ...]:
    def could(taker: str, group: str) -> bool:
        return taker in was and was[taker] <= was[group]

    return tuple(
        group
        for group in sorted(was.keys() & now.keys())
        if any(now[taker] <= now[group] and not could(taker, group) for taker in now)
    )


def _warnings(before: str, after: str, descends: bool, exposed: tuple[str, ...]) -> list[str]:
    found = []
    if not descends:
        found.append(
            f"{before} is not an ancestor of {after}, which was not made to keep the voxels that "
            f"{before} labels; clnet releases create --parent {before} makes one that does"
        )
    if exposed:
        found.append(
            f"voxels of {', '.join(exposed)} may change hands: in {after} other groups claim them "
            f"in the same tier or an earlier one, which in {before} they did not"
        )
    return found
