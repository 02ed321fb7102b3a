"""A decoder leans on others that lean on others: submitted, trained, pruned, updated, segmented."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from pack_work import registered
from tiny_hub import EXACT, contribute, furnish, tiny_job

import clnet
from clnet.decoders_registry import DecoderRecord
from clnet.errors import Incompatible
from clnet.model.artefact import decode_decoder, decode_encoder
from clnet.model.decoder import DecoderConfig
from clnet.model.supporters import Supporters, load_supporters
from clnet.platform.delivery import Delivery
from clnet.platform.jobs import DecoderJob, enqueue
from clnet.platform.workspace import Workspace
from clnet.tune_spaces.space import SearchSpace
from clnet.tune_spaces.subject import subject_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def train(hub: Workspace, *jobs: DecoderJob) -> list[tuple[DecoderRecord, Delivery]]:
    with hub.registry() as registry:
        return registered(registry, hub.catalog(), *jobs)


@pytest.fixture(scope="module")
def eyes(hub: Workspace) -> DecoderRecord:
    return train(hub, tiny_job("abdomen/liver"))[0][0]


@pytest.fixture(scope="module")
def nerve(hub: Workspace, eyes: DecoderRecord) -> DecoderRecord:
    return train(hub, tiny_job("abdomen/spleen", supporters=(eyes.ref,)))[0][0]


def leaning(eyes: DecoderRecord, nerve: DecoderRecord, **changes: object) -> DecoderJob:
    return tiny_job("abdomen/kidneys", supporters=(eyes.ref, nerve.ref), **changes)


@pytest.fixture(scope="module")
def chiasm(
    hub: Workspace, eyes: DecoderRecord, nerve: DecoderRecord
) -> tuple[DecoderRecord, Delivery]:
    return train(hub, leaning(eyes, nerve))[0]


def test_a_chain_of_supporters_is_queued(
    hub: Workspace, eyes: DecoderRecord, nerve: DecoderRecord
) -> None:
    (handle,) = enqueue([leaning(eyes, nerve)], hub)
    handle.cancel()


def test_each_supporter_sees_what_its_own_supporters_see(
    hub: Workspace, chiasm: tuple[DecoderRecord, Delivery]
) -> None:
    with hub.registry() as registry:
        encoder, _ = decode_encoder(registry.artefact(chiasm[0].encoder_sha256))
        decoder, info = decode_decoder(registry.artefact(chiasm[0].sha256))
        loaded = load_supporters(decoder.config, registry.artefact, CPU)
        eyes, nerve = (decode_decoder(registry.artefact(s.sha256))[0] for s in chiasm[0].supporters)
    features = encoder(torch.randn(1, 1, 16, 16, 16))
    seen = eyes(features)
    expected = [seen, nerve(features, [seen])]
    for found, right in zip(loaded.logits(info.config, features), expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, right, strict=True))
    with pytest.raises(Incompatible, match="which is not loaded"):
        Supporters({}).logits(info.config, features)


def test_packing_is_invisible_to_a_chain(
    hub: Workspace,
    eyes: DecoderRecord,
    nerve: DecoderRecord,
    chiasm: tuple[DecoderRecord, Delivery],
) -> None:
    neighbour = tiny_job("abdomen/spleen", seed=7)
    packed = train(hub, neighbour, leaning(eyes, nerve))[1][1]
    assert packed.artefact == chiasm[1].artefact


def test_a_version_names_what_it_leans_on_by_hash(
    eyes: DecoderRecord, nerve: DecoderRecord, chiasm: tuple[DecoderRecord, Delivery]
) -> None:
    pinned = [eyes.sha256, nerve.sha256]
    config = DecoderConfig.from_dict(dict(chiasm[0].config))
    assert [s.sha256 for s in config.supporters] == pinned
    assert [s.sha256 for s in chiasm[0].supporters] == pinned
    assert [s.sha256 for s in nerve.supporters] == [eyes.sha256]


@pytest.mark.parametrize(
    "change", [{"kind": "prune", "rate": 0.5}, {"kind": "update", "tolerance": 1.0}]
)
def test_a_version_with_a_chain_is_pruned_and_updated(
    hub: Workspace, chiasm: tuple[DecoderRecord, Delivery], change: Mapping[str, object]
) -> None:
    new = contribute(hub, f"site-n/{change['kind']}", dict(EXACT), range(10, 15))
    job = tiny_job("abdomen/kidneys", base=chiasm[0].ref, widths=(), dataset=new, **change)
    ((record, delivery),) = train(hub, job)
    assert record.supporters == chiasm[0].supporters
    assert delivery.metrics["dsc"].keys() == {"kidney_left", "kidney_right"}


def test_a_search_has_the_whole_chain(
    hub: Workspace,
    eyes: DecoderRecord,
    nerve: DecoderRecord,
    chiasm: tuple[DecoderRecord, Delivery],
) -> None:
    with hub.registry() as registry:
        subject = subject_of(registry, chiasm[0], SearchSpace(rates=(0.5,), recovery_steps=2))
    assert list(subject.supporters) == [eyes.sha256, nerve.sha256]


def test_a_release_segments_with_a_chain(
    hub: Workspace,
    eyes: DecoderRecord,
    nerve: DecoderRecord,
    chiasm: tuple[DecoderRecord, Delivery],
) -> None:
    with clnet.connect(hub.root) as opened:
        release = opened.releases.create("leaning", [chiasm[0].ref])
        assert {d.ref for d in release.supporters} == {eyes.ref, nerve.ref}
        scan = hub.root / "sources" / "site-a/boxes" / "case-0.nii.gz"
        result = opened.segment(scan, release)
    assert result.statistics()["anatomies"].keys() == {"kidney_left", "kidney_right"}
