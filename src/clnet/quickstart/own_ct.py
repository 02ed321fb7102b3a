"""The CT that somebody brings to the quickstart: judged before the work, named apart."""

from __future__ import annotations

from pathlib import Path

from clnet.errors import InputError
from clnet.serve.intake import ScanRefused, UploadLimits, read_scan

__all__ = ["check_ct", "name_of"]


def check_ct(file: Path) -> None:
    """Read a CT as the service will, minutes later.

    Raises:
        InputError: it would be refused.
    """
    try:
        with file.open("rb") as upload:
            read_scan(upload, UploadLimits())
    except ScanRefused as error:
        raise InputError(f"{file}: {error.reason}; {error.hint}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def name_of(file: Path) -> str:
    """The name of its results, which no phantom has, whatever the file is called."""
    return "ct-" + file.name.removesuffix(".gz").removesuffix(".nii")
