"""Training of the general encoder, through several group decoders at once.

The decoders teach the encoder together and come with it; each has a weight. Gradients meet at
the features: every decoder back-propagates to them alone, so that one decoder's activations
are in memory at a time, and the encoder is back-propagated once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from clnet.errors import JobFailed
from clnet.model.augmentation import augment
from clnet.model.ema import Average
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving
from clnet.model.parallel import SOLO, Workers
from clnet.model.training import Patches, Recipe, Trainee, decoder_step, to_images

__all__ = ["EncoderTraining", "pretrain"]


class EncoderTraining:
    """An encoder and its teachers, half-way: what a checkpoint of a pre-training holds."""

    def __init__(
        self,
        encoder: Encoder,
        teachers: Sequence[Trainee],
        recipe: Recipe,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.encoder = encoder
        self.teachers = teachers
        self.recipe = recipe
        self.weights = dict(weights or {})
        self.optimizer = torch.optim.AdamW(
            encoder.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.average = None if recipe.ema is None else Average(encoder, recipe.ema)

    def state(self) -> dict[str, Tensor]:
        """Everything that changes, as tensors."""
        state = {f"encoder.weights.{k}": v.clone() for k, v in self.encoder.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                state[f"encoder.moments.{index}.{name}"] = torch.as_tensor(value).clone()
        if self.average is not None:
            state |= {f"encoder.average.{k}": v.clone() for k, v in self.average.weights.items()}
        for teacher in self.teachers:
            state |= {f"teacher.{teacher.name}.{k}": v for k, v in teacher.state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`state`, bit for bit."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        self.encoder.load_state_dict(part("encoder.weights."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("encoder.moments.").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.average is not None:
            self.average.load(part("encoder.average."))
        for teacher in self.teachers:
            teacher.load_state(part(f"teacher.{teacher.name}."))

    def finish(self) -> Encoder:
        """The encoder with its averaged weights, if any; the teachers likewise.

        Raises:
            JobFailed: weights that are not finite.
        """
        if self.average is not None:
            self.average.copy_to(self.encoder)
        for teacher in self.teachers:
            teacher.finish()
        networks = {"the encoder": self.encoder} | {t.name: t.decoder for t in self.teachers}
        for name, network in networks.items():
            if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
                raise JobFailed(
                    f"encoder training: weights of {name} are not finite at the end: "
                    f"{self._advice()}"
                )
        return self.encoder

    def check(self, t: int, workers: Workers) -> None:
        """Look whether all that learns together still does, after batch `t`.

        Raises:
            JobFailed: some worker's loss of a teacher was not finite; on all workers at once.
        """
        device = self.encoder.device
        if not workers.any(any(teacher.diverged for teacher in self.teachers), device):
            return
        lost = [t.name for t in self.teachers if workers.any(t.diverged, device)]
        raise JobFailed(
            f"encoder training: the loss of {', '.join(lost)} was not finite at batch {t}: "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        return f"train again with a learning rate below {self.recipe.learning_rate:g}"


def pretrain(
    training: EncoderTraining,
    patches: Patches,
    *,
    first: int = 0,
    last: int | None = None,
    precision: Precision = "auto",
    augment_seed: int | None = None,
    workers: Workers = SOLO,
    on_batch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train encoder and teachers on batches `first` to `last` - 1 (default: the recipe's end).

    Args:
        training: changed in place.
        patches: the stream, of whole-body data.
        workers: who train together; each takes its share of every batch, and all end with the
            same weights.
        on_batch: called with `t` and the losses by teacher after each batch.

    Raises:
        JobFailed: the loss of a teacher was not finite: the encoder has nothing more to learn.
    """
    encoder, recipe = training.encoder, training.recipe
    device = encoder.device
    encoder.train()
    for teacher in training.teachers:
        teacher.decoder.train()
    for t in range(first, recipe.steps if last is None else last):
        batch = workers.share(patches(t))
        images = to_images(batch, device)
        if augment_seed is not None:
            images = augment(images, augment_seed, t * workers.size + workers.rank)
        with convolving(precision, device):
            features = encoder(images)
        leaves = [f.detach().requires_grad_() for f in features]
        losses: dict[str, float] = {}
        for teacher in training.teachers:
            weight = training.weights.get(teacher.name, 1.0)
            loss = decoder_step(teacher, leaves, batch, t, precision, weight)
            if loss is not None:
                losses[teacher.name] = loss
            if workers.average(teacher.decoder.parameters(), loss is not None, device):
                teacher.update(t)
            if teacher.average is not None:
                teacher.average.update(teacher.decoder, t)
        training.check(t, workers)
        taught = [
            (f, leaf.grad)
            for f, leaf in zip(features, leaves, strict=True)
            if leaf.grad is not None
        ]
        if taught:
            torch.autograd.backward([f for f, _ in taught], [gradient for _, gradient in taught])
        if workers.average(encoder.parameters(), bool(taught), device):
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), recipe.gradient_clip)
            for group in training.optimizer.param_groups:
                group["lr"] = recipe.rate_at(t)
            training.optimizer.step()
            training.optimizer.zero_grad(set_to_none=True)
        if training.average is not None:
            training.average.update(encoder, t)
        if on_batch:
            on_batch(t, losses)
