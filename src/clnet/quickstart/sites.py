"""The quickstart's sites: phantoms that each label only what their site cares about."""

from __future__ import annotations

import tempfile
from pathlib import Path

from clnet.anatomy.phantom import render
from clnet.data_catalog import Dataset, Terms
from clnet.errors import NotFound
from clnet.hub import Hub
from clnet.phantom_cases import write_case
from clnet.quickstart.recipe import Site
from clnet.stages import Tell

__all__ = ["contribute"]

TERMS = Terms(licence="CC0-1.0", notes="procedural phantoms, no patient")


def contribute(hub: Hub, name: str, site: Site, tell: Tell) -> tuple[Dataset, bool]:
    """The site's dataset, and whether it was there already."""
    try:
        return hub.datasets.get(name), True
    except NotFound:
        pass
    with tempfile.TemporaryDirectory(prefix="clnet-site-") as folder:
        cases = []
        for index in range(site.count):
            seed = site.first_seed + index
            phantom = render(seed, spacing=site.spacing, field_of_view=site.field_of_view)
            cases.append(write_case(phantom, Path(folder), f"case-{seed}", site.labels))
            tell((index + 1) / site.count / 2, f"{name}: phantom {seed}")
        dataset = hub.datasets.contribute(
            name,
            cases,
            {label: label for label in site.labels},
            TERMS,
            lambda fraction, text: tell(0.5 + fraction / 2, f"{name}: {text} stored"),
        )
    return dataset, False
