"""A pack from assignments to artefacts, without Ray: invisible, resumable, fault-tolerant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_hub import furnish, tiny_job

from clnet.model.artefact import decode_decoder
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery, deliver
from clnet.platform.jobs import DecoderJob
from clnet.platform.pack_run import PackRun
from clnet.platform.resolve import resolve, stores_for
from clnet.platform.workspace import Workspace

NAMES = ("liver", "spleen", "kidneys")
GROUPS = tuple(f"abdomen/{name}" for name in NAMES)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return furnish(tmp_path_factory.mktemp("hub"))


def assign(hub: Workspace, *jobs: DecoderJob) -> tuple[Assignment, ...]:
    registry, catalog = hub.registry(), hub.catalog()
    names = [job.decoder.partition("/")[2] for job in jobs]
    return tuple(resolve(n, job, registry, catalog) for n, job in zip(names, jobs, strict=True))


def begin(
    hub: Workspace,
    assignments: tuple[Assignment, ...],
    cancelled: Callable[[str], bool] = lambda job_id: False,
) -> PackRun:
    stores = stores_for(assignments[0].job, hub.registry(), hub.catalog())
    device = torch.device("cpu")
    return PackRun(
        assignments, stores, hub.registry().artefact, device, lambda *told: None, cancelled
    )


def finish(hub: Workspace, run: PackRun) -> list[Delivery]:
    run.run(lambda run: None)
    return deliver(run, hub.registry().artefact)


def sha256(delivery: Delivery) -> str:
    assert not delivery.dropped
    return hashlib.sha256(delivery.artefact).hexdigest()


@pytest.fixture(scope="module")
def alone(hub: Workspace) -> dict[str, str]:
    """Hash of each group's decoder, trained in a pack of its own."""
    return {
        name: sha256(finish(hub, begin(hub, assign(hub, tiny_job(GROUPS[i], seed=i))))[0])
        for i, name in enumerate(NAMES)
    }


NARROW = {"widths": (8, 12), "heads": 1}


@pytest.fixture(scope="module")
def narrow(hub: Workspace) -> str:
    """Hash of a narrower liver, trained in a pack of its own."""
    return sha256(finish(hub, begin(hub, assign(hub, tiny_job(GROUPS[0], **NARROW))))[0])


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.permutations(range(3)), st.integers(2, 3), st.booleans())
def test_packing_is_invisible(
    hub: Workspace,
    alone: dict[str, str],
    narrow: str,
    order: list[int],
    size: int,
    slim: bool,
) -> None:
    jobs = [
        tiny_job(GROUPS[i], seed=i, **(NARROW if slim and i == 0 else {})) for i in order[:size]
    ]
    together = finish(hub, begin(hub, assign(hub, *jobs)))
    expected = alone | ({NAMES[0]: narrow} if slim else {})
    assert {d.job_id: sha256(d) for d in together} == {
        NAMES[i]: expected[NAMES[i]] for i in order[:size]
    }


@pytest.mark.parametrize("stop", [4, 8])
def test_a_resumed_pack_gives_the_same_bytes(
    hub: Workspace, alone: dict[str, str], tmp_path: Path, stop: int
) -> None:
    assignments = assign(hub, *(tiny_job(group, seed=i) for i, group in enumerate(GROUPS)))
    first = begin(hub, assignments)

    def die(run: PackRun) -> None:
        if run.t == stop:
            run.save(tmp_path)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        first.run(die)
    fewer = assignments[1:]  # the first was registered before the runner died
    second = begin(hub, fewer)
    second.load(tmp_path)
    assert second.t == stop
    delivered = {d.job_id: sha256(d) for d in finish(hub, second)}
    assert delivered == {a.job_id: alone[a.job_id] for a in fewer}


def test_one_that_diverges_is_dropped_alone(hub: Workspace, alone: dict[str, str]) -> None:
    wild = tiny_job(GROUPS[0], learning_rate=1e30, warm_up=0)
    lost, kept = finish(hub, begin(hub, assign(hub, wild, tiny_job(GROUPS[1], seed=1))))
    assert "diverged" in lost.dropped
    assert sha256(kept) == alone[NAMES[1]]


def test_one_that_cannot_be_built_is_dropped_alone(hub: Workspace, alone: dict[str, str]) -> None:
    wrong, right = assign(hub, tiny_job(GROUPS[0]), tiny_job(GROUPS[1], seed=1))
    wrong = replace(wrong, config=replace(wrong.config, widths=(16, 16, 16), kernels=()))
    lost, kept = finish(hub, begin(hub, (wrong, right)))
    assert "give 2" in lost.dropped
    assert sha256(kept) == alone[NAMES[1]]
    (lost,) = finish(hub, begin(hub, (wrong,)))
    assert "give 2" in lost.dropped


def test_one_that_is_cancelled_is_dropped_alone(
    hub: Workspace, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clnet.platform.pack_run.TALK_SECONDS", 0.0)
    assignments = assign(hub, tiny_job(GROUPS[0]), tiny_job(GROUPS[1], seed=1))
    run = begin(hub, assignments, cancelled=lambda job_id: job_id == NAMES[0])
    lost, kept = finish(hub, run)
    assert lost.dropped == "cancelled"
    assert sha256(kept) == alone[NAMES[1]]


def test_a_pack_of_which_nothing_is_left_ends_early(hub: Workspace) -> None:
    wild = tiny_job(GROUPS[0], learning_rate=1e30, warm_up=0)
    run = begin(hub, assign(hub, wild))
    (lost,) = finish(hub, run)
    assert "diverged" in lost.dropped
    assert run.t < run.first.recipe.steps


def test_a_delivery_says_what_was_learned_and_where_it_lives(hub: Workspace) -> None:
    (made,) = finish(hub, begin(hub, assign(hub, tiny_job("abdomen/kidneys"))))
    _, info = decode_decoder(made.artefact)
    assert info.learned == ("kidney_left", "kidney_right")
    assert set(info.ranges) <= {"kidney_left", "kidney_right"}
    assert set(made.ranges) == set(info.ranges)
    assert made.rewind is not None
    assert made.rewind_step == 6
    assert set(made.metrics["dsc"]) == {"kidney_left", "kidney_right"}
    assert made.numerics["threads"]
