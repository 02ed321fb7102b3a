"""One step in a process of its own, its figures as a line of JSON: ``STEP WORKSPACE``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalog_scale_cases import PLAN

import clnet
from clnet.data_catalog import DatasetPin, PatchStream, PlanStore, StreamSpec
from clnet.hub import Hub
from clnet.hub.rows import dataset_row

__all__ = ["ANATOMY", "SITE", "STEPS", "main"]

Figures = dict[str, Any]

ANATOMY, SITE = "left kidney", "site-b"
VAL_FRACTION = 0.2


def connect(hub: Hub) -> Figures:
    """Nothing but the connection: what a process takes that does not look at the catalog."""
    return {"cases": 0, "datasets": len(hub.registry.datasets())}


def list_all(hub: Hub) -> Figures:
    """Every version, as the table has it."""
    rows = [dataset_row(dataset) for dataset in hub.datasets.list()]
    return {"cases": sum(row["cases"] for row in rows), "datasets": len(rows)}


def filtered(hub: Hub) -> Figures:
    """The datasets that can teach an anatomy, of all sites and then of one."""
    found = hub.datasets.list(ANATOMY)
    how = {dataset.ref: str(dataset.teaches(ANATOMY)) for dataset in found}
    ours = hub.datasets.list(ANATOMY, SITE)
    return {"cases": sum(map(len, found)), "datasets": len(how), "of_site": len(ours)}


def plan(hub: Hub) -> Figures:
    """All that the start of a training reads, over every dataset at once.

    What has to be made for the plan (nothing), what the labels of every case show, and the
    streams of patches of both sides of the split.
    """
    begun = time.perf_counter()
    stores = [hub.catalog.plan_store(dataset, PLAN, _refuse) for dataset in hub.datasets.list()]
    checked = time.perf_counter()
    labels = _survey(stores)
    surveyed = time.perf_counter()
    spec = StreamSpec(
        datasets=tuple(DatasetPin(ref=s.dataset.ref, sha256=s.dataset.sha256) for s in stores),
        plan_sha256=stores[0].plan_sha256,
        patch_size=PLAN["patch_size"],
        batch_size=2,
        total=100,
        val_fraction=VAL_FRACTION,
    )
    streams = [PatchStream(stores, spec.model_copy(update={"split": s})) for s in ("train", "val")]
    return {
        "cases": sum(len(stream.cases) for stream in streams),
        "datasets": len(stores),
        "labels": len(labels),
        "stores_seconds": checked - begun,
        "survey_seconds": surveyed - checked,
        "streams_seconds": time.perf_counter() - surveyed,
    }


def _survey(stores: list[PlanStore]) -> set[tuple[str, ...]]:
    """As a job is resolved; the platform's own would bring torch into the figures."""
    return {
        tuple(entry["members"])
        for store in stores
        for case_id in store.case_ids
        for entry in store.describe(case_id)["entries"]
        if entry["voxels"]
    }


STEPS: dict[str, Callable[[Hub], Figures]] = {
    "connect": connect,
    "list": list_all,
    "filter": filtered,
    "plan": plan,
}


def _refuse(fraction: float, case: str) -> None:
    raise SystemExit(f"{case} had to be planned; the figures would be of something else")


def _peak_mib() -> float:
    """Of this process since it began. ``getrusage`` would count its parent's as well."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell how much memory a process takes")


def main(step: str, workspace: str) -> None:
    """Run one step and print its figures."""
    begun = time.perf_counter()
    with clnet.connect(workspace) as hub:
        hub.registry.datasets()
        connected = time.perf_counter()
        figures = STEPS[step](hub)
        figures["seconds"] = time.perf_counter() - connected
        figures["connect_seconds"] = connected - begun
    print(json.dumps(figures | {"peak_mib": _peak_mib()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
