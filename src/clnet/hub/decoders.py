"""Decoders: immutable versions per anatomy group, and the names that point at them."""

from __future__ import annotations

from typing import Any

from clnet.decoders_registry import DecoderRecord, Registry, UnitedTerms

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

    def footprint(self, ref: str, *, speed: bool = False) -> dict[str, dict[str, Any]]:
        """Parameters, non-zeros and bytes of a version and, if it was pruned, of its dense one.

        Args:
            speed: measure seconds per patch as well, here and now, of the dense version, of
                this one and of what compaction makes of it.

        Raises:
            NotFound: there is no such version.
        """
        from clnet.model.artefact import decode_decoder
        from clnet.model.footprint import compare_footprints, footprint

        record = self.get(ref)
        data = self._registry.artefact(record.sha256)
        decoder, info = decode_decoder(data)
        found = {"this": footprint(decoder, info, len(data))}
        before = None
        origin = record.ticket.dense_sha if record.ticket else None
        if origin is not None and self._registry.artefacts.exists(origin):  # a release has no dense
            dense = self._registry.artefact(origin)
            before, about = decode_decoder(dense)
            found = {"dense": footprint(before, about, len(dense)), **found}
        if speed:
            patch = self._registry.encoder(record.encoder_ref).plan["patch_size"]
            found |= compare_footprints(decoder, info, patch, dense=before)
            found["this"] = found.pop("pruned")
        return {name: each.to_dict() for name, each in found.items()}

    def terms(self, ref: str) -> UnitedTerms:
        """The union of obligations of all data that went into a version, its encoder's included.

        Raises:
            NotFound: there is none.
        """
        return self._registry.terms_of(self.get(ref).ref, "decoder")

    def lineage(self, ref: str) -> dict[str, Any]:
        """Everything that a version came from, nested under ``from``, down to the datasets."""
        return self._registry.lineage_of(self.get(ref).ref, "decoder")
