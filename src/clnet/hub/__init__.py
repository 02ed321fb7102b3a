"""The hub: one object from which everything is reached."""

from __future__ import annotations

from clnet.hub.hub import Hub, connect

__all__ = ["Hub", "connect"]
