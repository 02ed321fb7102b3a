"""What datasets hold, side by side, and where along the body: command and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from typer.testing import CliRunner

import clnet
from clnet.anatomy.phantom import render
from clnet.cli import app
from clnet.errors import NotFound
from clnet.phantom_cases import write_case
from clnet.platform.body_extents import BodyExtents
from clnet.platform.catalog_figure import CatalogRow, catalog_figure

SITES = {
    "site-a/liver": ("abdomen", ("liver",)),
    "site-b/brain": ("head-neck", ("brain",)),
    "site-c/both": ("whole", ("liver", "brain")),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> clnet.Hub:
    root = tmp_path_factory.mktemp("fingerprints")
    hub = clnet.connect(root / "hub")
    hub.releases.import_("starter")
    for seed, (name, (view, anatomies)) in enumerate(SITES.items(), start=70):
        phantom = render(seed, spacing=(6.0, 6.0, 6.0), field_of_view=view)
        labels = {anatomy: [anatomy] for anatomy in anatomies}
        case = write_case(phantom, root / name, "case-1", labels)
        mapping = {anatomy: anatomy for anatomy in anatomies}
        hub.datasets.contribute(name, [case], mapping, "CC0-1.0")
    return hub


def told(hub: clnet.Hub, *words: str | Path) -> Any:
    asked = ["datasets", "fingerprint", *words, "--workspace", hub.workspace.root, "--json"]
    result = CliRunner().invoke(app, [str(word) for word in asked], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_dataset_says_where_along_the_body_it_lies(hub: clnet.Hub) -> None:
    found = told(hub, "site-c/both", "--body-part-model", "starter")["body_parts"]
    assert found["model"] == "bpr/starter@1"
    assert found["unread"] == 0
    ((low, high),) = found["scans"]
    assert low < 0.2
    assert high > 0.9
    liver, brain = found["foreground"]["liver"], found["foreground"]["brain"]
    assert low <= liver[0] < liver[1] < brain[0] < brain[1] <= high
    head = told(hub, "site-b/brain", "--body-part-model", "starter")["body_parts"]
    assert head["scans"][0][0] > 0.5


def test_it_is_measured_once(hub: clnet.Hub) -> None:
    first = hub.datasets.body_extents("site-a/liver", "starter")
    said: list[str] = []
    again = hub.datasets.body_extents(
        "site-a/liver", "starter", lambda done, text: said.append(text)
    )
    assert (again, said) == (first, [])
    assert first.labelled == first.foreground["liver"]
    with pytest.raises(NotFound):
        hub.datasets.body_extents("site-a/liver", "another")


def test_without_a_name_every_dataset_has_a_line(hub: clnet.Hub) -> None:
    rows = {row["ref"]: row for row in told(hub)}
    assert {ref: row["anatomies"] for ref, row in rows.items()} == {
        "site-a/liver@1": 1,
        "site-b/brain@1": 1,
        "site-c/both@1": 2,
    }
    assert rows["site-a/liver@1"]["spacing_mm"] == "6 x 6 x 6"


def test_the_catalog_is_drawn(hub: clnet.Hub, tmp_path: Path) -> None:
    whole, one = tmp_path / "whole.png", tmp_path / "one.png"
    told(hub, "--plot", whole, "--body-part-model", "starter")
    told(hub, "site-a/liver", "--plot", one)
    assert imread(whole).shape[0] > imread(one).shape[0]
    assert imread(whole)[..., :3].min() < 0.9


def written_in(*rows: CatalogRow) -> str:
    return "\n".join(text.get_text() for text in catalog_figure(rows).findobj(Text))


def test_an_empty_panel_says_why(hub: clnet.Hub) -> None:
    found = hub.datasets.fingerprint("site-a/liver")
    unread = BodyExtents(model="bpr/starter@1", scans=(), foreground={}, unread=1)
    read = BodyExtents(model="bpr/starter@1", scans=((0.1, 0.4),), foreground={})
    assert "--body-part-model starter" in written_in(CatalogRow("a/b@1", found, None))
    assert "--body-part-model" not in written_in(CatalogRow("a/b@1", found, read))
    said = written_in(CatalogRow("a/b@1", found, read), CatalogRow("a/c@1", found, unread))
    assert said.count("no scan that shows a body's course") == 1


def test_datasets_are_grouped_by_the_region_of_their_organs(hub: clnet.Hub) -> None:
    groups = {name: CatalogRow(name, hub.datasets.fingerprint(name), None).group for name in SITES}
    assert groups == {
        "site-a/liver": "abdomen",
        "site-b/brain": "head_neck",
        "site-c/both": "whole_body",
    }
