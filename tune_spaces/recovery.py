"""Pruning one decoder: draw the ticket, rewind the survivors, let them learn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from clnet.model.artefact import decode_decoder
from clnet.model.channel_ticket import draw_scoped_ticket
from clnet.model.decoder import Decoder, DecoderConfig, adopt, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.ticket import Scope, Ticket, apply_ticket, rewind
from clnet.tune_spaces.rewinding import RewindTo

__all__ = ["cut_and_rewind", "earlier_decoder"]


def earlier_decoder(
    rewind: RewindTo,
    config: DecoderConfig,
    encoder: EncoderConfig,
    artefacts: Callable[[str], bytes],
) -> Decoder | None:
    """The decoder as it was at the point that survivors go back to; None where they stay.

    Args:
        artefacts: bytes by hash.
    """
    if rewind.sha256 is not None:
        return decode_decoder(artefacts(rewind.sha256))[0]
    if rewind.seed is None:
        return None
    decoder = build_decoder(config, encoder, rewind.seed)
    if rewind.start is not None:
        adopt(decoder, decode_decoder(artefacts(rewind.start))[0])
    return decoder


def cut_and_rewind(
    decoder: Decoder,
    rate: float,
    earlier: Mapping[str, Tensor] | None = None,
    scope: Scope = "global",
) -> Ticket:
    """Prune a trained `decoder` in place, ready to be trained again.

    The trained weights decide who survives; the survivors go back to `earlier` weights, or
    stay as they are if there are none.

    Raises:
        Incompatible: whole channels of a decoder that is not of clnet's own blocks.
    """
    ticket = draw_scoped_ticket(decoder, rate, scope)
    if earlier is None:
        apply_ticket(decoder, ticket)
    else:
        rewind(decoder, earlier, ticket)
    decoder.requires_grad_(True)
    return ticket
