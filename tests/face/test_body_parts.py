"""A body-part model from contributed datasets, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tiny_hub import EXACT, contribute
from typer.testing import CliRunner

import clnet
from clnet.anatomy.phantom import render
from clnet.cli import app
from clnet.model.body_part import decode_body_part_model
from clnet.model.bpreg import BpregConfig
from clnet.phantom_cases import write_case
from clnet.platform.workspace import Workspace

TRAIN = ("body-parts", "train", "tiny")


def run(workspace: Path, *arguments: str):
    return CliRunner().invoke(app, arguments, env={"CLNET_WORKSPACE": str(workspace)})


def test_a_model_learns_where_hips_and_skull_are(tmp_path: Path) -> None:
    with clnet.connect(tmp_path) as hub:
        landmarks = {name: [name] for name in ("skull", "hip_left", "hip_right")}
        body = render(5, spacing=(12.0, 8.0, 8.0), field_of_view="whole")
        case = write_case(body, tmp_path / "sources", "body", landmarks)
        names = {name: name for name in landmarks}
        dataset = hub.datasets.contribute("ref/bodies", [case], names, "CC0-1.0")
        told = run(tmp_path, *TRAIN, "--dataset", dataset.ref, "--steps", "20")
        assert told.exit_code == 0, told.output
        assert told.stdout.strip() == "bpr/tiny@1"
        record = hub.body_parts.get("tiny")
        assert record.lineage.datasets[0].ref == dataset.ref
        model = decode_body_part_model(hub.registry.artefact(record.sha256))
    assert np.isfinite(model.error)
    assert "bpr/tiny@1" in run(tmp_path, "body-parts", "list").stdout


def test_data_without_landmarks_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    ref = contribute(workspace, "site-a/boxes", EXACT)
    told = run(tmp_path, *TRAIN, "--dataset", ref, "--steps", "2")
    assert isinstance(told.exception, clnet.InputError)
    assert "two landmarks" in str(told.exception)
    assert "no body-part model yet" in run(tmp_path, "body-parts", "list").output


def test_the_public_bpreg_model_is_imported(tmp_path: Path) -> None:
    source = tmp_path / "public_bpr_model"
    source.mkdir()
    shape = BpregConfig().make().state_dict()
    theirs = {"blocks": "model", "mix": "conv6", "score": "fc7"}
    names = {name: name.replace(own, theirs[own]) for name in shape for own in [name.split(".")[0]]}
    torch.save({names[name]: value for name, value in shape.items()}, source / "model.pt")
    settings = {
        "lookuptable_train_val": {
            "original": {"pelvis_start": {"mean": 0.0}, "eyes_end": {"mean": 10.0}}
        },
        "settings": {"start-landmark": "pelvis_start", "end-landmark": "eyes_end"},
        "slope_mean": 0.13,
    }
    (source / "inference-settings.json").write_text(json.dumps(settings))
    command = ("body-parts", "import-bpreg", str(source), "--licence", "Apache-2.0")
    for _ in range(2):
        told = run(tmp_path / "hub", *command)
        assert told.exit_code == 0, told.output
        assert told.stdout.strip() == "bpr/bpreg@1"
    with clnet.connect(tmp_path / "hub") as hub:
        record = hub.body_parts.get("bpreg")
        assert record.lineage.datasets[0].terms["licence"] == "Apache-2.0"
        assert decode_body_part_model(hub.registry.artefact(record.sha256)).heights[0] == 0
