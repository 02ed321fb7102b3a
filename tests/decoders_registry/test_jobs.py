"""Jobs are claimed once, kept alive by heartbeats, and finish once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from registry_shelf import Shelf, on_both

from clnet.errors import Incompatible, InputError, NotFound


@on_both
def test_a_job_runs_through_its_life(shelf: Shelf) -> None:
    registry = shelf.registry
    job = registry.create_job("train", {"decoder": "abdomen/liver", "epochs": 50})
    assert (job.status, job.finished) == ("queued", False)
    registry.update_job(job.id, events="jobs/1.jsonl")
    claimed = registry.claim_job("runner-1")
    assert claimed is not None
    assert (claimed.id, claimed.owner, claimed.attempts) == (job.id, "runner-1", 1)
    assert registry.heartbeat(job.id, "runner-1")
    done = registry.update_job(job.id, "succeeded", owner="runner-1", results=["abdomen/liver@1"])
    assert done == registry.job(job.id)
    assert (done.events, done.results, done.finished) == (
        "jobs/1.jsonl",
        ("abdomen/liver@1",),
        True,
    )
    assert done.created <= (done.started or done.created) <= (done.ended or done.created)
    actions = [line.action for line in registry.audit(job.id)]
    assert actions == ["job.succeeded", "job.running", "job.create"]


@on_both
def test_a_cancelled_job_cannot_succeed_and_its_runner_is_told(shelf: Shelf) -> None:
    registry = shelf.registry
    job = registry.create_job("train", {})
    registry.claim_job("runner-1")
    registry.update_job(job.id, "cancelled")
    assert not registry.heartbeat(job.id, "runner-1")
    with pytest.raises(Incompatible, match="is cancelled and cannot become succeeded"):
        registry.update_job(job.id, "succeeded")
    with pytest.raises(InputError, match="one of queued"):
        registry.update_job(job.id, "splendid")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="job 'nope'"):
        registry.job("nope")


def test_the_oldest_job_of_the_asked_kind_comes_first(shelf: Shelf) -> None:
    registry = shelf.registry
    first, tune, _ = (registry.create_job(kind, {}) for kind in ("train", "tune", "train"))
    claimed = registry.claim_job("a", kinds=["tune"])
    assert claimed is not None
    assert claimed.id == tune.id
    oldest = registry.claim_job("b")
    assert oldest is not None
    assert oldest.id == first.id
    assert [job.id for job in registry.jobs("running")] == [first.id, tune.id]
    assert len(registry.jobs()) == 3


@on_both
def test_runners_never_take_the_same_job(shelf: Shelf) -> None:
    registry = shelf.registry
    made = {registry.create_job("train", {"n": n}).id for n in range(12)}

    def run(owner: str) -> list[str]:
        mine = []
        while (job := registry.claim_job(owner)) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job for mine in pool.map(run, "abcd") for job in mine]
    assert len(taken) == len(made)
    assert set(taken) == made


@on_both
def test_a_job_of_a_silent_runner_goes_back_to_the_queue(shelf: Shelf) -> None:
    registry = shelf.registry
    job = registry.create_job("train", {})
    registry.claim_job("dead")
    assert registry.requeue_lost(timedelta(minutes=1)) == []
    assert [lost.id for lost in registry.requeue_lost(timedelta(0))] == [job.id]
    again = registry.claim_job("alive")
    assert again is not None
    assert (again.owner, again.attempts) == ("alive", 2)
    assert not registry.heartbeat(job.id, "dead")
    with pytest.raises(Incompatible, match="belongs to alive, not to dead"):
        registry.update_job(job.id, "succeeded", owner="dead")
