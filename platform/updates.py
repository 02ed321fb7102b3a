"""When an update by moving average counts as one: no anatomy may be worse on the new data.

An anatomy that the new data labels is judged by its Dice against the labels, old version and
new one on the same held-out patches. One that it does not label is judged by how well the
two versions agree there. And what the old version found in seeded phantoms may not get lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, autocast
from clnet.model.plan import Plan
from clnet.model.training import FeatureCache, Patches, to_images
from clnet.model.validation import Counts, Judged, dice_scores, validate
from clnet.platform.phantom_check import lost_in, phantom_scores

__all__ = ["AGREEMENT", "Verdict", "agreement", "judge_update"]

AGREEMENT = 0.9
"""Dice between old and new version that an anatomy without labels must reach."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an update is accepted.

    Attributes:
        before, after: Dice by anatomy that the new data labels, of the old and the new version.
        agreement: Dice between the versions, by anatomy that it does not label.
        phantoms: Dice in the decoder's phantoms, of the old and the new version.
        reason: which anatomy failed and why; empty if all passed.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    agreement: Mapping[str, float]
    phantoms: Mapping[str, tuple[float, float]]
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether every anatomy passed."""
        return not self.reason


def judge_update(
    encoder: Encoder,
    plan: Plan,
    info: DecoderInfo,
    old: Judged,
    new: Judged,
    patches: Patches,
    batches: int,
    *,
    distilled: Sequence[int] = (),
    tolerance: float,
    precision: Precision = "auto",
) -> Verdict:
    """Compare two versions of a decoder on held-out patches of the new data, and on phantoms.

    Args:
        plan: the encoder's.
        info: of either version.
        distilled: channels that the data does not label.
        tolerance: Dice that a labelled anatomy may lose.
    """
    cache = FeatureCache(batches, 1 << 30)
    scores = validate(
        encoder, {"old": old, "new": new}, patches, batches, precision=precision, cache=cache
    )
    alike = agreement(encoder, old, new, patches, batches, distilled, precision, cache)
    failed = [
        f"{name} fell from {before:.3f} to {scores['new'].get(name, 0.0):.3f}"
        for name, before in scores["old"].items()
        if scores["new"].get(name, 0.0) < before - tolerance
    ]
    failed += [
        f"{name}, which the data does not label, agrees with the old version to {dice:.3f} only"
        for name, dice in alike.items()
        if dice < AGREEMENT
    ]
    shown = phantom_scores(encoder, plan, info, {"old": old, "new": new}, precision)
    failed += lost_in(shown["old"], shown["new"])
    if not scores["new"]:
        failed.append("no held-out patch shows an anatomy of the decoder")
    phantoms = {name: (dice, shown["new"].get(name, 0.0)) for name, dice in shown["old"].items()}
    return Verdict(scores["old"], scores["new"], alike, phantoms, "; ".join(failed))


@torch.no_grad()
def agreement(
    encoder: Encoder,
    old: Judged,
    new: Judged,
    patches: Patches,
    batches: int,
    channels: Sequence[int],
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> dict[str, float]:
    """Dice between two versions by anatomy, for logit `channels`, where the old one sees any."""
    device = encoder.device
    counts: dict[str, Counts] = {}
    for t in range(batches if channels else 0):
        kept = cache.get(t) if cache else None
        with autocast(precision, device):
            features = kept[1] if kept else encoder(to_images(patches(t), device))
            was, now = (_winner(judged, features) for judged in (old, new))
        for channel in channels:
            name = new.decoder.config.channels[channel - 1].name
            found = counts.setdefault(name, Counts())
            found.hit += int(((was == channel) & (now == channel)).sum())
            found.predicted += int((now == channel).sum())
            found.labelled += int((was == channel).sum())
    return dice_scores(counts)


def _winner(judged: Judged, features: list[torch.Tensor]) -> torch.Tensor:
    decoder: Decoder = judged.decoder.eval()
    support = [supporter(features) for supporter in judged.supporters]
    winner: torch.Tensor = decoder(features, support)[0].argmax(dim=1)
    return winner
