"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clnet.errors import AccessDenied, InputError
from clnet.storage import check_file, check_folder

if TYPE_CHECKING:
    from clnet.hub import Hub
    from clnet.hub.datasets import Datasets

__all__ = [
    "JsonOption",
    "MemoryOption",
    "MirrorOption",
    "ObligationOption",
    "OverlapOption",
    "PassphraseOption",
    "PrecisionOption",
    "RayOption",
    "ReportOption",
    "WorkspaceOption",
    "file_to_write",
    "folder_to_write",
    "open_datasets",
    "open_hub",
    "passphrase_in",
    "text_in",
]

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        envvar="CLNET_WORKSPACE",
        metavar="DIR",
        help="Folder of datasets, registry and results.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        metavar="SIZE",
        help="What one scan may take beside the networks, such as 4GiB; half of what is free. "
        "Less takes longer and gives the same.",
    ),
]
MirrorOption = Annotated[
    str,
    typer.Option(
        "--mirror",
        metavar="AXES",
        help="Also see windows mirrored along these axes, of z (along the body), y (front to "
        "back) and x (right to left), and average; zyx is nnU-Net's test-time augmentation, in "
        "eight times the time. None: a body mirrored along x has its sides swapped.",
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        metavar="FRACTION",
        help="Of a window, shared with its neighbours; 0.25, or 0.5 for an imported nnU-Net.",
    ),
]
ObligationOption = Annotated[
    list[str] | None,
    typer.Option(
        help="BY, NC, SA, ND or AGREEMENT; may be repeated. Known of SPDX licences; with "
        "LicenseRef-NAME say them, or none."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="float32 or bfloat16; auto takes what the device is fast in.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        envvar="CLNET_RAY",
        metavar="ADDRESS",
        help="Ray cluster to use; a local Ray is started by default.",
    ),
]

DEFAULT_WORKSPACE = Path("clnet-workspace")


def folder_to_write(option: typer.CallbackParam, folder: Path | None) -> Path | None:
    """Callback of an option: refuses a folder that nothing can be written to, before the work.

    Raises:
        InputError: names the option.
    """
    return _checked(option, folder, check_folder)


def file_to_write(option: typer.CallbackParam, file: Path | None) -> Path | None:
    """Callback of an option: refuses a file that cannot be written, before the work.

    Raises:
        InputError: names the option.
    """
    return _checked(option, file, check_file)


def _checked(
    option: typer.CallbackParam, path: Path | None, check: Callable[[Path], None]
) -> Path | None:
    if path is not None:
        try:
            check(path)
        except InputError as error:
            raise InputError(f"{option.opts[0]} {error}") from None
    return path


AcceptOption = Annotated[
    list[str] | None,
    typer.Option("--accept", metavar="CODE", help="Overrule a finding (orientation.mirrored ...)."),
]

ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="DIR",
        callback=folder_to_write,
        help="Write report.json and report.html, with pictures.",
    ),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the passphrase of the private key."),
]


def open_hub(workspace: Path, ray: str | None = None) -> Hub:
    """The hub of a workspace.

    Raises:
        AccessDenied: a site's token is set, which opens datasets alone.
    """
    from clnet.hub import connect
    from clnet.settings import Settings

    if Settings().site_token() is not None:
        raise AccessDenied(
            "a site's token opens `clnet datasets` alone; unset CLNET_TOKEN and CLNET_TOKEN_FILE "
            "to act for the hub"
        )
    return connect(workspace, ray=ray)


def open_datasets(workspace: Path, ray: str | None = None) -> Datasets:
    """The datasets of a workspace: a site's own, where its token is set."""
    from clnet.hub import connect
    from clnet.settings import Settings

    token = Settings().site_token()
    if token is None:
        return connect(workspace, ray=ray).datasets
    return connect(workspace, token=token).datasets


def passphrase_in(file: Path | None) -> str | None:
    """The passphrase that a file holds.

    Raises:
        InputError: the file cannot be read.
    """
    return None if file is None else text_in("--passphrase-file", file)


def text_in(option: str, file: Path) -> str:
    """A secret that a file holds, without the end of its line.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {file}: {error}") from None
