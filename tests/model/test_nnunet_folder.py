"""Result folders: what cannot be imported is refused clearly, and nothing in them is run."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("dynamic_network_architectures")

from nnunet_reference import configured, tiny_dataset, tiny_plans, write_result

from clnet.errors import (
    ContractError,
    Incompatible,
    InputError,
    IntegrityError,
    NotFound,
    UnknownAnatomy,
)
from clnet.model.nnunet.folder import read_result_folder
from clnet.model.outputs import ignored_channels

GROUP = "imported/tiny"


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")


def checkpoint(folder: Path) -> Path:
    return folder / "fold_0" / "checkpoint_final.pth"


def resave(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = torch.load(checkpoint(folder), weights_only=False)
    change(content)
    torch.save(content, checkpoint(folder))


def test_plan_and_channels_are_those_of_the_folder(tmp_path: Path) -> None:
    network = read_result_folder(write_result(tmp_path), GROUP)
    assert network.plan.spacing == (6.0, 5.0, 5.0)
    assert network.plan.patch_size == (16, 20, 24)
    assert (network.plan.clip, network.plan.mean) == ((-120.0, 300.0), 60.0)
    assert network.plan.orientation == "as stored"
    assert network.learned == ("kidney_right", "liver", "spleen")
    assert [c.name for c in network.decoder.config.channels] == ["liver", "spleen", "kidney_right"]
    assert network.facts["configuration"] == "3d_fullres"


def test_a_reader_that_turns_scans_is_obeyed(tmp_path: Path) -> None:
    for reader in ("NibabelIOWithReorient", "SimpleITKIOWithReorient"):
        plans = tiny_plans(image_reader_writer=reader)
        assert read_result_folder(write_result(tmp_path, plans), GROUP).plan.orientation == "RAS"
    told = read_result_folder(write_result(tmp_path), GROUP, orientation="LPI")
    assert told.plan.orientation == "LPI"


@pytest.mark.parametrize("reader", ["Tiff3DIO", "MyReaderWithReorient", None])
def test_readers_that_are_not_known_need_an_orientation(tmp_path: Path, reader: str | None) -> None:
    folder = write_result(tmp_path, tiny_plans(image_reader_writer=reader))
    with pytest.raises(Incompatible, match=r"image_reader_writer .*give orientation"):
        read_result_folder(folder, GROUP)
    for orientation in ("RAS", "as stored"):
        told = read_result_folder(folder, GROUP, orientation=orientation)
        assert told.plan.orientation == orientation


def test_axes_to_mirror_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    folder = write_result(tmp_path)
    assert read_result_folder(folder, GROUP).plan.mirror == (0, 1, 2)
    for allowed, kept in (([1, 0], (0, 1)), (None, ())):
        change = {"inference_allowed_mirroring_axes": allowed}
        resave(folder, lambda content, change=change: content.update(change))  # type: ignore[misc]
        assert read_result_folder(folder, GROUP).plan.mirror == kept
    resave(folder, lambda content: content.pop("inference_allowed_mirroring_axes"))
    assert read_result_folder(folder, GROUP).plan.mirror == ()
    for wrong in ((0, 3), "zyx", 1, ["0"]):
        change = {"inference_allowed_mirroring_axes": wrong}
        resave(folder, lambda content, change=change: content.update(change))  # type: ignore[misc]
        with pytest.raises(InputError, match="inference_allowed_mirroring_axes"):
            read_result_folder(folder, GROUP)


def test_plans_of_before_named_architectures_are_read(tmp_path: Path) -> None:
    folder = write_result(tmp_path)
    old = tiny_plans()
    chosen = old["configurations"]["3d_fullres"]
    kwargs = chosen.pop("architecture")["arch_kwargs"]
    chosen |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 6,
        "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }
    wider = configured(tiny_plans())
    described = wider["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    described["features_per_stage"] = [6, 12, 12]
    shutil.rmtree(folder)
    folder = write_result(tmp_path, wider)
    (folder / "plans.json").write_text(json.dumps(old), encoding="utf-8")
    assert read_result_folder(folder, GROUP).encoder.config.features == (6, 12, 12)


def test_a_configuration_that_inherits_is_resolved(tmp_path: Path) -> None:
    plans = tiny_plans()
    plans["configurations"]["3d_small"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]}
    folder = write_result(tmp_path, plans)
    resave(folder, lambda kept: kept["init_args"].update(configuration="3d_small"))
    assert read_result_folder(folder, GROUP).plan.patch_size == (8, 8, 8)


def test_the_ignore_label_is_no_channel(tmp_path: Path) -> None:
    dataset = tiny_dataset({"background": 0, "liver": 1, "ignore": 2})
    network = read_result_folder(write_result(tmp_path, None, dataset), GROUP)
    assert [c.name for c in network.decoder.config.channels] == ["liver"]


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_result(tmp_path)
    (folder / name).unlink()
    with pytest.raises(NotFound, match=Path(name).name):
        read_result_folder(folder, GROUP)


def test_the_fold_must_be_said_where_there_are_several(tmp_path: Path) -> None:
    write_result(tmp_path)
    folder = write_result(tmp_path, fold="all")
    with pytest.raises(NotFound, match="fold_0, fold_all"):
        read_result_folder(folder, GROUP)
    assert read_result_folder(folder, GROUP, fold="all").facts["fold"] == "fold_all"
    with pytest.raises(NotFound, match="fold_3"):
        read_result_folder(folder, GROUP, fold=3)
    with pytest.raises(InputError, match="number or all"):
        read_result_folder(folder, GROUP, fold="0/../..")
    with pytest.raises(InputError, match="name of a file"):
        read_result_folder(folder, GROUP, fold=0, checkpoint="../checkpoint_final.pth")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patch_size": [64, 64]}, "3D configuration"),
        ({"previous_stage": "3d_lowres"}, "cascade"),
        ({"normalization_schemes": ["RGBTo01Normalization"]}, "RGBTo01"),
        ({"resampling_fn_data": "no_resampling_hack"}, "not supported"),
        ({"resampling_fn_data": "resample_by_magic"}, "resample_by_magic"),
        ({"resampling_fn_data_kwargs": {"separate_z_anisotropy_threshold": 5}}, "not supported"),
        ({"resampling_fn_probabilities_kwargs": {"order": 0}}, "not supported"),
        ({"spacing": [1.0, 0.0, 1.0]}, "spacing"),
        ({"spacing": [float("nan"), 5.0, 5.0]}, "spacing"),
        ({"spacing": [float("inf"), 5.0, 5.0]}, "spacing"),
        ({"use_mask_for_norm": []}, "malformed"),
        ({"patch_size": ["a", 1, 1]}, "malformed"),
        ({"patch_size": [float("inf"), 1, 1]}, "malformed"),
        ({"patch_size": [15, 21, 23]}, r"patch_size \[15, 21, 23\]: multiples of \[2, 4, 4\]"),
    ],
)
def test_configurations_that_cannot_be_done_again_are_refused(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    folder = write_result(tmp_path)
    (folder / "plans.json").write_text(json.dumps(configured(tiny_plans(), **changes)), "utf-8")
    with pytest.raises(InputError, match=named):
        read_result_folder(folder, GROUP)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"transpose_forward": [0, 1]}, "malformed"),
        ({"transpose_forward": ["x", 1, 2]}, "malformed"),
        ({"configurations": ["3d_fullres"]}, "3d_fullres"),
        ({"foreground_intensity_properties_per_channel": {}}, "malformed"),
    ],
)
def test_malformed_plans_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    folder = write_result(tmp_path)
    rewrite(folder, "plans.json", **changes)
    with pytest.raises(InputError, match=named):
        read_result_folder(folder, GROUP)


@pytest.mark.parametrize("field", ["mean", "std", "percentile_00_5", "percentile_99_5"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much"])
def test_intensities_that_are_no_numbers_are_refused(
    tmp_path: Path, field: str, value: object
) -> None:
    plans = tiny_plans()
    plans["foreground_intensity_properties_per_channel"]["0"][field] = value
    folder = write_result(tmp_path)
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    with pytest.raises(InputError, match=r"intensity scheme|malformed"):
        read_result_folder(folder, GROUP)


def test_several_image_channels_are_refused(tmp_path: Path) -> None:
    folder = write_result(tmp_path)
    rewrite(folder, "dataset.json", channel_names={"0": "CT", "1": "PET"})
    with pytest.raises(Incompatible, match="2 image channels"):
        read_result_folder(folder, GROUP)


def test_unknown_labels_are_listed_together_and_a_mapping_resolves_them(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "Zyste": 2, "Milzchen": 3}
    folder = write_result(tmp_path, None, tiny_dataset(labels))
    with pytest.raises(UnknownAnatomy, match=r"2 of 3 labels.*Zyste, Milzchen"):
        read_result_folder(folder, GROUP)
    network = read_result_folder(folder, GROUP, mapping={"Zyste": "ignore", "Milzchen": "spleen"})
    assert network.learned == ("liver", "spleen")
    assert ignored_channels(network.decoder.config) == (2,)
    with pytest.raises(ContractError, match="several labels"):
        read_result_folder(folder, GROUP, mapping={"Zyste": "spleen", "Milzchen": "spleen"})
    with pytest.raises(ContractError, match="Leber"):
        read_result_folder(folder, GROUP, mapping={"Leber": "liver"})


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


def test_a_checkpoint_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_result(tmp_path)
    monkeypatch.chdir(tmp_path)
    resave(folder, lambda content: content.update(logging=_Runs()))
    with pytest.raises(IntegrityError, match=r"mkdir.*not loaded"):
        read_result_folder(folder, GROUP)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("kind", ["text", "truncated", "bomb", "other"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    path = checkpoint(write_result(tmp_path))
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(8 << 20))
    else:
        torch.save({"state_dict": {}, "epoch": np.int64(3)}, path)
    with pytest.raises((IntegrityError, InputError), match=r"checkpoint_final\.pth"):
        read_result_folder(path.parents[1], GROUP)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = write_result(tmp_path)
    rewrite(folder, "dataset.json", labels={"background": 0, "liver": 1})
    with pytest.raises(Incompatible, match="do not belong together"):
        read_result_folder(folder, GROUP)


def test_names_from_distributed_and_compiled_training_are_bared(tmp_path: Path) -> None:
    folder = write_result(tmp_path)

    def wrapped(content: dict[str, Any]) -> None:
        weights = content["network_weights"]
        content["network_weights"] = {f"module._orig_mod.{k}": v for k, v in weights.items()}

    resave(folder, wrapped)
    read_result_folder(folder, GROUP)
