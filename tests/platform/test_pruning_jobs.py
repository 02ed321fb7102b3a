"""Pruning jobs: along rates, by channels, resumed; what their tickets tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_hub import furnish, tiny_job

from clnet.decoders_registry import DecoderRecord
from clnet.errors import Incompatible, InputError
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.survivors import float16_exact
from clnet.model.ticket import read_ticket
from clnet.platform import pack_run
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery, deliver
from clnet.platform.jobs import DecoderJob, Validation, enqueue
from clnet.platform.pack_run import PackRun
from clnet.platform.register import register
from clnet.platform.resolve import resolve, stores_for
from clnet.platform.workspace import Workspace

GROUP = "abdomen/kidneys"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def begin(hub: Workspace, *assignments: Assignment) -> PackRun:
    with hub.registry() as registry:
        return PackRun(
            assignments,
            stores_for(assignments[0].job, registry, hub.catalog()),
            registry.artefact,
            torch.device("cpu"),
            lambda *told: None,
            lambda job_id: False,
        )


def assigned(hub: Workspace, job: DecoderJob, name: str = "job") -> Assignment:
    with hub.registry() as registry:
        return resolve(name, job, registry, hub.catalog())


def deliveries(hub: Workspace, run: PackRun) -> list[Delivery]:
    run.run(lambda run: None)
    with hub.registry() as registry:
        return deliver(run, registry.artefact)


def work(hub: Workspace, job: DecoderJob) -> DecoderRecord:
    assignment = assigned(hub, job)
    (delivery,) = deliveries(hub, begin(hub, assignment))
    with hub.registry() as registry:
        return register(delivery, assignment, registry)


def decoder(hub: Workspace, record: DecoderRecord) -> Decoder:
    with hub.registry() as registry:
        return decode_decoder(registry.artefact(record.sha256))[0]


@pytest.fixture(scope="module")
def dense(hub: Workspace) -> DecoderRecord:
    return work(hub, tiny_job(GROUP, steps=30, batches_per_epoch=10, rewind="epoch:2", seed=3))


def pruning(base: DecoderRecord, **changes: object) -> DecoderJob:
    values: dict[str, object] = {"steps": 6, "tolerance": 0.2, "widths": ()}
    return tiny_job(GROUP, kind="prune", base=base.ref, **values | changes)


def test_rates_are_tried_in_turn_and_the_ticket_tells(hub: Workspace, dense: DecoderRecord) -> None:
    record = work(hub, pruning(dense, rates=(0.0, 0.5, 0.8), weights="float16", rewind="early"))
    assert record.status == "accepted"
    assert record.ticket is not None
    assert record.ticket.rate == 0.8
    assert record.ticket.rewind == "20"
    assert record.ticket.dense_sha == dense.sha256
    rounds = record.ticket.details["rounds"]
    assert [(r["rate"], r["tries"], r["accepted"]) for r in rounds] == [
        (0.5, 1, True),
        (0.8, 1, True),
    ]
    assert record.ticket.details["dense_dsc"] == pytest.approx(dense.metrics["mean_dsc"], abs=0.05)
    found = decoder(hub, record)
    ticket = read_ticket(found)
    assert ticket is not None
    assert ticket.sparsity == pytest.approx(0.8, abs=1e-3)
    assert all(float16_exact(p) for p in found.parameters())


def test_a_rate_that_no_try_recovers_ends_the_schedule(
    hub: Workspace, dense: DecoderRecord
) -> None:
    hopeless = {"steps": 2, "tolerance": 0.0, "learning_rate": 1e-9, "rewind": "init"}
    record = work(hub, pruning(dense, rates=(0.5, 0.9), retries=1, **hopeless))
    assert record.ticket is not None
    [only] = record.ticket.details["rounds"]
    assert (only["tries"], len(only["dsc"]), only["accepted"]) == (2, 2, False)
    assert record.status == "candidate"
    assert "no rate kept" in record.status_reason


def test_a_decoder_that_no_validation_patch_shows_stays_a_candidate(
    hub: Workspace, dense: DecoderRecord
) -> None:
    elsewhere = {"focus": ("liver",), "patch_size": (8, 8, 8), "batch_size": 1,
                 "validation": Validation(batches=1), "steps": 2}  # fmt: skip
    for rate in ({"rates": (0.5, 0.9)}, {"rate": 0.5}):
        record = work(hub, pruning(dense, **rate, **elsewhere))
        assert record.metrics["dsc"] == {}
        assert record.status == "candidate"
        assert "no validation patch shows an anatomy of the decoder" in record.status_reason


def test_a_tolerance_as_large_as_the_score_accepts_nothing(
    hub: Workspace, dense: DecoderRecord
) -> None:
    record = work(hub, pruning(dense, rates=(0.5, 0.8), tolerance=1.0))
    assert record.status == "candidate"
    assert "no more than the tolerance of 1.0" in record.status_reason


def test_whole_channels_leave_a_smaller_decoder(hub: Workspace, dense: DecoderRecord) -> None:
    record = work(hub, pruning(dense, rate=0.7, scope="channel"))
    found = decoder(hub, record)
    assert record.config["remains"] is not None
    assert sum(p.numel() for p in found.parameters()) < 0.6 * sum(
        p.numel() for p in decoder(hub, dense).parameters()
    )
    assert record.ticket is not None
    assert record.ticket.details["scope"] == "channel"
    assert record.ticket.details["compacted"]["widths"] == list(found.config.widths)
    updated = work(hub, tiny_job(GROUP, kind="update", base=record.ref, widths=(), steps=2,
                                 tolerance=1.0))  # fmt: skip
    assert updated.config["remains"] == record.config["remains"]
    assert updated.ticket == record.ticket


def test_an_update_of_a_compacted_decoder_without_a_zero_is_none_of_a_dense_one(
    hub: Workspace, dense: DecoderRecord
) -> None:
    record = work(hub, pruning(dense, rate=0.7, scope="channel", seed=1))
    update = assigned(hub, tiny_job(GROUP, kind="update", base=record.ref, widths=()))
    unmarked = Delivery("job", artefact=b"no zero is left", ticket=None, config=record.config)
    with hub.registry() as registry:
        assert register(unmarked, update, registry).ticket == record.ticket


def test_pruning_that_would_cut_nothing_more_is_refused(
    hub: Workspace, dense: DecoderRecord
) -> None:
    sparse = work(hub, pruning(dense, rate=0.8))
    for less in ({"rate": 0.5}, {"rate": 0.8}, {"rates": (0.5, 0.6)}):
        with pytest.raises(InputError, match=r"80\.0% of its weights are cut already"):
            enqueue([pruning(sparse, **less)], hub)
    assert assigned(hub, pruning(sparse, rates=(0.5, 0.9))).schedule is not None
    assert assigned(hub, pruning(sparse, rate=0.5, scope="layer")).schedule is not None


@pytest.mark.parametrize("tolerance", [None, 0.2])
def test_pruning_that_cut_nothing_more_keeps_the_ticket_and_is_a_candidate(
    hub: Workspace, dense: DecoderRecord, tolerance: float | None
) -> None:
    sparse = work(hub, pruning(dense, rate=0.8))
    higher = assigned(hub, pruning(sparse, rate=0.9, tolerance=tolerance))
    assert higher.schedule is not None
    lower = replace(higher, schedule=replace(higher.schedule, rates=(0.5,)))
    (made,) = deliveries(hub, begin(hub, lower))
    assert made.reason == "nothing more was cut than was before"
    assert made.ticket is not None
    assert made.ticket["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_one_rate_is_kept_whatever_it_scores_unless_a_tolerance_is_given(
    hub: Workspace, dense: DecoderRecord
) -> None:
    hopeless = {"steps": 1, "learning_rate": 1e-9}
    for rate, tolerance, status in ((0.99, None, "accepted"), (0.98, 0.0, "candidate")):
        record = work(hub, pruning(dense, rate=rate, tolerance=tolerance, **hopeless))
        assert record.ticket is not None
        assert not record.ticket.details["rounds"][0]["accepted"]
        assert record.status == status
    assert "no rate kept the mean DSC within 0.0" in record.status_reason
    assert work(hub, pruning(dense, rate=0.55)).status == "accepted"


def test_a_recovery_is_judged_by_its_own_validations_alone(
    hub: Workspace, dense: DecoderRecord
) -> None:
    job = pruning(dense, rates=(0.5, 0.8), steps=2, validation=Validation(batches=3, every=2))
    record = work(hub, job)
    assert record.ticket is not None
    judged = [dsc for r in record.ticket.details["rounds"] for dsc in r["dsc"]]
    validated = [dsc for _, dsc in record.metrics["history"]]
    assert len(set(validated)) > 1
    assert judged == validated


@pytest.mark.parametrize("window", [1, 2])
def test_a_moving_average_is_as_long_as_the_job_says(
    hub: Workspace, dense: DecoderRecord, window: int
) -> None:
    often = {"validation": Validation(batches=3, every=2), "stream_seed": window}
    record = work(hub, pruning(dense, rates=(0.5,), window=window, **often))
    assert record.ticket is not None
    validated = [dsc for _, dsc in record.metrics["history"]]
    assert len(set(validated)) == 3
    [judged] = record.ticket.details["rounds"][0]["dsc"]
    assert judged == pytest.approx(sum(validated[-window:]) / window)


def test_a_pack_prunes_each_decoder_at_its_own_pace(hub: Workspace, dense: DecoderRecord) -> None:
    jobs = {
        "short": pruning(dense, rates=(0.5, 0.6)),
        "long": pruning(dense, rates=(0.5, 0.6, 0.7)),
    }
    together = begin(hub, *(assigned(hub, job, name) for name, job in jobs.items()))
    packed = {d.job_id: d.artefact for d in deliveries(hub, together)}
    for name, job in jobs.items():
        (alone,) = deliveries(hub, begin(hub, assigned(hub, job, name)))
        assert alone.artefact == packed[name]


@pytest.mark.parametrize("stop", [4, 6, 10])
def test_an_interrupted_pruning_ends_with_the_same_bytes(
    hub: Workspace,
    dense: DecoderRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    assignment = assigned(hub, pruning(dense, rates=(0.5, 0.8)))
    monkeypatch.setattr(pack_run, "TALK_SECONDS", 0.0)  # of batches that take longer
    (whole,) = deliveries(hub, begin(hub, assignment))
    monkeypatch.undo()
    first = begin(hub, assignment)

    def die(run: PackRun) -> None:
        if run.t >= stop:
            run.save(tmp_path)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        first.run(die)
    second = begin(hub, assignment)
    second.load(tmp_path)
    (again,) = deliveries(hub, second)
    assert again.artefact == whole.artefact
    assert again.ticket == whole.ticket
    assert again.metrics == whole.metrics
    assert whole.metrics["loss"] > 0


def test_survivors_rewind_to_what_was_asked_for(hub: Workspace, dense: DecoderRecord) -> None:
    barely = {"rate": 0.5, "steps": 1, "learning_rate": 1e-12, "ema": 0.0}
    with hub.registry() as registry:
        config = EncoderConfig.from_dict(registry.encoder("tiny").config)
        kept = decode_decoder(registry.artefact(dense.lineage.config["rewind"]["sha256"]))[0]
    trained = decoder(hub, dense)
    expected = {
        "init": build_decoder(trained.config, config, 3),
        "epoch:2": kept,
        "none": trained,
        None: trained,
    }
    for rewind, source in expected.items():
        record = work(hub, pruning(dense, rewind=rewind, **barely))
        assert record.ticket is not None
        assert record.ticket.rewind == {"epoch:2": "20", None: "none"}.get(rewind, rewind)
        for name, weight in decoder(hub, record).named_parameters():
            left = weight != 0
            assert torch.allclose(weight[left], source.get_parameter(name)[left], atol=1e-6)


def test_an_epoch_that_was_not_kept_cannot_be_rewound_to(
    hub: Workspace, dense: DecoderRecord
) -> None:
    with pytest.raises(Incompatible, match="kept its weights at batch 20, not at 10"):
        assigned(hub, pruning(dense, rate=0.5, rewind="epoch:1"))


@pytest.mark.parametrize("rewind", ["init", "early", "epoch:2", 0.67])
@pytest.mark.parametrize("scope", ["global", "channel"])
def test_what_is_pruned_already_is_not_submitted_to_rewind(
    hub: Workspace, dense: DecoderRecord, scope: str, rewind: float | str
) -> None:
    sparse = work(hub, pruning(dense, rate=0.6, scope=scope))
    with pytest.raises(Incompatible, match=f"{sparse.ref} is pruned already"):
        enqueue([pruning(sparse, rate=0.8, rewind=rewind)], hub)
    assert hub.registry().jobs() == []
    assert assigned(hub, pruning(sparse, rate=0.8, scope=scope, rewind="none")).rewind is not None


def test_early_weights_that_a_release_left_behind_are_missed_when_a_job_is_submitted(
    hub: Workspace, dense: DecoderRecord, tmp_path: Path
) -> None:
    there = furnish(tmp_path / "there")
    with hub.registry() as here, there.registry() as other:
        here.create_release("one", [dense.ref])
        here.export_release("one", tmp_path / "folder")
        other.import_release(tmp_path / "folder")
        assert other.decoder(dense.ref).lineage.config["rewind"]
    for rewind in ("early", "epoch:2", 0.67):
        with pytest.raises(Incompatible, match=f"training of {dense.ref} kept are not here"):
            enqueue([pruning(dense, rate=0.5, rewind=rewind)], there)
    assert there.registry().jobs() == []
    enqueue([pruning(dense, rate=0.5, rewind=rewind) for rewind in ("init", "none")], there)


def test_first_weights_from_a_version_that_a_release_left_behind_are_missed_too(
    hub: Workspace, dense: DecoderRecord, tmp_path: Path
) -> None:
    there = furnish(tmp_path / "there")
    grown = work(hub, tiny_job(GROUP, start=dense.ref, steps=4, rewind="none", seed=5))
    assert assigned(hub, pruning(grown, rate=0.5, rewind="init")).rewind is not None
    with hub.registry() as here, there.registry() as other:
        here.create_release("two", [grown.ref])
        here.export_release("two", tmp_path / "folder")
        other.import_release(tmp_path / "folder")
    with pytest.raises(Incompatible, match=f"{grown.ref} began with weights of {dense.ref}"):
        enqueue([pruning(grown, rate=0.5, rewind="init")], there)


def test_a_fraction_rewinds_to_what_was_kept_there_and_to_nothing_else(
    hub: Workspace, dense: DecoderRecord
) -> None:
    with pytest.raises(
        Incompatible, match=r"kept its weights at batch 20, not at 1: rewind to early"
    ):
        assigned(hub, pruning(dense, rate=0.5, rewind=0.05))
    kept = dense.lineage.config["rewind"]["sha256"]
    for rewind in (0.67, "early", "epoch:2"):
        found = assigned(hub, pruning(dense, rate=0.5, rewind=rewind)).rewind
        assert found is not None
        assert (found.name, found.sha256) == ("20", kept)


def test_the_authors_rates_are_the_default_and_milder_for_narrow_decoders(
    hub: Workspace, dense: DecoderRecord
) -> None:
    schedule = assigned(hub, pruning(dense)).schedule
    assert schedule is not None
    assert schedule.cuts[0] == pytest.approx(0.6)  # 80 % for 32 base features, this one has 16
    assert schedule.retries == 8
    with pytest.raises(InputError, match="every rate is 0 or less"):
        assigned(hub, pruning(dense, rates=(-0.1, 0.0)))
