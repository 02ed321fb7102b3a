"""Pruning one decoder: draw the ticket, rewind the survivors, let them learn again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clnet.model.channel_ticket import draw_scoped_ticket
from clnet.model.decoder import Decoder
from clnet.model.ticket import Scope, Ticket, apply_ticket, rewind

__all__ = ["cut_and_rewind"]


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
