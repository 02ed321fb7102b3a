"""Training of a general encoder from contributed datasets, through several decoders at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from clnet.anatomy import vocabulary
from clnet.data_catalog import PatchStream, ReadAhead
from clnet.model.decoder import Channel, DecoderConfig, build_decoder
from clnet.model.encoder import EncoderConfig, Kernel, build_encoder
from clnet.model.numerics import Precision
from clnet.model.parallel import SOLO, Workers
from clnet.model.pretraining import EncoderTraining, pretrain
from clnet.model.training import Recipe, Trainee

__all__ = ["Cancelled", "Teacher", "train_encoder"]

TALK_EVERY = 10
HEADS = 3

Progress = Callable[[float, str], None]


class Cancelled(Exception):
    """The training is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A decoder that teaches the encoder.

    Attributes:
        name: what progress and checkpoints call it.
        layer: of its anatomies.
        anatomies: leaves or composites.
        weight: of its loss.
    """

    name: str
    layer: str
    anatomies: tuple[str, ...]
    weight: float = 1.0

    def config(self, widths: tuple[int, ...], kernels: tuple[Kernel, ...] = ()) -> DecoderConfig:
        """Shape of the decoder: a channel per anatomy."""
        return DecoderConfig(
            self.name,
            self.layer,
            tuple(Channel(name, vocabulary().leaves(name)) for name in self.anatomies),
            widths=widths,
            kernels=kernels,
            heads=min(HEADS, len(widths)),
        )


def train_encoder(
    stream: PatchStream,
    config: EncoderConfig,
    teachers: Sequence[Teacher],
    recipe: Recipe,
    *,
    widths: tuple[int, ...],
    kernels: tuple[Kernel, ...] = (),
    seed: int = 0,
    precision: Precision = "auto",
    checkpoint: Path,
    checkpoint_every: int = 200,
    device: torch.device | None = None,
    workers: Workers = SOLO,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> EncoderTraining:
    """Train an encoder and its teachers to the end of `recipe`, going on from `checkpoint`.

    A checkpoint of other settings is not gone on from: its folder is the caller's to name.

    Args:
        stream: of whole-body data.
        config: shape of the encoder.
        teachers: decoders that learn at once with it.
        widths, kernels: of the teachers.
        checkpoint: file, written every `checkpoint_every` batches, whole or not at all.
        device: of all workers alike; the CPU by default.
        workers: who train together, all with the same arguments; the first writes.
        cancelled: asked at every checkpoint.

    Returns:
        The training with its averaged weights in encoder and teachers.

    Raises:
        Cancelled: it was.
        JobFailed: it diverged; on all workers at once.
    """
    device = device or torch.device("cpu")
    training = EncoderTraining(
        build_encoder(config, seed).to(device),
        [
            Trainee(
                teacher.name,
                build_decoder(teacher.config(widths, kernels), config, seed + 1 + index).to(device),
                recipe,
            )
            for index, teacher in enumerate(teachers)
        ],
        recipe,
        {teacher.name: teacher.weight for teacher in teachers},
    )
    first = _resume(training, checkpoint)
    for start in range(first, recipe.steps, checkpoint_every):
        if workers.any(cancelled(), device):
            raise Cancelled
        stop = min(recipe.steps, start + checkpoint_every)
        with ReadAhead(stream.patches, stop) as patches:
            pretrain(
                training,
                patches,
                first=start,
                last=stop,
                precision=precision,
                augment_seed=stream.spec.seed if stream.spec.augment else None,
                workers=workers,
                on_batch=_talk(recipe.steps, progress),
            )
        if workers.rank == 0:
            _keep(training, stop, checkpoint)
    training.finish()
    return training


def _talk(steps: int, progress: Progress | None) -> Callable[[int, dict[str, float]], None] | None:
    if progress is None:
        return None

    def on_batch(t: int, losses: Mapping[str, float]) -> None:
        if t % TALK_EVERY == 0 and losses:
            mean = sum(losses.values()) / len(losses)
            progress((t + 1) / steps, f"batch {t + 1} of {steps}, loss {mean:.3f}")

    return on_batch


def _keep(training: EncoderTraining, t: int, checkpoint: Path) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_suffix(".partial")
    state = {k: v.contiguous().cpu() for k, v in training.state().items()}
    save_file(state, temporary, {"progress": json.dumps({"t": t})})
    os.replace(temporary, checkpoint)


def _resume(training: EncoderTraining, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        t = int(json.loads(file.metadata()["progress"])["t"])
    training.load_state(load_file(checkpoint))
    return t
