"""The registry: all its methods on one object, one transaction per call."""

from __future__ import annotations

from clnet.decoders_registry.admitting import Admitting
from clnet.decoders_registry.queueing import Queueing
from clnet.decoders_registry.reading import Reading
from clnet.decoders_registry.registering import Registering
from clnet.decoders_registry.releasing import Releasing

__all__ = ["Registry"]


class Registry(Registering, Reading, Releasing, Queueing, Admitting):
    """Encoders, decoders, releases, jobs, datasets and sites of one hub, with their lineage.

    Safe for several threads and processes at once. Records are frozen; rows never leave.

    Args:
        database_url: ``sqlite:///path/registry.db`` (or just the path) or ``postgresql://...``;
            created and migrated if need be.
        artefacts: where the bytes of models live.
        actor: who is written into the audit journal.
    """
