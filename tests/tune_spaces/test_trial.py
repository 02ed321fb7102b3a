"""One trial without Ray: what it reads, what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pack_work import registered
from tiny_hub import ENCODER, furnish, tiny_job

from clnet.decoders_registry import DecoderRecord
from clnet.errors import Incompatible
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import DecoderConfig, build_decoder
from clnet.model.survivors import float16_exact
from clnet.platform.workspace import Workspace
from clnet.tune_spaces.objective import PruningTrial, artefact_path
from clnet.tune_spaces.space import SearchSpace
from clnet.tune_spaces.subject import subject_of

GROUP = "abdomen/kidneys"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def trained(hub: Workspace, **changes: object) -> DecoderRecord:
    with hub.registry() as registry:
        job = tiny_job(GROUP, batches_per_epoch=10, **changes)
        return registered(registry, hub.catalog(), job)[0][0]


@pytest.fixture(scope="module")
def dense(hub: Workspace) -> DecoderRecord:
    return trained(hub, steps=30, rewind="none", seed=3)


def begin(
    hub: Workspace, record: DecoderRecord, space: SearchSpace, folder: Path, reports: int = 1
) -> PruningTrial:
    """A trial as Tune makes it, of the space's first rate and scope."""
    with hub.registry() as registry:
        subject = subject_of(registry, record, space)
    trial = PruningTrial.__new__(PruningTrial)
    trial._iteration = 0
    what = {"ref": record.ref, "rate": space.rates[0], "scope": space.scopes[0]}
    trial.setup({"trial": what}, {record.ref: subject}, hub.catalog(), reports, 0.01, str(folder))
    return trial


def test_a_trial_of_whole_channels_leaves_a_smaller_decoder_of_the_same_logits(
    hub: Workspace, dense: DecoderRecord, tmp_path: Path
) -> None:
    space = SearchSpace(rates=(0.7,), scopes=("channel",), recovery_steps=4)
    trial = begin(hub, dense, space, tmp_path)
    told = trial.step()
    left = artefact_path(str(tmp_path), dense.ref, 0.7, "channel").read_bytes()
    decoder, info = decode_decoder(left)
    whole = trial._trainee.decoder
    assert told["compacted"]["widths"] == list(decoder.config.widths)
    assert info.config == decoder.config
    assert decoder.config.remains is not None
    # how much smaller is a matter of what runs fastest here
    assert sum(p.numel() for p in decoder.parameters()) < sum(p.numel() for p in whole.parameters())
    torch.manual_seed(0)
    features = [torch.randn(1, n, *[16 >> s] * 3) for s, n in enumerate(ENCODER.features)]
    with torch.no_grad():
        for before, after in zip(whole(features), decoder.eval()(features), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


def test_a_trial_recovers_with_an_average_and_in_float16_as_its_space_says(
    hub: Workspace, dense: DecoderRecord, tmp_path: Path
) -> None:
    assert dense.lineage.config["recipe"]["ema"] is None
    plain = SearchSpace(rates=(0.5,), recovery_steps=2)
    assert begin(hub, dense, plain, tmp_path)._trainee.average is None
    space = plain.model_copy(update={"weights": "float16", "ema": 0.5})
    trial = begin(hub, dense, space, tmp_path, reports=2)
    first = trial.step()
    assert not first["finished"]
    assert not all(float16_exact(p) for p in trial._trainee.decoder.parameters())
    trial._iteration = 1
    last = trial.step()
    average = trial._trainee.average
    assert average is not None
    left, _ = decode_decoder(artefact_path(str(tmp_path), dense.ref, 0.5, "global").read_bytes())
    for name, weight in left.named_parameters():
        assert torch.equal(weight, average.weights[name].half().float())
    again = begin(hub, dense, plain, tmp_path)
    again._trainee.decoder.load_state_dict(left.state_dict())
    assert last["by_anatomy"] == again._scores(again._trainee.decoder)


def test_a_space_rewinds_to_what_jobs_do(hub: Workspace, dense: DecoderRecord) -> None:
    kept = trained(hub, steps=30, rewind="epoch:2", seed=4)
    config = DecoderConfig.from_dict(kept.config)
    early = kept.lineage.config["rewind"]["sha256"]
    with hub.registry() as registry:

        def earlier(record: DecoderRecord, rewind: float | str) -> tuple[str, bytes | None]:
            space = SearchSpace(rates=(0.5,), rewind=rewind, recovery_steps=2)
            subject = subject_of(registry, record, space)
            return subject.rewind, subject.early

        at_twenty = decode_decoder(registry.artefact(early))[0].state_dict()
        for rewind in ("early", "epoch:2", 0.67):
            name, weights = earlier(kept, rewind)
            assert name == "20"
            assert weights is not None
            for key, value in decode_decoder(weights)[0].state_dict().items():
                assert torch.equal(value, at_twenty[key])
        assert earlier(kept, "none") == ("none", None)
        name, weights = earlier(kept, "init")
        first = build_decoder(config, ENCODER, 4).state_dict()
        assert name == "init"
        assert weights is not None
        for key, value in decode_decoder(weights)[0].state_dict().items():
            assert torch.equal(value, first[key])
        with pytest.raises(Incompatible, match="kept its weights at batch 20, not at 10"):
            earlier(kept, "epoch:1")
        with pytest.raises(Incompatible, match=f"{dense.ref} comes with no weights"):
            earlier(dense, "early")
