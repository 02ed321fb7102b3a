"""Patches of contributed datasets for a training of one's own: a torch Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from clnet.anatomy.vocabulary import vocabulary
from clnet.data_catalog import DatasetPin, PatchStream, PlanStore, StreamSpec
from clnet.data_catalog.target import class_map, layer_of
from clnet.errors import InputError

__all__ = ["PatchDataset", "patch_dataset"]


class PatchDataset(Dataset[dict[str, Any]]):
    """Patches by number, each a pure function of its number; workers may share them.

    An item is ``image`` (float32, ``(1, Z, Y, X)``, normalised as the plan says), ``target``
    (int64, ``(Z, Y, X)``: 0 for background, then one class per anatomy, 255 where the labels do
    not tell: ``ignore_index`` of a loss) and ``case``.

    Args:
        stream: where patches come from, one at a time.
        anatomies: classes 1, 2, ... of the target; of one layer.
        length: patches in an epoch.

    Attributes:
        epoch: which patches the numbers mean; raise it to see others, before workers start.

    Raises:
        InputError: anatomies of several layers, or a length below 1.
    """

    def __init__(self, stream: PatchStream, anatomies: Sequence[str], length: int) -> None:
        layer_of(anatomies)
        if length < 1:
            raise InputError(f"length {length}: an epoch has at least one patch")
        self.stream = stream
        self.anatomies = tuple(anatomies)
        self.length = length
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"patch {index} of {self.length}")
        (patch,) = self.stream.patches(self.epoch * self.length + index)
        target = torch.from_numpy(class_map(patch, self.anatomies))
        image = torch.from_numpy(patch.image)
        return {"image": image[None], "target": target.long(), "case": patch.case}


def patch_dataset(
    stores: Sequence[PlanStore],
    anatomies: Sequence[str],
    patch_size: tuple[int, int, int],
    *,
    length: int,
    foreground: float,
    split: Literal["train", "val"],
    val_fraction: float,
    seed: int,
) -> PatchDataset:
    """Patches of all `stores`, of which a share of `foreground` centres on `anatomies`."""
    names = [vocabulary().resolve(name) for name in anatomies]
    layer_of(names)  # before a stream looks for them
    spec = StreamSpec(
        datasets=tuple(
            DatasetPin(ref=store.dataset.ref, sha256=store.dataset.sha256) for store in stores
        ),
        plan_sha256=stores[0].plan_sha256,
        patch_size=patch_size,
        batch_size=1,
        focus=tuple(sorted(leaf for name in names for leaf in vocabulary().leaves(name))),
        foreground=(foreground, foreground),
        total=length,
        seed=seed,
        split=split,
        val_fraction=val_fraction,
        augment=False,
    )
    return PatchDataset(PatchStream(stores, spec), names, length)
