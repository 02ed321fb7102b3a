"""nnU-Net v2 raw: channels and names in ``dataset.json``, one file per case and channel."""

from __future__ import annotations

import re
from pathlib import Path

from clnet.data_catalog.source import CaseSource, as_labels, stem
from clnet.data_catalog.sources.dataset_json import ct_channel, label_names, read_dataset_json
from clnet.data_catalog.sources.folder import SourceFolder
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
    images: dict[str, Path] = {}
    for path in _files(folder / "imagesTr"):
        found = _CHANNEL.fullmatch(stem(path) or "")
        if found is None:
            raise CaseRejected(str(path), "id", "nnU-Net's names end in the channel: ID_0000")
        if int(found[2]) == channel:
            images[found[1]] = path
    labels = {stem(path) or "": path for path in _files(folder / "labelsTr")}
    for case_id in sorted(labels.keys() ^ images.keys()):
        if case_id in labels:
            raise CaseRejected(str(labels[case_id]), "image", f"no {case_id}_{channel:04d} beside")
        raise CaseRejected(str(images[case_id]), "labels", f"no label map in {folder / 'labelsTr'}")
    return SourceFolder(
        cases=[CaseSource(i, images[i], as_labels(labels[i])) for i in sorted(images)],
        names={label: own for label, own in names.items() if label not in unknown},
        unknown=unknown,
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; nnU-Net's raw data has it")
    return sorted(path for path in folder.iterdir() if path.is_file() and stem(path) is not None)
