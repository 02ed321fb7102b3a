"""Pruning and updating a version through a pack, without Ray."""

from __future__ import annotations

import pytest
import torch
from pack_work import registered
from tiny_hub import ENCODER, EXACT, contribute, furnish, tiny_job

from clnet.decoders_registry import DecoderRecord
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder
from clnet.model.ticket import prunable, sparsity
from clnet.model.training import Recipe
from clnet.platform.delivery import Delivery
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.resolve import resolve
from clnet.platform.trainees import build_trainee
from clnet.platform.workspace import Workspace


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def work(hub: Workspace, job: DecoderJob) -> tuple[DecoderRecord, Delivery]:
    with hub.registry() as registry:
        return registered(registry, hub.catalog(), job)[0]


@pytest.fixture(scope="module")
def dense(hub: Workspace) -> DecoderRecord:
    return work(hub, tiny_job("abdomen/kidneys", steps=40))[0]


@pytest.fixture(scope="module")
def pruned(hub: Workspace, dense: DecoderRecord) -> DecoderRecord:
    return work(hub, changed(dense, kind="prune", rate=0.8))[0]


def changed(base: DecoderRecord, **changes: object) -> DecoderJob:
    return tiny_job("abdomen/kidneys", base=base.ref, widths=(), **changes)


def decoder(hub: Workspace, record: DecoderRecord) -> Decoder:
    with hub.registry() as registry:
        return decode_decoder(registry.artefact(record.sha256))[0]


def test_pruning_makes_a_version_with_a_ticket(
    hub: Workspace, dense: DecoderRecord, pruned: DecoderRecord
) -> None:
    assert pruned.ticket is not None
    assert pruned.ticket.rate == 0.8
    assert pruned.ticket.dense_sha == dense.sha256
    assert pruned.ticket.rewind == "none"
    assert pruned.lineage.parents == (dense.ref,)
    assert (pruned.learned, pruned.ranges) == (dense.learned, dense.ranges)
    assert sparsity([decoder(hub, pruned)]) == pytest.approx(0.8, abs=1e-3)


def test_survivors_begin_at_the_rewound_weights(hub: Workspace, dense: DecoderRecord) -> None:
    barely = changed(
        dense, kind="prune", rate=0.8, rewind=0.5, steps=1, learning_rate=1e-12, ema=0.0
    )
    at_once = decoder(hub, work(hub, barely)[0])
    with hub.registry() as registry:
        early = decode_decoder(registry.artefact(dense.lineage.config["rewind"]["sha256"]))[0]
    for name, weight in prunable(at_once).items():
        kept = weight != 0
        assert torch.allclose(weight[kept], prunable(early)[name][kept], atol=1e-6)


def test_an_update_keeps_the_ticket_and_names_its_parent(
    hub: Workspace, pruned: DecoderRecord
) -> None:
    new = contribute(hub, "site-n/boxes", dict(EXACT), range(10, 15))
    record, _ = work(hub, changed(pruned, kind="update", dataset=new, tolerance=1.0))
    before, after = decoder(hub, pruned), decoder(hub, record)
    assert record.parent_ref == pruned.ref
    assert record.status == "accepted"
    assert record.ticket is not None
    assert record.ticket.mask_sha256 == pruned.ticket.mask_sha256  # type: ignore[union-attr]
    moved = 0
    for name, weight in prunable(after).items():
        assert not weight[prunable(before)[name] == 0].any()
        moved += int((weight != prunable(before)[name]).sum())
    assert moved


def test_momentum_and_warm_up_of_an_update_are_the_users(
    hub: Workspace, dense: DecoderRecord
) -> None:
    with hub.registry() as registry:
        catalog = hub.catalog()

        def recipe(**asked: object) -> Recipe:
            job = changed(dense, kind="update", **asked)
            return resolve("job", job, registry, catalog).recipe

        usual, asked = recipe(), recipe(ema=0.999, ema_warm_up=True)
    assert (usual.ema, usual.ema_warm_up) == (0.99, False)
    assert (asked.ema, asked.ema_warm_up) == (0.999, True)


def test_an_update_that_harms_an_anatomy_stays_a_candidate(
    hub: Workspace, dense: DecoderRecord
) -> None:
    new = contribute(hub, "site-g/boxes", dict(EXACT), range(20, 25))
    wild = changed(dense, kind="update", dataset=new, learning_rate=1.0, ema=0.0, tolerance=0.0)
    record, delivery = work(hub, wild)
    judged = delivery.metrics["update"]
    assert judged["before"].keys() == judged["after"].keys() == {"kidney_left", "kidney_right"}
    assert record.status == "candidate"
    assert "fell from" in record.status_reason


def test_an_update_is_judged_by_the_labels_of_the_new_data(
    hub: Workspace, dense: DecoderRecord
) -> None:
    swapped = {"1": "ignore", "2": "ignore", "3": "kidney_right", "4": "kidney_left"}
    other = contribute(hub, "site-s/swapped", swapped, range(20, 25))
    job = changed(
        dense, kind="update", dataset=other, learning_rate=1e-2, ema=0.5, tolerance=0.0, steps=60
    )
    record, delivery = work(hub, job)
    assert record.status == "accepted", delivery.reason


def test_siblings_that_the_new_data_does_not_label_are_held_by_the_old_version(
    hub: Workspace, dense: DecoderRecord
) -> None:
    left = contribute(
        hub, "site-l/left", {"3": "kidney_left", **dict.fromkeys("124", "ignore")}, range(30, 35)
    )
    _, delivery = work(hub, changed(dense, kind="update", dataset=left, tolerance=1.0))
    judged = delivery.metrics["update"]
    assert judged["after"].keys() == {"kidney_left"}
    assert judged["agreement"].keys() == {"kidney_right"}


def test_an_update_by_labels_of_any_kind_begins_with_the_old_version_as_its_teacher(
    hub: Workspace, dense: DecoderRecord
) -> None:
    with hub.registry() as registry:
        assignment = resolve("job", changed(dense, kind="update"), registry, hub.catalog())
        trainee = build_trainee(assignment, ENCODER, registry.artefact, torch.device("cpu"))
    assert trainee.distillation is not None
    teacher = trainee.distillation.teacher.state_dict()
    assert all(torch.equal(v, teacher[k]) for k, v in decoder(hub, dense).state_dict().items())


def test_an_update_by_a_union_holds_its_members_by_the_old_version(
    hub: Workspace, dense: DecoderRecord
) -> None:
    merged = {"1": "liver", "2": "spleen", "3": "kidney", "4": "kidney"}
    both = contribute(hub, "site-u/merged", merged, range(50, 55))
    _, delivery = work(hub, changed(dense, kind="update", dataset=both, tolerance=1.0))
    judged = delivery.metrics["update"]
    assert judged["after"].keys() == {"kidney"}
    assert judged["agreement"].keys() == {"kidney_left", "kidney_right"}


def test_an_update_without_held_out_cases_stays_a_candidate(
    hub: Workspace, dense: DecoderRecord
) -> None:
    validation = Validation(batches=3, fraction=0.0)
    job = changed(dense, kind="update", tolerance=1.0, steps=2, validation=validation)
    record, _ = work(hub, job)
    assert record.metrics["validated_on"] == "train"
    assert record.status == "candidate"
    assert "no case was held out" in record.status_reason
