"""`phantom.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from clnet.anatomy import vocabulary
from clnet.quickstart.recipe import Baseline, HeldOut, Site

__all__ = ["Groups", "PhantomRecipe", "focus_of", "load_recipe"]

Groups = dict[str, tuple[str, ...]]
"""Anatomy group to the anatomies that its channels are."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scans(_Part):
    """Phantoms to learn from."""

    first_seed: int = Field(ge=0, lt=90000)
    count: int = Field(ge=2)
    field_of_view: str | None
    spacing: tuple[float, float, float]

    def labelling(self, groups: Groups) -> Site:
        """These phantoms with a mask of every anatomy of `groups`."""
        labels = {anatomy: (anatomy,) for members in groups.values() for anatomy in members}
        return Site(**self.model_dump(include=set(Scans.model_fields)), labels=labels)


class BenchmarkSite(Scans):
    """A site, and the decoders that learn from what it labels, as one pack."""

    decoders: Groups


class Comparison(_Part):
    """One recipe for all groups on two encoders."""

    random_encoder_seed: int
    site: Scans
    train: dict[str, Any]
    packs: dict[str, Groups]

    @property
    def groups(self) -> Groups:
        """Those of all packs."""
        return {group: members for pack in self.packs.values() for group, members in pack.items()}


class PhantomRecipe(_Part):
    """Everything that decides what the benchmark does.

    Attributes:
        start: layer to the known group whose weights its new decoders begin with.
        train, prune: settings of a :class:`clnet.platform.jobs.DecoderJob`.
        last_rates: groups whose pruning ends at another rate than the last of `prune`.
        tried: what was tried for a target that is missed.
    """

    sites: dict[str, BenchmarkSite]
    start: dict[str, str] = {}
    train: dict[str, Any]
    prune: dict[str, Any]
    last_rates: dict[str, float] = {}
    comparison: Comparison
    held_out: HeldOut
    baseline: Baseline
    tried: tuple[str, ...] = ()

    @property
    def groups(self) -> Groups:
        """The new groups of all sites."""
        return {g: members for site in self.sites.values() for g, members in site.decoders.items()}

    def rates_of(self, group: str) -> tuple[float, ...]:
        """Rates at which a group is cut, one after another."""
        rates = tuple(self.prune["rates"])
        last = self.last_rates.get(group, rates[-1])
        return (*(rate for rate in rates if rate < last), last)


def focus_of(groups: Groups) -> tuple[str, ...]:
    """Leaf anatomies that patches of a pack centre on."""
    named = {anatomy for members in groups.values() for anatomy in members}
    return tuple(sorted({leaf for anatomy in named for leaf in vocabulary().leaves(anatomy)}))


def load_recipe(path: Path | None = None) -> PhantomRecipe:
    """The recipe in `path`; by default the one beside this file."""
    path = path or Path(__file__).with_name("phantom.yaml")
    return PhantomRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
