"""Medical Segmentation Decathlon (and nnU-Net v1): ``"labels": {"0": "background", ...}``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clnet.data_catalog.sources.dataset_json import ct_channel, label_names, read_dataset_json
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.formats import images_labels
from clnet.errors import InputError

LOOKS_FOR = "dataset.json with modality and labels, imagesTr/ID.nii.gz and labelsTr/ID.nii.gz"


def detect(folder: Path) -> bool:
    """Whether ``dataset.json`` has the Decathlon's ``modality``."""
    try:
        about = read_dataset_json(folder)
    except InputError:
        return False
    return "modality" in about and "channel_names" not in about


def cases(folder: Path) -> SourceFolder:
    """The training cases. Paths written in ``dataset.json`` are not followed.

    Raises:
        InputError: several channels a case: such files are four-dimensional.
    """
    about = read_dataset_json(folder)
    modality = about.get("modality")
    if ct_channel(about, "modality", folder) != 0 or (
        isinstance(modality, dict) and len(modality) > 1
    ):
        raise InputError(f"{folder}: several channels in one file; give the CT alone")
    return replace(images_labels.cases(folder), names=label_names(about.get("labels"), folder))
