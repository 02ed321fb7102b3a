"""Dice scores of decoders on a stream of labelled patches, under the label contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clnet.anatomy import Patch
from clnet.anatomy.vocabulary import vocabulary
from clnet.model.decoder import Decoder, DecoderConfig
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.supervision import supervise
from clnet.model.supporters import ALONE, Supporters
from clnet.model.training import FeatureCache, Patches, encoded_batch

__all__ = ["Counts", "Judged", "count_voxels", "dice_scores", "mean_score", "validate"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A decoder to validate, with the decoders it leans on, and theirs."""

    decoder: Decoder
    supporters: Supporters = ALONE

    def logits(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """The finest logits, ``(B, K + 1, Z, Y, X)``."""
        support = self.supporters.logits(self.decoder.config, features)
        finest: torch.Tensor = self.decoder(features, support)[0]
        return finest

    def winner(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Index of the strongest logit at every voxel, ``(B, Z, Y, X)``."""
        return self.logits(features).argmax(dim=1)


@dataclass(slots=True)
class Counts:
    """Voxels of one anatomy, over all patches.

    Attributes:
        members: leaf anatomies that it stands for.
        hit, predicted, labelled: voxels found rightly, found, and there.
        known: voxels of which it is known whether they are of it.
    """

    members: tuple[str, ...] = ()
    hit: int = 0
    predicted: int = 0
    labelled: int = 0
    known: int = 0

    @property
    def dice(self) -> float | None:
        """Dice score, None where nothing was labelled."""
        return 2 * self.hit / (self.predicted + self.labelled) if self.labelled else None


def validate(
    encoder: Encoder,
    decoders: Mapping[str, Judged],
    patches: Patches,
    batches: int,
    *,
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> dict[str, dict[str, float]]:
    """Dice score per anatomy of each decoder, pooled over `batches` batches of a stream.

    A label that names several channels is scored as their union, voxels whose truth is not
    known count nowhere, and an anatomy that no patch holds has no score.

    Args:
        cache: of features, so that validating again costs no encoding.
    """
    found = count_voxels(encoder, decoders, patches, batches, precision=precision, cache=cache)
    return {name: dice_scores(counts) for name, counts in found.items()}


@torch.no_grad()
def count_voxels(
    encoder: Encoder,
    decoders: Mapping[str, Judged],
    patches: Patches,
    batches: int,
    *,
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> dict[str, dict[str, Counts]]:
    """What :func:`validate` makes its scores of: voxels by decoder and anatomy."""
    device = encoder.device
    counts: dict[str, dict[str, Counts]] = {name: {} for name in decoders}
    training = {name: judged.decoder.training for name, judged in decoders.items()}
    for judged in decoders.values():
        judged.decoder.eval()
    for t in range(batches):
        batch, features = encoded_batch(encoder, patches, t, precision, cache)
        for name, judged in decoders.items():
            with convolving(precision, device):
                winner = judged.winner(features)
            _count(counts[name], winner, batch, judged.decoder.config)
    for name, judged in decoders.items():
        judged.decoder.train(training[name])
    return counts


def dice_scores(counts: Mapping[str, Counts]) -> dict[str, float]:
    """Dice by anatomy, of those that were labelled somewhere, sorted by name."""
    scores = {name: found.dice for name, found in sorted(counts.items())}
    return {name: score for name, score in scores.items() if score is not None}


def mean_score(scores: Mapping[str, float]) -> float:
    """Mean over anatomies, 0 where there is none: to show, and no verdict on the decoder."""
    return sum(scores.values()) / len(scores) if scores else 0.0


def _count(
    counts: dict[str, Counts],
    winner: torch.Tensor,
    patches: Sequence[Patch],
    config: DecoderConfig,
) -> None:
    supervision = supervise(patches, config.layer, config.channels, winner.device)
    for region in supervision.regions:
        channels = [config.channels[index - 1] for index in region.channels]
        members = tuple(sorted(m for channel in channels for m in channel.members))
        name = channels[0].name if len(channels) == 1 else vocabulary().composite_of(members)
        predicted = torch.isin(winner, winner.new_tensor(region.channels)) & region.known
        truth = region.truth & region.known
        found = counts.setdefault(name, Counts(members))
        found.hit += int((predicted & truth).sum())
        found.predicted += int(predicted.sum())
        found.labelled += int(truth.sum())
        found.known += int(region.known.sum())
