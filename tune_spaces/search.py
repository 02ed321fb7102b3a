"""Ray Tune over pruning rates, and the choice: the highest rate that costs no more than agreed."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet.data_catalog import Catalog
from clnet.decoders_registry import DecoderRecord, Lineage, Registry, TicketRecord
from clnet.errors import ClnetError, JobFailed
from clnet.model.artefact import decode_decoder
from clnet.model.lottery import why_no_judge
from clnet.tune_spaces.space import SearchSpace
from clnet.tune_spaces.subject import Subject, subject_of

if TYPE_CHECKING:
    from ray.tune import ResultGrid

__all__ = ["Found", "Trial", "choose", "search_pruning_rates"]

Progress = Callable[[float, str], None]

COMMAND = "clnet tune"


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried, in one scope.

    Attributes:
        dsc: mean validation DSC at its last report.
        calibration: its temperature and what that was fitted to; empty while not finished.
        finished: whether it recovered to the end; if not, the scheduler stopped it.
        compacted: widths left, and multiple of the channels, where whole channels were cut.
    """

    rate: float
    dsc: float
    sparsity: float
    mask_sha256: str
    by_anatomy: dict[str, float]
    calibration: dict[str, Any]
    finished: bool
    scope: str = "global"
    compacted: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What the search of one decoder found.

    Attributes:
        dense: the version it began with.
        pruned: the new version, registered.
        within: whether its DSC is within the tolerance of the dense one's; if no rate's was,
            the version is the best that was tried, and a candidate only.
        trials: all that was tried, by rate.
    """

    dense: DecoderRecord
    pruned: DecoderRecord
    within: bool
    trials: tuple[Trial, ...]


def search_pruning_rates(
    registry: Registry,
    catalog: Catalog,
    refs: Sequence[str],
    space: SearchSpace,
    *,
    tolerance: float,
    code_version: str,
    storage: Path,
    command: str = COMMAND,
    progress: Progress | None = None,
) -> list[Found]:
    """Try the rates of `space` on dense decoders and register the best pruned version of each.

    Needs a Ray that is connected. Trials of all decoders share the actors, one per CPU.

    Args:
        refs: dense versions.
        tolerance: how much lower the mean validation DSC may be than the dense version's.
        storage: folder for Ray Tune's records.

    Raises:
        NotFound: no such version.
        Incompatible: a version that is pruned already, or without a training to recover by.
        JobFailed: decoders of which no trial ended well; the others' versions are registered.
    """
    from clnet.tune_spaces.objective import artefact_path

    records = [registry.decoder(ref) for ref in refs]
    subjects = {record.ref: subject_of(registry, record, space) for record in records}
    storage.mkdir(parents=True, exist_ok=True)
    found: list[Found] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="search-", dir=storage) as folder:
        results = _run(subjects, catalog, space, tolerance, storage, folder, progress)

        def conclude(record: DecoderRecord) -> Found:
            subject, trials = subjects[record.ref], _trials(results, record.ref)
            best, within = choose(trials, subject.dense_dsc, tolerance, record.ref)
            details = {
                "scope": best.scope,
                "tolerance": tolerance,
                "within_tolerance": within,
                "space": space.model_dump(mode="json"),
                "trials": [asdict(trial) for trial in trials],
            }
            if best.compacted:
                details["compacted"] = best.compacted
            data = artefact_path(folder, record.ref, best.rate, best.scope).read_bytes()
            pruned = _register(
                registry, record, best, data, subject.rewind, details, code_version, command
            )
            return Found(record, pruned, within, tuple(trials))

        for record in records:
            try:
                found.append(conclude(record))
            except ClnetError as error:  # which takes nothing from the others
                failed.append(str(error))
    if failed:
        made = ", ".join(one.pruned.ref for one in found)
        raise JobFailed("; ".join(failed) + (f"; registered: {made}" if made else ""))
    return found


def choose(
    trials: Sequence[Trial], dense_dsc: float, tolerance: float, ref: str
) -> tuple[Trial, bool]:
    """The finished trial of the highest rate within the tolerance; else the best, and False.

    Of scopes that hold the same rate, whole channels come first, as they alone make a decoder
    faster, then the better DSC. Nothing is within the tolerance of a dense version that scores no
    more than that itself.

    Raises:
        JobFailed: no trial finished.
    """
    finished = [trial for trial in trials if trial.finished]
    if not finished:
        raise JobFailed(f"{ref}: no pruning trial ended well; see Ray Tune's log")
    within = [trial for trial in finished if trial.dsc >= dense_dsc - tolerance]
    if within and not why_no_judge(dense_dsc, tolerance):
        return max(within, key=lambda t: (t.rate, t.scope == "channel", t.dsc)), True
    return max(finished, key=lambda trial: trial.dsc), False


def _run(
    subjects: dict[str, Subject],
    catalog: Catalog,
    space: SearchSpace,
    tolerance: float,
    storage: Path,
    folder: str,
    progress: Progress | None,
) -> ResultGrid:
    import ray
    from ray import tune

    from clnet.tune_spaces.halving import HalvingPerDecoder
    from clnet.tune_spaces.objective import PruningTrial
    from clnet.tune_spaces.telling import Teller

    # ray 2.60: the new output prints the experiment's configuration whatever `verbose` says
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    trainable = tune.with_parameters(
        PruningTrial,
        subjects=subjects,
        catalog=catalog,
        reports=space.reports,
        tolerance=tolerance,
        folder=folder,
    )
    resources = {"cpu": 1.0}
    if cluster.get("GPU"):
        resources["gpu"] = 0.25
    # trials of one decoder follow one another, so that its features stay in the actors; the
    # highest rate comes first, as one that holds makes the lower ones pointless
    rates = sorted(space.rates, reverse=True)
    trials = [
        {"ref": ref, "rate": rate, "scope": scope}
        for ref in subjects
        for scope in space.scopes
        for rate in rates
    ]
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"trial": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(
            metric="merit",
            mode="max",
            scheduler=HalvingPerDecoder(
                space.reports, min(space.grace, space.reports), space.reduction_factor
            ),
            reuse_actors=True,
            max_concurrent_trials=max(1, math.floor(cluster.get("CPU", 1.0))),
        ),
        run_config=tune.RunConfig(
            storage_path=str(storage.resolve()),
            verbose=0,
            callbacks=[Teller(len(trials) * space.reports, progress)] if progress else [],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    return tuner.fit()


def _trials(results: ResultGrid, ref: str) -> list[Trial]:
    """The trials of one decoder, by scope and rate; those that failed are left out."""
    found = []
    for index in range(len(results)):
        result = results[index]
        told: dict[str, Any] = result.metrics or {}
        if told.get("ref") != ref:
            continue
        found.append(
            Trial(
                rate=told["rate"],
                dsc=told["dsc"],
                sparsity=told["sparsity"],
                mask_sha256=told["mask_sha256"],
                by_anatomy=dict(told["by_anatomy"]),
                calibration=dict(told["calibration"]),
                finished=told["finished"],
                scope=told["scope"],
                compacted=told.get("compacted", {}),
            )
        )
    return sorted(found, key=lambda trial: (trial.scope, trial.rate))


def _register(
    registry: Registry,
    dense: DecoderRecord,
    best: Trial,
    data: bytes,
    rewind: str,
    details: dict[str, Any],
    code_version: str,
    command: str,
) -> DecoderRecord:
    reason = ""
    if not details["within_tolerance"]:
        hopeless = why_no_judge(float(dense.metrics["mean_dsc"]), details["tolerance"])
        reason = hopeless or "no rate kept the DSC within the tolerance"
    pruned = decode_decoder(data)[1].config  # compacted, if whole channels were cut
    lineage = Lineage(
        command=command,
        code_version=code_version,
        seeds=dense.lineage.seeds,
        datasets=dense.lineage.datasets,
        numerics=dense.lineage.numerics,
        parents=(dense.ref,),
        config={key: dense.lineage.config[key] for key in ("job", "stream", "validation")},
    )
    return registry.add_decoder(
        dense.group,
        data,
        encoder=dense.encoder_ref,
        body_part_model=dense.body_part_model_ref,
        config={**dense.config, **pruned.to_dict()},
        metrics={
            "dsc": best.by_anatomy,
            "mean_dsc": best.dsc,
            "calibration": best.calibration,
        },
        learned=dense.learned,
        unions=dense.unions,
        ranges=dense.ranges,
        supporters=[supporter.ref for supporter in dense.supporters],
        ticket=TicketRecord(
            rate=best.rate,
            sparsity=best.sparsity,
            rewind=rewind,
            dense_sha=dense.sha256,
            mask_sha256=best.mask_sha256,
            details=details,
        ),
        lineage=lineage,
        status="candidate" if reason else "accepted",
        status_reason=reason,
    )
