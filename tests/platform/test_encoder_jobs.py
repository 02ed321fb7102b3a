"""An encoder trained as a job: planned from its data, by several workers, and of use at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_hub import furnish, tiny_job

from clnet.errors import InputError, JobFailed
from clnet.hub import connect
from clnet.model.artefact import decode_encoder
from clnet.platform.encoder_jobs import EncoderJob, enqueue_encoder
from clnet.platform.events import EventLog
from clnet.platform.jobs import enqueue
from clnet.platform.ray_runtime import RayRuntime
from clnet.platform.runner import run_queued

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
    handle = enqueue_encoder(job(workers=2), hub)
    assert run_queued(hub)
    (ref,) = handle.wait().results
    with hub.registry() as registry:
        record = registry.encoder(ref)
        encoder, plan = decode_encoder(registry.artefact(record.sha256))
        teacher = registry.decoder("teacher/organ@1")
    assert record.lineage.datasets[0].ref == "site-a/boxes@1"
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


def test_the_plan_is_shown_before_anything_is_trained(tmp_path: Path) -> None:
    furnish(tmp_path)
    with connect(tmp_path) as hub:
        plan, network = hub.encoders.plan("site-a/boxes", patch_voxels=16**3, features=4)
    assert plan.patch_size == (16, 16, 16)
    assert network.features == (4, 8, 16)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"workers": 2, "batch_size": 3}, "cannot share it evenly"),
        ({"held_back": ("liver", "spleen", "kidney")}, "no anatomy is labelled"),
        ({"dataset": "site-a/none"}, "site-a/none"),
        ({"patch_size": (16, 22, 22)}, r"\(16, 24, 24\) is the next"),
        ({"widths": (4,)}, "1 widths for an encoder of 3 stages; give 2"),
        ({"widths": (4, 0)}, "give 1 or more each"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_at_once(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    furnish(tmp_path)
    with connect(tmp_path) as hub, pytest.raises(Exception, match=why) as raised:
        hub.encoders.submit(**{**TINY, **changes})
    assert isinstance(raised.value, InputError | LookupError)
