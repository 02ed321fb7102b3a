"""nnU-Net v2 raw: channels and names in ``dataset.json``, one file per case and channel."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from clnet.data_catalog.source import image_files
from clnet.data_catalog.sources.dataset_json import ct_channel, label_names, read_dataset_json
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.pairing import Pairing
from clnet.errors import CaseRejected, InputError

LOOKS_FOR = "dataset.json with channel_names, imagesTr/ID_0000.nii.gz and labelsTr/ID.nii.gz"
IGNORE = "ignore"

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def detect(folder: Path) -> bool:
    """Whether ``dataset.json`` has nnU-Net v2's ``channel_names``."""
    try:
        return "channel_names" in read_dataset_json(folder)
    except InputError:
        return False


def cases(folder: Path) -> SourceFolder:
    """The training cases. Paths written in ``dataset.json`` are not followed.

    The label named ``ignore`` marks voxels that are unknown. Of several channels the one named
    CT is read.
    """
    about = read_dataset_json(folder)
    channel = ct_channel(about, "channel_names", folder)
    names = label_names(about.get("labels"), folder)
    unknown = frozenset(label for label, own in names.items() if IGNORE in own)
    found = Pairing(folder, LOOKS_FOR)
    for name, path in _files(folder / "imagesTr"):
        numbered = _CHANNEL.fullmatch(name)
        if numbered is None:
            told = "nnU-Net's names end in the channel: ID_0000"
            found.fault(name, CaseRejected(str(path), "id", told, "case.id"))
        elif int(numbered[2]) == channel:
            found.image(numbered[1], path)
    for name, path in _files(folder / "labelsTr"):
        found.label_map(name, path)
    return replace(
        found.cases(),
        names={label: own for label, own in names.items() if label not in unknown},
        unknown=unknown,
    )


def _files(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; nnU-Net's raw data has it")
    return image_files(folder)
