"""The search for how much of a decoder can be cut."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clnet.errors import NotFound
from clnet.platform.ray_runtime import ray_runtime
from clnet.platform.register import code_version

if TYPE_CHECKING:
    from clnet.hub.hub import Hub
    from clnet.tune_spaces.search import Found

__all__ = ["tune"]


def tune(
    hub: Hub,
    decoders: Sequence[str],
    space: str | Path,
    tolerance: float,
    progress: Callable[[float, str], None] | None,
) -> list[Found]:
    """Search the pruning rates of decoders; see `Hub.tune`."""
    from clnet.tune_spaces.search import search_pruning_rates
    from clnet.tune_spaces.space import load_space

    chosen = load_space(space)
    refs = [_dense(hub, decoder) for decoder in decoders]
    with ray_runtime(hub.ray, token_file=hub.workspace.ray_token):
        return search_pruning_rates(
            hub.registry,
            hub.catalog,
            refs,
            chosen,
            tolerance=tolerance,
            code_version=code_version(),
            storage=hub.workspace.runs / "tune",
            command=shlex.join(sys.argv),
            progress=progress,
        )


def _dense(hub: Hub, decoder: str) -> str:
    """The version that is meant: as said, or the newest dense one of a group."""
    if "@" in decoder:
        return hub.decoders.get(decoder).ref
    dense = [record.ref for record in hub.decoders.list(decoder) if record.ticket is None]
    if not dense:
        raise NotFound(f"decoder {decoder}: has no dense version; train one: clnet jobs submit")
    return dense[-1]
