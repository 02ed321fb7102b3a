"""Which format a folder is in: named by the caller, or the only one that recognises it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from clnet.data_catalog.sources import formats
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.layout import Layout
from clnet.errors import InputError

__all__ = ["format_names", "looks_for", "open_source"]

SHOWN = 8


class Format(Protocol):
    """A module of :mod:`clnet.data_catalog.sources.formats`: its name is the format's."""

    LOOKS_FOR: str
    """What such a folder holds, in a few words."""

    def detect(self, folder: Path) -> bool:
        """Whether the folder looks like it; quick, and never raises for what files hold."""

    def cases(self, folder: Path) -> SourceFolder:
        """Its cases; headers are read where ids or labels need them, voxels never.

        What is wrong with one case is a finding, and keeps no other out.

        Raises:
            InputError: the folder is not what it looked like.
        """


def format_names() -> tuple[str, ...]:
    """The formats that are read, sorted."""
    return tuple(_formats())


def looks_for(format: str) -> str:
    """What a folder of that format holds, in a few words."""
    return _formats()[format].LOOKS_FOR


def open_source(
    folder: Path, format: str | None = None, layout: Layout | None = None
) -> SourceFolder:
    """The cases of a folder, at least one.

    Args:
        format: one of :func:`format_names`; recognised where it is not given.
        layout: patterns of paths instead of a format.

    Raises:
        InputError: no such folder or format; no format recognises the folder, or several do;
            no case in it is whole.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if layout is not None and format is None:
        return layout.cases(folder).usable(folder)
    known = _formats()
    if format is not None:
        if format not in known:
            raise InputError(f"format {format!r}: not known; give one of {', '.join(known)}")
        return known[format].cases(folder).usable(folder)
    fitting = [name for name, one in known.items() if one.detect(folder)]
    if len(fitting) == 1:
        return known[fitting[0]].cases(folder).usable(folder)
    if fitting:
        raise InputError(
            f"{folder}: looks like {' and like '.join(fitting)}; say which with --format"
        )
    there = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    found = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" * (len(there) > SHOWN))
    looked = "".join(f"\n  {name}: {one.LOOKS_FOR}" for name, one in known.items())
    raise InputError(
        f"{folder}: format not recognised. Looked for{looked}\nFound: {found or 'nothing'}. "
        "Name another folder, or a recipe with --recipe"
    )


@cache
def _formats() -> dict[str, Format]:
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    return {
        name.replace("_", "-"): cast(
            "Format", importlib.import_module(f"{formats.__name__}.{name}")
        )
        for name in names
    }
