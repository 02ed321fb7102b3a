"""Systems that keep a scan for training: each writes it once, then gives boxes of it.

A reader gives an image, float32, and labels of a box ``(z, y, x)``, both in memory. Ready ones
are normalised as the plan says; raw ones are HU.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from data_volume import LOBES, SPACING

from clnet.data_catalog import CaseSource, Catalog, DatasetPin, PatchStream, StreamSpec, Terms

__all__ = ["PLAN", "SYSTEMS", "System", "nnunet_preprocess", "serve", "store_bytes"]

Read = Callable[[tuple[slice, ...]], tuple[Any, Any]]

PLAN: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": list(SPACING),
    "clip": [-995.0, 1265.0],
    "mean": -187.85,
    "std": 490.7,
}
NAME = "bench/scan"


@dataclass(frozen=True, slots=True)
class System:
    """A way to keep a scan.

    Attributes:
        name: for people.
        write: given its folder, the folder of the ``.nii.gz`` and the patch's edge; leaves
            everything that it keeps in its folder.
        open: given both folders and the patch's edge, gives what reads a box.
        ready: normalised for training rather than raw.
        needs: package that must be installed.
    """

    name: str
    write: Callable[[Path, Path, int], None]
    open: Callable[[Path, Path, int], Read]
    ready: bool = True
    needs: str = "numpy"

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return find_spec(self.needs) is not None


def plan(edge: int) -> dict[str, Any]:
    """The plan with its patch size."""
    return PLAN | {"patch_size": [edge] * 3}


def contribute(catalog: Catalog, source: Path) -> None:
    """Ingest the scan with its labels."""
    case = CaseSource("scan", source / "image.nii.gz", source / "labels.nii.gz")
    catalog.contribute(NAME, [case], LOBES, Terms(licence="CC0-1.0"))


def _write_clnet(folder: Path, source: Path, edge: int) -> None:
    catalog = Catalog(folder / "datasets")
    contribute(catalog, source)
    catalog.plan_store(catalog.get(NAME), plan(edge))


def _open_clnet(folder: Path, source: Path, edge: int) -> Read:
    return plan_reader(Catalog(folder / "datasets"), edge)


def plan_reader(catalog: Catalog, edge: int) -> Read:
    """Boxes of the plan store of a catalog, wherever its datasets are."""
    case = catalog.plan_store(catalog.get(NAME), plan(edge)).open("scan")
    return lambda box: (case.image.read(box), case.maps(box))


def _open_stream(folder: Path, source: Path, edge: int) -> Read:
    """Whole patches as training draws them; the box is only counted."""
    catalog = Catalog(folder / "datasets")
    dataset = catalog.get(NAME)
    store = catalog.plan_store(dataset, plan(edge))
    spec = StreamSpec(
        datasets=(DatasetPin(ref=dataset.ref, sha256=dataset.sha256),),
        plan_sha256=store.plan_sha256,
        patch_size=(edge, edge, edge),
        batch_size=1,
        total=1000,
    )
    stream = PatchStream([store], spec)

    def read(box: tuple[slice, ...]) -> tuple[Any, Any]:
        (patch,) = stream.patches(sum(part.start for part in box))
        return patch.image, patch.labels

    return read


def _open_case(folder: Path, source: Path, edge: int) -> Read:
    import zarr

    (group,) = (folder / "datasets" / NAME).glob("*/cases/*")
    image = zarr.open_array(group / "ct", mode="r")
    labels = zarr.open_array(group / "labels" / "organ" / "0", mode="r")
    return lambda box: (image[box], labels[box])


def _open_case_zarrs(folder: Path, source: Path, edge: int) -> Read:
    import zarr

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return _open_case(folder, source, edge)


def _nothing(folder: Path, source: Path, edge: int) -> None:
    folder.mkdir(exist_ok=True)


def nnunet_preprocess(folder: Path, source: Path, edge: int) -> None:
    """nnU-Net's own preprocessing of the scan, from file to file."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder.mkdir(parents=True, exist_ok=True)
    plans = PlansManager(_nnunet_plans(edge))
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {name: value for value, name in LOBES.items()},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about its own dependencies
        DefaultPreprocessor(verbose=False).run_case_save(
            str(folder / "scan"),
            [str(source / "image.nii.gz")],
            str(source / "labels.nii.gz"),
            plans,
            plans.get_configuration("3d_fullres"),
            dataset,
        )


def _nnunet_plans(edge: int) -> dict[str, Any]:
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset900_Bench",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "mean": PLAN["mean"],
                "std": PLAN["std"],
                "percentile_00_5": PLAN["clip"][0],
                "percentile_99_5": PLAN["clip"][1],
            }
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [edge] * 3,
                "spacing": PLAN["spacing"],
                "architecture": {
                    "network_class_name": "PlainConvUNet",
                    "arch_kwargs": {},
                    "_kw_requires_import": [],
                },
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, **resampling, "order": 1},
            }
        },
    }


def _open_nnunet(folder: Path, source: Path, edge: int) -> Read:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    image, labels, _, _ = nnUNetDatasetBlosc2(str(folder), ["scan"]).load_case("scan")
    return lambda box: (image[(slice(None), *box)], labels[(slice(None), *box)])


def _hu(source: Path) -> tuple[Any, Any]:
    """Lazy images of the files, ``(x, y, z)``."""
    import nibabel as nib

    return nib.load(source / "image.nii.gz").dataobj, nib.load(source / "labels.nii.gz").dataobj


def _normalised(hu: Any) -> Any:
    values = np.clip(hu, *PLAN["clip"]).astype(np.float32)
    values -= PLAN["mean"]
    values /= PLAN["std"]
    return values


def _open_nifti(folder: Path, source: Path, edge: int) -> Read:
    def read(box: tuple[slice, ...]) -> tuple[Any, Any]:
        image, labels = _hu(source)
        return np.asarray(image[box[::-1]]).T, np.asarray(labels[box[::-1]]).T

    return read


def _open_nifti_ready(folder: Path, source: Path, edge: int) -> Read:
    raw = _open_nifti(folder, source, edge)

    def read(box: tuple[slice, ...]) -> tuple[Any, Any]:
        image, labels = raw(box)
        return _normalised(image), labels

    return read


def _write_memmap(folder: Path, source: Path, edge: int) -> None:
    folder.mkdir()
    image, labels = _hu(source)
    np.save(folder / "image.npy", np.ascontiguousarray(np.asarray(image).T, dtype=np.int16))
    np.save(folder / "labels.npy", np.ascontiguousarray(np.asarray(labels).T, dtype=np.uint8))


def _open_memmap(folder: Path, source: Path, edge: int) -> Read:
    image = np.load(folder / "image.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    return lambda box: (np.array(image[box]), np.array(labels[box]))


def _open_memmap_ready(folder: Path, source: Path, edge: int) -> Read:
    image = np.load(folder / "image.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    return lambda box: (_normalised(image[box]), np.array(labels[box]))


def _persistent(folder: Path, source: Path, edge: int) -> Any:
    from monai.data import PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandSpatialCropd,
        ScaleIntensityRanged,
    )

    low, high = PLAN["clip"]
    mean, std = PLAN["mean"], PLAN["std"]
    keys = ["image", "labels"]
    transform = Compose(
        [
            LoadImaged(keys, image_only=True),
            EnsureChannelFirstd(keys),
            ScaleIntensityRanged(
                ["image"], low, high, (low - mean) / std, (high - mean) / std, clip=True
            ),
            RandSpatialCropd(keys, [edge] * 3, random_size=False),
        ]
    )
    files = {"image": str(source / "image.nii.gz"), "labels": str(source / "labels.nii.gz")}
    return PersistentDataset([files], transform, cache_dir=folder)


def _write_persistent(folder: Path, source: Path, edge: int) -> None:
    _persistent(folder, source, edge)[0]


def _open_persistent(folder: Path, source: Path, edge: int) -> Read:
    dataset = _persistent(folder, source, edge)

    def read(box: tuple[slice, ...]) -> tuple[Any, Any]:
        patch = dataset[0]
        return np.asarray(patch["image"]), np.asarray(patch["labels"])

    return read


SYSTEMS = {
    "nnunet": System("nnU-Net blosc2", nnunet_preprocess, _open_nnunet, needs="nnunetv2"),
    "clnet": System("plan store", _write_clnet, _open_clnet),
    "stream": System("plan store, whole sampling", _nothing, _open_stream),
    "memmap": System("npy memory map", _write_memmap, _open_memmap_ready),
    "monai": System("MONAI PersistentDataset", _write_persistent, _open_persistent, needs="monai"),
    "nifti": System("nii.gz", _nothing, _open_nifti_ready),
    "raw-clnet": System("case, zarr", _nothing, _open_case, ready=False),
    "raw-zarrs": System("case, zarrs", _nothing, _open_case_zarrs, ready=False, needs="zarrs"),
    "raw-memmap": System("npy memory map", _nothing, _open_memmap, ready=False),
    "raw-nifti": System("nii.gz", _nothing, _open_nifti, ready=False),
}
KEPT_BY = {
    "stream": "clnet",
    "raw-clnet": "clnet",
    "raw-zarrs": "clnet",
    "raw-memmap": "memmap",
    "raw-nifti": "nifti",
}
"""Systems that read what another one wrote."""


def store_bytes(folder: Path) -> int:
    """Bytes of all files of a folder, or of a file."""
    files = folder.rglob("*") if folder.is_dir() else [folder]
    return sum(path.stat().st_size for path in files if path.is_file())


def serve(key: str, place: str, edge: int, shape: tuple[int, ...], pipe: Connection) -> None:
    """Read random boxes when told to: a process of its own for each reader.

    Takes ``(seed, seconds)`` and gives ``(patches, seconds)``; ends at None.
    """
    folder, source = Path(place) / KEPT_BY.get(key, key), Path(place)
    read = SYSTEMS[key].open(folder, source, edge)
    _patches(read, edge, shape, 0, 0.0)
    pipe.send("ready")
    while (told := pipe.recv()) is not None:
        pipe.send(_patches(read, edge, shape, *told))


def _patches(
    read: Read, edge: int, shape: tuple[int, ...], seed: int, seconds: float
) -> tuple[int, float]:
    rng = np.random.default_rng(seed)
    began, count = time.perf_counter(), 0
    while True:
        box = []
        for size in shape:
            start = int(rng.integers(0, size - edge + 1))
            box.append(slice(start, start + edge))
        image, _ = read(tuple(box))
        assert image.shape[-3:] == (edge,) * 3
        count += 1
        if (taken := time.perf_counter() - began) >= seconds:
            return count, taken
