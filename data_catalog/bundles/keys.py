"""Ed25519 keys: a site keeps the private one, the hub knows the public one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clnet.errors import InputError
from clnet.storage import new_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["fingerprint_of", "is_signed_by", "make_key", "public_key_of", "read_private_key"]

MOST_BYTES = 1 << 16
"""No key file is larger."""


def make_key(path: Path, passphrase: str | None = None) -> str:
    """Write a new private key as PEM, readable by its owner alone; gives the public one in hex.

    Raises:
        AlreadyExists: the file is there.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    with new_file(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
    return key.public_key().public_bytes_raw().hex()


def read_private_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """The key that :func:`make_key` wrote, or any Ed25519 key as PEM.

    Raises:
        InputError: not there, no such key, or the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path}: no private key that can be read ({error}); clnet sites key make writes one"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: a key of another kind; Ed25519 is expected")
    return key


def public_key_of(path: Path, passphrase: str | None = None) -> str:
    """The public key, in hex, of a file with a private or a public Ed25519 key as PEM.

    Raises:
        InputError: not there, or no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY" in data:
        return read_private_key(path, passphrase).public_key().public_bytes_raw().hex()
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: no key as PEM ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path}: a key of another kind; Ed25519 is expected")
    return key.public_bytes_raw().hex()


def fingerprint_of(public_key: bytes) -> str:
    """SHA-256 of the 32 bytes of a public key."""
    return hashlib.sha256(public_key).hexdigest()


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of a key (32 bytes) signed a message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: larger than any key")
    return data
