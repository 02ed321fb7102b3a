"""Encoders: trained once, frozen, and leaned on by every decoder."""

from __future__ import annotations

from clnet.decoders_registry import EncoderRecord, Registry

__all__ = ["Encoders"]


class Encoders:
    """Frozen encoders of one hub."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self) -> list[EncoderRecord]:
        """Every version, by name."""
        return self._registry.encoders()

    def get(self, ref: str) -> EncoderRecord:
        """``encoder/starter@1`` or ``starter``; without a version the newest.

        Raises:
            NotFound: there is none.
        """
        return self._registry.encoder(ref)
