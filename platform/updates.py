"""When an update by moving average counts as one: no anatomy may be worse on the new data.

An anatomy that the new data labels is judged by its Dice against the labels, old version and
new one on the same held-out patches. One that it does not label is judged by how well the
two versions agree there. What appears where nothing was counts against the new version, what the
old one found in seeded phantoms may not get lost, and an anatomy that nothing speaks for is not
taken on trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.plan import Plan
from clnet.model.training import FeatureCache, Patches, to_images
from clnet.model.validation import Counts, Judged, count_voxels, dice_scores
from clnet.platform.phantom_check import FOUND, lost_in, phantom_scores

__all__ = ["AGREEMENT", "STRAY", "Verdict", "agreement", "judge_update"]

AGREEMENT = 0.9
"""Dice between old and new version that an anatomy without labels must reach."""
STRAY = 0.001
"""Share of the voxels looked at that may become an anatomy of which nothing is there: more is no
speck, 7 ml in a patch of 128 x 128 x 128 voxels of 1.5 mm."""


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
    counts = count_voxels(
        encoder, {"old": old, "new": new}, patches, batches, precision=precision, cache=cache
    )
    was, now = dice_scores(counts["old"]), dice_scores(counts["new"])
    alike = agreement(encoder, old, new, patches, batches, distilled, precision, cache)
    failed = [
        f"{name} fell from {before:.3f} to {now.get(name, 0.0):.3f}"
        for name, before in was.items()
        if now.get(name, 0.0) < before - tolerance
    ]
    failed += _strays(counts["old"], counts["new"])
    failed += [
        f"{name}, which the data does not label, agrees with the old version to {dice:.3f} only"
        for name, dice in alike.items()
        if dice < AGREEMENT
    ]
    shown = phantom_scores(encoder, plan, info, {"old": old, "new": new}, precision)
    failed += lost_in(shown["old"], shown["new"])
    if not now:
        failed.append("no held-out patch shows an anatomy of the decoder")
    failed += _unjudged(info, counts["old"], alike, shown["old"])
    phantoms = {name: (dice, shown["new"].get(name, 0.0)) for name, dice in shown["old"].items()}
    return Verdict(was, now, alike, phantoms, "; ".join(failed))


def _strays(before: Mapping[str, Counts], after: Mapping[str, Counts]) -> list[str]:
    """In words, every anatomy that the patches lack and the new version sees all the same."""
    return [
        f"{name} is nowhere in the held-out patches, and {counts.predicted} voxels became it "
        f"({before[name].predicted} in the old version)"
        for name, counts in sorted(after.items())
        if not counts.labelled
        and counts.predicted - before[name].predicted > STRAY * max(1, counts.known)
    ]


def _unjudged(
    info: DecoderInfo,
    labelled: Mapping[str, Counts],
    alike: Mapping[str, float],
    phantoms: Mapping[str, float],
) -> list[str]:
    """In words, what the decoder knows and neither held-out patches nor phantoms show."""
    judged = {m for counts in labelled.values() if counts.labelled for m in counts.members}
    judged |= {
        m for channel in info.config.channels if channel.name in alike for m in channel.members
    }
    judged |= {
        m for name, dice in phantoms.items() if dice >= FOUND for m in vocabulary().leaves(name)
    }
    known = [*((leaf,) for leaf in info.learned), *info.unions]
    unjudged = [vocabulary().composite_of(one) for one in known if not judged & set(one)]
    if not unjudged:
        return []
    names = ", ".join(sorted(unjudged))
    return [f"nothing tells whether {names} got worse: no held-out patch shows it, nor a phantom"]


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
    """Dice between two versions by anatomy, for logit `channels`.

    Where the old version sees nothing it is 0 if the new one sees more than a speck
    (:data:`STRAY`), and left out otherwise.
    """
    device = encoder.device
    counts: dict[str, Counts] = {}
    for t in range(batches if channels else 0):
        kept = cache.get(t) if cache else None
        with convolving(precision, device):
            features = kept[1] if kept else encoder(to_images(patches(t), device))
            was, now = (_winner(judged, features) for judged in (old, new))
        for channel in channels:
            own = new.decoder.config.channels[channel - 1]
            found = counts.setdefault(own.name, Counts(own.members))
            found.known += now.numel()
            found.hit += int(((was == channel) & (now == channel)).sum())
            found.predicted += int((now == channel).sum())
            found.labelled += int((was == channel).sum())
    strays = [n for n, c in counts.items() if not c.labelled and c.predicted > STRAY * c.known]
    return dice_scores(counts) | dict.fromkeys(strays, 0.0)


def _winner(judged: Judged, features: list[torch.Tensor]) -> torch.Tensor:
    judged.decoder.eval()
    return judged.winner(features)
