"""Ray Train around one pack: where Ray meets the training, and the only place of the two."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet.platform.assignment import Assignment
from clnet.platform.endings import HOPELESS, why_hopeless
from clnet.platform.events import EventLog
from clnet.platform.resolve import stores_for
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    import ray

    from clnet.platform.delivery import Delivery

__all__ = ["Pack", "Share", "train_on_ray"]

MAX_FAILURES = 5
"""Worker deaths after which a pack is given up; each costs the batches since a checkpoint."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one pack may use of the cluster.

    Attributes:
        cpus, gpus: as Ray counts them; fractions are fine.
    """

    cpus: float
    gpus: float = 0.0

    @property
    def threads(self) -> int:
        """Threads of torch."""
        return max(1, int(self.cpus))


@dataclass(frozen=True, slots=True)
class Pack:
    """Jobs that train together.

    Attributes:
        name: of the run; a run of the same name goes on from its last checkpoint.
    """

    name: str
    assignments: tuple[Assignment, ...]


def train_on_ray(
    pack: Pack,
    workspace: Workspace,
    share: Share,
    artefacts: Mapping[str, ray.ObjectRef[bytes]],
) -> list[Delivery]:
    """Train a pack as one Ray Train run and wait for its decoders.

    A worker that dies is started again and goes on from the last checkpoint.

    Args:
        artefacts: hash to bytes in Ray's object store, which holds them once a node.

    Raises:
        ray.train.TrainingFailedError: the run was given up.
    """
    # Ray's type hints are those of Train V1; at run time these are V2's, Ray's default
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    trainer = TorchTrainer(
        _train_or_say_why,  # type: ignore[arg-type]
        train_loop_config={
            "pack": pack,
            "workspace": workspace,
            "threads": share.threads,
            "artefacts": dict(artefacts),
        },
        # one worker: nothing is reduced, and gloo starts faster than NCCL
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=1, use_gpu=share.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=pack.name,
            storage_path=str(workspace.runs),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
        ),
    )
    deliveries: list[Delivery] = trainer.fit().return_value  # type: ignore[attr-defined]
    return deliveries


def _train(config: dict[str, Any]) -> list[Delivery]:
    """The train loop, in the worker."""
    import ray
    import ray.train.torch
    import torch

    from clnet.platform.delivery import deliver
    from clnet.platform.pack_run import PackRun

    torch.set_num_threads(config["threads"])
    pack: Pack = config["pack"]
    workspace: Workspace = config["workspace"]
    logs = {a.job_id: EventLog(workspace.job_folder(a.job_id)) for a in pack.assignments}

    def artefact(sha256: str) -> bytes:
        data: bytes = ray.get(config["artefacts"][sha256])
        return data

    run = PackRun(
        pack.assignments,
        stores_for(pack.assignments[0].job, workspace.registry(), workspace.catalog()),
        artefact,
        ray.train.torch.get_device(),
        tell=lambda job_id, kind, fields: logs[job_id].append(kind, **fields),
        cancelled=lambda job_id: logs[job_id].cancelled,
    )
    for log in logs.values():
        log.append("training", message=f"process {os.getpid()} on {socket.gethostname()}")
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            run.load(Path(folder))

    def save(run: PackRun) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run.save(Path(folder))
            ray.train.report(
                {"batch": run.t}, checkpoint=ray.train.Checkpoint.from_directory(folder)
            )

    run.run(save)
    return deliver(run, artefact)


def _train_or_say_why(config: dict[str, Any]) -> list[Delivery]:
    """The train loop; what would only fail again is told instead of tried again."""
    from clnet.platform.delivery import Delivery

    try:
        return _train(config)
    except HOPELESS as error:
        traceback.print_exc()  # into the worker's log
        reason = why_hopeless(error)
        return [Delivery(a.job_id, dropped=reason) for a in config["pack"].assignments]
