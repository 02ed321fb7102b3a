"""Jobs as they are said, checked and resolved, without Ray."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny_hub import PLAN, contribute, furnish, tiny_job

from clnet.decoders_registry import JobRecord
from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.lottery import milder_rates
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery
from clnet.platform.events import EventLog
from clnet.platform.jobs import DecoderJob, Validation, enqueue
from clnet.platform.packing import form_packs, share_out
from clnet.platform.register import register
from clnet.platform.resolve import resolve
from clnet.platform.runner import LOCK, owner_of, run_queued
from clnet.platform.work import prepare
from clnet.platform.workspace import Workspace
from clnet.storage import exclusive_or_none


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def assigned(hub: Workspace, job: DecoderJob, job_id: str = "1") -> Assignment:
    with hub.registry() as registry:
        return resolve(job_id, job, registry, hub.catalog())


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "prune", "rate": 0.9},
        {"kind": "prune", "base": "abdomen/liver@1", "rate": 0.9, "rates": (0.8, 0.9)},
        {"kind": "prune", "base": "abdomen/liver@1", "rates": (0.9, 0.8)},
        {"kind": "prune", "base": "abdomen/liver@1", "rates": (0.9, 1.0)},
        {"kind": "prune", "base": "abdomen/liver@1", "rates": (0.0, 0.8, 0.8)},
        {"kind": "prune", "base": "abdomen/liver@1", "scope": "voxel"},
        {"kind": "prune", "base": "abdomen/liver@1", "rewind": "epoch:x"},
        {"rates": (0.8, 0.9)},
        {"scope": "channel"},
        {"rewind": 1.0},
        {"rewind": "late"},
        {"rewind": "early"},
        {"kind": "update"},
        {"kind": "train", "base": "abdomen/liver@1"},
        {"kind": "update", "base": "abdomen/liver@1", "widths": (16, 16)},
        {"rate": 1.0},
        {"dataset": ()},
        {"no_such_field": 1},
    ],
)
def test_a_job_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    plain = {"decoder": "abdomen/liver", "dataset": "site-a/boxes", "encoder": "tiny"}
    with pytest.raises(ValidationError):
        DecoderJob.model_validate(plain | wrong)


def test_rates_that_cut_nothing_are_skipped_in_any_order() -> None:
    rates = milder_rates(4)
    assert rates[:2] == (0.0, 0.0)
    for given in (rates, (0.0, 0.0, -0.5, 0.36, 0.5)):
        job = tiny_job(kind="prune", base="abdomen/liver@1", widths=(), rates=given)
        assert job.rates == given


@pytest.mark.parametrize(
    "wrong",
    [
        {"decoder": "abdomen/no_such_group"},
        {"dataset": "site-a/no-such-data"},
        {"encoder": "no-such-encoder"},
        {"body_part_model": "no-such-model"},
        {"supporters": ("abdomen/spleen@9",)},
    ],
)
def test_a_job_about_something_that_is_not_there_is_not_queued(
    hub: Workspace, wrong: dict[str, object]
) -> None:
    with pytest.raises(NotFound):
        enqueue([tiny_job(), tiny_job(**wrong)], hub)
    assert hub.registry().jobs() == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        # what its data cannot teach
        ({"decoder": "abdomen/pancreas"}, "abdomen/pancreas: the training cases label none of"),
        ({"anatomies": ("spleen",)}, "abdomen/liver: spleen is not of this group"),
        # what cannot be built
        ({"widths": (16, 16, 16)}, "3 widths for an encoder of 3 stages; give 2"),
        ({"heads": 3}, "heads must be 1 to 2"),
        ({"widths": (16, 0)}, "give 1 or more"),
        ({"kernels": ((2, 2, 2), (3, 3, 3))}, "must be odd"),
    ],
)
def test_a_job_that_cannot_be_done_is_not_queued(
    hub: Workspace, wrong: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        enqueue([tiny_job(), tiny_job(**wrong)], hub)
    assert hub.registry().jobs() == []


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((10, 10, 10), (12, 12, 12)),
        ((16, 16, 1), (16, 16, 4)),
        ((4, 4, 4), (4, 4, 8)),
    ],
)
def test_a_patch_that_the_encoder_cannot_halve_is_not_queued(
    hub: Workspace, size: tuple[int, ...], fits: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=re.escape(f"{fits} is the next")):
        enqueue([tiny_job(patch_size=size)], hub)
    assert hub.registry().jobs() == []
    assert assigned(hub, tiny_job(patch_size=fits)).stream.patch_size == fits


def test_defaults_fit_the_encoder_and_the_supporters(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    plain = {"widths": (), "heads": None}
    first = assigned(hub, tiny_job("abdomen/spleen", **plain))
    assert (first.config.widths, first.config.heads) == ((16, 16), 2)
    narrow = assigned(hub, tiny_job("abdomen/spleen", heads=1))
    with hub.registry() as registry:
        ref = register(delivered(hub, narrow), narrow, registry).ref
    leaning = assigned(hub, tiny_job("abdomen/liver", supporters=(ref,), **plain))
    assert leaning.config.heads == 1
    with pytest.raises(Incompatible, match="set heads to 1 or less, not 2"):
        enqueue([tiny_job("abdomen/liver", supporters=(ref,), heads=2)], hub)


def test_epochs_are_batches(hub: Workspace) -> None:
    job = tiny_job(steps=None, epochs=3, batches_per_epoch=5)
    assert assigned(hub, job).stream.total == assigned(hub, job).recipe.steps == 15
    assert job.validate_every == 3


def test_a_job_reads_patches_of_the_plans_size_around_its_own_anatomies(hub: Workspace) -> None:
    stream = assigned(hub, tiny_job("abdomen/kidneys", focus="own")).stream
    assert stream.patch_size == PLAN.patch_size
    assert stream.focus == ("kidney_left", "kidney_right")
    assert stream.split == "train"


def test_validation_is_on_fixed_patches_of_held_out_cases(hub: Workspace) -> None:
    judged = assigned(hub, tiny_job(validation=Validation(batches=7))).validation
    assert judged.split == "val"
    assert judged.period == judged.total == 7
    assert not judged.augment


def test_a_single_case_is_validated_on_itself(hub: Workspace) -> None:
    ref = contribute(hub, "site-c/one", {"1": "liver", **dict.fromkeys("234", "ignore")}, range(1))
    assert assigned(hub, tiny_job(dataset=ref)).validation.split == "train"


def test_data_that_does_not_show_the_anatomy_is_refused(hub: Workspace) -> None:
    with pytest.raises(InputError, match="label none of stomach"):
        assigned(hub, tiny_job("abdomen/stomach"))


def test_jobs_pack_if_their_streams_are_equal(hub: Workspace) -> None:
    jobs = {
        "a": tiny_job("abdomen/liver", seed=1),
        "b": tiny_job("abdomen/spleen", learning_rate=1e-3),
        "c": tiny_job("abdomen/spleen", stream_seed=1),
        "d": tiny_job("abdomen/spleen", focus="own"),
        "e": tiny_job("abdomen/kidneys", widths=(32, 16)),
    }
    packs = form_packs(assigned(hub, job, name) for name, job in jobs.items())
    members = [[assignment.job_id for assignment in pack.assignments] for pack in packs]
    assert members == [["a", "b", "e"], ["c"], ["d"]]
    again = form_packs(assigned(hub, job, name) for name, job in jobs.items())
    assert [pack.name for pack in again] == [pack.name for pack in packs]


def test_packs_share_the_machine() -> None:
    both = share_out(2, cpus=5, gpus=1, busy=False)
    assert both is not None
    assert (both.cpus, both.gpus, both.threads) == (2.5, 0.5, 2)
    assert share_out(9, cpus=2, gpus=0, busy=False) == share_out(1, cpus=1, gpus=0, busy=True)
    assert share_out(1, cpus=0.5, gpus=0, busy=True) is None
    left = share_out(1, cpus=0.5, gpus=0, busy=False)
    assert left is not None
    assert left.threads == 1


def delivered(hub: Workspace, assignment: Assignment, **changes: object) -> Delivery:
    """What a worker would hand over, with stand-in bytes: registering does not read them."""
    delivery = Delivery(
        assignment.job_id,
        artefact=b"weights",
        rewind=b"earlier",
        rewind_step=6,
        metrics={"dsc": {}},
    )
    return replace(delivery, **changes)  # type: ignore[arg-type]


def test_a_version_tells_where_it_came_from(hub: Workspace) -> None:
    assignment = assigned(hub, tiny_job("abdomen/spleen", seed=4, command="said"))
    with hub.registry() as registry:
        record = register(delivered(hub, assignment), assignment, registry)
        assert register(delivered(hub, assignment), assignment, registry).ref == record.ref
        assert record.ref == "abdomen/spleen@1"
        assert record.status == "accepted"
        assert record.aliases == ("candidate",)
        assert record.lineage.command == "said"
        assert record.lineage.code_version.startswith("0.")
        assert record.lineage.seeds == {"decoder": 4, "stream": 0}
        assert record.lineage.datasets[0].ref == "site-a/boxes@1"
        assert registry.artefact(record.lineage.config["rewind"]["sha256"]) == b"earlier"
        assert DecoderJob.model_validate(record.lineage.config["job"]) == assignment.job


def test_an_update_that_fails_an_anatomy_stays_a_candidate(hub: Workspace) -> None:
    first = assigned(hub, tiny_job("abdomen/liver"))
    with hub.registry() as registry:
        base = register(delivered(hub, first), first, registry)
        job = tiny_job(kind="update", base=base.ref, widths=(), steps=4)
        assignment = assigned(hub, job)
        worse = delivered(hub, assignment, artefact=b"worse", reason="liver fell", rewind=None)
        record = register(worse, assignment, registry)
        assert record.parent_ref == base.ref
        assert (record.status, record.status_reason) == ("candidate", "liver fell")
        with pytest.raises(Incompatible):
            registry.promote("abdomen/liver", record.version)


def test_an_update_is_for_what_the_base_has_learned(hub: Workspace) -> None:
    sides = {"1": "ignore", "2": "ignore", "3": "kidney_left", "4": "kidney"}
    merged = contribute(hub, "site-d/merged", sides)
    first = assigned(hub, tiny_job("abdomen/kidneys", dataset=merged))
    assert (first.learned, len(first.config.channels)) == (("kidney_left",), 2)
    with hub.registry() as registry:
        base = register(delivered(hub, first, artefact=b"sides"), first, registry)
    with pytest.raises(Incompatible, match="train a new version"):
        assigned(hub, tiny_job("abdomen/kidneys", kind="update", base=base.ref, widths=()))


def test_a_cancelled_job_never_runs(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    (handle,) = enqueue([tiny_job()], hub)
    handle.cancel()
    handle.cancel()
    assert handle.status == "cancelled"
    assert [event.kind for event in handle.events()] == ["queued", "cancelled"]


def claimed(hub: Workspace, owner: str) -> list[JobRecord]:
    """All jobs that wait, as a runner takes them."""
    with hub.registry() as registry:
        jobs = []
        while (job := registry.claim_job(owner)) is not None:
            jobs.append(job)
        return jobs


def test_whatever_one_job_raises_it_fails_and_the_others_are_prepared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub = furnish(tmp_path)
    wrong, good = enqueue([tiny_job(), tiny_job("abdomen/spleen")], hub)
    (hub.job_folder(wrong.id) / "pack.json").write_text("{}")
    with hub.registry() as registry:
        works = prepare(claimed(hub, "runner"), hub, registry)
    assert [work.job_ids for work in works] == [(good.id,)]
    assert (wrong.status, wrong.record.error) == ("failed", "KeyError: 'name'")
    assert [event.kind for event in wrong.events()] == ["queued", "started", "failed"]
    assert "Traceback" in capfd.readouterr().err


def test_a_cancelled_job_of_a_dead_runner_ends(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    (handle,) = enqueue([tiny_job()], hub)
    claimed(hub, owner_of(hub))
    handle.cancel()
    assert handle.status == "cancelled"
    assert [event.kind for event in handle.events()] == ["queued", "cancelled"]


@pytest.mark.parametrize("owner", ["this", "another"])
def test_a_job_that_somebody_may_work_on_is_cancelled_by_whoever_does(
    tmp_path: Path, owner: str
) -> None:
    hub = furnish(tmp_path)
    handle, good = enqueue([tiny_job(), tiny_job("abdomen/spleen")], hub)
    jobs = claimed(hub, owner_of(hub) if owner == "this" else "another:/workspace")
    with exclusive_or_none(tmp_path / "jobs" / LOCK) if owner == "this" else nullcontext():
        handle.cancel()
        assert handle.status == "running"
        with hub.registry() as registry:
            works = prepare(jobs, hub, registry)
    assert [work.job_ids for work in works] == [(good.id,)]
    assert handle.status == "cancelled"


def test_events_survive_and_are_read_in_order(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "job")
    assert list(log) == []
    log.append("queued", message="abdomen/liver")
    log.append("progress", batch=3, fraction=0.5, loss=1.25)
    with log.path.open("ab") as torn:
        torn.write(b'{"kind": "prog')  # a writer that is not done yet
    events, offset = log.read()
    assert [event.kind for event in events] == ["queued", "progress"]
    assert events[1].loss == 1.25
    assert log.read(offset)[0] == []


def test_only_one_runner_works_on_a_workspace(tmp_path: Path) -> None:
    import fcntl

    hub = Workspace(tmp_path)
    (tmp_path / "jobs").mkdir()
    with (tmp_path / "jobs" / "runner.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run_queued(hub) is False
