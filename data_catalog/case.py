"""One CT with its label maps, in a zarr v3 group, hashed array by array."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import LabelContract
from clnet.data_catalog.manifest import CaseRecord, content_sha256
from clnet.data_catalog.ome_zarr import LEVEL, image_metadata, label_metadata, labels_metadata
from clnet.errors import IntegrityError, NotFound
from clnet.storage import Hold, open_zarr_store

if TYPE_CHECKING:
    import zarr

__all__ = ["Case", "CaseContent", "describe_case", "write_case"]

SCHEMA = 1
CT = "ct"
LABELS = "labels"
CHUNK = 64
CHUNKS_PER_SHARD = 4


@dataclass(frozen=True, slots=True)
class CaseContent:
    """What a case holds, in memory, on its way into a store.

    Attributes:
        ct: int16 HU, ``(Z, Y, X)`` in LPS.
        labels: layer to uint8 label map, same shape.
        contract: what the label values mean.
        spacing: mm, ``(z, y, x)``.
        affine: ``(x, y, z, 1)`` indices of the canonical grid to RAS+ mm.
        axcodes: orientation of the source file.
    """

    ct: NDArray[np.int16]
    labels: Mapping[str, NDArray[np.uint8]]
    contract: LabelContract
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    axcodes: str

    def header(self) -> dict[str, Any]:
        """Everything but the voxels, JSON-able; stored as the group's attributes."""
        return {
            "schema": SCHEMA,
            "shape": list(self.ct.shape),
            "spacing": list(self.spacing),
            "affine": self.affine.tolist(),
            "axcodes": self.axcodes,
            "contract": self.contract.to_json(),
        }


class Case:
    """A stored case; voxels are read when asked for.

    Attributes:
        record: the manifest's line about it.
        folder: the zarr group.
        held: a lock that keeps it where it is for as long as this object lives.
    """

    def __init__(self, record: CaseRecord, folder: Path, held: Hold | None = None) -> None:
        self.record = record
        self.folder = folder
        self.held = held
        self._group = _open(folder, record.id)
        self._header = cast("dict[str, Any]", self._group.attrs.asdict().get("clnet", {}))
        if _case_sha256(self._header, record.arrays) != record.sha256:
            raise IntegrityError(
                f"case {record.id} in {folder}: geometry or label contract changed since it "
                "was contributed; restore the dataset from a backup or contribute it again"
            )

    def __repr__(self) -> str:
        return f"Case({self.id!r}, shape={self.record.shape}, layers={self.layers})"

    @property
    def id(self) -> str:
        """Its name within the dataset."""
        return self.record.id

    @property
    def sha256(self) -> str:
        """Hash of voxels, labels, contract and geometry."""
        return self.record.sha256

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm, ``(z, y, x)``."""
        return self.record.spacing

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels, ``(z, y, x)``."""
        return self.record.shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """``(x, y, z, 1)`` indices of the canonical grid to RAS+ mm."""
        return np.array(self._header["affine"], dtype=np.float64)

    @property
    def axcodes(self) -> str:
        """Orientation of the file that was contributed, such as ``RAS``."""
        return str(self._header["axcodes"])

    @property
    def contract(self) -> LabelContract:
        """What the label values mean; what it does not name is unknown."""
        return LabelContract.from_json(self._header["contract"])

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers with a label map, sorted."""
        return self.contract.layers

    def ct(self) -> NDArray[np.int16]:
        """The scan in HU, int16, ``(Z, Y, X)``."""
        return np.asarray(self._array(CT)[:], dtype=np.int16)

    def labels(self, layer: str) -> NDArray[np.uint8]:
        """The label map of one layer, uint8, ``(Z, Y, X)``.

        Raises:
            NotFound: the case has no map in that layer.
        """
        if layer not in self.layers:
            raise NotFound(
                f"case {self.id}: no labels in layer {layer!r}; it has {', '.join(self.layers)}"
            )
        return np.asarray(self._array(f"{LABELS}/{layer}")[:], dtype=np.uint8)

    def verify(self) -> None:
        """Read every voxel and compare with the manifest.

        Raises:
            IntegrityError: an array is gone, unreadable or not what was contributed.
        """
        for path, expected in self.record.arrays.items():
            try:
                found = _sha256_of(self._slabs(path))
            except Exception as error:  # a damaged shard raises from deep inside its codec
                raise IntegrityError(f"case {self.id}: {path}: unreadable ({error})") from error
            if found != expected:
                raise IntegrityError(
                    f"case {self.id}: {path}: voxels hash to {found}, the manifest says "
                    f"{expected}; restore the dataset from a backup"
                )

    def slabs(self) -> Iterator[tuple[NDArray[np.int16], dict[str, NDArray[np.uint8]]]]:
        """The scan and its label maps by layer, some slices at a time, from the feet up."""
        layers = self.layers
        maps = [self._slabs(f"{LABELS}/{layer}") for layer in layers]
        for ct, *labels in zip(self._slabs(CT), *maps, strict=True):
            yield ct, dict(zip(layers, labels, strict=True))

    def _slabs(self, path: str) -> Iterator[NDArray[Any]]:
        array = self._array(path)
        for first in range(0, array.shape[0], CHUNK):
            yield np.asarray(array[first : first + CHUNK])

    def _array(self, path: str) -> zarr.Array[Any]:
        import zarr

        array = self._group[path]
        if isinstance(array, zarr.Group):
            array = array[LEVEL]
        assert isinstance(array, zarr.Array)
        return array


def write_case(folder: Path, case_id: str, content: CaseContent) -> CaseRecord:
    """Store `content` as a new zarr group, an OME-Zarr image, and return its manifest line.

    Every shard is written by one assignment, so it has one writer: concurrent writes to parts
    of a shard lose data.
    """
    import zarr

    spacing, affine, contract = content.spacing, content.affine, content.contract
    attributes = {
        "clnet": content.header(),
        "ome": image_metadata(case_id, CT, spacing, affine),
    }
    store = open_zarr_store(folder)
    group = zarr.create_group(store, zarr_format=3, attributes=attributes)
    if contract.layers:
        group.create_group(LABELS, attributes={"ome": labels_metadata(contract)})
    (path, voxels), *maps = _arrays(content)
    _write_array(group, path, voxels)
    for layer, (path, voxels) in zip(contract.layers, maps, strict=True):
        ome = label_metadata(layer, contract, spacing, affine)
        _write_array(group.create_group(path, attributes={"ome": ome}), LEVEL, voxels)
    return describe_case(case_id, content)


def describe_case(case_id: str, content: CaseContent) -> CaseRecord:
    """The manifest line that `content` has, stored or not."""
    hashes = {path: _sha256_of([voxels]) for path, voxels in _arrays(content)}
    z, y, x = content.ct.shape
    return CaseRecord(
        id=case_id,
        sha256=_case_sha256(content.header(), hashes),
        arrays=hashes,
        shape=(z, y, x),
        spacing=content.spacing,
    )


def _arrays(content: CaseContent) -> Iterator[tuple[str, NDArray[Any]]]:
    yield CT, np.ascontiguousarray(content.ct, dtype=np.int16)
    for layer in content.contract.layers:
        yield f"{LABELS}/{layer}", np.ascontiguousarray(content.labels[layer], dtype=np.uint8)


def _write_array(group: zarr.Group, path: str, voxels: NDArray[Any]) -> None:
    from zarr.codecs import BloscCodec, BloscShuffle

    chunks = tuple(min(CHUNK, size) for size in voxels.shape)
    shards = tuple(
        chunk * min(CHUNKS_PER_SHARD, -(-size // chunk))
        for chunk, size in zip(chunks, voxels.shape, strict=True)
    )
    array = group.create_array(
        path,
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle),
        dimension_names=("z", "y", "x"),
    )
    # shard by shard: zarr would hold many of a large scan at once
    starts = (range(0, size, shard) for size, shard in zip(voxels.shape, shards, strict=True))
    for corner in product(*starts):
        part = tuple(slice(a, a + shard) for a, shard in zip(corner, shards, strict=True))
        array[part] = voxels[part]


def _open(folder: Path, case_id: str) -> zarr.Group:
    import zarr

    try:
        return zarr.open_group(open_zarr_store(folder, read_only=True), mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError) as error:
        raise IntegrityError(
            f"case {case_id}: its store {folder} is gone or damaged ({error}); "
            "restore the dataset from a backup"
        ) from None


def _case_sha256(header: dict[str, Any], arrays: dict[str, str]) -> str:
    return content_sha256({"header": header, "arrays": arrays})


def _sha256_of(slabs: Iterable[NDArray[Any]]) -> str:
    """Hash of an array that is given in parts along its first axis."""
    found = hashlib.sha256()
    for voxels in slabs:
        little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
        found.update(np.ascontiguousarray(little).data)
    return found.hexdigest()
