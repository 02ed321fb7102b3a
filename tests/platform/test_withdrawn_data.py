"""Jobs that would go on from what withdrawn data went into."""

from __future__ import annotations

from pathlib import Path

import pytest
from pack_work import delivered, registered
from tiny_hub import EXACT, contribute, furnish, tiny_job

from clnet.errors import Incompatible
from clnet.platform.jobs import enqueue
from clnet.platform.register import register
from clnet.tune_spaces.space import SearchSpace
from clnet.tune_spaces.subject import subject_of

KIDNEYS = "abdomen/kidneys"
GONE = "learned from site-a/boxes@1, withdrawn since .*consent revoked"


def test_no_job_goes_on_from_what_withdrawn_data_went_into(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    other = contribute(hub, "site-b/boxes", EXACT, range(5, 10))
    with hub.registry() as registry:
        dense, _ = registered(registry, hub.catalog(), tiny_job(KIDNEYS))[0]
        going_on = {"dataset": other, "steps": 2}
        on_base = going_on | {"base": dense.ref, "widths": ()}
        jobs = [
            tiny_job(KIDNEYS, kind="update", **on_base),
            tiny_job(KIDNEYS, kind="prune", rate=0.5, **on_base),
            tiny_job(KIDNEYS, start=dense.ref, **going_on),
            tiny_job("abdomen/liver", supporters=(dense.ref,), **going_on),
        ]
        [(assignment, made)] = delivered(registry, hub.catalog(), jobs[1])
        registry.withdraw_dataset("site-a/boxes@1", "consent revoked")
        for job in jobs:
            with pytest.raises(Incompatible, match=f"{dense.ref} {GONE}"):
                enqueue([job], hub)
        assert registry.jobs() == []
        with pytest.raises(Incompatible, match=f"{dense.ref} {GONE}"):
            register(made, assignment, registry)  # withdrawn while the job ran
        with pytest.raises(Incompatible, match=f"{dense.ref} {GONE}"):
            subject_of(registry, dense, SearchSpace(rates=(0.5,), recovery_steps=2))
    enqueue([tiny_job(KIDNEYS, dataset=other)], hub)
