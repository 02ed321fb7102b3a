"""The starter release: a frozen encoder, a body-part model and decoders to add anatomies to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["RELEASE", "held_out_figures", "write_figures"]

RELEASE = Path(__file__).resolve().parent / "release"
"""Folder of the release that ships with the package."""


def held_out_figures(release: Path = RELEASE) -> dict[str, dict[str, float]]:
    """Anatomy to its DSC on the quickstart's held-out phantoms, ``dense`` and ``pruned``."""
    text = _figures_file(release).read_text(encoding="utf-8")
    figures: dict[str, dict[str, float]] = json.loads(text)
    return figures


def write_figures(release: Path, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Keep the held-out figures beside the folder of an exported release."""
    text = json.dumps(figures, indent=2) + "\n"
    _figures_file(release).write_text(text, encoding="utf-8")


def _figures_file(release: Path) -> Path:
    return release.with_name(f"{release.name}-figures.json")
