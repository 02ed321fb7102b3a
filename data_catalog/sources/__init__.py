"""From a folder, in whatever layout it comes, to cases and what their labels are called."""

from __future__ import annotations

from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.layout import Layout
from clnet.data_catalog.sources.meaning import meanings_of
from clnet.data_catalog.sources.recognise import format_names, looks_for, open_source

__all__ = ["Layout", "SourceFolder", "format_names", "looks_for", "meanings_of", "open_source"]
