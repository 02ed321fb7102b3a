"""``clnet jobs`` and ``clnet tune``: from a dataset to a pruned decoder, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_hub import furnish, tiny_job
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.platform.jobs import enqueue


def told(workspace: Path, *arguments: str | Path) -> str:
    result = CliRunner().invoke(
        app,
        [str(a) for a in arguments],
        env={"CLNET_WORKSPACE": str(workspace)},
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def records(workspace: Path, *arguments: str | Path) -> Any:
    return json.loads(told(workspace, *arguments, "--json"))


def test_a_queued_job_is_listed_shown_logged_and_cancelled(tmp_path: Path) -> None:
    workspace = furnish(tmp_path)
    job = enqueue([tiny_job()], workspace)[0]
    [row] = records(tmp_path, "jobs", "list", "--status", "queued")
    assert (row["id"], row["decoder"], row["status"]) == (job.id, "abdomen/liver", "queued")
    assert records(tmp_path, "jobs", "show", job.id)["spec"]["steps"] == 12
    assert "queued" in told(tmp_path, "jobs", "logs", job.id)
    assert records(tmp_path, "jobs", "cancel", job.id)["status"] == "cancelled"
    events = told(tmp_path, "jobs", "logs", job.id, "--follow", "--json").splitlines()
    assert [json.loads(event)["kind"] for event in events] == ["queued", "cancelled"]


def test_the_plan_of_an_encoder_is_shown_by_command(tmp_path: Path) -> None:
    furnish(tmp_path)
    shown = records(
        tmp_path,
        *("encoders", "plan", "--dataset", "site-a/boxes"),
        *("--set", "patch_voxels=4096", "--set", "features=4", "--set", "spacing=[6, 6, 6]"),
    )
    assert shown["plan"]["patch_size"] == [16, 16, 16]
    assert shown["network"]["features"] == [4, 8, 16]


def test_a_pruned_decoder_shows_what_its_ticket_saves(tmp_path: Path) -> None:
    clnet.connect(tmp_path).releases.import_("starter")
    shown = records(tmp_path, "decoders", "show", "abdomen/liver")
    footprint = shown["footprint"]["this"]  # a release holds no dense versions to compare with
    assert shown["ticket"]["sparsity"] == pytest.approx(0.9, abs=0.01)
    assert footprint["non_zeros"] < 0.11 * footprint["parameters"]
    assert footprint["bytes"] < 0.14 * footprint["dense_bytes"]
    assert "non_zeros" in told(tmp_path, "decoders", "show", "abdomen/liver")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rates=[0.9, 0.8]", "rates must ascend"),
        ("scope=voxel", "scope"),
        ("rewind=late", "rewind"),
        ("retries=-1", "retries"),
    ],
)
def test_a_pruning_that_cannot_be_is_refused_by_command(
    tmp_path: Path, setting: str, said: str
) -> None:
    furnish(tmp_path)
    arguments = ["jobs", "submit", "abdomen/liver", "--dataset", "site-a/boxes@1"]
    arguments += ["--set", "kind=prune", "--set", "base=abdomen/liver@1", "--set", setting]
    with pytest.raises(clnet.InputError, match=said):
        told(tmp_path, *arguments)


@pytest.mark.slow
def test_decoders_are_trained_and_pruned_by_command(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    furnish(workspace)
    jobs = [
        tiny_job(group).model_dump(mode="json", exclude_defaults=True)
        for group in ("abdomen/liver", "abdomen/spleen")
    ]
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump(jobs), encoding="utf-8")
    rows = records(workspace, "jobs", "submit", "--file", tmp_path / "jobs.yaml", "--follow")
    assert [row["results"] for row in rows] == [["abdomen/liver@1"], ["abdomen/spleen@1"]]
    with clnet.connect(workspace) as hub:  # all of its DSC but a trace may go
        tolerance = str(0.99 * hub.decoders.get("abdomen/liver@1").metrics["mean_dsc"])
    space = {"rates": [0.5], "recovery_steps": 4, "reports": 1, "grace": 1}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    [found] = records(
        workspace,
        *("tune", "abdomen/liver", "--space", tmp_path / "space.yaml", "--tolerance", tolerance),
    )
    assert (found["dense"], found["pruned"]) == ("abdomen/liver@1", "abdomen/liver@2")
    assert found["within_tolerance"]
    with clnet.connect(workspace) as hub:
        ticket = hub.decoders.get("abdomen/liver@2").ticket
        assert ticket is not None
        assert ticket.sparsity == pytest.approx(0.5, abs=0.01)
    [row] = records(
        workspace,
        *("jobs", "submit", "abdomen/liver", "--dataset", "site-a/boxes@1", "--encoder", "tiny"),
        *("--set", "body_part_model=tiny", "--set", "kind=prune", "--set", "base=abdomen/liver@1"),
        *("--set", "rates=[0.5, 0.7]", "--set", "scope=channel"),
        *("--set", f"tolerance={tolerance}"),
        *("--set", "retries=2", "--set", "rewind=init", "--set", "steps=4", "--follow"),
    )
    shown = records(workspace, "decoders", "show", row["results"][0], "--speed")
    assert shown["ticket"]["rewind"] == "init"
    assert shown["ticket"]["details"]["rounds"][0]["rate"] == 0.5
    footprints = shown["footprint"]
    assert footprints["this"]["parameters"] < footprints["dense"]["parameters"]
    assert footprints["compacted"]["seconds"] > 0
