"""A decoder that came with an nnU-Net is pruned and updated as any other, or refused with why."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("nnunetv2")

import torch
from nnunet_reference import configured, tiny_dataset, tiny_plans, write_result
from pack_work import registered
from tiny_hub import furnish, tiny_job

from clnet.data_catalog import Terms
from clnet.decoders_registry import DecoderRecord
from clnet.errors import Incompatible
from clnet.model.artefact import decode_decoder
from clnet.model.ticket import prunable, sparsity
from clnet.platform.importing import import_nnunet
from clnet.platform.jobs import DecoderJob, enqueue
from clnet.platform.workspace import Workspace

PLANS = configured(tiny_plans(), spacing=[6.0, 6.0, 6.0], patch_size=[16, 16, 16])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def imported(hub: Workspace, name: str, labels: dict[str, Any], **more: Any) -> DecoderRecord:
    result = write_result(hub.root / name, PLANS, tiny_dataset(labels, **more))
    with hub.registry() as registry:
        return import_nnunet(
            registry, result, Terms(licence="CC0-1.0"), name=name, body_part_model="tiny"
        )[1]


@pytest.fixture(scope="module")
def base(hub: Workspace) -> DecoderRecord:
    return imported(hub, "mine", {"background": 0, "liver": 1, "spleen": 2})


def job_of(base: DecoderRecord, **changes: Any) -> DecoderJob:
    return tiny_job(
        base.group, base=base.ref, encoder=base.encoder_ref, widths=(), steps=4, **changes
    )


def work(hub: Workspace, job: DecoderJob) -> DecoderRecord:
    with hub.registry() as registry:
        return registered(registry, hub.catalog(), job)[0][0]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_an_imported_decoder_is_pruned(hub: Workspace, base: DecoderRecord, scope: str) -> None:
    pruned = work(hub, job_of(base, kind="prune", rate=0.5, scope=scope))
    assert pruned.group == base.group
    assert (pruned.learned, pruned.lineage.parents) == (base.learned, (base.ref,))
    with hub.registry() as registry:
        decoder, info = decode_decoder(registry.artefact(pruned.sha256))
    assert info.config.kind == "nnunet"
    assert sparsity([decoder]) == pytest.approx(0.5, abs=0.02)


def test_an_imported_decoder_is_updated(hub: Workspace, base: DecoderRecord) -> None:
    updated = work(hub, job_of(base, kind="update", ema=0.5, tolerance=1.0))
    assert updated.parent_ref == base.ref
    assert updated.metrics["update"]["after"].keys() == {"liver", "spleen"}
    with hub.registry() as registry:
        old, new = (decode_decoder(registry.artefact(r.sha256))[0] for r in (base, updated))
    assert any(not torch.equal(w, prunable(new)[name]) for name, w in prunable(old).items())


def test_what_no_loss_describes_is_refused_with_the_reason(hub: Workspace) -> None:
    regions = imported(
        hub,
        "regions",
        {"background": 0, "kidney": [1, 2], "kidney_left": 2, "liver": 3},
        regions_class_order=[1, 2, 3],
    )
    with pytest.raises(Incompatible, match="trained on regions"):
        enqueue([job_of(regions, kind="update")], hub)
    layers = imported(hub, "layers", {"background": 0, "liver": 1, "aorta": 2})
    with pytest.raises(Incompatible, match="2 layers"):
        enqueue([job_of(layers, kind="prune", rate=0.5)], hub)
