from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from clnet.anatomy import vocabulary
from clnet.cli.anatomies import app
from clnet.errors import UnknownAnatomy


def run(*arguments: str, given: str | None = None) -> str:
    result = CliRunner().invoke(app, arguments, input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_resolve_prints_name_tab_and_id() -> None:
    assert run("resolve", "Left Kidney", "no such thing") == (
        "Left Kidney\tkidney_left\nno such thing\t?\n"
    )


def test_resolve_reads_one_name_a_line() -> None:
    assert run("resolve", "-", given="OAR_Parotid_L\n\n  Liver \n") == (
        "OAR_Parotid_L\tparotid_gland_left\nLiver\tliver\n"
    )


def test_show_tells_what_is_known() -> None:
    assert json.loads(run("show", "left kidney", "--json")) == {
        **vocabulary()["kidney_left"].model_dump(mode="json"),
        "leaf": True,
        "group": "abdomen/kidneys",
    }
    shown = dict(line.split(maxsplit=1) for line in run("show", "kidney").splitlines())
    assert shown["parts"] == "kidney_left, kidney_right"
    assert shown["group"] == "-"


def test_show_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(UnknownAnatomy, match="livr"):
        run("show", "livr")


def test_list_shows_what_decoders_predict() -> None:
    rows = [line.split("\t") for line in run("list").splitlines()]
    assert [row[0] for row in rows] == [anatomy.id for anatomy in vocabulary().predicted]
    assert ["liver", "Liver", "Abdomen", "organ", "abdomen/liver"] in rows


def test_list_narrows_by_region_and_layer() -> None:
    rows = [row.split("\t") for row in run("list", "--region", "head_neck").splitlines()]
    assert {row[2] for row in rows} == {"Head & Neck"}
    assert run("list", "--region", "Head & Neck") == run("list", "--region", "head_neck")
    rows = [row.split("\t") for row in run("list", "--layer", "lns").splitlines()]
    assert len(rows) == 33


def test_list_all_as_json() -> None:
    listed = json.loads(run("list", "--all", "--json"))
    assert [entry["id"] for entry in listed] == [anatomy.id for anatomy in vocabulary()]


@pytest.mark.parametrize("arguments", [("--region", "arm"), ("--layer", "skin")])
def test_list_refuses_what_does_not_exist(arguments: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["list", *arguments])
    assert result.exit_code == 2
    assert "none of" in result.output


def test_help_shows_examples() -> None:
    for command in ([], ["list"], ["show"], ["resolve"]):
        assert "clnet anatomies" in run(*command, "--help")
