"""What a decoder costs: parameters, bytes and seconds, before and after pruning and compaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from clnet.model.artefact import DecoderInfo, encode_decoder
from clnet.model.compaction import compact_measured, measure_seconds
from clnet.model.decoder import Decoder
from clnet.model.numerics import Precision

__all__ = ["Footprint", "compare_footprints", "footprint"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one decoder costs.

    Attributes:
        parameters, non_zeros: of all its tensors.
        bytes: of its artefact.
        dense_bytes: of its parameters as float32.
        seconds: of a forward pass on the features of one patch, where that was measured.
    """

    parameters: int
    non_zeros: int
    bytes: int
    dense_bytes: int
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able values; seconds only where they were measured."""
        values = asdict(self)
        if self.seconds is None:
            del values["seconds"]
        return values


def footprint(decoder: Decoder, info: DecoderInfo, size: int | None = None) -> Footprint:
    """Parameters and bytes of a decoder.

    Args:
        size: of its artefact, if that is at hand.
    """
    parameters = list(decoder.parameters())
    count = sum(p.numel() for p in parameters)
    return Footprint(
        parameters=count,
        non_zeros=sum(int((p != 0).sum()) for p in parameters),
        bytes=len(encode_decoder(decoder, info)) if size is None else size,
        dense_bytes=4 * count,
    )


def compare_footprints(
    pruned: Decoder,
    info: DecoderInfo,
    patch_size: Sequence[int],
    *,
    dense: Decoder | None = None,
    precision: Precision = "auto",
) -> dict[str, Footprint]:
    """Footprints with measured seconds: ``dense`` if it is given, ``pruned``, ``compacted``.

    A decoder of another network's blocks (an imported one) is not compacted.

    Args:
        pruned: a decoder with a ticket, compacted already or not.
        patch_size: ``(Z, Y, X)`` at the encoder's input.
        dense: the decoder that it was pruned from.
    """
    compacted = None
    if type(pruned) is Decoder:
        compacted, _ = compact_measured(pruned, info.encoder_config, patch_size, precision)
    decoders = {"dense": dense, "pruned": pruned, "compacted": compacted}
    return {
        name: replace(
            footprint(decoder, replace(info, config=decoder.config)),
            seconds=measure_seconds(decoder, info.encoder_config, patch_size, precision),
        )
        for name, decoder in decoders.items()
        if decoder is not None
    }
