"""One case of the inference benchmark, in a process of its own: one system, one scan.

    python benchmarks/inference_case.py CASE.json

It loads the network, says ``ready``, waits for a line on its input, segments, and says what it
took. All systems run the same weights over the same windows, in float32 unless told otherwise.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Channel, Decoder, DecoderConfig, build_decoder
from clnet.model.encoder import Encoder, EncoderConfig, build_encoder, freeze
from clnet.model.inference import LoadedDecoder, SlidingWindow
from clnet.model.numerics import convolving
from clnet.model.plan import Plan
from clnet.model.segmentation import SegmentationModel

__all__ = ["NETWORKS", "main"]

CUBE = (2, 2, 2)
NETWORKS: dict[str, tuple[EncoderConfig, tuple[int, ...]]] = {
    # for curves of memory: the least that is still a U-Net of three scales
    "pocket": (
        EncoderConfig((4, 8, 16), ((1, 1, 1), CUBE, CUBE), ((3, 3, 3),) * 3, (1, 1, 1)),
        (4, 8),
    ),
    # for times: what the starter release has
    "small": (EncoderConfig(), (16, 16, 32, 48)),
    # the size of the paper's
    "paper": (
        EncoderConfig(
            (32, 64, 128, 256, 320, 320),
            ((1, 1, 1), (1, 2, 2), CUBE, CUBE, CUBE, CUBE),
            ((1, 3, 3), *((3, 3, 3),) * 5),
            (2,) * 6,
        ),
        (32, 64, 128, 256, 320),
    ),
}
"""Encoder, and widths of its decoders."""

ROUNDS = 8  # of which the fastest counts, as other work can only slow it down
SPACING = 1.5
BACKGROUND = 1.0  # added to its logit: most of a body is none of any task's anatomies


class Whole(nn.Module):
    """Encoder and decoder as one network that gives logits, as other systems want it."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, classes, Z, Y, X)``."""
        logits: Tensor = self.decoder(self.encoder(image))[0]
        return logits


def main(case: dict[str, Any]) -> None:
    """Run one case and print its figures as JSON."""
    torch.set_num_threads(case["threads"])
    systems = {"clnet": _clnet, "nnunet": _nnunet, "monai": _monai, "split": _split}
    run = systems[case["system"]](case)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        facts = run()
    taken = time.perf_counter() - began
    if torch.cuda.is_available():
        facts["device_memory"] = torch.cuda.max_memory_allocated()
    print(json.dumps({"seconds": taken, **facts}), flush=True)
    sys.stdin.readline()  # stay until memory was looked at


def _networks(case: dict[str, Any]) -> tuple[Encoder, list[Decoder]]:
    config, widths = NETWORKS[case["network"]]
    names = [a.id for a in vocabulary().predicted][: case["classes"] - 1]
    channels = tuple(Channel(name, (name,)) for name in names)
    made = []
    for index in range(case["decoders"]):
        shape = DecoderConfig(f"body/part-{index}", "organ", channels, widths, heads=1)
        decoder = build_decoder(shape, config, index).eval().requires_grad_(False)
        decoder.heads[0].bias[0] += BACKGROUND
        made.append(decoder.to(case["device"]))
    return freeze(build_encoder(config, 0)).to(case["device"]), made


def _plan(case: dict[str, Any]) -> Plan:
    return Plan((SPACING,) * 3, (case["patch"],) * 3)


def _clnet(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from clnet.data_catalog.hounsfield import as_hounsfield
    from clnet.data_catalog.volume import read_volume
    from clnet.model.scratch import Scratch

    encoder, decoders = _networks(case)
    loaded = [
        LoadedDecoder(
            f"{d.config.group}@1",
            d,
            DecoderInfo(
                d.config, "0" * 64, encoder.config, learned=tuple(c.name for c in d.config.channels)
            ),
            index,
            f"{index:064d}",
        )
        for index, d in enumerate(decoders)
    ]
    window = SlidingWindow(overlap=case["overlap"], precision=case["precision"])
    model = SegmentationModel(encoder, _plan(case), None, loaded, window=window)

    def run() -> dict[str, Any]:
        scratch = Scratch()
        volume = read_volume(Path(case["scan"]), allocate=scratch.zeros)
        hu = as_hounsfield(volume.voxels, case["scan"], scratch.zeros)
        found = model.segment(hu, volume.affine, memory_budget=case["budget"])
        return {
            "disk": found.effort.disk + scratch.bytes,
            "schedule": found.effort.schedule.describe(),
            "planned": found.effort.schedule.memory,
            "voxels": sum(int(r.size.voxels) for r in found.results.values()),
            "split": dict(found.effort.seconds),
        }

    return run


def _split(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Seconds of encoder and decoder alone, on one window."""
    encoder, decoders = _networks(case)
    device = torch.device(case["device"])
    window = torch.randn((1, 1, *(case["patch"],) * 3), device=device)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    @torch.inference_mode()
    def run() -> dict[str, Any]:
        encode, decode = [], []
        with convolving(case["precision"], device):
            for _ in range(ROUNDS):
                began = now()
                features = encoder(window)
                between = now()
                decoders[0].trunk(features)
                encode.append(between - began)
                decode.append(now() - between)
        return {"disk": 0, "encode": min(encode), "decode": min(decode)}

    return run


def _monai(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import nibabel as nib
    from monai.inferers import SlidingWindowInferer

    encoder, decoders = _networks(case)
    network, plan = Whole(encoder, decoders[0]).eval(), _plan(case)
    infer = SlidingWindowInferer(
        (case["patch"],) * 3,
        sw_batch_size=1,
        overlap=case["overlap"],
        mode="gaussian",
        sw_device=case["device"],
        device="cpu",
    )

    @torch.inference_mode()
    def run() -> dict[str, Any]:
        voxels = np.asarray(nib.load(case["scan"]).dataobj).transpose(2, 1, 0)
        image = torch.from_numpy(plan.normalise(np.ascontiguousarray(voxels)))
        labels = infer(image[None, None], network).argmax(dim=1)
        return {"disk": 0, "voxels": int((labels > 0).sum())}

    return run


def _nnunet(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    encoder, decoders = _networks(case)
    network = Whole(encoder, decoders[0]).eval()
    plans = PlansManager(_nnunet_plans(case))
    labels = {"background": 0} | {f"part {k}": k for k in range(1, case["classes"])}
    told = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii"}
    predictor = nnUNetPredictor(
        tile_step_size=1 - case["overlap"],
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=case["device"] != "cpu",
        device=torch.device(case["device"]),
        verbose=False,
        verbose_preprocessing=False,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("3d_fullres"),
        [network.state_dict()],
        told,
        "nnUNetTrainer",
        None,
    )

    def run() -> dict[str, Any]:
        image, facts = SimpleITKIO().read_images([case["scan"]])
        found = predictor.predict_single_npy_array(image, facts)
        return {"disk": 0, "voxels": int((found > 0).sum())}

    return run


def _nnunet_plans(case: dict[str, Any]) -> dict[str, Any]:
    plan = _plan(case)
    order = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    resampler = "resample_data_or_seg_to_shape"
    intensities = {
        "mean": plan.mean,
        "std": plan.std,
        "percentile_00_5": plan.clip[0],
        "percentile_99_5": plan.clip[1],
        "min": plan.clip[0],
        "max": plan.clip[1],
        "median": plan.mean,
    }
    return {
        "dataset_name": "Dataset001_Benchmark",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(plan.spacing),
        "original_median_shape_after_transp": [case["slices"], case["size"], case["size"]],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {
            "3d_fullres": {
                "data_identifier": "benchmark",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(plan.patch_size),
                "median_image_size_in_voxels": [case["slices"], case["size"], case["size"]],
                "spacing": list(plan.spacing),
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": resampler,
                "resampling_fn_seg": resampler,
                "resampling_fn_data_kwargs": order,
                "resampling_fn_seg_kwargs": {**order, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": resampler,
                "resampling_fn_probabilities_kwargs": {**order, "order": 1},
                "architecture": {
                    "network_class_name": "none",
                    "arch_kwargs": {},
                    "_kw_requires_import": [],
                },
                "batch_dice": True,
            }
        },
    }


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
