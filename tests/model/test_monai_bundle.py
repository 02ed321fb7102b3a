"""Encoders of MONAI bundles: MONAI's own features, and nothing of a bundle is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.transforms import ScaleIntensityRange
from monai_bundles import SCALE, configuration, transform, write_bundle

from clnet.errors import Incompatible, InputError, IntegrityError, NotFound
from clnet.model.artefact import decode_encoder, encode_encoder
from clnet.model.geometry import to_canonical
from clnet.model.monai_bundle import BundleSettings, read_bundle


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPR", "AIL"])
def test_features_are_monais_own(tmp_path: Path, codes: str) -> None:
    network = write_bundle(tmp_path / "b")
    bundle = read_bundle(tmp_path / "b", BundleSettings(orientation=codes))
    theirs = torch.rand(1, 1, 9, 12, 16)  # odd: where striding begins must not matter
    turn = nibabel.orientations.axcodes2ornt(codes)
    affine = np.linalg.inv(nibabel.orientations.inv_ornt_aff(turn, theirs.shape[2:]))

    def canonical(array: torch.Tensor) -> torch.Tensor:
        view, _, _ = to_canonical(array.numpy(), affine)
        return torch.from_numpy(np.ascontiguousarray(view))

    with torch.no_grad():
        _, expected = network.encode(theirs)
        features = bundle.encoder(canonical(theirs[0, 0])[None, None])
    assert [f.shape[1] for f in features] == list(bundle.encoder.config.features) == [8, 16, 32]
    for own, monais in zip(features, expected, strict=True):
        turned = torch.stack([canonical(channel) for channel in monais[0]])
        torch.testing.assert_close(own[0], turned, rtol=1e-5, atol=1e-6)


def test_the_plan_is_the_bundles_preprocessing(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    plan = read_bundle(tmp_path / "b").plan
    assert plan.spacing == (8.0, 7.0, 6.0)
    assert plan.patch_size == (20, 20, 16)  # a multiple of what the encoder divides by
    hu = np.linspace(-1000, 1500, 50, dtype=np.float32)
    np.testing.assert_allclose(plan.normalise(hu), ScaleIntensityRange(**SCALE)(hu), atol=1e-6)


def test_an_encoder_comes_back_from_its_bytes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    bundle = read_bundle(tmp_path / "b")
    data = encode_encoder(bundle.encoder, bundle.plan)
    encoder, plan = decode_encoder(data)
    assert plan == bundle.plan
    assert encode_encoder(encoder, plan) == data
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        for one, other in zip(encoder(image), bundle.encoder(image), strict=True):
            assert torch.equal(one, other)


def test_a_yaml_bundle_is_read(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    configs = tmp_path / "b" / "configs"
    (configs / "inference.json").unlink()
    (configs / "inference.yaml").write_text(yaml.safe_dump(configuration()))
    assert read_bundle(tmp_path / "b").plan.spacing == (8.0, 7.0, 6.0)


def preprocessed(*steps: dict[str, Any]) -> dict[str, Any]:
    return configuration(preprocessing={"_target_": "Compose", "transforms": list(steps)})


def network_of(**changes: Any) -> dict[str, Any]:
    return configuration(network_def=configuration()["network_def"] | changes)


RAS, MM = transform("Orientationd", axcodes="RAS"), transform("Spacingd", pixdim=[2, 2, 2])
HU = transform("ScaleIntensityRanged", **SCALE)
PER_SCAN = transform("NormalizeIntensityd", nonzero=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (configuration(network_def={"_target_": "UNet"}), "only SegResNet"),
        (configuration(network_def={"_target_": "os.system"}), "only SegResNet"),
        (configuration(norm=["EVIL", {}]), "norm 'EVIL'"),
        (configuration(norm=["GROUP", {"num_groups": "$os.abort()"}]), "plain numbers"),
        (network_of(act="$('RELU', {'inplace': True})"), r"network_def#act.*value itself"),
        (configuration(norm="@nowhere"), r"network_def#norm.*value itself"),
        (network_of(blocks_down="$[1, 2]"), r"network_def#blocks_down.*value itself"),
        (network_of(act=None), r"act None .*write a name"),
        (configuration(norm=[]), r"norm \[\] .*such as \[GROUP, {}\]"),
        (configuration(norm=["GROUP", {"num_groups": 8}, 1]), "write a name"),
        (configuration(norm={"name": "GROUP"}), "write a name"),
        (configuration(pixdim="$[1.5] * 3"), "give spacing"),
        (configuration(pixdim="@pixdim"), "circle"),
        (preprocessed(MM, HU), "give orientation"),
        (preprocessed(RAS, HU), "give spacing"),
        (preprocessed(RAS, MM), "give window"),
        (preprocessed(RAS, MM, PER_SCAN), "NormalizeIntensityd"),
        (preprocessed(RAS, MM, HU | {"clip": False}), "without clip"),
        (preprocessed(RAS, MM, HU | {"a_min": "$1"}), "no numbers"),
        ([1, 2], "not a bundle's configuration"),
    ],
)
def test_what_a_plan_cannot_say_is_refused(tmp_path: Path, config: Any, message: str) -> None:
    write_bundle(tmp_path / "b", config)
    with pytest.raises(InputError, match=message):
        read_bundle(tmp_path / "b")


def test_what_a_bundle_does_not_say_is_said_beside_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", preprocessed(transform("Spacingd", pixdim="$[1] * 3"), PER_SCAN))
    said = BundleSettings((1.0, 2.0, 3.0), (-1000.0, 1000.0), "LPS", (8, 8, 8))
    plan = read_bundle(tmp_path / "b", said).plan
    assert (plan.spacing, plan.patch_size) == ((3.0, 2.0, 1.0), (8, 8, 8))
    np.testing.assert_allclose(plan.normalise(np.array([-2000.0, 0.0, 500.0])), [0, 0.5, 0.75])


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_files_that_are_not_a_bundles_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFound, match="no such bundle"):
        read_bundle(tmp_path / "none")
    write_bundle(tmp_path / "b")
    models = tmp_path / "b" / "models"
    with pytest.raises(NotFound, match="in models"):
        read_bundle(tmp_path / "b", weights="other.pt")
    with pytest.raises(Incompatible, match="TorchScript"):
        read_bundle(tmp_path / "b", weights="model.ts")
    torch.save({"convInit.conv.weight": torch.zeros(1)}, models / "other.pt")
    with pytest.raises(Incompatible, match="do not belong together"):
        read_bundle(tmp_path / "b", weights="../models/other.pt")
    torch.save({"model": Payload()}, models / "evil.pt")
    with pytest.raises(IntegrityError, match="could run code"):
        read_bundle(tmp_path / "b", weights="evil.pt")
    assert "run" not in capsys.readouterr().out
