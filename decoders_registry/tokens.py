"""Access tokens: made once, shown once, kept only as what scrypt makes of them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

__all__ = ["Secret", "Stored", "matches", "new_token", "read_token"]

_FORM = re.compile(r"clnet_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_COST = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}  # 16 MiB and some 50 ms a guess


class Secret(NamedTuple):
    """A token taken apart: which one it claims to be, and the proof."""

    id: str
    proof: str


class Stored(NamedTuple):
    """What is kept of a token."""

    salt: str
    digest: str


_NOBODY = Stored("0" * 64, "0" * 64)


def new_token() -> tuple[str, str, Stored]:
    """A token of 256 random bits, its id, and what to keep of it."""
    key, proof, salt = secrets.token_hex(8), secrets.token_urlsafe(32), secrets.token_hex(32)
    return f"clnet_{key}_{proof}", key, Stored(salt, _digest(proof, salt))


def read_token(token: str) -> Secret | None:
    """The token's two parts; None for what cannot be one."""
    found = _FORM.fullmatch(token)
    return None if found is None else Secret(found[1], found[2])


def matches(secret: Secret | None, kept: Stored | None) -> bool:
    """Whether the proof is right. Takes the same time for a token that never was."""
    known = kept or _NOBODY
    digest = _digest(secret.proof if secret else "", known.salt)
    return hmac.compare_digest(digest, known.digest) and kept is not None


def _digest(proof: str, salt: str) -> str:
    return hashlib.scrypt(proof.encode(), salt=bytes.fromhex(salt), **_COST).hex()
