"""What the environment says, read when a hub is opened and never at import."""

from __future__ import annotations

from pathlib import Path

from pydantic import ByteSize, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from clnet.errors import InputError

__all__ = ["Settings"]


class Settings(BaseSettings):
    """Settings from variables ``CLNET_*``; what is given in code outweighs them.

    Attributes:
        workspace: folder of everything that is kept on this machine.
        database: SQLAlchemy URL of the registry; an SQLite file in the workspace by default.
        datasets: folder or ``s3://`` URL of the datasets; a folder of the workspace by default.
        fetched_max_bytes: what cases fetched from there may take on this machine; no limit by
            default.
        plans_max_bytes: what cases resampled for training may take on this machine, such as
            ``200GiB``; those unused for longest make room. No limit by default.
        scan_max_bytes: largest scan or label volume that contributions take, such as ``4GiB``, by
            its header; 2 GiB by default.
        artefacts: folder or ``s3://`` URL of the models; a folder of the workspace by default.
        ray: address of a Ray cluster; a local Ray is started on demand by default.
        token: of a site, whose datasets alone the commands then see and change.
        token_file: file with such a token.
    """

    model_config = SettingsConfigDict(env_prefix="CLNET_", frozen=True, env_ignore_empty=True)

    workspace: Path = Path("clnet-workspace")
    database: str = ""
    artefacts: str = ""
    datasets: str = ""
    fetched_max_bytes: ByteSize | None = None
    plans_max_bytes: ByteSize | None = None
    scan_max_bytes: ByteSize | None = None
    ray: str | None = None
    token: SecretStr | None = None
    token_file: Path | None = None

    def site_token(self) -> str | None:
        """The token, from wherever it was given.

        Raises:
            InputError: the file cannot be read.
        """
        if self.token is not None:
            return self.token.get_secret_value()
        if self.token_file is None:
            return None
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"CLNET_TOKEN_FILE {self.token_file}: {error}") from None
