"""The check that travels with every decoder: what it finds in phantoms, it must keep finding.

When a decoder is updated the data that taught it may be gone. Phantoms are not: they come from
a seed, hold nothing of a patient, and are the same at every site.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clnet.anatomy import LabelContract, LabelEntry, Patch, vocabulary
from clnet.anatomy.phantom import PHANTOM_LABELS
from clnet.model.artefact import DecoderInfo
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision
from clnet.model.plan import Plan
from clnet.model.probe import SEED
from clnet.model.probe_input import choose_patch
from clnet.model.validation import Judged, validate

__all__ = ["FOUND", "LOST", "lost_in", "phantom_scores"]

PHANTOMS = 3
FOUND = 0.5
"""Dice from which on an anatomy counts as found in phantoms: below, a fall says nothing."""
LOST = 0.1
"""Dice that an anatomy which was found may lose in them."""


def phantom_scores(
    encoder: Encoder,
    plan: Plan,
    info: DecoderInfo,
    versions: Mapping[str, Judged],
    precision: Precision = "auto",
) -> dict[str, dict[str, float]]:
    """Dice by anatomy of versions of one decoder in its phantoms; empty if they show none of it."""
    contract = _contract(info)
    if contract is None:
        return {name: {} for name in versions}
    batches = [[_patch(encoder, plan, info, contract, SEED + i)] for i in range(PHANTOMS)]
    return validate(encoder, versions, lambda t: batches[t], PHANTOMS, precision=precision)


def lost_in(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """In words, every anatomy that was found in phantoms before and is not any more."""
    return [
        f"{name} was found in phantoms to {score:.3f} and is to {after.get(name, 0.0):.3f} only"
        for name, score in before.items()
        if score >= FOUND and after.get(name, 0.0) < score - LOST
    ]


def _contract(info: DecoderInfo) -> LabelContract | None:
    """What phantoms label in the decoder's layer; None if nothing of the decoder is among it."""
    names = PHANTOM_LABELS.get(info.config.layer, {})
    entries = tuple(
        LabelEntry(value, info.config.layer, name, tuple(sorted(vocabulary().leaves(name))))
        for value, name in names.items()
    )
    own = {member for channel in info.config.channels for member in channel.members}
    shown = any(own & set(entry.members) for entry in entries)
    return LabelContract(entries) if shown else None


def _patch(
    encoder: Encoder, plan: Plan, info: DecoderInfo, contract: LabelContract, seed: int
) -> Patch:
    chosen = choose_patch(info, encoder.config, plan, seed)
    phantom = chosen.phantom()
    layer = info.config.layer
    labels = np.zeros(chosen.size, np.uint8)
    for value, name in phantom.names[layer].items():
        labels[chosen.mask(phantom, name)] = value
    return Patch(
        image=plan.normalise(chosen.cut(phantom)),
        labels={layer: labels},
        contract=contract,
        z_mm=np.arange(chosen.size[0], dtype=np.float64) * chosen.spacing[0],
        case=f"phantom-{seed}",
    )
