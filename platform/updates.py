"""When an update by moving average counts as one: no anatomy may be worse on the new data.

An anatomy that held-out patches of the new data label is judged by its Dice against the labels,
old version and new one on the same patches. One that they do not label, or only together with
others, is judged by how well the two versions agree where the labels leave it open. What appears
where nothing was counts against the new version, what the old one found in seeded phantoms may not
get lost, and an anatomy that nothing speaks for is not taken on trust, nor are scores on cases
that the new version learned from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clnet.anatomy import Patch
from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.outputs import Output, outputs_of
from clnet.model.plan import Plan
from clnet.model.supervision import supervise
from clnet.model.training import FeatureCache, Patches, encoded_batch
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
        agreement: Dice between the versions, by anatomy that it does not label exactly.
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
    held_out: bool = True,
    tolerance: float,
    precision: Precision = "auto",
) -> Verdict:
    """Compare two versions of a decoder on patches of the new data, and on phantoms.

    Args:
        plan: the encoder's.
        info: of either version.
        held_out: whether the patches are of cases that the new version did not learn from.
        tolerance: Dice that a labelled anatomy may lose.
    """
    cache = FeatureCache(batches, 1 << 30)
    counts = count_voxels(
        encoder, {"old": old, "new": new}, patches, batches, precision=precision, cache=cache
    )
    was, now = dice_scores(counts["old"]), dice_scores(counts["new"])
    known = outputs_of(info)
    exact = [frozenset(found.members) for found in counts["old"].values() if found.labelled]
    left_open = [output for output in known if not _made_of(output.members, exact)]
    alike = agreement(encoder, old, new, patches, batches, left_open, precision, cache)
    failed = [
        f"{name} fell from {before:.3f} to {now.get(name, 0.0):.3f}"
        for name, before in was.items()
        if now.get(name, 0.0) < before - tolerance
    ]
    failed += _strays(counts["old"], counts["new"])
    failed += [
        f"{name}, which the data does not label exactly, agrees with the old version to "
        f"{dice:.3f} only"
        for name, dice in alike.items()
        if dice < AGREEMENT
    ]
    shown = phantom_scores(encoder, plan, info, {"old": old, "new": new}, precision)
    failed += lost_in(shown["old"], shown["new"])
    if not now:
        failed.append("no held-out patch shows an anatomy of the decoder")
    parts = [*exact, *(frozenset(output.members) for output in known if output.anatomy in alike)]
    parts += [_leaves(info, name) for name, dice in shown["old"].items() if dice >= FOUND]
    failed += _unjudged([output for output in known if not _made_of(output.members, parts)])
    if not held_out:
        failed.append("no case was held out: it was judged on those that it learned from")
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


def _leaves(info: DecoderInfo, name: str) -> frozenset[str]:
    """What a channel, or several channels together, stand for; those may have no name but `a+b`."""
    channels = {channel.name: channel.members for channel in info.config.channels}
    if name in channels:
        return frozenset(channels[name])
    return frozenset(leaf for part in name.split("+") for leaf in vocabulary().leaves(part))


def _made_of(members: Sequence[str], parts: Sequence[frozenset[str]]) -> bool:
    """Whether some of `parts` make up `members`: a union tells nothing of one of its members."""
    inside = [part for part in parts if part <= set(members)]
    return frozenset().union(*inside) == set(members)


def _unjudged(outputs: Sequence[Output]) -> list[str]:
    """In words, what the decoder knows and neither held-out patches nor phantoms show."""
    if not outputs:
        return []
    names = ", ".join(sorted(output.anatomy for output in outputs))
    return [f"nothing tells whether {names} got worse: no held-out patch shows it, nor a phantom"]


@torch.no_grad()
def agreement(
    encoder: Encoder,
    old: Judged,
    new: Judged,
    patches: Patches,
    batches: int,
    outputs: Sequence[Output],
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> dict[str, float]:
    """Dice between two versions by anatomy, of `outputs` where the labels leave them open.

    Either version says which of the channels that a voxel's label admits it is. Where the old
    one sees nothing the Dice is 0 if the new one sees more than a speck (:data:`STRAY`), and left
    out otherwise.
    """
    device = encoder.device
    counts = {output.anatomy: Counts(output.members) for output in outputs}
    for t in range(batches if outputs else 0):
        batch, features = encoded_batch(encoder, patches, t, precision, cache)
        allowed = _allowed(batch, new.decoder, device)
        with convolving(precision, device):
            was, now = (_winner(judged, features, allowed) for judged in (old, new))
        for output in outputs:
            channels = list(output.channels)
            others = [k for k in range(allowed.shape[1]) if k not in channels]
            undecided = allowed[:, channels].any(dim=1) & allowed[:, others].any(dim=1)
            before, after = (
                torch.isin(winner, winner.new_tensor(channels)) & undecided for winner in (was, now)
            )
            found = counts[output.anatomy]
            found.known += int(undecided.sum())
            found.hit += int((before & after).sum())
            found.predicted += int(after.sum())
            found.labelled += int(before.sum())
    strays = [n for n, c in counts.items() if not c.labelled and c.predicted > STRAY * c.known]
    return dice_scores(counts) | dict.fromkeys(strays, 0.0)


def _allowed(patches: Sequence[Patch], decoder: Decoder, device: torch.device) -> torch.Tensor:
    config = decoder.config
    return supervise(patches, config.layer, config.channels, device).allowed


def _winner(
    judged: Judged, features: Sequence[torch.Tensor], allowed: torch.Tensor
) -> torch.Tensor:
    judged.decoder.eval()
    return judged.logits(features).masked_fill(~allowed, -torch.inf).argmax(dim=1)
