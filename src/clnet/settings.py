"""What the environment says, read when a hub is opened and never at import."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


class Settings(BaseSettings):
    """Settings from variables ``CLNET_*``; what is given in code outweighs them.

    Attributes:
        workspace: folder of everything that is kept on this machine.
        database: SQLAlchemy URL of the registry; an SQLite file in the workspace by default.
        artefacts: folder or ``s3://`` URL of the models; a folder of the workspace by default.
        ray: address of a Ray cluster; a local Ray is started on demand by default.
    """

    model_config = SettingsConfigDict(env_prefix="CLNET_", frozen=True, env_ignore_empty=True)

    workspace: Path = Path("clnet-workspace")
    database: str = ""
    artefacts: str = ""
    ray: str | None = None
