"""An encoder trained as a job: planned from its data, by several workers, and of use at once."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from tiny_hub import contribute, furnish, tiny_job

from clnet.data_catalog import PatchStream
from clnet.errors import InputError, JobFailed
from clnet.hub import connect
from clnet.model.artefact import decode_encoder
from clnet.model.numerics import resolve_precision
from clnet.model.pretraining import EncoderTraining
from clnet.model.training import Recipe
from clnet.platform.encoder_jobs import (
    EncoderJob,
    enqueue_encoder,
    plan_of,
    stream_of,
    teachers_of,
)
from clnet.platform.encoders import Cancelled, train_encoder
from clnet.platform.events import EventLog
from clnet.platform.jobs import enqueue
from clnet.platform.ray_runtime import RayRuntime
from clnet.platform.runner import run_queued
from clnet.platform.workspace import Workspace

TINY = {
    "name": "boxes",
    "dataset": "site-a/boxes",
    "patch_voxels": 16**3,
    "features": 8,
    "max_features": 16,
    "widths": (8, 8),
    "steps": 12,
    "checkpoint_every": 6,
    "warm_up": 2,
    "held_back": ("spleen",),
    "body_part_model": "tiny",
}


def job(**changes: object) -> EncoderJob:
    return EncoderJob.model_validate(TINY | changes)


@pytest.mark.slow
def test_two_workers_train_an_encoder_that_decoders_can_lean_on(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    hub = furnish(tmp_path)
    usual = resolve_precision("auto", torch.device("cpu"))
    other = "float32" if usual is torch.bfloat16 else "bfloat16"
    handle = enqueue_encoder(job(workers=2, precision=other), hub)
    assert run_queued(hub)
    (ref,) = handle.wait().results
    with hub.registry() as registry:
        record = registry.encoder(ref)
        encoder, plan = decode_encoder(registry.artefact(record.sha256))
        teacher = registry.decoder("teacher/organ@1")
    assert record.lineage.datasets[0].ref == "site-a/boxes@1"
    assert record.lineage.numerics["dtype"] == other
    assert plan.spacing == (6.0, 6.0, 6.0)
    assert 0 < plan.mean < 500
    assert encoder.config.features[0] == 8
    assert teacher.learned == ("kidney_left", "kidney_right", "liver")  # not the spleen
    assert any(event.kind == "progress" for event in EventLog(hub.job_folder(handle.id)))

    (grown,) = enqueue([tiny_job(encoder=ref, widths=(8, 8), start="teacher/organ@1")], hub)
    assert run_queued(hub)
    assert grown.wait().results


@pytest.mark.slow
def test_a_cancelled_encoder_job_leaves_no_encoder(tmp_path: Path, local_ray: RayRuntime) -> None:
    hub = furnish(tmp_path)
    handle = enqueue_encoder(job(), hub)
    EventLog(hub.job_folder(handle.id)).cancel()
    assert run_queued(hub)
    with pytest.raises(JobFailed, match="cancelled"):
        handle.wait()
    with hub.registry() as registry:
        assert [encoder.ref for encoder in registry.encoders()] == ["encoder/tiny@1"]


@pytest.mark.slow
def test_a_diverging_encoder_job_fails_at_once_and_leaves_no_encoder(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    hub = furnish(tmp_path)
    handle = enqueue_encoder(job(learning_rate=1e20, precision="float32"), hub)
    assert run_queued(hub)
    with pytest.raises(JobFailed, match=r"teacher/organ was not finite at batch \d+: .* below 1e"):
        handle.wait()
    log = EventLog(hub.job_folder(handle.id))
    assert [event.kind for event in log].count("training") == 1, "it was tried again in vain"
    with hub.registry() as registry:
        assert [encoder.ref for encoder in registry.encoders()] == ["encoder/tiny@1"]


@pytest.mark.slow
def test_a_killed_worker_goes_on_and_ends_with_the_same_encoder(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    hub = furnish(tmp_path)
    long = {"steps": 120, "checkpoint_every": 5}
    disturbed, left_alone = (enqueue_encoder(job(name=name, **long), hub) for name in "ab")
    runner = threading.Thread(target=run_queued, args=(hub,))
    runner.start()
    log = EventLog(hub.job_folder(disturbed.id))
    deadline = time.monotonic() + 300
    while not any((event.fraction or 0) > 0.3 for event in log):
        assert time.monotonic() < deadline, [event.kind for event in log]
        time.sleep(0.01)
    (begun,) = (event for event in log if event.kind == "training")
    os.kill(int(begun.message.split()[1]), signal.SIGKILL)
    runner.join()
    kinds = [event.kind for event in log]
    again = list(log)[len(kinds) - kinds[::-1].index("training") :]
    assert kinds.count("training") == 2
    assert (again[0].fraction or 0) > 0.2, "it began anew instead of at its checkpoint"
    with hub.registry() as registry:
        first, second = (
            registry.encoder(handle.wait().results[0]) for handle in (disturbed, left_alone)
        )
    assert first.sha256 == second.sha256


BOXES = job(patch_size=(16, 16, 16), dataset="site-a/boxes@1", ema=0.9)


def trained(
    hub: Workspace,
    folder: Path,
    stop: int | None = None,
    wanted: EncoderJob = BOXES,
    **recipe: float,
) -> EncoderTraining:
    """The training of a job with a checkpoint in `folder`, cancelled when asked for the `stop`th
    time."""
    asked = itertools.count(1)
    datasets = [hub.catalog().get(ref) for ref in wanted.dataset]
    teachers = teachers_of(wanted, datasets)
    with hub.registry() as registry:
        plan = plan_of(wanted, datasets, registry)
    network = wanted.network(plan)
    stores = [hub.catalog().plan_store(dataset, plan.to_dict()) for dataset in datasets]
    return train_encoder(
        PatchStream(stores, stream_of(wanted, plan, datasets, teachers)),
        network,
        teachers,
        Recipe(**{"steps": wanted.steps, "warm_up": wanted.warm_up, "ema": wanted.ema} | recipe),
        widths=wanted.teacher_widths(network),
        checkpoint=folder / "checkpoint.safetensors",
        checkpoint_every=4,
        cancelled=lambda: next(asked) == stop,
    )


@pytest.mark.parametrize("stop", [2, 3])
def test_an_interrupted_training_goes_on_from_its_checkpoint_to_the_same_bits(
    tmp_path: Path, stop: int
) -> None:
    hub = furnish(tmp_path)
    whole = trained(hub, tmp_path / "whole")
    with pytest.raises(Cancelled):
        trained(hub, tmp_path / "halves", stop)
    halves = trained(hub, tmp_path / "halves")
    state = halves.state()
    assert state.keys() == whole.state().keys()
    assert all(torch.equal(value, state[name]) for name, value in whole.state().items())


def test_weights_that_are_no_numbers_are_handed_to_nobody(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    with pytest.raises(JobFailed, match=r"weights .* are not finite.* below 3e"):
        trained(hub, tmp_path, steps=1, warm_up=0, learning_rate=3e37, weight_decay=11.0)


def test_teachers_have_the_weights_that_their_layers_are_given(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    mapping = {"1": "liver", "2": "vertebra_L1", "3": "ignore", "4": "ignore"}
    ref = contribute(hub, "site-a/two", mapping)
    datasets = [hub.catalog().get(ref)]
    alike = teachers_of(job(dataset=ref), datasets)
    assert {teacher.name: teacher.weight for teacher in alike} == {
        "teacher/bone": 1.0,
        "teacher/organ": 1.0,
    }
    weighted = job(dataset=ref, patch_size=(16, 16, 16), steps=1, teacher_weights={"bone": 3})
    training = trained(hub, tmp_path, wanted=weighted)
    assert training.weights == {"teacher/bone": 3.0, "teacher/organ": 1.0}
    again = EncoderJob.model_validate_json(weighted.model_dump_json())
    assert teachers_of(again, datasets)[0].weight == 3.0


def test_the_plan_is_shown_before_anything_is_trained(tmp_path: Path) -> None:
    furnish(tmp_path)
    with connect(tmp_path) as hub:
        plan, network = hub.encoders.plan("site-a/boxes", patch_voxels=16**3, features=4)
    assert plan.patch_size == (16, 16, 16)
    assert network.features == (4, 8, 16)


def test_cases_of_several_datasets_weigh_the_same_in_a_plan(tmp_path: Path) -> None:
    hub = furnish(tmp_path)
    mapping = {"1": "liver", "2": "ignore", "3": "ignore", "4": "ignore"}
    contribute(hub, "site-a/livers", mapping)  # as many cases, a quarter of the labelled voxels
    names = ("site-a/boxes", "site-a/livers")
    with connect(tmp_path) as face:
        boxes, livers = (face.encoders.plan(name, patch_voxels=16**3)[0] for name in names)
        both, _ = face.encoders.plan(names, patch_voxels=16**3)
    assert both.mean == pytest.approx((boxes.mean + livers.mean) / 2, abs=0.01)
    assert livers.clip[1] < boxes.clip[1] - 100
    # 480 HU with a deviation of 20 have an eighth of the weight: 4 % of them are above
    assert both.clip[1] == pytest.approx(480 + 1.75 * 20, abs=5)
    assert boxes.clip[0] >= both.clip[0] >= livers.clip[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"workers": 2, "batch_size": 3}, "cannot share it evenly"),
        ({"held_back": ("liver", "spleen", "kidney")}, "no anatomy is labelled"),
        ({"dataset": "site-a/none"}, "site-a/none"),
        ({"patch_size": (16, 22, 22)}, r"\(16, 24, 24\) is the next"),
        ({"widths": (4,)}, "1 widths for an encoder of 3 stages; give 2"),
        ({"widths": (4, 0)}, "give 1 or more each"),
        ({"teacher_weights": {"bone": 2.0}}, "bone: nothing is learned in such a layer; organ is"),
        ({"teacher_weights": {"organ": 0.0}}, "greater than 0"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_at_once(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    furnish(tmp_path)
    with connect(tmp_path) as hub, pytest.raises(Exception, match=why) as raised:
        hub.encoders.submit(**{**TINY, **changes})
    assert isinstance(raised.value, InputError | LookupError)
