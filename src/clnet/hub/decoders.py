"""Decoders: immutable versions per anatomy group, and the names that point at them."""

from __future__ import annotations

from typing import Any

from clnet.decoders_registry import DecoderRecord, Registry

__all__ = ["Decoders"]


class Decoders:
    """Decoder versions of one hub."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self, group: str | None = None) -> list[DecoderRecord]:
        """All versions, of one anatomy group or of all, by group and number."""
        return self._registry.decoders(group)

    def get(self, ref: str) -> DecoderRecord:
        """``abdomen/liver@3`` or ``abdomen/liver@production``; without either the newest.

        Raises:
            NotFound: there is none.
        """
        return self._registry.decoder(ref)

    def promote(self, group: str, version: int, alias: str = "production") -> DecoderRecord:
        """Point an alias of a group at a version.

        Raises:
            NotFound: no such version.
            Incompatible: ``production`` takes accepted versions only.
        """
        return self._registry.promote(group, version, alias)

    def lineage(self, ref: str) -> dict[str, Any]:
        """Everything that a version came from, nested under ``from``, down to the datasets."""
        return self._registry.lineage_of(self.get(ref).ref, "decoder")
