"""Packed training: one encoding of each batch serves every decoder of the pack.

Each decoder keeps its own optimiser, schedule, ticket and average, and sees nothing of its
neighbours: trained alone on the same stream it gets the same weights. Parallelism is applied
from outside.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clnet.anatomy import Patch
from clnet.errors import InputError
from clnet.model.augmentation import augment
from clnet.model.decoder import Decoder
from clnet.model.distillation import Meanings, either, folded
from clnet.model.ema import Average
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.supervision import Supervision, deep_supervision_loss, has_foreground, supervise
from clnet.model.supporters import ALONE, Supporters
from clnet.model.ticket import Ticket, apply_ticket

__all__ = [
    "Distillation",
    "FeatureCache",
    "Patches",
    "Recipe",
    "Trainee",
    "decoder_step",
    "encoded_batch",
    "train_pack",
]

Patches = Callable[[int], Sequence[Patch]]
"""Batch `t` of a stream: a pure function of `t`."""

NEVER = -1e4
"""Logit of a channel that labels rule out: no probability is left of it in float32, and gradients
stay numbers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one decoder learns. All schedules count batches of the stream, skipped ones included.

    Attributes:
        steps: batches; the learning rate falls to zero at this one.
        learning_rate: peak, after a linear warm-up of `warm_up` batches, before a cosine decay.
        weight_decay: of AdamW.
        negatives: every n-th sample without own foreground is learned from; the rest are skipped.
        ema: momentum of the averaged weights, or None for none.
        ema_warm_up: let the momentum grow from 0.1 over the first batches.
        gradient_clip: largest gradient norm.
    """

    steps: int
    learning_rate: float = 3e-3
    weight_decay: float = 3e-5
    warm_up: int = 20
    negatives: int = 8
    ema: float | None = None
    ema_warm_up: bool = True
    gradient_clip: float = 12.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.negatives < 1:
            raise InputError("recipe: steps and negatives must be at least 1")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise InputError(f"recipe: ema momentum {self.ema}: must be at least 0 and below 1")

    def rate_at(self, t: int) -> float:
        """Learning rate of batch `t`."""
        if t < self.warm_up:
            return self.learning_rate * (t + 1) / (self.warm_up + 1)
        progress = (t - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Distillation:
    """Keeps what new data's labels leave open as an older version sees it.

    Attributes:
        teacher: the older version, frozen.
        meanings: what the two can both tell, where their channels differ; all else is background.
        supporters: of the teacher, where they are not the trainee's.
    """

    teacher: Decoder
    meanings: Meanings = ()
    supporters: Supporters | None = None


@dataclass(slots=True)
class Trainee:
    """A decoder in training.

    Attributes:
        supporters: frozen decoders that it leans on, and theirs.
        origin: batch of the stream that its recipe begins at.
    """

    name: str
    decoder: Decoder
    recipe: Recipe
    ticket: Ticket | None = None
    supporters: Supporters = ALONE
    distillation: Distillation | None = None
    origin: int = 0
    average: Average | None = field(init=False, default=None)
    optimizer: torch.optim.AdamW = field(init=False)
    diverged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        if self.ticket is not None:
            apply_ticket(self.decoder, self.ticket)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        if recipe.ema is not None:
            self.average = Average(self.decoder, recipe.ema, warm_up=recipe.ema_warm_up)

    @property
    def end(self) -> int:
        """Batch of the stream that its recipe ends before."""
        return self.origin + self.recipe.steps

    def snapshot(self) -> Decoder:
        """A copy of the decoder as it would be if the training ended now."""
        decoder = copy.deepcopy(self.decoder)
        if self.average is not None:
            self.average.copy_to(decoder)
        return decoder

    def update(self, t: int) -> None:
        """One optimiser step from the gradients at hand."""
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.recipe.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(t - self.origin)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ticket is not None:
            apply_ticket(self.decoder, self.ticket)

    def finish(self) -> Decoder:
        """The decoder with its averaged weights, if it has any, in evaluation mode."""
        if self.average is not None:
            self.average.copy_to(self.decoder)
        return self.decoder.eval()

    def state(self) -> dict[str, Tensor]:
        """Everything that changes in training, as tensors: what a checkpoint holds."""
        state = {f"weights.{k}": v.detach().clone() for k, v in self.decoder.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                state[f"moments.{index}.{name}"] = torch.as_tensor(value).clone()
        if self.average is not None:
            state |= {f"average.{k}": v.clone() for k, v in self.average.weights.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`state`, bit for bit."""
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}, "average": {}}
        for key, value in state.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        self.decoder.load_state_dict(parts["weights"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["moments"].items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.average is not None:
            self.average.load(parts["average"])


class FeatureCache:
    """Features of batches that come again: of a frozen encoder they never change.

    Holds the batches of one `period` up to `max_bytes`; those that do not fit are encoded anew.
    """

    def __init__(self, period: int, max_bytes: int) -> None:
        self.period = period
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: dict[int, tuple[Sequence[Patch], list[Tensor]]] = {}

    def get(self, t: int) -> tuple[Sequence[Patch], list[Tensor]] | None:
        """Patches and features of batch `t`, if they were kept."""
        return self._kept.get(t % self.period)

    def put(self, t: int, patches: Sequence[Patch], features: list[Tensor]) -> None:
        """Keep batch `t` if there is room."""
        size = sum(f.nbytes for f in features) + sum(
            p.image.nbytes + sum(m.nbytes for m in p.labels.values()) for p in patches
        )
        if self.bytes + size <= self.max_bytes:
            self.bytes += size
            self._kept[t % self.period] = (patches, features)


def to_images(patches: Sequence[Patch], device: torch.device) -> Tensor:
    """Images of `patches`, float32 ``(B, 1, Z, Y, X)``."""
    return torch.from_numpy(np.stack([p.image for p in patches])[:, None]).to(device)


@torch.no_grad()
def encoded_batch(
    encoder: Encoder,
    patches: Patches,
    t: int,
    precision: Precision,
    cache: FeatureCache | None = None,
    augment_seed: int | None = None,
) -> tuple[Sequence[Patch], Sequence[Tensor]]:
    """Patches and features of batch `t`, encoded unless `cache` has them; kept there if it may."""
    kept = cache.get(t) if cache else None
    if kept is not None:
        return kept
    batch = patches(t)
    images = to_images(batch, encoder.device)
    if augment_seed is not None:
        images = augment(images, augment_seed, t % cache.period if cache else t)
    with convolving(precision, encoder.device):
        features = encoder(images)
    if cache:
        cache.put(t, batch, features)
    return batch, features


def decoder_step(
    trainee: Trainee,
    features: Sequence[Tensor],
    patches: Sequence[Patch],
    t: int,
    precision: Precision,
    weight: float = 1.0,
) -> float | None:
    """Loss of one decoder on batch `t`, back-propagated; None if its rule skips the batch.

    The rule looks at the decoder's own labels and `t` alone: samples with own foreground, and
    every `negatives`-th of the others.
    """
    config = trainee.decoder.config
    chosen = [
        b
        for b, patch in enumerate(patches)
        if has_foreground(patch, config.layer, config.channels)
        or (t * len(patches) + b) % trainee.recipe.negatives == 0
    ]
    if not chosen:
        return None
    inputs = list(features) if len(chosen) == len(patches) else [f[chosen] for f in features]
    supervision = supervise(
        [patches[b] for b in chosen], config.layer, config.channels, features[0].device
    )
    with convolving(precision, features[0].device):
        support = trainee.supporters.logits(config, inputs)
        logits = trainee.decoder(inputs, support)
    loss = deep_supervision_loss(logits, supervision)
    if trainee.distillation is not None:
        loss = loss + _distil(trainee.distillation, logits, inputs, support, supervision, precision)
    if not torch.isfinite(loss):
        trainee.diverged = True
        return None
    (weight * loss).backward()
    return float(loss.detach())


def _distil(
    distillation: Distillation,
    logits: Sequence[Tensor],
    features: Sequence[Tensor],
    support: Sequence[Sequence[Tensor]],
    supervision: Supervision,
    precision: Precision,
) -> Tensor:
    """Cross-entropy to the teacher among the channels that the labels of a voxel leave open.

    What the labels decide is theirs: of a sibling that they do not know the teacher says where it
    is beside what they know, and within a union how its members share it.
    """
    ours, theirs = zip(*distillation.meanings, strict=True) if distillation.meanings else ((), ())
    allowed = either(supervision.allowed, ours) if ours else supervision.allowed
    open_voxels = allowed.sum(dim=1) > 1
    if not open_voxels.any():
        return logits[0].new_zeros((), dtype=torch.float32)
    with torch.no_grad(), convolving(precision, features[0].device):
        if distillation.supporters is not None:
            support = distillation.supporters.logits(distillation.teacher.config, features)
        older = distillation.teacher(features, support)[0].float()
    newer = logits[0].float().masked_fill(~supervision.allowed, NEVER)
    if ours:
        older, newer = folded(older, theirs), folded(newer, ours)
    target = older.masked_fill(~allowed, NEVER).softmax(dim=1)
    entropy = -(target * newer.log_softmax(dim=1)).sum(dim=1)
    mean: Tensor = (entropy * open_voxels).sum() / open_voxels.sum()
    return mean


def train_pack(
    encoder: Encoder,
    trainees: Sequence[Trainee],
    patches: Patches,
    *,
    first: int = 0,
    last: int | None = None,
    precision: Precision = "auto",
    augment_seed: int | None = None,
    cache: FeatureCache | None = None,
    on_batch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train a pack of decoders on the frozen encoder, batches `first` to `last` - 1.

    Args:
        encoder: frozen; one forward pass without gradients serves all trainees.
        trainees: changed in place. One that diverges is left as it is from then on, its
            neighbours go on.
        patches: the stream.
        first: batch to begin with; to resume is to set it, after `Trainee.load_state`.
        last: by default the longest recipe's steps.
        augment_seed: seed of the intensity augmentation, None for none.
        cache: of features, where the stream has a period.
        on_batch: called with `t` and the losses by trainee name after each batch.
    """
    end = max(trainee.end for trainee in trainees) if last is None else last
    for trainee in trainees:
        trainee.decoder.train()
    for t in range(first, end):
        batch, features = encoded_batch(encoder, patches, t, precision, cache, augment_seed)
        losses: dict[str, float] = {}
        for trainee in trainees:
            if trainee.diverged or t >= trainee.end:
                continue
            loss = decoder_step(trainee, features, batch, t, precision)
            if loss is not None:
                trainee.update(t)
                losses[trainee.name] = loss
            if trainee.average is not None and not trainee.diverged:
                trainee.average.update(trainee.decoder, t - trainee.origin)
        if on_batch:
            on_batch(t, losses)
