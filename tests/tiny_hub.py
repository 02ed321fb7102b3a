"""A workspace with a tiny encoder, body-part model and datasets, for tests of the platform."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from clnet.data_catalog import CaseSource, Terms
from clnet.decoders_registry import Lineage
from clnet.model.artefact import encode_encoder
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    build_body_part_network,
    encode_body_part_model,
)
from clnet.model.encoder import EncoderConfig, build_encoder
from clnet.model.plan import Plan
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.workspace import Workspace

ENCODER = EncoderConfig(
    features=(8, 16, 16),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    kernels=((3, 3, 3),) * 3,
    convs=(1, 1, 1),
)
PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 16, 16))
SHAPE = (24, 24, 24)  # x, y, z
EXACT = {"1": "liver", "2": "spleen", "3": "kidney_right", "4": "kidney_left"}


def write_case(folder: Path, case_id: str, seed: int) -> CaseSource:
    """Four boxes of different HU in a cube of soft tissue."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for value, corner in enumerate(((3, 4, 4), (14, 4, 4), (3, 14, 14), (14, 14, 14)), start=1):
        x, y, z = np.array(corner) + rng.integers(-1, 2, 3)
        labels[x : x + 6, y : y + 6, z : z + 6] = value
    hu = np.array([0, 120, 240, 360, 480])[labels] + rng.normal(0, 20, SHAPE)
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    case = CaseSource(case_id, folder / f"{case_id}.nii.gz", folder / f"{case_id}-seg.nii.gz")
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.int16), affine), case.image)
    nibabel.save(nibabel.Nifti1Image(labels, affine), case.labels)
    return case


def contribute(
    workspace: Workspace, name: str, mapping: dict[str, object], seeds: range = range(5)
) -> str:
    """A dataset of boxes; returns its ref."""
    source = workspace.root / "sources" / name
    cases = [write_case(source, f"case-{seed}", seed) for seed in seeds]
    dataset = workspace.catalog().contribute(name, cases, mapping, Terms(licence="CC0-1.0"))
    return dataset.ref


def furnish(root: Path, datasets: str = "") -> Workspace:
    """A workspace with ``encoder/tiny``, ``bpr/tiny`` and the dataset ``site-a/boxes``."""
    workspace = Workspace(root, datasets=datasets)
    lineage = Lineage(command="test", code_version="0")
    with workspace.registry() as registry:
        encoder = build_encoder(ENCODER, seed=0)
        registry.add_encoder(
            "tiny", encode_encoder(encoder, PLAN), PLAN.to_dict(), ENCODER.to_dict(), lineage
        )
        network = build_body_part_network(BodyPartConfig(widths=(4, 4)), seed=0).eval()
        model = BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 0.001)
        registry.add_body_part_model("tiny", encode_body_part_model(model), lineage)
    contribute(workspace, "site-a/boxes", EXACT)
    return workspace


def tiny_job(decoder: str = "abdomen/liver", **changes: object) -> DecoderJob:
    """A job of seconds on ``site-a/boxes``."""
    values: dict[str, object] = {
        "decoder": decoder,
        "dataset": "site-a/boxes@1",
        "encoder": "tiny",
        "body_part_model": "tiny",
        "widths": (16, 16),
        "heads": 2,
        "steps": 12,
        "warm_up": 2,
        "learning_rate": 1e-2,
        "focus": "all",
        "foreground": (1.0, 0.7),
        "checkpoint_every": 4,
        "validation": Validation(batches=3),
    }
    return DecoderJob.model_validate(values | changes)
