"""What the phantom benchmark says: figures, targets, notes, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from phantom_judging import Column, mean
from phantom_recipe import PhantomRecipe
from report import Target, table

from clnet.decoders_registry import ReleaseRecord
from clnet.stages import Stages
from clnet.starter.recipe import load_recipe as load_starter_recipe

__all__ = ["notes", "show", "summarise", "targets"]

NOTICE = (
    "All figures are on phantoms, procedurally drawn bodies: they compare methods and say nothing "
    "about patients."
)
STARTER_DENSE = (
    "The starter's dense decoders are not shipped: their DSC is the one that was measured when "
    "the starter was made, on the phantoms that its recipe holds out."
)
SAME_RECIPE = (
    "Data, patches and seeds are equal on both encoders. These two columns compare with each "
    "other, not with the release, whose decoders learned longer."
)
SEEN = (
    "The encoder saw labels of the new anatomies while it learned, except of those held back, "
    "which have a mean of their own."
)


def summarise(
    recipe: PhantomRecipe,
    starter: ReleaseRecord,
    pruned: Column,
    dense: Column,
    columns: Mapping[str, Column],
    new: Sequence[str],
    kept: Mapping[str, Mapping[str, float]],
    cut: float,
) -> dict[str, Any]:
    """The figures, JSON-able.

    Args:
        pruned: of the release, all anatomies.
        dense: of the new anatomies before pruning.
        columns: ``learned``, ``random``, ``baseline``.
        new: anatomies that the starter does not know.
        kept: the starter's own held-out figures, dense and pruned.
        cut: cut / dense convolution weights of the served decoders.
    """
    before = {name: found["dense"] for name, found in kept.items()}
    before |= {name: found["dsc"] for name, found in dense.items()}
    after = {name: found["pruned"] for name, found in kept.items()}
    after |= {name: pruned[name]["dsc"] for name in dense}
    delta = {name: after[name] - before[name] for name in sorted(before)}
    again = [abs(pruned[name]["dsc"] - kept[name]["pruned"]) for name in kept if name in pruned]
    held_back = load_starter_recipe().held_back
    return {
        "phantoms": True,
        "anatomies": len(pruned),
        "mean_dsc": mean(pruned),
        "mean_dsc_new": mean(pruned, new),
        "mean_dsc_held_back": mean(pruned, held_back),
        "mean_dsc_new_dense": mean(dense),
        "mean_pruned": cut,
        "mean_abs_delta_dsc": float(np.mean(np.abs(list(delta.values())))),
        "mean_abs_delta_dsc_new": float(np.mean([abs(delta[name]) for name in dense])),
        "mean_dsc_same_recipe_learned_encoder": mean(columns["learned"]),
        "mean_dsc_same_recipe_random_encoder": mean(columns["random"]),
        "baseline_dsc": mean(columns["baseline"]),
        "starter_figures_differ_by_at_most": max(again, default=None),
        "held_out_seeds": list(range(*_seeds(recipe))),
        "new": sorted(new),
        "held_back": sorted(held_back),
        "steps": _steps(recipe, starter),
        "per_anatomy": {
            name: {
                "dsc": found["dsc"],
                "dense": before.get(name),
                "delta": delta.get(name),
                "false_positive_ml": found["false_positive_ml"],
                "same_recipe_learned_encoder": _dsc(columns["learned"], name),
                "same_recipe_random_encoder": _dsc(columns["random"], name),
                "baseline": _dsc(columns["baseline"], name),
            }
            for name, found in pruned.items()
        },
    }


def _seeds(recipe: PhantomRecipe) -> tuple[int, int]:
    return recipe.held_out.first_seed, recipe.held_out.first_seed + recipe.held_out.count


def _dsc(column: Column, name: str) -> float | None:
    return column[name]["dsc"] if name in column else None


def _steps(recipe: PhantomRecipe, starter: ReleaseRecord) -> dict[str, Any]:
    """Batches behind each column."""
    jobs = [record.lineage.config.get("job", {}) for record in starter.decoders]
    return {
        "starter decoders, recovery after pruning": sorted({j.get("steps") for j in jobs} - {None}),
        "new decoders, dense": recipe.train["steps"],
        "new decoders, recovery after each cut": recipe.prune["steps"],
        "new decoders, cuts": len(recipe.prune["rates"]),
        "same recipe, learned encoder": recipe.comparison.train["steps"],
        "same recipe, random encoder": recipe.comparison.train["steps"],
    }


def targets(figures: Mapping[str, Any]) -> list[Target]:
    """What is asked of the benchmark."""
    return [
        Target("anatomies", figures["anatomies"], 40),
        Target("mean_dsc", figures["mean_dsc"], 0.85),
        Target("mean_pruned", figures["mean_pruned"], 0.90),
        Target("mean_abs_delta_dsc", figures["mean_abs_delta_dsc"], 0.01, at_most=True),
    ]


def notes(recipe: PhantomRecipe) -> list[str]:
    """What a reader of the figures has to know."""
    warm = "begun with known decoders of their layer" if recipe.start else "from nothing"
    train, recovery, cuts = recipe.train["steps"], recipe.prune["steps"], recipe.prune["rates"]
    same = recipe.comparison.train["steps"]
    said = [
        NOTICE,
        f"New decoders: {train} batches, {warm}, then {recovery} after each of {len(cuts)} cuts.",
        STARTER_DENSE,
        f"Same recipe: every group, the starter's too, dense and from nothing for {same} batches. "
        + SAME_RECIPE,
        SEEN,
    ]
    if recipe.held_out != load_starter_recipe().held_out:
        said.append("The held-out phantoms are not those of the starter's own figures.")
    return [*said, *(f"Tried: {what}" for what in recipe.tried)]


def show(figures: Mapping[str, Any], stages: Stages) -> None:
    """The figures as a table; ``learned`` and ``random`` are one recipe on two encoders."""
    keys = (
        "dsc",
        "dense",
        "delta",
        "same_recipe_learned_encoder",
        "same_recipe_random_encoder",
        "baseline",
    )
    rows = [
        (f"{name} *" if name in figures["new"] else name, *(found[key] for key in keys))
        for name, found in sorted(figures["per_anatomy"].items())
    ]
    rows.append(
        (
            "mean",
            figures["mean_dsc"],
            None,
            None,
            figures["mean_dsc_same_recipe_learned_encoder"],
            figures["mean_dsc_same_recipe_random_encoder"],
            figures["baseline_dsc"],
        )
    )
    head = ("* new", "release", "dense", "change", "learned", "random", "baseline")
    stages.console.print(table("DSC on held-out phantoms", head, rows))
