"""Result folders of nnU-Net v2: written in its format, or trained by the package itself."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import nn

LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidney_right": 3}
CONV = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
ARCHITECTURES = {
    "PlainConvUNet": {"n_conv_per_stage": [1, 2, 1]},
    "ResidualEncoderUNet": {"n_blocks_per_stage": [1, 2, 1]},
}


def tiny_architecture(name: str = "PlainConvUNet") -> dict[str, Any]:
    """Three stages, the first of which keeps the first axis."""
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [6, 8, 12],
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage_decoder": [1, 1],
            **ARCHITECTURES[name],
            **CONV,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def tiny_plans(**changes: Any) -> dict[str, Any]:
    """Plans of a 3d_fullres configuration with a tiny network; `changes` are of the top level."""
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 20, 24],
        "median_image_size_in_voxels": [40.0, 40.0, 40.0],
        "spacing": [6.0, 5.0, 5.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, **resampling, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **resampling, "order": 1},
        "architecture": tiny_architecture(),
        "batch_dice": False,
    }
    intensity = {
        "max": 400.0,
        "mean": 60.0,
        "median": 62.0,
        "min": -100.0,
        "percentile_00_5": -120.0,
        "percentile_99_5": 300.0,
        "std": 45.0,
    }
    return {
        "dataset_name": "Dataset901_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [6.0, 5.0, 5.0],
        "original_median_shape_after_transp": [40, 40, 40],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensity},
        **changes,
    }


def configured(plans: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """`plans` with changes to its 3d_fullres configuration."""
    changed = copy.deepcopy(dict(plans))
    changed["configurations"]["3d_fullres"] |= changes
    return changed


def tiny_dataset(labels: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """dataset.json of a CT dataset."""
    return {
        "channel_names": {"0": "CT"},
        "labels": dict(LABELS if labels is None else labels),
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }


def outputs_of(dataset: Mapping[str, Any]) -> int:
    """Channels of a network for this dataset."""
    names = [n for n in dataset["labels"] if n != "ignore"]
    regions = any(isinstance(v, list) for v in dataset["labels"].values())
    return len(names) - (1 if regions else 0)


def build_network(plans: Mapping[str, Any], classes: int, seed: int = 0) -> nn.Module:
    """The network as the package's own classes make it, its last layers turned up."""
    from dynamic_network_architectures.architectures import unet

    described = plans["configurations"]["3d_fullres"]["architecture"]
    kwargs = dict(described["arch_kwargs"])
    kwargs |= {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    kind = getattr(unet, described["network_class_name"].rpartition(".")[2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = kind(
            input_channels=1, num_classes=classes, deep_supervision=True, **kwargs
        )
        for layer in network.decoder.seg_layers:
            nn.init.normal_(layer.weight, std=1.0)
    return network.eval()


def write_result(
    folder: Path,
    plans: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    *,
    fold: str = "0",
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """A result folder with an untrained network, in the form that nnU-Net gives its own."""
    plans, dataset = plans or tiny_plans(), dataset or tiny_dataset()
    target = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (target / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
    (target / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (target / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    checkpoint = {
        "network_weights": build_network(plans, outputs_of(dataset), seed).state_dict(),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "epoch_end_timestamps": [1.0]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"plans": dict(plans), "configuration": "3d_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **(extra or {}),
    }
    torch.save(checkpoint, target / f"fold_{fold}" / "checkpoint_final.pth")
    return target


@contextlib.contextmanager
def quiet_nnunet(root: Path) -> Iterator[None]:
    """nnU-Net prints, warns and reads its folders from the environment; kept from the tests."""
    import os

    names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "pre", "nnUNet_results": "results"}
    for name, sub in names.items():
        (root / sub).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(root / sub)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Prediction:
    """What nnU-Net itself makes of a scan.

    Attributes:
        image: preprocessed, on the network's grid.
        labels: its label map in nibabel's axis order.
        logits: of its sliding window, but summed in float32 instead of float16.
        exact_labels: its label map from these.
    """

    image: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    exact_labels: np.ndarray


def predict(
    result: Path, image: Path, root: Path, fold: str = "0", *, mirror: bool = False
) -> Prediction:
    """Run the package's own predictor on the CPU, with mirroring if asked."""
    with quiet_nnunet(root):
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape as export,
        )
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            use_mirroring=mirror,
            device=torch.device("cpu"),
            perform_everything_on_device=False,
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(str(result), (fold,))
        configuration = predictor.configuration_manager
        data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
            [str(image)], None, predictor.plans_manager, configuration, predictor.dataset_json
        )
        halves = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
        logits = _float32_logits(predictor, torch.from_numpy(data))
        # written and read again, for some readers turn a scan and their writers turn it back
        writer, written = predictor.plans_manager.image_reader_writer_class(), root / "found.nii.gz"
        maps = []
        for own in (halves, logits):
            labels = export(
                own.clone(),
                predictor.plans_manager,
                configuration,
                predictor.label_manager,
                properties,
                num_threads_torch=1,
            )
            writer.write_seg(np.asarray(labels), str(written), properties)
            maps.append(np.array(nibabel.load(written).dataobj))
    return Prediction(np.asarray(data)[0], maps[0], logits.numpy(), maps[1])


@torch.inference_mode()
def _float32_logits(predictor: Any, data: torch.Tensor) -> torch.Tensor:
    """nnU-Net's sliding window by its own parts, but summed in float32."""
    from acvl_utils.cropping_and_padding.padding import pad_nd_image
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    size = tuple(predictor.configuration_manager.patch_size)
    padded, inner = pad_nd_image(data, size, "constant", {"value": 0}, return_slicer=True)
    weights = compute_gaussian(size, 1 / 8, 10, torch.float32, torch.device("cpu"))
    total = torch.zeros(padded.shape[1:])
    sums: torch.Tensor | float = 0.0
    for place in predictor._internal_get_sliding_window_slicers(padded.shape[1:]):
        seen = predictor._internal_maybe_mirror_and_predict(padded[place][None])[0] * weights
        if isinstance(sums, float):
            sums = torch.zeros((len(seen), *total.shape))
        sums[place] += seen
        total[place[1:]] += weights
    assert isinstance(sums, torch.Tensor)
    return (sums / total)[(slice(None), *inner[1:])].clone()


def write_training_data(
    root: Path, cases: Mapping[str, tuple[Path, Path]], plans: Mapping[str, Any]
) -> None:
    """Preprocess cases (image, labels) with nnU-Net's own preprocessor, in this process."""
    with quiet_nnunet(root):
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(copy.deepcopy(dict(plans)))
        configuration = manager.get_configuration("3d_fullres")
        base = root / "pre" / manager.dataset_name
        target = base / configuration.data_identifier
        target.mkdir(parents=True, exist_ok=True)
        (base / "dataset_fingerprint.json").write_text("{}", encoding="utf-8")
        for name, (image, labels) in cases.items():
            DefaultPreprocessor(verbose=False).run_case_save(
                str(target / name),
                [str(image)],
                str(labels),
                manager,
                configuration,
                tiny_dataset(),
            )


def train(root: Path, plans: Mapping[str, Any], iterations: int) -> Path:
    """Train with nnU-Net's own trainer on what :func:`write_training_data` wrote."""
    import os

    with quiet_nnunet(root):
        os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "false"}
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        torch.manual_seed(0)
        np.random.seed(0)
        trainer = nnUNetTrainer(
            {**copy.deepcopy(dict(plans)), "continue_training": False},
            "3d_fullres",
            "all",
            tiny_dataset(),
            device=torch.device("cpu"),
        )
        trainer.num_epochs, trainer.num_iterations_per_epoch = 1, iterations
        trainer.num_val_iterations_per_epoch, trainer.initial_lr = 1, 0.02
        trainer.run_training()
        return Path(trainer.output_folder_base)
