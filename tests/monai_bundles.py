"""MONAI bundles of tiny networks, written as the model zoo writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SegResNet

ARGUMENTS = {"init_filters": 8, "blocks_down": [1, 1, 2], "blocks_up": [1, 1], "out_channels": 3}
SCALE = {"a_min": -175.0, "a_max": 250.0, "b_min": 0.0, "b_max": 1.0, "clip": True}


def transform(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "@image_key", **arguments}


def configuration(**changes: Any) -> dict[str, Any]:
    """An inference configuration with references and expressions."""
    return {
        "imports": ["$import os"],
        "image_key": "image",
        "device": "$os.abort()",
        "norm": ["GROUP", {"num_groups": 4}],
        "pixdim": [6.0, 7.0, 8.0],
        "network_def": {
            "_target_": "SegResNet",
            "norm": "@norm",
            "act": ["RELU", {"inplace": True}],
            "dropout_prob": 0.2,
            **ARGUMENTS,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                transform("LoadImaged"),
                transform("EnsureChannelFirstd"),
                transform("Orientationd", axcodes="RAS"),
                transform("Spacingd", pixdim="@pixdim", mode="bilinear"),
                transform("monai.transforms.ScaleIntensityRanged", **SCALE),
                transform("NormalizeIntensityd", _disabled_=True),
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 18, 20]},
        **changes,
    }


def write_bundle(folder: Path, config: dict[str, Any] | None = None, seed: int = 0) -> SegResNet:
    """A bundle in `folder`; its network, ready to be compared with."""
    torch.manual_seed(seed)
    network = SegResNet(norm=("GROUP", {"num_groups": 4}), dropout_prob=0.2, **ARGUMENTS).eval()
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    text = json.dumps(configuration() if config is None else config)
    (folder / "configs" / "inference.json").write_text(text)
    (folder / "configs" / "metadata.json").write_text('{"version": "0.2.4", "name": "tiny"}')
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    return network
