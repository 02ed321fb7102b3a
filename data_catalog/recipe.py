"""Recipes: what the labels of a public dataset mean, its layout, and its terms."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clnet.anatomy import LabelMapping, load_mapping
from clnet.anatomy.strict_yaml import load_yaml
from clnet.data_catalog.sources import Layout, SourceFolder, format_names, open_source
from clnet.data_catalog.sources.folder import some
from clnet.data_catalog.terms import Licence, Obligation, Terms, check_obligations_said
from clnet.data_catalog.validation import finding
from clnet.errors import InputError, NotFound

__all__ = ["Citation", "Recipe", "load_recipe", "recipes"]

_DOI = r"10\.\d{4,9}/\S+"
_ARXIV = r"\d{4}\.\d{4,5}"
_URL = r"https?://\S+"


class Citation(BaseModel):
    """The paper to cite; a DOI or an arXiv number, or a text where there is neither."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    doi: str | None = Field(default=None, pattern=_DOI)
    arxiv: str | None = Field(default=None, pattern=_ARXIV)


class Recipe(BaseModel):
    """One public dataset.

    Attributes:
        id: the recipe's name, that of its file.
        home: where the dataset is described and got.
        cases: how many labelled CT scans its publisher names.
        licence, obligations, attribution: the terms, see :class:`.Terms`.
        format: one of :func:`.format_names`; or
        layout: where images and labels lie.
        only: pattern that case ids match fully; others (MR scans, say) are left out.
        mapping: label id or name to anatomy, see :func:`clnet.anatomy.load_mapping`.
        quirks: what surprises about the data.
        source: where the list of labels is published.
        checked: against what the list was compared, and what could not be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    home: str = Field(pattern=_URL)
    citation: Citation
    cases: int = Field(ge=1)
    licence: Licence
    obligations: frozenset[Obligation] = frozenset()
    attribution: str = ""
    format: str | None = None
    layout: Layout | None = None
    only: str | None = None
    mapping: dict[str | int, Any]
    quirks: tuple[str, ...] = ()
    source: tuple[str, ...] = Field(min_length=1)
    checked: str = Field(min_length=1)

    @field_validator("mapping")
    @classmethod
    def _means_something(cls, mapping: dict[str | int, Any]) -> dict[str | int, Any]:
        load_mapping(mapping)
        return mapping

    @field_validator("only")
    @classmethod
    def _is_a_pattern(cls, only: str | None) -> str | None:
        if only is not None:
            try:
                re.compile(only)
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
        return only

    @model_validator(mode="after")
    def _is_laid_out(self) -> Recipe:
        if (self.format is None) == (self.layout is None):
            raise ValueError("give one of format and layout")
        if self.format is not None and self.format not in format_names():
            raise ValueError(f"format {self.format!r} is none of {', '.join(format_names())}")
        return self

    @model_validator(mode="after")
    def _says_what_it_demands(self) -> Recipe:
        check_obligations_said(self.licence, self)
        return self

    @property
    def terms(self) -> Terms:
        """Licence and obligations, as they follow the data."""
        return Terms(
            licence=self.licence,
            attribution=self.attribution or self.citation.text,
            obligations=self.obligations,
        )

    @property
    def meanings(self) -> LabelMapping:
        """The mapping, read."""
        return load_mapping(self.mapping)

    def open(self, folder: Path, format: str | None = None) -> SourceFolder:
        """The cases of a copy of the dataset; `format` overrules the recipe's.

        Raises:
            InputError: the folder is not laid out so, or has no case of the recipe.
        """
        source = open_source(folder, format or self.format, None if format else self.layout)
        if self.only is not None:
            source = self._own(source, folder)
        found = len({case.id for case in source.cases} | source.broken)
        if found == self.cases:
            return source
        told = f"{found} labelled scans found; recipe {self.id} counts {self.cases}"
        note = finding("source.count", str(folder), "", told)
        return replace(source, findings=(*source.findings, note))

    def _own(self, source: SourceFolder, folder: Path) -> SourceFolder:
        """The cases of the recipe alone, and what was found of them."""

        def own(case: str) -> bool:
            return re.fullmatch(self.only or "", case) is not None

        kept = [case for case in source.cases if own(case.id)]
        findings = tuple(f for f in source.findings if not f.case or own(f.case))
        found = replace(source, cases=kept, findings=findings)
        if not kept and not found.broken:
            raise InputError(
                f"{folder}: none of {len(source.cases)} cases is of recipe {self.id}, whose ids "
                f"match {self.only}"
            )
        others = [case.id for case in source.cases if not own(case.id)]
        if others:
            told = f"cases of other scans than {self.id} left out ({len(others)}): {some(others)}"
            note = finding("source.left-out", str(folder), "", told)
            found = replace(found, findings=(*findings, note))
        return found.usable(folder)


@cache
def recipes() -> dict[str, Recipe]:
    """All recipes that come with the package, by id."""
    folder = resources.files("clnet.data_catalog") / "recipes"
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".yaml"))
    found = [_read((folder / name).read_text(encoding="utf-8"), name) for name in names]
    return {recipe.id: recipe for recipe in found}


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by its id, or one of your own from a ``.yaml`` file.

    Raises:
        NotFound: no such recipe.
        InputError: the file is no recipe.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            return _read(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {path}: cannot be read: {error}") from None
    known = recipes()
    if str(name) not in known:
        raise NotFound(f"recipe {str(name)!r}: not known; there are {', '.join(known)}")
    return known[str(name)]


def _read(text: str, name: str) -> Recipe:
    try:
        about = load_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"recipe {name}: no valid YAML: {error}") from None
    if not isinstance(about, dict):
        raise InputError(f"recipe {name}: a table is expected")
    try:
        return Recipe.model_validate({"id": Path(name).stem} | about)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"recipe {name}: {where}: {first['msg']}") from None
