"""The starter's encoder: learned from phantoms and open scans, then frozen for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clnet.anatomy import vocabulary
from clnet.data_catalog import Catalog, Dataset, DatasetPin, PatchStream, StreamSpec
from clnet.model.pretraining import EncoderTraining
from clnet.model.training import Recipe
from clnet.platform.encoders import train_encoder
from clnet.starter.recipe import StarterRecipe
from clnet.starter.teachers import teachers

__all__ = ["pretrain_encoder"]

Progress = Callable[[float, str], None]


def pretrain_encoder(
    catalog: Catalog,
    datasets: Sequence[Dataset],
    recipe: StarterRecipe,
    runs: Path,
    progress: Progress | None = None,
) -> EncoderTraining:
    """Train the encoder on `datasets`, going on from where an earlier run in `runs` stopped."""
    plan, part = recipe.make_plan(), recipe.pretraining
    stores = [catalog.plan_store(dataset, plan.to_dict()) for dataset in datasets]
    pupils = teachers(recipe)
    spec = StreamSpec(
        datasets=tuple(DatasetPin(ref=d.ref, sha256=d.sha256) for d in datasets),
        plan_sha256=stores[0].plan_sha256,
        patch_size=plan.patch_size,
        batch_size=part.batch_size,
        focus=tuple(sorted({leaf for t in pupils for a in t.anatomies for leaf in leaves(a)})),
        foreground=(part.foreground, part.foreground),
        total=part.steps,
        seed=part.seed,
        val_fraction=0.0,
    )
    return train_encoder(
        PatchStream(stores, spec),
        recipe.encoder_config(),
        pupils,
        Recipe(
            steps=part.steps,
            learning_rate=part.learning_rate,
            warm_up=part.warm_up,
            ema=part.ema,
        ),
        widths=part.widths,
        kernels=part.kernels,
        seed=part.seed,
        checkpoint=runs / f"encoder-{spec.sha256[:16]}" / "checkpoint.safetensors",
        progress=progress,
    )


def leaves(anatomy: str) -> tuple[str, ...]:
    """Leaf anatomies of a canonical id."""
    return vocabulary().leaves(anatomy)
