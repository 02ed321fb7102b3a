"""A user's own training reads the catalog: a torch Dataset, and a reader for MONAI."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from tiny_hub import SHAPE, write_case
from torch.utils.data import DataLoader

import clnet
from clnet.errors import Incompatible, InputError, NotFound

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training_data.md"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> clnet.Hub:
    root = tmp_path_factory.mktemp("mine")
    hub = clnet.connect(root / "clnet-workspace")
    hub.releases.import_("starter")
    for name, mapping in (
        ("site-a/abdomen", {"1": "liver", "2": "spleen", "3": "ignore", "4": "ignore"}),
        ("site-b/kidney", {"1": "ignore", "2": "ignore", "3": "kidney", "4": "kidney"}),
    ):
        cases = [write_case(root / name, f"case-{seed}", seed) for seed in range(4)]
        hub.datasets.contribute(name, cases, mapping, "CC0-1.0")
    return hub


def example(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[number]


def test_five_lines_of_the_docs_train_from_the_catalog(
    hub: clnet.Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = example(0).replace("(patches,", "(torch.utils.data.Subset(patches, range(4)),")
    monkeypatch.chdir(hub.workspace.root.parent)
    exec(compile(code, str(DOCS), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("torch.Size([2, 1, 48, 48, 48])" in line for line in lines)


def test_patches_show_what_labels_tell_and_255_elsewhere(hub: clnet.Hub) -> None:
    sizes = {"patch_size": (16, 16, 16), "length": 12, "foreground": 1.0}
    seen = set()
    for item in (patches := hub.datasets.patches("site-a/abdomen", ["Liver", "spleen"], **sizes)):
        assert item["image"].shape == (1, 16, 16, 16)
        assert item["image"].dtype == torch.float32
        seen |= set(item["target"].unique().tolist())
    assert patches.anatomies == ("liver", "spleen")
    assert seen == {0, 1, 2}
    with_kidney = hub.datasets.patches("site-a/abdomen", ["liver", "kidney"], **sizes)
    found = torch.stack([item["target"] for item in with_kidney]).unique().tolist()
    assert found == [0, 1, 255]  # unlabelled voxels may be kidney; the spleen's are not
    union = hub.datasets.patches("site-b/kidney", ["kidney_left", "liver"], **sizes)
    assert {int(v) for item in union for v in item["target"].unique()} == {255}
    whole = hub.datasets.patches("site-b/kidney", ["kidney"], **sizes)
    assert {int(v) for item in whole for v in item["target"].unique()} == {0, 1}


def test_workers_read_the_same_patches_and_epochs_differ(hub: clnet.Hub) -> None:
    patches = hub.datasets.patches(
        ["site-a/abdomen", "site-b/kidney"], ["liver"], patch_size=(8, 8, 8), length=6
    )
    alone = [batch["image"] for batch in DataLoader(patches, batch_size=2)]
    shared = [batch["image"] for batch in DataLoader(patches, batch_size=2, num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    patches.epoch = 1
    assert not torch.equal(next(iter(DataLoader(patches, batch_size=2)))["image"], alone[0])


def test_what_cannot_be_read_is_said(hub: clnet.Hub) -> None:
    with pytest.raises(InputError, match="layers"):
        hub.datasets.patches("site-a/abdomen", ["liver", "aorta"])
    with pytest.raises(InputError, match="one holds another"):
        hub.datasets.patches("site-a/abdomen", ["kidney", "kidney_left"])
    with pytest.raises(InputError, match="shows urinary_bladder"):
        hub.datasets.patches("site-a/abdomen", ["urinary_bladder"])
    with pytest.raises(NotFound):
        hub.datasets.patches("site-a/nothing", ["liver"])
    with pytest.raises(InputError, match="site/name@version/case"):
        hub.datasets.reader().read("case-1")


# its other readers, which it also makes, miss a GPU
@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_monai_loads_cases_as_it_loads_files(hub: clnet.Hub) -> None:
    keys = ["image", "label"]
    rest = [EnsureChannelFirstd(keys), Orientationd(keys, axcodes="LPS", labels=None)]
    items = hub.datasets.items("site-a/abdomen", "organ")
    assert len(items) == 4
    source = hub.workspace.root.parent / "site-a/abdomen"
    stored = Compose([LoadImaged(keys, reader=hub.datasets.reader()), *rest])(items[1])
    files = {"image": source / "case-1.nii.gz", "label": source / "case-1-seg.nii.gz"}
    loaded = Compose([LoadImaged(keys, reader="NibabelReader"), *rest])(files)
    assert stored["image"].shape == loaded["image"].shape == (1, *SHAPE)
    assert torch.equal(stored["image"], loaded["image"])
    np.testing.assert_allclose(stored["image"].affine, loaded["image"].affine)
    known = (loaded["label"] == 1) | (loaded["label"] == 2)
    assert torch.equal(stored["label"][known], loaded["label"][known])
    code = example(1)
    assert nibabel.aff2axcodes(np.asarray(stored["image"].affine)) == ("L", "P", "S")
    assert "hub.datasets.reader()" in code


def test_withdrawn_data_is_not_given(hub: clnet.Hub, tmp_path: Path) -> None:
    cases = [write_case(tmp_path, f"c-{seed}", seed + 50) for seed in range(2)]
    ref = hub.datasets.contribute(
        "site-c/gone", cases, {"1": "liver"} | dict.fromkeys("234", "ignore"), "CC0-1.0"
    ).ref
    hub.datasets.withdraw(ref, "consent was withdrawn")
    with pytest.raises(Incompatible, match="withdrawn"):
        hub.datasets.patches(ref, ["liver"])
    with pytest.raises(Incompatible, match="withdrawn"):
        hub.datasets.items(ref, "organ")
