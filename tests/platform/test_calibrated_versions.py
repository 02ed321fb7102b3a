"""Delivered versions have a temperature of their own, fitted to held-out cases, and tell it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pack_work import registered
from tiny_hub import EXACT, contribute, furnish, tiny_job
from typer.testing import CliRunner

from clnet.cli import app
from clnet.data_catalog import PatchStream
from clnet.decoders_registry import DecoderRecord
from clnet.model.artefact import DecoderInfo, decode_decoder, decode_encoder
from clnet.model.calibration import Calibration, calibrate
from clnet.model.decoder import Decoder
from clnet.model.survivors import float16_exact
from clnet.model.validation import Judged
from clnet.platform.assignment import Assignment
from clnet.platform.jobs import DecoderJob
from clnet.platform.resolve import resolve, stores_for
from clnet.platform.workspace import Workspace
from clnet.tune_spaces.objective import PruningTrial, artefact_path
from clnet.tune_spaces.space import SearchSpace
from clnet.tune_spaces.subject import subject_of

GROUP = "abdomen/spleen"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def assigned(hub: Workspace, job: DecoderJob) -> Assignment:
    with hub.registry() as registry:
        return resolve("job", job, registry, hub.catalog())


def work(hub: Workspace, job: DecoderJob) -> DecoderRecord:
    with hub.registry() as registry:
        return registered(registry, hub.catalog(), job)[0][0]


def stored(hub: Workspace, record: DecoderRecord) -> tuple[Decoder, DecoderInfo]:
    with hub.registry() as registry:
        return decode_decoder(registry.artefact(record.sha256))


def fitted(hub: Workspace, record: DecoderRecord, job: DecoderJob) -> Calibration:
    """What the stored weights get from the held-out cases of a job."""
    spec = assigned(hub, job).validation
    assert spec.split == "val"
    with hub.registry() as registry:
        stores = stores_for(job, registry, hub.catalog())
        encoder, _ = decode_encoder(registry.artefact(record.encoder_sha256))
    judged = {"it": Judged(stored(hub, record)[0])}
    return calibrate(encoder, judged, PatchStream(stores, spec).patches, spec.total)["it"]


TRAINING = tiny_job(GROUP, steps=240, seed=3)


@pytest.fixture(scope="module")
def dense(hub: Workspace) -> DecoderRecord:
    return work(hub, TRAINING)


def following(kind: str, base: DecoderRecord, **changes: object) -> DecoderJob:
    values: dict[str, object] = {"steps": 6, "tolerance": 1.0, "widths": ()}
    return tiny_job(GROUP, kind=kind, base=base.ref, **values | changes)


def test_a_trained_version_is_calibrated_on_held_out_cases(
    hub: Workspace, dense: DecoderRecord
) -> None:
    told = dense.metrics["calibration"]
    assert told == fitted(hub, dense, TRAINING).to_dict()
    assert told["temperature"] != 1.0
    assert told["nll_after"] < told["nll_before"]
    assert stored(hub, dense)[1].temperature == told["temperature"]


def test_the_command_line_shows_it(hub: Workspace, dense: DecoderRecord) -> None:
    show = ["decoders", "show", dense.ref, "--workspace", str(hub.root)]
    shown = CliRunner().invoke(app, [*show, "--json"])
    assert json.loads(shown.stdout)["metrics"]["calibration"] == dense.metrics["calibration"]
    assert "calibration" in CliRunner().invoke(app, show).stdout


def test_a_pruned_version_is_calibrated_by_the_weights_that_are_left(
    hub: Workspace, dense: DecoderRecord
) -> None:
    job = following("prune", dense, rates=(0.5, 0.8), weights="float16")
    pruned = work(hub, job)
    decoder, info = stored(hub, pruned)
    assert all(float16_exact(p) for p in decoder.parameters())
    assert pruned.metrics["calibration"] == fitted(hub, pruned, job).to_dict()
    assert info.temperature == pruned.metrics["calibration"]["temperature"]
    assert info.temperature != stored(hub, dense)[1].temperature


def test_a_version_that_a_search_prunes_is_calibrated_too(
    hub: Workspace, dense: DecoderRecord, tmp_path: Path
) -> None:
    space = SearchSpace(rates=(0.5,), recovery_steps=6, reports=1, grace=1)
    with hub.registry() as registry:
        subjects = {dense.ref: subject_of(registry, dense, space)}

    class Alone(PruningTrial):
        """A trial without Ray."""

        def setup(self, config: dict[str, object]) -> None:  # type: ignore[override]
            super().setup(config, subjects, hub.catalog(), 1, 1.0, str(tmp_path))

    told = Alone({"trial": {"ref": dense.ref, "rate": 0.5, "scope": "global"}}).step()
    left = artefact_path(str(tmp_path), dense.ref, 0.5, "global").read_bytes()
    assert told["calibration"]["nll_after"] < told["calibration"]["nll_before"]
    assert decode_decoder(left)[1].temperature == told["calibration"]["temperature"]


def test_an_update_is_calibrated_on_the_new_datas_held_out_cases(
    hub: Workspace, dense: DecoderRecord
) -> None:
    new = contribute(hub, "site-c/boxes", EXACT, range(20, 25))
    job = following("update", dense, dataset=new)
    updated = work(hub, job)
    assert updated.metrics["calibration"] == fitted(hub, updated, job).to_dict()
    assert updated.metrics["calibration"] != fitted(hub, updated, TRAINING).to_dict()
    assert stored(hub, updated)[1].temperature == updated.metrics["calibration"]["temperature"]


def test_without_held_out_cases_an_update_keeps_its_bases_temperature(
    hub: Workspace, dense: DecoderRecord
) -> None:
    new = contribute(hub, "site-d/boxes", EXACT, range(30, 31))
    updated = work(hub, following("update", dense, dataset=new))
    assert updated.metrics["validated_on"] == "train"
    temperature = stored(hub, dense)[1].temperature
    assert updated.metrics["calibration"] == {"temperature": temperature}
    assert stored(hub, updated)[1].temperature == temperature


def test_without_held_out_cases_a_first_version_stays_as_it_is(hub: Workspace) -> None:
    alone = contribute(hub, "site-e/boxes", EXACT, range(40, 41))
    record = work(hub, tiny_job("abdomen/liver", dataset=alone))
    assert record.metrics["calibration"] == {"temperature": 1.0}
    assert stored(hub, record)[1].temperature == 1.0


def test_with_too_little_to_see_a_version_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clnet.model.calibration.FEWEST", 1 << 20)
    hub = furnish(tmp_path)
    record = work(hub, tiny_job("abdomen/liver", steps=4))
    assert record.metrics["calibration"] == {"temperature": 1.0}
    assert stored(hub, record)[1].temperature == 1.0
