"""How sure a decoder may be: one temperature that makes its probabilities comparable to others'.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2): logits are divided by one
number T, fitted to held-out labels by the negative log-likelihood. No channel overtakes another
by it, so a decoder alone labels what it did; between decoders the score decides, and a bold one
should not win by its boldness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.supervision import supervise
from clnet.model.training import FeatureCache, Patches, encoded_batch
from clnet.model.validation import Judged

__all__ = [
    "FEWEST",
    "HOTTEST",
    "SAMPLE",
    "Calibration",
    "Evidence",
    "calibrate",
    "likelihood",
]

SAMPLE = 1 << 15
"""Voxels of a decoder that are kept to fit by: 19 MiB at the 118 channels of nnU-Net's largest."""
FEWEST = 1 << 8
"""Voxels that it takes. One number needs few, but neighbours say the same."""
HOTTEST = 4.0
"""The temperature lies between its inverse and this: where no voxel is wrong the likelihood alone
would go on to 0."""
DIGITS = 4
"""Decimals of a temperature, so that the last bits of a sum make no other artefact."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a decoder's temperature was fitted to.

    Attributes:
        temperature: that its logits are divided by.
        nll_before, nll_after: mean negative log-likelihood of the labels in nats, at temperature
            1 and at this one.
        voxels: that it was fitted to.
    """

    temperature: float
    nll_before: float
    nll_after: float
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON-able values."""
        return asdict(self)


class Evidence:
    """A sample of the voxels that tell how sure a decoder may be, of bounded size.

    Those that it would claim in a merge, where the label says anything. What it missed is left
    out, as what it rightly left to background is: a choice that looks at labels would make exact
    posteriors look too sure. Every voxel draws a number, and those with the lowest stay: a
    uniform sample, whatever is added after it. The numbers depend on `t` and the voxel's place
    alone, so a decoder's sample is the same in any company.

    Args:
        size: voxels that are kept at most.
    """

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._drawn = torch.empty(0, dtype=torch.float64)
        self._logits = torch.empty(0, 0)
        self._allowed = torch.empty(0, 0, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._drawn)

    def add(self, t: int, logits: Tensor, allowed: Tensor) -> None:
        """Take in batch `t`.

        Args:
            t: seeds the draw.
            logits: ``(B, K + 1, Z, Y, X)``.
            allowed: channels that each voxel may belong to, bool, of the same shape, see
                :class:`~clnet.model.supervision.Supervision`.
        """
        told = (logits.argmax(dim=1) != 0) & ~allowed.all(dim=1)
        numbers = torch.from_numpy(np.random.default_rng(t).random(told.numel()))
        places = told.flatten().nonzero().flatten().cpu()
        places = places[numbers[places].argsort()[: self._size]]
        drawn = torch.cat((self._drawn, numbers[places]))
        lowest = drawn.argsort()[: self._size]
        self._drawn = drawn[lowest]
        self._logits = _joined(self._logits, _at(logits, places).float())[lowest]
        self._allowed = _joined(self._allowed, _at(allowed, places))[lowest]

    def fit(self) -> Calibration | None:
        """The temperature of the least negative log-likelihood, or None with too few voxels.

        With exact labels the likelihood has one optimum; sums of probabilities may have several,
        of which one is found.
        """
        if len(self) < FEWEST:
            return None
        logits, allowed = self._logits.double(), self._allowed
        end = math.log(HOTTEST)
        found = minimize_scalar(
            lambda log_t: likelihood(logits, allowed, math.exp(log_t)),
            bounds=(-end, end),
            method="bounded",
        )
        before = likelihood(logits, allowed)
        temperature = round(math.exp(found.x), DIGITS)
        after = likelihood(logits, allowed, temperature)
        if after >= before:
            temperature, after = 1.0, before
        return Calibration(temperature, before, after, len(self))


def likelihood(logits: Tensor, allowed: Tensor, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood: -log of the probability that is on the allowed channels.

    Args:
        logits: ``(N, K + 1)``.
        allowed: channels that each voxel may belong to, bool ``(N, K + 1)``.
        temperature: that the logits are divided by.
    """
    scaled = logits / temperature
    admitted = scaled.masked_fill(~allowed, -torch.inf)
    return float((scaled.logsumexp(dim=1) - admitted.logsumexp(dim=1)).mean())


@torch.no_grad()
def calibrate(
    encoder: Encoder,
    decoders: Mapping[str, Judged],
    patches: Patches,
    batches: int,
    *,
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> dict[str, Calibration]:
    """Fit a temperature to each decoder in one pass over `batches` batches of held-out patches.

    Windows are taken as they are: inference averages overlapping ones, which leaves a decoder
    slightly surer than it is told here to be.

    Args:
        encoder: frozen.
        decoders: by name, with those that they lean on.
        patches: that nothing was trained on.
        batches: of the stream.
        precision: of the convolutions.
        cache: of features, so that a stream that was validated on costs no encoding.

    Returns:
        By name; those with fewer than :data:`FEWEST` voxels to fit are left out.
    """
    device = encoder.device
    evidence = {name: Evidence() for name in decoders}
    for judged in decoders.values():
        judged.decoder.eval()
    for t in range(batches):
        batch, features = encoded_batch(encoder, patches, t, precision, cache)
        for name, judged in decoders.items():
            config = judged.decoder.config
            with convolving(precision, device):
                logits = judged.logits(features)
            supervision = supervise(batch, config.layer, config.channels, device)
            evidence[name].add(t, logits, supervision.allowed)
    fitted = {name: sample.fit() for name, sample in evidence.items()}
    return {name: found for name, found in fitted.items() if found is not None}


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Rows ``(N, C)`` of the voxels of ``(B, C, Z, Y, X)`` at flat places ``(N,)``, on the CPU."""
    flat = values.flatten(2)
    places = places.to(values.device)
    return flat[places // flat.shape[2], :, places % flat.shape[2]].cpu()


def _joined(rows: Tensor, more: Tensor) -> Tensor:
    return torch.cat((rows, more)) if len(rows) else more
