"""The task that decoders are pruned on: phantoms, the starter's encoder, training and judging."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from pruning_recipe import Learning, PruningRecipe, Scans, Schedule
from torch import Tensor

from clnet.anatomy import default_stratification, vocabulary
from clnet.data_catalog import DatasetPin, PatchStream, StreamSpec
from clnet.hub import Hub
from clnet.model.artefact import DecoderInfo, decode_encoder
from clnet.model.decoder import Channel, Decoder, DecoderConfig, build_decoder
from clnet.model.encoder import Encoder
from clnet.model.lottery import Lottery, PruningSchedule
from clnet.model.plan import Plan
from clnet.model.pruning import prune
from clnet.model.ticket import prunable
from clnet.model.training import FeatureCache, Recipe, Trainee, train_pack
from clnet.model.validation import Judged, mean_score, validate
from clnet.quickstart.recipe import Site
from clnet.quickstart.sites import contribute
from clnet.starter import RELEASE

__all__ = ["Task", "as_small"]

Tell = Callable[[float, str], None]
CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """One group on the starter's encoder.

    Attributes:
        stream, validation, judging: to learn from, to accept by, and to be judged by.
    """

    recipe: PruningRecipe
    encoder: Encoder
    encoder_sha256: str
    plan: Plan
    config: DecoderConfig
    stream: PatchStream
    validation: PatchStream
    judging: PatchStream

    @classmethod
    def of(cls, hub: Hub, recipe: PruningRecipe, group: str, tell: Tell) -> Task:
        """The task of `group`; phantoms that are there already are reused."""
        starter = hub.releases.import_(RELEASE)
        known = starter.decoders[0]
        encoder, plan = decode_encoder(hub.registry.artefact(known.encoder_sha256))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        anatomies, home = recipe.groups[group], default_stratification()[group]
        channels = tuple(Channel(name, vocabulary().leaves(name)) for name in anatomies)
        every = {name for members in recipe.groups.values() for name in members}
        learn = _dataset(hub, recipe.site, every, tell)
        judge = _dataset(hub, recipe.held_out, every, tell)
        focus = tuple(sorted(leaf for channel in channels for leaf in channel.members))

        def stream(dataset: str, split: str, total: int, fraction: float) -> PatchStream:
            store = hub.catalog.plan_store(hub.datasets.get(dataset), plan.to_dict())
            training = split == "train" and fraction > 0
            spec = StreamSpec(
                datasets=(DatasetPin(ref=store.dataset.ref, sha256=store.dataset.sha256),),
                plan_sha256=store.plan_sha256,
                patch_size=recipe.stream.patch_size or plan.patch_size,
                batch_size=recipe.stream.batch_size,
                focus=focus,
                foreground=recipe.stream.foreground if training else (0.5, 0.5),
                total=total,
                val_fraction=fraction,
                split=split,  # type: ignore[arg-type]
                seed=0 if training else 1,
                period=None if training else total,
                augment=training,
            )
            return PatchStream([store], spec)

        return cls(
            recipe,
            encoder.to(device),
            known.encoder_sha256,
            plan,
            DecoderConfig(group, home.layer, channels, **recipe.decoder.model_dump()),
            stream(learn, "train", recipe.train.steps, 0.2),
            stream(learn, "val", recipe.validation, 0.2),
            stream(judge, "train", recipe.judging, 0.0),
        )

    @property
    def patch(self) -> tuple[int, int, int]:
        """Size of a patch."""
        return self.stream.spec.patch_size

    def train(
        self,
        decoder: Decoder,
        *stages: Learning,
        keep: Mapping[str, int] | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        """Train a dense decoder in place, stage after stage along the stream.

        Returns:
            Weights by name of `keep`, as they were after so many batches.
        """
        kept: dict[str, dict[str, Tensor]] = {}
        start = 0
        for stage in stages:
            trainee = Trainee("", decoder.train(), Recipe(**stage.model_dump()), origin=start)
            marks = {at: name for name, at in (keep or {}).items() if start <= at < trainee.end}
            t = start
            for stop in sorted({*marks, trainee.end}):
                train_pack(
                    self.encoder, [trainee], self.stream.patches, first=t, last=stop, augment_seed=0
                )
                t = stop
                if stop in marks:
                    state = decoder.state_dict()
                    kept[marks[stop]] = {k: v.detach().clone() for k, v in state.items()}
            trainee.finish()
            start = trainee.end
        return kept

    def prune(
        self,
        decoder: Decoder,
        schedule: Schedule,
        tell: Tell,
        earlier: dict[str, Tensor] | None = None,
    ) -> Lottery:
        """Prune a decoder in place along `schedule`."""
        return prune(
            self.encoder,
            decoder,
            Recipe(**self.recipe.recover.model_dump()),
            self.stream.patches,
            self.validation.patches,
            self.recipe.validation,
            schedule=PruningSchedule(**schedule.model_dump()),
            earlier=earlier,
            augment_seed=0,
            progress=tell,
        )

    def fresh(self, seed: int, widths: tuple[int, ...] | None = None) -> Decoder:
        """A dense decoder that has learned nothing."""
        config = replace(self.config, widths=widths or self.config.widths)
        decoder = build_decoder(config, self.encoder.config, seed)
        return decoder.to(self.encoder.device)

    def judge(self, decoder: Decoder) -> float:
        """Mean Dice on the held-out phantoms."""
        cache = FeatureCache(self.recipe.judging, CACHE_BYTES)
        found = validate(
            self.encoder,
            {"": Judged(decoder)},
            self.judging.patches,
            self.recipe.judging,
            cache=cache,
        )
        return mean_score(found[""])

    def info(self, decoder: Decoder) -> DecoderInfo:
        """What the artefact of a decoder would say."""
        leaves = tuple(m for channel in self.config.channels for m in channel.members)
        return DecoderInfo(decoder.config, self.encoder_sha256, self.encoder.config, learned=leaves)


def as_small(task: Task, weights: int, seed: int) -> Decoder:
    """A fresh dense decoder as wide as `weights` convolution weights allow."""
    widths, smallest = task.config.widths, (1,) * len(task.config.widths)
    fitting = smallest
    for percent in range(1, 101):
        narrower = tuple(max(1, round(width * percent / 100)) for width in widths)
        if _weights(task.fresh(seed, narrower)) <= weights:
            fitting = narrower
    return task.fresh(seed, fitting)


def _weights(decoder: Decoder) -> int:
    return sum(weight.numel() for weight in prunable(decoder).values())


def _dataset(hub: Hub, scans: Scans, labelled: set[str], tell: Tell) -> str:
    """The phantoms as a dataset; its name tells what is in it."""
    site = Site(**scans.model_dump(), labels={name: (name,) for name in sorted(labelled)})
    digest = hashlib.sha256(site.model_dump_json().encode()).hexdigest()[:10]
    return contribute(hub, f"phantoms/pruning-{digest}", site, tell)[0].ref
