"""The public bpreg model, from a folder such as it has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clnet.errors import Incompatible, InputError, IntegrityError, NotFound
from clnet.model.body_part import decode_body_part_model, encode_body_part_model
from clnet.model.bpreg import read_bpreg

SETTINGS = {
    "lookuptable_train_val": {
        "original": {"pelvis_start": {"mean": -4.0, "std": 1}, "eyes_end": {"mean": 6.0, "std": 1}},
        "transformed": {},
    },
    "settings": {"start-landmark": "pelvis_start", "end-landmark": "eyes_end"},
    "slope_mean": 0.125,
    "lower_quantile_tangential_slope": -0.037,
    "upper_quantile_tangential_slope": 0.25,
}


class Bpreg(nn.Module):
    """The network as the package has it: VGG-16's features under their names."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(convolutions):
                first = not layers
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=not first), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.model = nn.Sequential(*layers)
        self.conv6 = nn.Conv2d(512, 512, 1)
        self.fc7 = nn.Linear(512, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc7(F.relu(self.conv6(self.model(x))).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network() -> Bpreg:
    torch.manual_seed(0)
    return Bpreg().eval()


@pytest.fixture(scope="module")
def folder(network: Bpreg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpreg")
    torch.save(network.state_dict(), folder / "model.pt")
    (folder / "inference-settings.json").write_text(json.dumps(SETTINGS))
    return folder


def test_slices_score_as_bpreg_scores_them(network: Bpreg, folder: Path) -> None:
    model = read_bpreg(folder)
    hu = np.random.default_rng(0).uniform(-1200, 1800, (3, 128, 128)).astype(np.float32)
    # bpreg: clipped, put on -1 to 1, axes x and y as ITK stores them
    theirs = ((np.clip(hu, -1000, 1500) + 1000) * 2 / 2500 - 1).transpose(0, 2, 1)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.ascontiguousarray(theirs))[:, None]).flatten()
    scores = model.raw_scores(model.normalise(hu), (5.0, 3.5, 3.5))
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_its_scale_is_put_on_the_body(folder: Path) -> None:
    model = read_bpreg(folder)
    # 0.125 of 100 a mm: 800 mm from pelvis to eyes, 100 more to the top of the head
    np.testing.assert_allclose(model.height_of(np.array([-4.0, 6.0])), [0.0, 800 / 900])
    np.testing.assert_allclose(model.per_mm, 1 / 900)


def test_it_comes_back_from_its_bytes(folder: Path) -> None:
    model = read_bpreg(folder)
    back = decode_body_part_model(encode_body_part_model(model))
    volume = np.zeros((2, 20, 20), np.float32)
    np.testing.assert_array_equal(
        back.raw_scores(volume, (5.0, 8.0, 8.0)), model.raw_scores(volume, (5.0, 8.0, 8.0))
    )
    assert (back.raw, back.heights, back.per_mm) == (model.raw, model.heights, model.per_mm)
    assert back.error == model.error


def test_its_scores_are_not_taken_for_exact(folder: Path) -> None:
    assert read_bpreg(folder).error == 0.05


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_code_in_the_weights_is_not_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"fc7.bias": Payload()}, tmp_path / "model.pt")
    (tmp_path / "inference-settings.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(IntegrityError, match="could run code"):
        read_bpreg(tmp_path)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage", ["{}", "[]", "no json", json.dumps(SETTINGS | {"slope_mean": 0})]
)
def test_settings_without_a_scale_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "inference-settings.json").write_text(damage)
    with pytest.raises(InputError, match="inference-settings"):
        read_bpreg(tmp_path)


def test_what_is_not_bpregs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="one folder"):
        read_bpreg(tmp_path)
    (tmp_path / "inference-settings.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(NotFound, match=r"model\.pt"):
        read_bpreg(tmp_path)
    torch.save({"fc7.weight": torch.zeros(1, 3)}, tmp_path / "model.pt")
    with pytest.raises(Incompatible, match=r"only bpreg's VGG-16"):
        read_bpreg(tmp_path)
