"""A search on a real Ray: trials fork a dense version, the choice becomes a pruned one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pack_work import registered
from tiny_hub import EXACT, contribute, furnish, tiny_job

from clnet.errors import Incompatible, JobFailed
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder, DecoderConfig
from clnet.platform.jobs import enqueue
from clnet.platform.ray_runtime import ray_runtime
from clnet.platform.runner import run_queued
from clnet.tune_spaces.search import search_pruning_rates
from clnet.tune_spaces.space import SearchSpace

SPACE = SearchSpace(rates=(0.5, 0.9), recovery_steps=6, warm_up=1, reports=3, grace=1)


def parameters(decoder: Decoder) -> int:
    return sum(p.numel() for p in decoder.parameters())


@pytest.fixture(scope="module")
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    token = tmp_path_factory.mktemp("ray") / "token"
    with ray_runtime(num_cpus=2, object_store_bytes=200 << 20, token_file=token):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_search_registers_the_highest_rate_that_holds(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    handles = enqueue(
        [tiny_job("abdomen/liver", steps=60), tiny_job("abdomen/spleen", steps=60, seed=1)], hub
    )
    assert run_queued(hub)
    dense = [handle.wait().results[0] for handle in handles]
    told: list[float] = []
    with hub.registry() as registry:

        def search(tolerance: float, **changes: object) -> list:
            return search_pruning_rates(
                registry,
                hub.catalog(),
                dense,
                SPACE.model_copy(update=changes),
                tolerance=tolerance,
                code_version="0",
                storage=hub.runs,
                progress=lambda fraction, text: told.append(fraction),
            )

        found = search(tolerance=0.3)  # every rate holds
        assert [one.dense.ref for one in found] == dense
        for one in found:
            assert one.within
            assert one.pruned.ticket is not None
            assert one.pruned.ticket.rate == 0.9
            assert one.pruned.ticket.sparsity == pytest.approx(0.9, abs=1e-3)
            assert one.pruned.ticket.dense_sha == one.dense.sha256
            assert [trial["rate"] for trial in one.pruned.ticket.details["trials"]] == [0.5, 0.9]
            _, info = decode_decoder(registry.artefact(one.pruned.sha256))
            assert info.temperature == one.pruned.metrics["calibration"]["temperature"]
            assert one.pruned.lineage.parents == (one.dense.ref,)
            assert one.pruned.lineage.datasets == one.dense.lineage.datasets
            assert len(registry.artefact(one.pruned.sha256)) < len(
                registry.artefact(one.dense.sha256)
            )
        assert told == sorted(told)
        assert not list(hub.runs.glob("search-*"))

        none = search(  # none can
            tolerance=-1.0, rewind="none", scopes=("channel", "layer"), rates=(0.5,)
        )
        assert [one.pruned.status for one in none] == ["candidate", "candidate"]
        assert not any(one.within for one in none)
        for one in none:
            assert [trial.scope for trial in one.trials] == ["channel", "layer"]
            assert len({trial.mask_sha256 for trial in one.trials}) == 2
            assert all(trial.sparsity >= 0.49 for trial in one.trials)
            assert one.pruned.ticket is not None
            assert one.pruned.ticket.details["scope"] in ("channel", "layer")

        for one in search(tolerance=1.0, scopes=("channel",), rates=(0.7,), rewind="early"):
            assert one.pruned.config["remains"] is not None
            assert one.pruned.config["anatomies"] == one.dense.config["anatomies"]
            decoder, info = decode_decoder(registry.artefact(one.pruned.sha256))
            before, _ = decode_decoder(registry.artefact(one.dense.sha256))
            assert DecoderConfig.from_dict(one.pruned.config) == info.config == decoder.config
            assert parameters(decoder) < parameters(before)
            assert one.pruned.ticket is not None
            assert one.pruned.ticket.rewind == str(one.dense.lineage.config["rewind"]["step"])
            compacted = one.pruned.ticket.details["compacted"]
            assert compacted["widths"] == list(decoder.config.widths)

        tuned = found[0].pruned
        again = tiny_job(tuned.group, kind="prune", base=tuned.ref, widths=(), rate=0.95)
        for rewind in ("init", "early", 0.5):
            with pytest.raises(Incompatible, match=f"{tuned.ref} is pruned already"):
                enqueue([again.model_copy(update={"rewind": rewind})], hub)
        with pytest.raises(Incompatible, match="pruned already"):
            search_pruning_rates(
                registry,
                hub.catalog(),
                [found[0].pruned.ref],
                SPACE,
                tolerance=0.1,
                code_version="0",
                storage=hub.runs,
            )


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_decoder_whose_trials_all_fail_takes_nothing_from_the_others(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    other = contribute(hub, "site-b/boxes", EXACT)
    with hub.registry() as registry:
        jobs = (tiny_job("abdomen/liver", dataset=other), tiny_job("abdomen/spleen"))
        lost, kept = (registered(registry, hub.catalog(), job)[0][0].ref for job in jobs)
        shutil.rmtree(tmp_path / "datasets" / "site-b")
        with pytest.raises(JobFailed, match=f"{lost}: no pruning trial ended well") as failed:
            search_pruning_rates(
                registry,
                hub.catalog(),
                [lost, kept],
                SPACE.model_copy(update={"rates": (0.5,), "reports": 1}),
                tolerance=0.3,
                code_version="0",
                storage=hub.runs,
            )
        assert "registered: abdomen/spleen@2" in str(failed.value)
        assert registry.decoder("abdomen/spleen@2").ticket is not None
        assert [record.ref for record in registry.decoders("abdomen/liver")] == [lost]
