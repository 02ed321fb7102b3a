"""An encoder job on Ray Train: its workers share every batch and end with one encoder."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clnet.decoders_registry import DatasetUse, EncoderRecord, JobRecord, Lineage, Registry
from clnet.errors import ClnetError, JobFailed
from clnet.model.artefact import decode_encoder
from clnet.platform.encoder_jobs import EncoderJob, plan_of, stream_of, teachers_of
from clnet.platform.endings import end_job, reason_of
from clnet.platform.events import EventLog
from clnet.platform.register import code_version
from clnet.platform.teachers import encode_teacher, register_teacher
from clnet.platform.train_worker import Share
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    import ray

__all__ = ["EncoderWork", "TrainedEncoder", "encoder_work"]

MAX_FAILURES = 5


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """What the workers hand over.

    Attributes:
        artefact: bytes of the encoder.
        teachers: by name, each as a decoder artefact; none without a body-part model.
        numerics: the numerics class it was trained in.
    """

    artefact: bytes
    teachers: dict[str, bytes]
    numerics: dict[str, str]


@dataclass(frozen=True, slots=True)
class EncoderWork:
    """One encoder to train."""

    job_id: str
    job: EncoderJob

    @property
    def name(self) -> str:
        """Of the run; the checkpoint lies in the folder of this name."""
        return f"encoder-{self.job_id}"

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The job that it ends."""
        return (self.job_id,)

    @property
    def needs(self) -> tuple[str, ...]:
        """No artefact is read."""
        return ()

    def run(
        self, workspace: Workspace, share: Share, artefacts: Mapping[str, ray.ObjectRef[bytes]]
    ) -> None:
        """Train the encoder and register it."""
        from ray.train import TrainingFailedError

        with workspace.registry() as registry:
            try:
                trained = self._train(workspace, share)
                if trained is None:
                    end_job(self.job_id, workspace, registry, "cancelled")
                    return
                record = self._register(trained, workspace, registry)
            except (ClnetError, TrainingFailedError) as error:
                end_job(self.job_id, workspace, registry, "failed", error=reason_of(error))
            else:
                end_job(self.job_id, workspace, registry, "succeeded", results=(record.ref,))

    def _train(self, workspace: Workspace, share: Share) -> TrainedEncoder | None:
        # Ray's type hints are those of Train V1; at run time these are V2's, Ray's default
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        cpus, gpus = share.cpus / self.job.workers, share.gpus / self.job.workers
        trainer = TorchTrainer(
            _train,  # type: ignore[arg-type]
            train_loop_config={
                "job_id": self.job_id,
                "job": self.job,
                "workspace": workspace,
                "threads": max(1, int(cpus)),
                "run": self.name,
            },
            torch_config=TorchConfig(backend="nccl" if gpus >= 1 else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=self.job.workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
            ),
            run_config=RunConfig(
                name=self.name,
                storage_path=str(workspace.runs),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
                logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
            ),
        )
        trained: TrainedEncoder | JobFailed | None
        trained = trainer.fit().return_value  # type: ignore[attr-defined]
        if isinstance(trained, JobFailed):
            raise trained
        return trained

    def _register(
        self, trained: TrainedEncoder, workspace: Workspace, registry: Registry
    ) -> EncoderRecord:
        catalog = workspace.catalog()
        encoder, plan = decode_encoder(trained.artefact)
        lineage = Lineage(
            command=self.job.command,
            code_version=code_version(),
            seeds={"encoder": self.job.seed},
            datasets=tuple(
                DatasetUse(
                    ref=dataset.ref,
                    sha256=dataset.sha256,
                    terms=dataset.manifest.terms.model_dump(mode="json"),
                )
                for dataset in (catalog.get(ref) for ref in self.job.dataset)
            ),
            numerics=trained.numerics,
            config={"job": self.job.model_dump(mode="json")},
        )
        record = registry.add_encoder(
            self.job.name, trained.artefact, plan.to_dict(), encoder.config.to_dict(), lineage
        )
        if self.job.body_part_model is not None:
            body_part_model = registry.body_part_model(self.job.body_part_model)
            for name, artefact in trained.teachers.items():
                register_teacher(registry, name, artefact, record, body_part_model, lineage)
        return record


def encoder_work(record: JobRecord) -> EncoderWork:
    """The work of a queued job."""
    return EncoderWork(record.id, EncoderJob.model_validate(record.spec))


def _train(config: dict[str, Any]) -> TrainedEncoder | JobFailed | None:
    """The train loop, in every worker; the first one's result counts.

    A divergence is handed over, not raised: Ray would only have it repeated.
    """
    import ray.train.torch
    import torch

    from clnet.data_catalog import PatchStream
    from clnet.model.artefact import encode_encoder
    from clnet.model.encoder import freeze
    from clnet.model.numerics import numerics_class
    from clnet.model.parallel import all_workers
    from clnet.model.training import Recipe
    from clnet.platform.encoders import Cancelled, train_encoder

    torch.set_num_threads(config["threads"])
    job: EncoderJob = config["job"]
    workspace: Workspace = config["workspace"]
    workers, device = all_workers(), ray.train.torch.get_device()
    log = EventLog(workspace.job_folder(config["job_id"]))
    catalog = workspace.catalog()
    datasets = [catalog.get(ref) for ref in job.dataset]
    with workspace.registry() as registry:
        for dataset in datasets:
            registry.check_usable(dataset.ref)
        plan = plan_of(job, datasets, registry)
        bpr = registry.body_part_model(job.body_part_model) if job.body_part_model else None
    teachers = teachers_of(job, datasets)
    stores = [catalog.plan_store(dataset, plan.to_dict()) for dataset in datasets]
    network = job.network(plan)
    if workers.rank == 0:
        log.append("training", message=f"process {os.getpid()} on {socket.gethostname()}")

    def told(fraction: float, text: str) -> None:
        if workers.rank == 0:
            log.append("progress", fraction=fraction, message=text)

    try:
        training = train_encoder(
            PatchStream(stores, stream_of(job, plan, datasets, teachers)),
            network,
            teachers,
            Recipe(
                steps=job.steps,
                learning_rate=job.learning_rate,
                weight_decay=job.weight_decay,
                warm_up=job.warm_up,
                ema=job.ema,
            ),
            widths=job.teacher_widths(network),
            seed=job.seed,
            precision=job.precision,
            checkpoint=workspace.runs / config["run"] / "checkpoint.safetensors",
            checkpoint_every=job.checkpoint_every,
            device=device,
            workers=workers,
            cancelled=lambda: log.cancelled,
            progress=told,
        )
    except Cancelled:
        return None
    except JobFailed as error:
        return error
    encoder = freeze(training.encoder).cpu()
    artefact = encode_encoder(encoder, plan)
    kept = {}
    if bpr is not None:
        sha256 = hashlib.sha256(artefact).hexdigest()
        kept = {
            trainee.name: encode_teacher(trainee.finish().cpu(), sha256, encoder.config, bpr.sha256)
            for trainee in training.teachers
        }
    return TrainedEncoder(artefact, kept, numerics_class(device, job.precision))
