"""Names of things in the registry: ``encoder/starter@1``, ``abdomen/liver@3``, ``2026.11``."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from clnet.errors import InputError

__all__ = ["Kind", "Node", "Ref", "check_alias", "check_group", "check_name", "parse_ref"]

Kind = Literal["encoder", "body_part_model", "decoder", "release", "dataset"]

PREFIXES = {"encoder": "encoder/", "body_part_model": "bpr/"}

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._+&-]*"
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_ALIAS = re.compile(r"[a-z][a-z0-9-]*")
_MAX_LENGTH = 200


class Node(NamedTuple):
    """One thing that lineage connects."""

    kind: Kind
    ref: str


class Ref(NamedTuple):
    """A parsed reference: exactly one of version and alias is set, or neither (newest)."""

    name: str
    version: int | None
    alias: str | None


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name a thing: segments of letters, digits and ``._+&-``, by ``/``.

    Raises:
        InputError: anything else, ``@`` above all.
    """
    if len(name) > _MAX_LENGTH or _NAME.fullmatch(name) is None:
        raise InputError(
            f"{what} name {name!r}: use letters, digits and . _ + & - in segments joined by /, "
            f"at most {_MAX_LENGTH} characters"
        )
    return name


def check_group(group: str) -> str:
    """Return `group` if it can name an anatomy group; prefixes of other kinds are reserved."""
    for prefix in PREFIXES.values():
        if group.startswith(prefix):
            raise InputError(f"anatomy group {group!r}: {prefix} is reserved, choose another name")
    return check_name(group, "anatomy group")


def check_alias(alias: str) -> str:
    """Return `alias` if it can be one: lower case, starting with a letter."""
    if _ALIAS.fullmatch(alias) is None or len(alias) > 40:
        raise InputError(f"alias {alias!r}: use lower-case letters, digits and -, a letter first")
    return alias


def parse_ref(ref: str, kind: Kind) -> Ref:
    """Split ``name@3``, ``name@production`` or ``name``; encoders and BPR models get their prefix.

    Raises:
        InputError: not a reference.
    """
    name, at, tail = ref.partition("@")
    prefix = PREFIXES.get(kind, "")
    if prefix and not name.startswith(prefix):
        name = prefix + name
    check_name(name, kind.replace("_", " "))
    if not at:
        return Ref(name, None, None)
    if tail.isascii() and tail.isdigit() and 0 < int(tail) < 2**31:
        return Ref(name, int(tail), None)
    if kind != "decoder":
        raise InputError(f"{ref!r}: after @ comes a version number, 1 or more")
    return Ref(name, None, check_alias(tail))
