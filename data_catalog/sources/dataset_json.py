"""``dataset.json`` of nnU-Net and the Medical Segmentation Decathlon: channels and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clnet.errors import InputError

__all__ = ["ct_channel", "label_names", "read_dataset_json", "whole_number"]

NAME = "dataset.json"
MAX_BYTES = 64 * 1024**2


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """The file as a table.

    Raises:
        InputError: not there, too large, or no JSON object.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES // 1024**2} MiB; not a dataset.json")
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid JSON ({error})") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: a JSON object is expected")
    return about


def ct_channel(about: dict[str, Any], key: str, folder: Path) -> int:
    """Which channel of the images is the CT.

    Raises:
        InputError: several channels, of which none or several are a CT.
    """
    channels = about.get(key)
    if not isinstance(channels, dict) or not channels:
        raise InputError(f"{folder / NAME}: {key}: a table from channel number to name is expected")
    names = {whole_number(number, folder, key): str(name) for number, name in channels.items()}
    if len(names) == 1:
        return next(iter(names))
    ct = [number for number, name in names.items() if name.strip().upper() == "CT"]
    if len(ct) != 1:
        raise InputError(
            f"{folder / NAME}: {key}: {len(names)} channels ({', '.join(names.values())}), of "
            f"which {len(ct)} are named CT; one is expected"
        )
    return ct[0]


def label_names(labels: Any, folder: Path) -> dict[int, tuple[str, ...]]:
    """Label id to its names, background left out; of either ``name: id`` or ``id: name``.

    In nnU-Net's form a name may stand for several ids, a region.

    Raises:
        InputError: neither form.
    """
    if not isinstance(labels, dict) or not labels:
        raise InputError(f"{folder / NAME}: labels: a table of names and ids is expected")
    found: dict[int, list[str]] = {}
    for key, value in labels.items():
        if isinstance(value, str):
            pairs = [(whole_number(key, folder, "labels"), value)]
        else:
            several = value if isinstance(value, list) else [value]
            pairs = [(whole_number(one, folder, "labels"), key) for one in several]
        for label, name in pairs:
            if label != 0:
                found.setdefault(label, []).append(name.strip())
    return {label: tuple(names) for label, names in sorted(found.items())}


def whole_number(value: Any, folder: Path, field: str) -> int:
    """`value` as a number from 0.

    Raises:
        InputError: it is none.
    """
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or len(text) > 5:
        raise InputError(f"{folder / NAME}: {field}: {value!r} is no number from 0 to 65535")
    return int(text)
