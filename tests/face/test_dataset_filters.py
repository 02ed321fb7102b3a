"""Datasets found by what they teach and whose they are, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tiny_scans import TERMS, case
from typer.testing import CliRunner

import clnet
from clnet.cli.app import app
from clnet.errors import InputError, UnknownAnatomy

SIDES = {1: "kidney_left", 2: "kidney_right"}
BOTH = {1: {"union": ["kidney_left", "kidney_right"]}, 2: "spleen"}
ORGANS = {1: "liver", 2: "spleen"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filters")
    with clnet.connect(root / "hub") as hub:
        for seed, (name, mapping) in enumerate(
            [("site-a/sides", SIDES), ("site-a/organs", ORGANS), ("site-b/both", BOTH)]
        ):
            hub.datasets.contribute(name, [case(root / name, "c", seed)], mapping, TERMS)
        gone = hub.datasets.contribute("site-b/gone", [case(root / "g", "c", 9)], ORGANS, TERMS)
        hub.datasets.withdraw(gone.ref, "consent revoked")
    return root / "hub"


def refs(workspace: Path, *arguments: Any, **keywords: Any) -> list[str]:
    with clnet.connect(workspace) as hub:
        return [found.ref for found in hub.datasets.list(*arguments, **keywords)]


def command(workspace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["datasets", "list", *arguments], env={"CLNET_WORKSPACE": str(workspace)}
    )


def test_datasets_are_found_by_anatomy_and_site(workspace: Path) -> None:
    assert refs(workspace, site="site-a") == ["site-a/organs@1", "site-a/sides@1"]
    assert refs(workspace, "left kidney") == ["site-a/sides@1", "site-b/both@1"]
    assert refs(workspace, ["kidney", "spleen"]) == ["site-b/both@1"]
    assert refs(workspace, "kidney", "site-a") == ["site-a/sides@1"]
    assert refs(workspace, site="site") == []
    with clnet.connect(workspace) as hub:
        kidney = hub.datasets.get("site-b/both").teaches("kidney_left")
    assert kidney is not None
    assert (kidney.how, kidney.labels, kidney.cases) == ("union", ("kidney",), 1)


def test_what_was_withdrawn_is_listed_but_teaches_nothing(workspace: Path) -> None:
    assert "site-b/gone@1" in refs(workspace)
    assert refs(workspace, "liver") == ["site-a/organs@1"]


def test_an_anatomy_that_nobody_knows_is_an_error_even_in_an_empty_hub(tmp_path: Path) -> None:
    with pytest.raises(UnknownAnatomy, match="liver"):
        refs(tmp_path, "livr")
    with pytest.raises(InputError):
        refs(tmp_path, ["liver", "grey matter"])


def test_the_command_tells_how_a_dataset_teaches(workspace: Path) -> None:
    told = command(workspace, "--anatomy", "Kidney L", "--anatomy", "kidney", "--json")
    rows = json.loads(told.stdout)
    assert [row["ref"] for row in rows] == ["site-a/sides@1", "site-b/both@1"]
    assert [[how["how"] for how in row["teaches"]] for row in rows] == [
        ["exact", "parts"],
        ["union", "exact"],
    ]
    table = command(workspace, "--anatomy", "kidney_left", "--site", "site-b").stdout
    assert "kidney_left: union (kidney), 1 case" in table
    assert "site-a" not in table
    assert "teaches" not in json.loads(command(workspace, "--site", "site-a", "--json").stdout)[0]


def test_the_command_says_when_nothing_matches(workspace: Path) -> None:
    assert "matches" in command(workspace, "--site", "site-c").output
    failed = command(workspace, "--anatomy", "livr")
    assert failed.exit_code != 0
