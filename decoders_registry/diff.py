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
        policy: per policy key that differs, its value before and after.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]
    kept: tuple[str, ...]
    encoder_changed: bool
    body_part_model_changed: bool
    policy: dict[str, tuple[Any, Any]]


def compare(before: ReleaseRecord, after: ReleaseRecord) -> ReleaseDiff:
    """Compare two releases by group, decoder hash, pins and policy."""
    old = {decoder.group: decoder for decoder in before.decoders}
    new = {decoder.group: decoder for decoder in after.decoders}
    both = sorted(old.keys() & new.keys())
    moved = [group for group in both if old[group].sha256 != new[group].sha256]
    keys = sorted(before.policy.keys() | after.policy.keys())
    return ReleaseDiff(
        before=before.name,
        after=after.name,
        added=tuple(new[group].ref for group in sorted(new.keys() - old.keys())),
        removed=tuple(old[group].ref for group in sorted(old.keys() - new.keys())),
        changed=tuple(
            Change(group=group, before=old[group].ref, after=new[group].ref) for group in moved
        ),
        kept=tuple(old[group].ref for group in both if group not in moved),
        encoder_changed=before.encoder_sha256 != after.encoder_sha256,
        body_part_model_changed=before.body_part_model_sha256 != after.body_part_model_sha256,
        policy={
            key: (before.policy.get(key), after.policy.get(key))
            for key in keys
            if before.policy.get(key) != after.policy.get(key)
        },
    )
