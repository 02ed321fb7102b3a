"""Encoder jobs: what a general encoder should learn from, and how; checked, then queued."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clnet.anatomy import vocabulary
from clnet.data_catalog import Catalog, Dataset, DatasetPin, StreamSpec, fingerprint
from clnet.decoders_registry import Registry
from clnet.errors import InputError, NotFound
from clnet.model.decoder import check_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.plan import Plan
from clnet.model.planning import Foreground, network_for, plan_for, pool_intensities
from clnet.platform.encoders import Teacher
from clnet.platform.events import EventLog
from clnet.platform.jobs import JobHandle
from clnet.platform.workspace import Workspace

__all__ = ["ENCODER_JOB", "EncoderJob", "enqueue_encoder", "plan_of", "stream_of", "teachers_of"]

ENCODER_JOB = "encoder"
WIDEST = 64

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EncoderJob(BaseModel):
    """One general encoder to train on whole-body data, through a teacher decoder per layer.

    Attributes:
        name: of the encoder.
        dataset: ref of one dataset or of several, in order.
        held_back: anatomies whose labels are not learned from.
        spacing, patch_size: of the plan, (z, y, x) in mm and voxels; by default from what the
            datasets are like, see :mod:`clnet.model.planning`.
        patch_voxels: about as many voxels as a planned patch may have.
        features, max_features: of the finest stage, and at most.
        widths: of the teachers, finest first; by default the encoder's features, at most 64.
        teacher_weights: layer to weight of its teacher's loss, such as ``{"gtv": 3}``; 1 for the
            others.
        steps: batches.
        batch_size: patches of a batch, over all workers.
        workers: processes that train together (DDP); each takes its share of every batch.
        learning_rate, weight_decay, warm_up, ema: see :class:`clnet.model.training.Recipe`.
        foreground: share of patches that centre on an anatomy, at the first and last batch.
        augment: noise, gain, offset and gamma on the patches.
        seed: of weights and stream.
        precision: of the convolutions.
        checkpoint_every: batches between checkpoints.
        body_part_model: with one, the teachers are kept as decoder versions ``teacher/LAYER``,
            which new decoders may start from.
        command: what was typed, for the lineage.
        plan: the whole plan, instead of `spacing`, `patch_size` and what the data are like; a
            queued job has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dataset: tuple[str, ...] = Field(min_length=1)
    held_back: tuple[str, ...] = ()
    spacing: tuple[float, float, float] | None = None
    patch_size: tuple[int, int, int] | None = None
    patch_voxels: int = Field(default=96**3, ge=8**3)
    features: int = Field(default=32, ge=1)
    max_features: int = Field(default=320, ge=1)
    widths: tuple[int, ...] = ()
    teacher_weights: dict[str, Weight] = Field(default_factory=dict)
    steps: int = Field(default=50_000, ge=1)
    batch_size: int = Field(default=2, ge=1)
    workers: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=3e-5, ge=0)
    warm_up: int = Field(default=50, ge=0)
    ema: float | None = Field(default=0.99, ge=0, lt=1)
    foreground: tuple[float, float] = (0.9, 0.9)
    augment: bool = True
    seed: int = Field(default=0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = Field(default=200, ge=1)
    body_part_model: str | None = None
    command: str = ""
    plan: dict[str, Any] | None = None

    @field_validator("dataset", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("held_back")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(vocabulary().resolve(name) for name in value)

    @model_validator(mode="after")
    def _divides(self) -> EncoderJob:
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size {self.batch_size}: {self.workers} workers cannot share it evenly"
            )
        return self

    def network(self, plan: Plan) -> EncoderConfig:
        """Shape of the encoder."""
        return network_for(plan, features=self.features, max_features=self.max_features)

    def teacher_widths(self, network: EncoderConfig) -> tuple[int, ...]:
        """Features of the teachers per scale, finest first."""
        return self.widths or tuple(min(WIDEST, features) for features in network.features[:-1])


def plan_of(job: EncoderJob, datasets: list[Dataset], registry: Registry) -> Plan:
    """The plan that the job fixes, or completed by what its datasets are like.

    Raises:
        InputError: the datasets label nothing, so that no intensity scheme can be measured, or
            the network cannot halve patches of the size that was asked for.
    """
    plan = Plan.from_dict(job.plan) if job.plan is not None else _planned(job, datasets, registry)
    job.network(plan).check_patch(plan.patch_size)
    return plan


def _planned(job: EncoderJob, datasets: list[Dataset], registry: Registry) -> Plan:
    records = [record for dataset in datasets for record in dataset.manifest.cases]
    found = [_foreground(dataset, registry) for dataset in datasets]
    measured = [one for one in found if one is not None]
    if not measured:
        raise InputError(f"{', '.join(job.dataset)}: no labelled voxel to learn from")
    plan = plan_for(
        np.array([record.spacing for record in records], dtype=np.float64),
        np.array([record.shape for record in records], dtype=np.int64),
        pool_intensities(measured),
        patch_voxels=job.patch_voxels,
        spacing=job.spacing,
    )
    if job.patch_size is None:
        return plan
    return Plan.from_dict(plan.to_dict() | {"patch_size": job.patch_size})


def _foreground(dataset: Dataset, registry: Registry) -> Foreground | None:
    """Intensities of a dataset's labelled voxels, as recorded or measured now; None if it has no
    such voxel."""
    try:
        recorded = registry.dataset(dataset.ref).fingerprint
    except NotFound:
        recorded = {}
    found: dict[str, float] = (
        recorded["foreground_hu"]
        if "foreground_hu" in recorded
        else fingerprint(dataset)["foreground_hu"]
    )
    if not found:
        return None
    return Foreground(
        cases=len(dataset.case_ids),
        mean=found["mean"],
        std=found["std"],
        percentiles={float(k[1:]): v for k, v in found.items() if k.startswith("p")},
    )


def teachers_of(job: EncoderJob, datasets: list[Dataset]) -> list[Teacher]:
    """One teacher per layer, of every leaf that some case labels by itself.

    Raises:
        InputError: none does, all of them are held back, or a layer without any has a weight.
    """
    leaves = {
        entry.members[0]
        for dataset in datasets
        for case in dataset
        for entry in case.contract.entries
        if entry.exact
    } - {leaf for name in job.held_back for leaf in vocabulary().leaves(name)}
    if not leaves:
        raise InputError(f"{', '.join(job.dataset)}: no anatomy is labelled by itself")
    layers = sorted({vocabulary()[leaf].layer for leaf in leaves})
    idle = sorted(set(job.teacher_weights) - set(layers))
    if idle:
        raise InputError(
            f"teacher_weights: {', '.join(idle)}: nothing is learned in such a layer; "
            f"{', '.join(layers)} {'is' if len(layers) == 1 else 'are'}"
        )
    return [
        Teacher(
            f"teacher/{layer}",
            layer,
            tuple(sorted(leaf for leaf in leaves if vocabulary()[leaf].layer == layer)),
            job.teacher_weights.get(layer, 1.0),
        )
        for layer in layers
    ]


def stream_of(
    job: EncoderJob, plan: Plan, datasets: list[Dataset], teachers: list[Teacher]
) -> StreamSpec:
    """The stream of patches that the encoder learns from."""
    return StreamSpec(
        datasets=tuple(DatasetPin(ref=d.ref, sha256=d.sha256) for d in datasets),
        plan_sha256=plan.sha256,
        patch_size=plan.patch_size,
        batch_size=job.batch_size,
        focus=tuple(sorted({a for teacher in teachers for a in teacher.anatomies})),
        foreground=job.foreground,
        total=job.steps,
        seed=job.seed,
        val_fraction=0.0,
        augment=job.augment,
    )


def enqueue_encoder(job: EncoderJob, workspace: Workspace) -> JobHandle:
    """Check the job and queue it for whichever runner looks next.

    Raises:
        NotFound: a dataset or body-part model that is not there.
        InputError: datasets that teach nothing, or a network or patch size that cannot be.
        Incompatible: a dataset that was withdrawn, or widths of another number of scales.
    """
    told = job if job.command else job.model_copy(update={"command": shlex.join(sys.argv)})
    with workspace.registry() as registry:
        catalog: Catalog = workspace.catalog()
        datasets = [catalog.get(ref) for ref in told.dataset]
        for dataset in datasets:
            registry.check_usable(dataset.ref)
        pinned = told.model_copy(update={"dataset": tuple(d.ref for d in datasets)})
        teachers = teachers_of(pinned, datasets)
        plan = plan_of(pinned, datasets, registry)
        network = pinned.network(plan)
        for teacher in teachers:
            check_decoder(teacher.config(pinned.teacher_widths(network)), network)
        pinned = pinned.model_copy(update={"plan": plan.to_dict()})
        if pinned.body_part_model is not None:
            registry.check_source(pinned.body_part_model, "body_part_model")
        record = registry.create_job(ENCODER_JOB, pinned.model_dump(mode="json"))
    handle = JobHandle(record.id, workspace)
    EventLog(workspace.job_folder(record.id)).append("queued", message=pinned.name)
    return handle
