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
from clnet.model.encoder import Encoder, EncoderConfig
from clnet.model.geometry import Orientation, from_canonical, orientation_from
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.numerics import Precision
from clnet.model.plan import Plan
from clnet.model.probe import SEED
from clnet.model.probe_input import choose_patch
from clnet.model.validation import Judged, validate

__all__ = ["FOUND", "LOST", "lost_in", "phantom_patch", "phantom_scores"]

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
    found = [phantom_patch(encoder.config, plan, info, SEED + i) for i in range(PHANTOMS)]
    batches = [[patch] for patch in found if patch is not None]
    if not batches:
        return {name: {} for name in versions}
    return validate(encoder, versions, lambda t: batches[t], len(batches), precision=precision)


def phantom_patch(encoder: EncoderConfig, plan: Plan, info: DecoderInfo, seed: int) -> Patch | None:
    """A patch of a phantom as the network sees scans, in its own axis order, with its labels.

    None if phantoms show nothing of the decoder.
    """
    layer = info.config.layer
    contract = _contract(info)
    if contract is None:
        return None
    frame = _frame(plan)
    chosen = choose_patch(info, encoder, plan, seed, frame.axes)
    phantom = chosen.phantom()
    labels = np.zeros(chosen.size, np.uint8)
    for value, name in phantom.names[layer].items():
        labels[chosen.mask(phantom, name)] = value
    z_mm = np.arange(chosen.size[0], dtype=np.float64) * chosen.spacing[0]
    return Patch(
        image=plan.normalise(from_canonical(chosen.cut(phantom), frame)),
        labels={layer: from_canonical(labels, frame)},
        contract=contract,
        z_mm=z_mm[::-1] if frame.flips[0] else z_mm,
        case=f"phantom-{seed}",
        z_axis=frame.axes[0],
    )


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


def _frame(plan: Plan) -> Orientation:
    """How the network's axes lie to those of a phantom, which is stored in LPS."""
    if isinstance(plan, NnunetPlan):
        return plan.frame(orientation_from("LPS"))
    return Orientation((0, 1, 2), (False, False, False))
