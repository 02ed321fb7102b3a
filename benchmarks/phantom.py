"""Everything the phantom shows, learned on top of the shipped starter, and judged.

    python benchmarks/phantom.py [--workspace DIR] [--out FILE] [--recipe FILE]

Sites contribute phantoms of the anatomies that the starter does not know; decoders for them are
trained in packs on Ray Train, pruned, and released with the starter as parent. Held-out phantoms
judge the release, its dense decoders, the same recipe on the learned and on a random encoder, and
a baseline of Hounsfield units and position. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phantom_figures import notes, show, summarise, targets
from phantom_judging import Judge, mean
from phantom_learning import compare, data, prune, random_encoder, release, teach
from phantom_recipe import PhantomRecipe, load_recipe
from report import report

from clnet.decoders_registry import DecoderRecord, ReleaseRecord
from clnet.hub import Hub, connect
from clnet.judging import channels_of, dense_model
from clnet.model.ticket import sparsity
from clnet.platform.ray_runtime import ray_runtime
from clnet.serve import load_release
from clnet.stages import Stage, Stages
from clnet.starter import RELEASE, held_out_figures
from clnet.storage import atomic_write

WHOLE = "reference/benchmark"
Decoders = Mapping[str, DecoderRecord]


class Benchmark:
    """One run.

    Args:
        hub: what was made in its workspace before is reused.
        recipe: what to do.
        stages: tell of the progress.
    """

    def __init__(self, hub: Hub, recipe: PhantomRecipe, stages: Stages) -> None:
        self.hub = hub
        self.recipe = recipe
        self.stages = stages
        self.folder = hub.workspace.root / "benchmark"
        self.judge = Judge(self.folder, recipe.held_out)
        self._times = self.folder / "seconds.json"
        if self._times.exists():  # a run that goes on adds to what it took before
            stages.seconds.update(json.loads(self._times.read_text(encoding="utf-8")))

    def run(self) -> dict[str, Any]:
        """All stages; returns the figures."""
        with self._stage("starter") as stage:
            starter = self.hub.releases.import_(RELEASE, alias="production")
            stage.outcome = f"release {starter.name}: {len(starter.decoders)} decoders"
        known = {record.group: record for record in starter.decoders}
        datasets = self._data()
        # one Ray for all that learns; it ends before the judging, which needs the cores
        with ray_runtime(self.hub.ray, token_file=self.hub.workspace.ray_token):
            with self._stage("train") as stage:
                dense = teach(self.hub, self.recipe, datasets, known, stage)
                stage.outcome = f"{len(dense)} new decoders"
            with self._stage("prune") as stage:
                pruned = prune(self.hub, self.recipe, datasets, dense, stage)
                stage.outcome = f"{len(pruned)} decoders at rate {self.recipe.prune['rates'][-1]}"
            learned, random = self._compare(starter, datasets[WHOLE])
        with self._stage("release") as stage:
            whole = release(self.hub, "benchmark", list(pruned.values()), starter.name)
            stage.outcome = f"{whole.name}: {len(whole.decoders)} decoders, parent {starter.name}"
        return self._figures(starter, whole, dense, pruned, learned, random)

    @contextmanager
    def _stage(self, title: str) -> Iterator[Stage]:
        with self.stages.stage(title) as stage:
            yield stage
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self._times, json.dumps(self.stages.seconds).encode())

    def _data(self) -> dict[str, str]:
        comparison = self.recipe.comparison
        sites = {n: site.labelling(site.decoders) for n, site in self.recipe.sites.items()}
        with self._stage("sites") as stage:
            sites[WHOLE] = comparison.site.labelling(comparison.groups)
            datasets = data(self.hub, sites, stage)
            stage.outcome = ", ".join(datasets.values())
        return datasets

    def _compare(self, starter: ReleaseRecord, dataset: str) -> tuple[ReleaseRecord, ReleaseRecord]:
        """Releases of one recipe on the learned encoder and on a random one."""
        part = self.recipe.comparison
        own = self.hub.encoders.get(starter.encoder_ref)
        made = []
        for title, encoder in (
            ("learned", own),
            ("random", random_encoder(self.hub, own, part.random_encoder_seed)),
        ):
            with self._stage(title) as stage:
                decoders = compare(
                    self.hub, part, dataset, encoder, starter.body_part_model_ref, stage
                )
                made.append(release(self.hub, f"benchmark-{title}", list(decoders.values())))
                stage.outcome = f"{len(decoders)} decoders from nothing on {encoder.ref}"
        return made[0], made[1]

    def _figures(
        self,
        starter: ReleaseRecord,
        whole: ReleaseRecord,
        dense: Decoders,
        pruned: Decoders,
        learned: ReleaseRecord,
        random: ReleaseRecord,
    ) -> dict[str, Any]:
        registry = self.hub.registry
        everything, new = channels_of(whole.decoders), channels_of(list(pruned.values()))
        dense_sha = "".join(sorted(record.sha256 for record in dense.values()))
        with self._stage("judge") as stage:
            model = load_release(registry, whole.name)
            judged = self.judge.networks(
                "pruned", whole.sha256, lambda: model, everything, stage.part(0.0, 0.3)
            )
            # beside the same parent, whose anatomies take their voxels first
            unpruned = self.judge.networks(
                "dense",
                whole.sha256 + dense_sha,
                lambda: dense_model(registry, model, dense),
                everything,
                stage.part(0.3, 0.45),
            )
            columns = {
                name: self.judge.networks(
                    name,
                    made.sha256,
                    lambda made=made: load_release(registry, made.name),  # type: ignore[misc]
                    channels_of(made.decoders),
                    stage.part(start, start + 0.25),
                )
                for name, made, start in (("learned", learned, 0.45), ("random", random, 0.7))
            }
            columns["baseline"] = self.judge.baseline(
                self.recipe.baseline, everything, stage.part(0.95, 1.0)
            )
            stage.outcome = f"mean DSC {mean(judged):.3f} on {len(self.judge.scans)} phantoms"
        served = [d.decoder for d in model.decoders if d.served and d.decoder is not None]
        kept = held_out_figures(RELEASE)
        return summarise(
            self.recipe,
            starter,
            judged,
            {name: found for name, found in unpruned.items() if name in new},
            columns,
            new,
            kept,
            sparsity(served),
        ) | {
            "release": whole.name,
            "decoders": len(whole.decoders),
            "seconds": self.stages.seconds | {"total": sum(self.stages.seconds.values())},
        }


def main() -> None:
    """Run the benchmark and report."""
    parser = argparse.ArgumentParser(prog="python benchmarks/phantom.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workspace", type=Path, default=Path("work-benchmarks/phantom"))
    parser.add_argument("--out", type=Path, help="result file, benchmarks/results/phantom.json")
    parser.add_argument("--recipe", type=Path, help="another phantom.yaml")
    arguments = parser.parse_args()
    recipe, stages = load_recipe(arguments.recipe), Stages()
    with connect(arguments.workspace) as hub:
        figures = Benchmark(hub, recipe, stages).run()
    show(figures, stages)
    report(
        "phantom",
        figures,
        targets(figures),
        notes(recipe),
        out=arguments.out,
        console=stages.console,
    )


if __name__ == "__main__":
    main()
