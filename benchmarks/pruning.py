"""What pruning costs and what it pays: Dice, weights, bytes and seconds.

    python benchmarks/pruning.py [--mode tickets|rewind] [--workspace DIR] [--out FILE]
                                 [--recipe FILE] [--threads N]

``tickets``: a dense decoder is trained on phantoms, on the encoder of the shipped starter; then an
unstructured and a structured ticket of it, each before and after compaction and as rounded to
float16; beside each a dense decoder trained with as many weights as survive. ``rewind``: the same
cut, recovered for the same number of batches from the initial weights, from early ones, and from
its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from pruning_recipe import PruningRecipe, Schedule, load_recipe
from pruning_task import Task, as_small
from report import Target, report, table
from rich.console import Console

from clnet.hub import Hub, connect
from clnet.model.compaction import compact_measured, measure_seconds
from clnet.model.decoder import Decoder
from clnet.model.footprint import footprint
from clnet.model.survivors import round_to_float16
from clnet.model.ticket import prunable, sparsity

TURNS, REPEATS = 6, 7
COLUMNS = (
    "version",
    "DSC",
    "ΔDSC",
    "Δ longer",
    "weights cut",
    "parameters",
    "bytes",
    "% of float32",
    "ms",
    "×",
)


class Pruning:
    """One run.

    Args:
        hub: what was contributed in its workspace before is reused.
        console: told of the progress.
    """

    def __init__(self, hub: Hub, recipe: PruningRecipe, console: Console) -> None:
        self.hub, self.recipe, self.console = hub, recipe, console

    def tell(self, fraction: float, text: str) -> None:
        """A line of progress."""
        self.console.print(f"  {fraction:4.0%} {text}", highlight=False)

    def tickets(self) -> dict[str, dict[str, Any]]:
        """Figures by group and version."""
        return {group: self._group(group) for group in self.recipe.groups}

    def _group(self, group: str) -> dict[str, Any]:
        task, recipe = Task.of(self.hub, self.recipe, group, self.tell), self.recipe
        self.console.print(f"{group}: dense", highlight=False)
        dense = task.fresh(seed=1)
        task.train(dense, recipe.train)
        found = {"dense": self._figures(task, dense, dense) | {"delta": 0.0, "delta_longer": 0.0}}
        for kind in ("unstructured", "structured"):
            found |= self._kind(task, dense, kind, found["dense"]["dsc"])
        return found

    def _kind(
        self, task: Task, dense: Decoder, kind: str, before: float
    ) -> dict[str, dict[str, Any]]:
        """One kind of ticket, beside networks that learned from as many batches.

        Args:
            before: Dice of the dense decoder that is cut.
        """
        recipe = self.recipe
        self.console.print(f"{task.config.group}: {kind}", highlight=False)
        schedule: Schedule = getattr(recipe, kind)
        pruned = copy.deepcopy(dense)
        rounds = task.prune(pruned, schedule, self.tell).record()["rounds"]
        recoveries = [recipe.recover] * sum(each["tries"] for each in rounds)
        onwards = copy.deepcopy(dense)
        task.train(onwards, *recoveries)
        baseline = f"dense, trained as long as {kind}"
        found = {baseline: self._figures(task, onwards, dense)}
        found[kind] = self._figures(task, pruned, dense) | {"rounds": rounds}
        compacted, lanes = compact_measured(
            pruned, task.encoder.config, task.patch, precision="auto"
        )
        found[f"{kind}, compacted"] = self._figures(task, compacted, dense)
        found[f"{kind}, compacted"] |= {"lanes": lanes, "widths": compacted.config.widths}
        rounded = copy.deepcopy(compacted)
        round_to_float16(rounded)
        found[f"{kind}, float16"] = self._figures(task, rounded, dense)
        weights = sum(int((w != 0).sum()) for w in prunable(pruned).values())
        small = as_small(task, weights, seed=1)
        task.train(small, recipe.train, *recoveries)
        found[f"as many weights as {kind}"] = self._figures(task, small, dense)
        for figures in found.values():
            figures["delta"] = figures["dsc"] - before
            figures["delta_longer"] = figures["dsc"] - found[baseline]["dsc"]
        return found

    def _figures(self, task: Task, decoder: Decoder, dense: Decoder) -> dict[str, Any]:
        size = footprint(decoder, task.info(decoder)).to_dict()
        before = sum(weight.numel() for weight in prunable(dense).values())
        left = sum(int((weight != 0).sum()) for weight in prunable(decoder).values())
        seconds, beside = _paired_seconds(task, decoder, dense)
        dense_bytes = 4 * sum(p.numel() for p in dense.parameters())
        return {
            "dsc": task.judge(decoder),
            "weights_cut": 1 - left / before,
            "sparsity": sparsity([decoder]),
            **size,
            "bytes_of_dense": size["bytes"] / dense_bytes,
            "seconds": seconds,
            "speed_up": {p: beside[p] / seconds[p] for p in seconds},
        }

    def rewind(self) -> dict[str, dict[str, Any]]:
        """Figures by group and by which weights survivors went back to."""
        recipe, found = self.recipe, {}
        for group in recipe.groups:
            task = Task.of(self.hub, recipe, group, self.tell)
            rows: dict[str, dict[str, Any]] = {}
            for seed in recipe.rewind.seeds:
                dense = task.fresh(seed)
                marks = {"init": 0, "early": round(recipe.rewind.early * recipe.train.steps)}
                kept = task.train(dense, recipe.train, keep=marks)
                before = task.judge(dense)
                for rate in recipe.rewind.rates:
                    once = Schedule(rates=(rate,), tolerance=0.5, retries=0)
                    for name, weights in (*kept.items(), ("none", None)):
                        pruned = copy.deepcopy(dense)
                        task.prune(pruned, once, self.tell, weights)
                        row = rows.setdefault(f"{name} at {rate:.0%}", {"delta": []})
                        row["delta"].append(task.judge(pruned) - before)
            for row in rows.values():
                row["mean"] = sum(row["delta"]) / len(row["delta"])
            found[group] = rows
        return found


def _paired_seconds(
    task: Task, decoder: Decoder, dense: Decoder
) -> tuple[dict[str, float], dict[str, float]]:
    """Of a patch, as users get it and in float32: of the decoder, and of the dense one.

    By turns, and the fastest of each: a machine is not equally fast all the time.
    """
    fastest: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for _ in range(TURNS):
        for one, found in zip((decoder, dense), fastest, strict=True):
            for precision in ("auto", "float32"):
                seconds = measure_seconds(
                    one,
                    task.encoder.config,
                    task.patch,
                    precision=precision,  # type: ignore[arg-type]
                    repeats=REPEATS,
                )
                found[precision] = min(seconds, found.get(precision, seconds))
    return fastest


def _targets(found: dict[str, dict[str, Any]]) -> list[Target]:
    """Over all groups: the mean of what is lost, the worst of what is gained."""
    groups = list(found.values())
    fast = [versions["structured, compacted"] for versions in groups]
    sparse = [versions["unstructured"]["bytes_of_dense"] for versions in groups]
    rounded = [versions["unstructured, float16"]["bytes_of_dense"] for versions in groups]
    lost = sum(abs(each["delta"]) for each in fast) / len(fast)
    return [
        Target("structured, compacted: times faster", min(f["speed_up"]["auto"] for f in fast), 3),
        Target("structured, compacted: |ΔDSC|", lost, 0.01, at_most=True),
        Target("unstructured: bytes of float32", max(sparse), 0.065, at_most=True),
        Target("unstructured, float16: bytes of float32", max(rounded), 0.04, at_most=True),
    ]


def _rows(versions: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            v["dsc"],
            v["delta"],
            v["delta_longer"],
            v["weights_cut"],
            v["parameters"],
            v["bytes"] // 1000,
            100 * v["bytes_of_dense"],
            1000 * v["seconds"]["auto"],
            v["speed_up"]["auto"],
        )
        for name, v in versions.items()
    ]


def main() -> None:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("tickets", "rewind"), default="tickets")
    parser.add_argument("--workspace", type=Path, help="folder to keep the phantoms in")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--recipe", type=Path, help="instead of pruning.yaml")
    parser.add_argument("--threads", type=int, default=1, help="of torch, as a replica has")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console()
    recipe = load_recipe(options.recipe)
    with tempfile.TemporaryDirectory(prefix="clnet-pruning-") as folder:
        run = Pruning(connect(options.workspace or Path(folder)), recipe, console)
        if options.mode == "tickets":
            found = run.tickets()
            for group, versions in found.items():
                console.print(table(group, COLUMNS, _rows(versions)))
            name, targets = "pruning", _targets(found)
        else:
            found = run.rewind()
            for group, rows in found.items():
                body = [(key, row["mean"], min(row["delta"])) for key, row in rows.items()]
                console.print(table(group, ("rewound to", "mean ΔDSC", "worst"), body))
            name, targets = "pruning_rewind", []
    notes = [
        "Phantoms: this compares methods and says nothing about patients.",
        "ΔDSC of tickets: against the dense decoder that was cut.",
        "Δ longer: against that decoder trained on for as many batches as the recoveries took.",
        "ΔDSC of rewinding: against the dense decoder before the cut.",
        f"Seconds: one forward pass on one patch, fastest of {TURNS * REPEATS}, dense by turns.",
    ]
    figures = {"recipe": json.loads(recipe.model_dump_json()), "groups": found}
    report(name, figures, targets, notes, out=options.out, console=console)


if __name__ == "__main__":
    main()
