"""The quickstart, stage by stage: from the starter release to a served one that knows more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from clnet.anatomy.phantom import render
from clnet.decoders_registry import DecoderRecord, ReleaseRecord
from clnet.errors import NotFound
from clnet.hub import connect
from clnet.judging import HeldOutScan, held_out_scans
from clnet.platform.ray_runtime import ray_runtime
from clnet.quickstart.figures import Figures
from clnet.quickstart.own_ct import check_ct, name_of
from clnet.quickstart.promises import changed_voxels, logits_hashes
from clnet.quickstart.recipe import QuickstartRecipe, load_recipe
from clnet.quickstart.served import Answers, read_result, segment_over_http
from clnet.quickstart.sites import contribute
from clnet.quickstart.teach import search, teach, update
from clnet.serve import load_release
from clnet.stages import Stages
from clnet.starter import RELEASE, held_out_figures
from clnet.storage import atomic_write, make_folder

__all__ = ["Journey"]

NOTICE = (
    "This model learned from phantoms, that is from made-up patients. What it draws on a real CT "
    "shows that the plumbing works; it is not a finding."
)


class Journey:
    """One run of the quickstart; see :func:`clnet.quickstart.run`."""

    def __init__(
        self,
        workspace: str | Path | None = None,
        *,
        ct: str | Path | None = None,
        from_scratch: bool = False,
        ray: str | None = None,
        stages: Stages | None = None,
        recipe: QuickstartRecipe | None = None,
        starter: Path = RELEASE,
    ) -> None:
        self.hub = connect(workspace, ray=ray)
        self.ct = None if ct is None else Path(ct)
        if self.ct is not None:
            check_ct(self.ct)
        self.from_scratch = from_scratch
        self.stages = stages or Stages()
        self.recipe = recipe or load_recipe()
        self.starter = starter
        self.folder = self.hub.workspace.root / "quickstart"
        self._figures: dict[str, dict[str, float]] = {}

    def run(self) -> dict[str, Any]:
        """All stages, and the summary."""
        make_folder(self.folder)
        if self.hub.ray is not None:
            with ray_runtime(self.hub.ray):
                pass  # a wrong address or token is told now, not after the phantoms
        starter = self._starter()
        known = {record.group: record for record in starter.decoders}
        datasets = self._sites()
        dense, pruned = self._learn(datasets, known)
        updated = self._update(datasets, known)
        release = self._release(starter, pruned, updated)
        answers = self._segment(release)
        summary = self._judge(starter, release, dense, pruned, updated, answers)
        self._tell(summary, release)
        return summary

    @cached_property
    def scans(self) -> list[HeldOutScan]:
        """The held-out phantoms."""
        part = self.recipe.held_out
        return list(
            held_out_scans(
                part.first_seed, part.count, part.field_of_view, part.spacing, part.orientations
            )
        )

    def _starter(self) -> ReleaseRecord:
        with self.stages.stage("starter") as stage:
            if not self.from_scratch:
                imported = self.hub.releases.import_(self.starter, alias="production")
                self._figures = held_out_figures(self.starter)
                stage.outcome = f"release {imported.name}: {len(imported.decoders)} decoders"
                return self.hub.releases.get(imported.name)
            stage.outcome = "made here, from scratch, in the stages that follow"
        from clnet.starter.make import make_starter
        from clnet.starter.recipe import load_recipe as load_starter_recipe

        release, self._figures = make_starter(self.hub, load_starter_recipe(), self.stages)
        return release

    def _sites(self) -> dict[str, str]:
        datasets, reused = {}, 0
        with self.stages.stage("sites") as stage:
            count = len(self.recipe.sites)
            for index, (name, site) in enumerate(self.recipe.sites.items()):
                tell = stage.part(index / count, (index + 1) / count)
                dataset, was_there = contribute(self.hub, name, site, tell)
                datasets[name] = dataset.ref
                reused += was_there
            stage.outcome = ", ".join(datasets.values()) + _reused(reused == count)
        return datasets

    def _learn(
        self, datasets: Mapping[str, str], known: Mapping[str, DecoderRecord]
    ) -> tuple[dict[str, DecoderRecord], dict[str, DecoderRecord]]:
        with self.stages.stage("train") as stage:
            dense, reused = teach(self.hub, self.recipe, datasets, known, stage)
            scores = ", ".join(f"{g} {r.metrics['mean_dsc']:.2f}" for g, r in dense.items())
            stage.outcome = f"{len(dense)} new decoders, validation DSC: {scores}{_reused(reused)}"
        with self.stages.stage("prune") as stage:
            pruned, reused = search(self.hub, self.recipe, dense, stage)
            rates = ", ".join(f"{g} {r.ticket.rate:.0%}" for g, r in pruned.items() if r.ticket)
            stage.outcome = f"rates found by Ray Tune: {rates}{_reused(reused)}"
        return dense, pruned

    def _update(
        self, datasets: Mapping[str, str], known: Mapping[str, DecoderRecord]
    ) -> DecoderRecord:
        with self.stages.stage("update") as stage:
            record, reused = update(self.hub, self.recipe, datasets, known, stage)
            verdict = record.status if not record.status_reason else record.status_reason
            stage.outcome = f"{record.ref} from {record.parent_ref}: {verdict}{_reused(reused)}"
        return record

    def _release(
        self,
        starter: ReleaseRecord,
        pruned: Mapping[str, DecoderRecord],
        updated: DecoderRecord,
    ) -> ReleaseRecord:
        with self.stages.stage("release") as stage:
            chosen = [record.ref for record in pruned.values()]
            if updated.status == "accepted":
                chosen.append(updated.ref)
            name, attempt = self.recipe.release, 1
            while (there := self._existing(name)) is not None:
                if {r.ref for r in there.decoders} >= set(chosen):
                    stage.outcome = f"{name}: {len(there.decoders)} decoders (reused)"
                    return there
                attempt += 1
                name = f"{self.recipe.release}-{attempt}"
            release = self.hub.releases.create(name, chosen, parent=starter.name)
            stage.outcome = f"{name}: {len(release.decoders)} decoders, parent {starter.name}"
        return release

    def _existing(self, name: str) -> ReleaseRecord | None:
        try:
            return self.hub.releases.get(name)
        except NotFound:
            return None

    def _segment(self, release: ReleaseRecord) -> Answers:
        with self.stages.stage("serve") as stage:
            inputs = self.folder / "scans"
            inputs.mkdir(exist_ok=True)
            scans = {scan.name: scan.write(inputs) for scan in self.scans}
            own = {} if self.ct is None else {name_of(self.ct): self.ct}
            answers = segment_over_http(
                self.hub,
                release,
                scans | own,
                self.folder / "results",
                self.recipe.own_deployment,
                stage,
                may_fail=own,
            )
            stage.outcome = f"{len(answers.outputs)} scans segmented over HTTP"
        return answers

    def _judge(
        self,
        starter: ReleaseRecord,
        release: ReleaseRecord,
        dense: Mapping[str, DecoderRecord],
        pruned: Mapping[str, DecoderRecord],
        updated: DecoderRecord,
        answers: Answers,
    ) -> dict[str, Any]:
        with self.stages.stage("judge") as stage:
            model = load_release(self.hub.registry, release.name)
            parent = load_release(self.hub.registry, starter.name)
            results = {scan.name: read_result(answers.outputs[scan.name]) for scan in self.scans}
            figures = Figures(release, self.scans, results)
            stage(0.1, "dense against pruned")
            figures.compare(self.hub.registry, model, dense, pruned, self._figures)
            stage(0.5, "what the starter said")
            kept = [r.ref for r in starter.decoders if r in release.decoders]
            identical = logits_hashes(parent, self.scans[0], kept) == logits_hashes(
                model, self.scans[0], kept
            )
            before = {scan.name: _segmented(parent, scan) for scan in self.scans}
            replaced = {c["name"] for c in updated.config["channels"]}
            changed = changed_voxels(before, results, replaced)
            stage(0.8, "baseline")
            base = self.recipe.baseline
            seeds = range(base.first_seed, base.first_seed + base.count)
            figures.baseline([render(seed) for seed in seeds])
            summary = figures.summary() | {
                "old_logits_identical": identical,
                "old_voxels_changed": changed,
                "update": {"ref": updated.ref, "status": updated.status},
                "release": release.name,
                "outputs": {name: str(path) for name, path in answers.outputs.items()},
                "refused": answers.refused,
                "notice": NOTICE,
            }
            stage.outcome = f"mean DSC {summary['mean_dsc']:.3f} on {len(self.scans)} phantoms"
        summary["seconds"] = self.stages.seconds | {"total": sum(self.stages.seconds.values())}
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        atomic_write(self.folder / "summary.json", text.encode() + b"\n")
        return summary

    def _tell(self, summary: Mapping[str, Any], release: ReleaseRecord) -> None:
        say = self.stages.console.print
        first = next(iter(summary["outputs"].values()))
        say(
            f"\n[bold]On {len(self.scans)} held-out phantoms[/] (DSC): "
            f"all {summary['mean_dsc']:.3f}, new {summary['mean_dsc_new']:.3f}, "
            f"baseline {summary['baseline_dsc']:.3f}; "
            f"{summary['mean_pruned']:.0%} of the weights cut for a change of "
            f"{summary['mean_abs_delta_dsc']:.3f}, new {summary['mean_abs_delta_dsc_new']:.3f}"
            f"{_stored(summary['delta_dsc_stored'])}.\nOld logits identical: "
            f"{summary['old_logits_identical']}; old voxels changed: "
            f"{summary['old_voxels_changed']}.",
            highlight=False,
        )
        say(f"\nSummary   {self.folder / 'summary.json'}", highlight=False)
        say(f"A picture {first}/preview.png", highlight=False)
        for name, reason in summary["refused"].items():
            say(f"[red]No result of {escape(name)}[/]: {escape(reason)}", highlight=False)
        say(
            f"\nNext: clnet segment CT.nii.gz --release {release.name} --output out "
            f"--workspace {self.hub.workspace.root}\n"
            f"      clnet serve --release {release.name} --workspace {self.hub.workspace.root}",
            highlight=False,
        )
        say(f"\n[yellow]{NOTICE}[/]")


def _segmented(model: Any, scan: HeldOutScan) -> Any:
    from clnet.platform.evaluation import LabelMaps

    found = model.segment(np.asarray(scan.image.dataobj), scan.image.affine)
    return LabelMaps(found.labels, found.names)


def _stored(anatomies: Sequence[str]) -> str:
    """Says whose change of Dice was not measured in this run."""
    if not anatomies:
        return ""
    return f" (of {len(anatomies)} anatomies as measured when the starter was made)"


def _reused(was_there: bool) -> str:
    return " (reused)" if was_there else ""
