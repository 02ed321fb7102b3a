"""Pruning one decoder: draw the ticket, rewind the survivors, let them learn again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clnet.model.decoder import Decoder
from clnet.model.ticket import Ticket, apply_ticket, draw_ticket, rewind

__all__ = ["cut_and_rewind"]


def cut_and_rewind(
    decoder: Decoder, rate: float, earlier: Mapping[str, Tensor] | None = None
) -> Ticket:
    """Prune a trained `decoder` in place, ready to be trained again.

    The trained weights decide who survives; the survivors go back to `earlier` weights, or
    stay as they are if there are none.
    """
    ticket = draw_ticket(decoder, rate)
    if earlier is None:
        apply_ticket(decoder, ticket)
    else:
        rewind(decoder, earlier, ticket)
    decoder.requires_grad_(True)
    return ticket
