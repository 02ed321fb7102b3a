"""Jobs on a real Ray: packs side by side, workers and runners that are killed, cancelling."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pack_work import registered
from tiny_hub import contribute, furnish, tiny_job

from clnet.errors import JobFailed
from clnet.platform.events import EventLog, JobEvent
from clnet.platform.jobs import JobHandle, Validation, enqueue, submit
from clnet.platform.ray_runtime import RayRuntime
from clnet.platform.runner import LOCK, PID, run_queued
from clnet.platform.workspace import Workspace
from clnet.storage import exclusive_or_none

pytestmark = pytest.mark.slow

LONG = {"steps": 240, "checkpoint_every": 10, "validation": Validation(batches=2, every=10)}


def log_of(handle: JobHandle) -> EventLog:
    return EventLog(handle.workspace.job_folder(handle.id))


def until(handle: JobHandle, seen: Callable[[JobEvent], bool]) -> JobEvent:
    """Wait for an event without being asleep when it comes."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for event in log_of(handle):
            if seen(event):
                return event
        time.sleep(0.01)
    raise TimeoutError([event.kind for event in log_of(handle)])


def worker_pid(handle: JobHandle) -> int:
    found = [re.search(r"process (\d+)", e.message) for e in log_of(handle) if e.kind == "training"]
    assert found[-1] is not None
    return int(found[-1][1])


def test_packs_run_side_by_side_and_end_as_versions(tmp_path: Path, local_ray: RayRuntime) -> None:
    hub = furnish(tmp_path)
    other = contribute(
        hub, "site-b/kidneys", {"3": "kidney", "4": "kidney", "1": "ignore", "2": "ignore"}
    )
    jobs = [
        tiny_job("abdomen/liver"),
        tiny_job("abdomen/spleen", seed=3),
        tiny_job("abdomen/kidneys", dataset=other),
    ]
    handles = enqueue(jobs, hub)
    assert run_queued(hub)
    records = [handle.wait() for handle in handles]
    packs = {worker_pid(handle) for handle in handles}
    assert len(packs) == 2  # liver and spleen share a stream and so a worker
    with hub.registry() as registry:
        liver, spleen, kidneys = (registry.decoder(record.results[0]) for record in records)
        assert liver.learned == ("liver",)
        assert spleen.lineage.seeds == {"decoder": 3, "stream": 0}
        assert kidneys.learned == ()
        assert kidneys.unions == (("kidney_left", "kidney_right"),)
        assert kidneys.lineage.datasets[0].terms["licence"] == "CC0-1.0"
        assert registry.touched_by(other).decoders == (kidneys.ref,)
        assert registry.verify().ok


def test_a_killed_worker_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    hub = furnish(tmp_path)
    # another cache keeps the two jobs out of one pack and changes nothing else
    disturbed, left_alone = enqueue([tiny_job(**LONG), tiny_job(**LONG, cache_bytes=1 << 20)], hub)
    runner = threading.Thread(target=run_queued, args=(hub,))
    runner.start()
    # checkpoints reach the controller a little later than the worker goes on
    killed_at = until(disturbed, lambda e: e.kind == "validated" and (e.batch or 0) >= 80)
    os.kill(worker_pid(disturbed), signal.SIGKILL)
    runner.join()
    resumed = [event for event in log_of(disturbed) if event.kind == "resumed"]
    assert len(resumed) == 1
    assert 0 < (resumed[0].batch or 0) <= (killed_at.batch or 0)
    assert not [event for event in log_of(left_alone) if event.kind == "resumed"]
    # equal bytes of one group are one version
    assert disturbed.wait().results == left_alone.wait().results == ("abdomen/liver@1",)


def test_cancelling_drops_one_job_of_a_pack(tmp_path: Path, local_ray: RayRuntime) -> None:
    hub = furnish(tmp_path)
    dropped, kept = enqueue([tiny_job(**LONG), tiny_job("abdomen/spleen", **LONG)], hub)
    runner = threading.Thread(target=run_queued, args=(hub,))
    runner.start()
    until(dropped, lambda event: event.kind == "training")
    dropped.cancel()
    runner.join()
    assert dropped.status == "cancelled"
    with pytest.raises(JobFailed, match="cancelled"):
        dropped.wait()
    assert kept.wait().results == ("abdomen/spleen@1",)


def test_a_job_whose_base_is_lost_fails_and_the_others_go_on(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    hub = furnish(tmp_path)
    with hub.registry() as registry:
        dense, _ = registered(registry, hub.catalog(), tiny_job())[0]
        prune = tiny_job(kind="prune", base=dense.ref, widths=(), rate=0.5, stream_seed=1)
        wrong, good = enqueue([prune, tiny_job("abdomen/spleen")], hub)
        Path(registry.artefacts.path_hint(dense.sha256)).unlink()
    assert run_queued(hub)
    with pytest.raises(JobFailed, match=f"artefact {dense.sha256}: not in"):
        wrong.wait()
    assert good.wait().results == ("abdomen/spleen@1",)


def test_a_killed_runner_is_replaced_and_the_pack_goes_on(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    (handle,) = submit([tiny_job(**LONG)], hub)
    until(handle, lambda event: event.kind == "validated" and (event.batch or 0) >= 80)
    (runner,) = runners(hub)
    os.kill(runner, signal.SIGKILL)
    events = list(handle.events())  # whoever follows sees that somebody works
    assert [event.kind for event in events].count("resumed") == 1
    assert events[-1].kind == "succeeded"
    assert handle.wait().results == ("abdomen/liver@1",)
    for pid in runners(hub):
        os.kill(pid, signal.SIGTERM)  # it would wait for more work


def test_datasets_in_an_object_store_train_decoders(tmp_path: Path, s3_url: str) -> None:
    hub = furnish(tmp_path, datasets=s3_url)
    (handle,) = submit([tiny_job()], hub)
    assert handle.wait().results == ("abdomen/liver@1",)
    for pid in runners(hub):
        os.kill(pid, signal.SIGTERM)


def runners(hub: Workspace) -> list[int]:
    """The process that holds the workspace's runner lock, if one does."""
    jobs = hub.root / "jobs"
    with exclusive_or_none(jobs / LOCK) as free:
        return [] if free else [int((jobs / PID).read_text())]
