"""The merge policy of a release, looked at before it is stored for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clnet.errors import InputError

__all__ = ["checked_policy"]

NOTICE = "notice"
"""What a release's results say to their reader; no matter of the merge."""


def checked_policy(values: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as a release stores it: what was given, anatomies by the ids of their leaves.

    Raises:
        InputError: no mapping, a setting that does not exist, or one with an impossible value.
        UnknownAnatomy: a name that the vocabulary does not know.
    """
    from clnet.model.policy import MergePolicy

    if not isinstance(values, Mapping):
        raise InputError(f"merge policy: settings by name expected, not {values!r}")
    given = dict(values)
    notice = {NOTICE: given.pop(NOTICE)} if NOTICE in given else {}
    if not isinstance(notice.get(NOTICE, ""), str):
        raise InputError(f"merge policy: {NOTICE}: text expected, not {notice[NOTICE]!r}")
    settings = MergePolicy.from_dict(given).to_dict()
    return {key: settings[key] for key in given} | notice
