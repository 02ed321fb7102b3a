"""A network that nnU-Net v2 trained: imported it gives what nnU-Net gives, and then it grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunet_reference import (
    LABELS,
    configured,
    predict,
    tiny_architecture,
    tiny_dataset,
    tiny_plans,
    train,
    write_result,
    write_training_data,
)
from pack_work import registered
from tiny_hub import EXACT, contribute, tiny_job
from typer.testing import CliRunner

import clnet
from clnet.anatomy import vocabulary
from clnet.anatomy.phantom import render
from clnet.cli import app
from clnet.decoders_registry import Lineage
from clnet.errors import InputError, NotFound
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    build_body_part_network,
    encode_body_part_model,
)
from clnet.model.geometry import in_scan_order
from clnet.model.preparation import prepare
from clnet.model.scratch import Scratch
from clnet.model.segmentation import SegmentationModel
from clnet.model.watch import Watch
from clnet.serve.release import load_release

pytestmark = pytest.mark.slow

IMAGE_TOLERANCE = 5e-5  # torch's interpolation has its weights in float32
FLOAT_TOLERANCE = 2e-3  # of logits that reach tens, beside inputs that agree to 5e-5
LIVER, SPLEEN, KIDNEY = 5, 1, 2  # in the source's own numbers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net reads its folders' names once a process."""
    return tmp_path_factory.mktemp("nnunet")


@pytest.fixture(scope="module")
def scan(root: Path) -> tuple[Path, Path]:
    """A piece of a real abdomen and its labels; of a phantom where there is no real CT."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("CLNET_REAL_DATA", data)) / "ts_abdomen_pelvis"
    image, labels = root / "scan.nii.gz", root / "labels.nii.gz"
    if folder.is_dir():
        ct = nibabel.load(folder / "example_ct.nii.gz").slicer[37:101, 25:85, 60:112]
        maps = nibabel.load(folder / "example_seg_fast_force_split.nii.gz")
        values = np.asarray(maps.slicer[37:101, 25:85, 60:112].dataobj)
        numbers = {LIVER: "liver", SPLEEN: "spleen", KIDNEY: "kidney_right"}
    else:
        phantom = render(1, spacing=(5.0, 5.0, 5.0), field_of_view="abdomen")
        ct = nibabel.Nifti1Image(phantom.ct.transpose(2, 1, 0), phantom.affine)
        values = phantom.labels["organ"].transpose(2, 1, 0)
        numbers = phantom.names["organ"]
    own = np.zeros(values.shape, np.uint8)
    for value, name in numbers.items():
        own[values == value] = LABELS.get(name, 0)
    nibabel.save(ct, image)
    nibabel.save(nibabel.Nifti1Image(own, ct.affine), labels)
    return image, labels


@pytest.fixture(scope="module")
def trained(root: Path, scan: tuple[Path, Path]) -> Path:
    """A result folder that nnU-Net wrote after a real, short training."""
    plans = configured(tiny_plans(), spacing=[6.0, 6.0, 6.0], patch_size=[16, 16, 20])
    write_training_data(root, {"case_a": scan, "case_b": scan}, plans)
    return train(root, plans, iterations=100)


@pytest.fixture
def hub(tmp_path: Path) -> clnet.Hub:
    """A hub with a body-part model."""
    opened = clnet.connect(tmp_path / "workspace")
    network = build_body_part_network(BodyPartConfig(widths=(4, 4)), seed=0).eval()
    model = BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 0.001)
    lineage = Lineage(command="test", code_version="0")
    opened.registry.add_body_part_model("starter", encode_body_part_model(model), lineage)
    return opened


def released(hub: clnet.Hub, result: Path, name: str = "tiny", **options: Any) -> SegmentationModel:
    """The release of an imported network, loaded as it is served."""
    hub.encoders.import_nnunet(result, "CC-BY-4.0", name, **options)
    hub.releases.create(f"of-{name}", [f"imported/{name}@1"])
    return load_release(hub.registry, f"of-{name}")


def label_map(model: SegmentationModel, image: Path, values: Mapping[str, int]) -> np.ndarray:
    """What a release finds, in the numbers of an nnU-Net."""
    scan = nibabel.load(image)
    found = model.segment(np.asarray(scan.dataobj), scan.affine)
    out = np.zeros(scan.shape, np.int64)
    for layer, names in found.names.items():
        for value, name in names.items():
            out[found.labels[layer] == value] = values[name]
    return out


def compare(
    model: SegmentationModel,
    result: Path,
    image: Path,
    root: Path,
    fold: str,
    mirror: bool = False,
) -> None:
    """Image, logits and labels against nnU-Net's own."""
    expected = predict(result, image, root, fold, mirror=mirror)
    scan = nibabel.load(image)
    ct = np.asarray(scan.dataobj)
    prepared = prepare(ct, scan.affine, model.plan, None, Scratch(), Watch())
    frame = prepared.frame
    assert frame is not None
    own_image = in_scan_order(np.asarray(prepared.image), frame)
    np.testing.assert_allclose(own_image, expected.image, atol=IMAGE_TOLERANCE)
    (canonical,) = model.logits(ct, scan.affine).values()
    own = np.stack([in_scan_order(channel.numpy(), frame) for channel in canonical])
    own = own[1:] if model.decoders[0].info.config.regions else own
    np.testing.assert_allclose(own, expected.logits, atol=FLOAT_TOLERANCE)

    values = {vocabulary().resolve(n): v for n, v in numbers_of(result).items()}
    found = label_map(model, image, values)
    assert len(np.unique(expected.labels)) > 1
    assert (found != expected.exact_labels).mean() < 1e-5
    # nnU-Net sums in float16: what it labels otherwise, its own float32 sums label like us
    differs = found != expected.labels
    assert differs.mean() < 2e-3
    assert (differs & (expected.labels == expected.exact_labels)).sum() <= 2


def numbers_of(result: Path) -> dict[str, int]:
    from clnet.model.nnunet.plans_file import read_json, targets_of

    return {t.name: t.value for t in targets_of(read_json(result / "dataset.json"))[0]}


def test_a_trained_network_gives_what_nnunet_gives_on_a_real_ct(
    hub: clnet.Hub, trained: Path, scan: tuple[Path, Path], root: Path
) -> None:
    compare(released(hub, trained, fold="all"), trained, scan[0], root, "all")


def test_mirrored_windows_give_what_nnunets_augmentation_gives(
    hub: clnet.Hub, scan: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    plans = configured(tiny_plans(), spacing=[6.0, 6.0, 6.0], patch_size=[16, 16, 20])
    result = write_result(tmp_path, plans)
    model = released(hub, result)
    mirrored = replace(model, window=replace(model.window, mirror=(0, 1, 2)))
    compare(mirrored, result, scan[0], root, "0", mirror=True)
    by_name = hub.segment(scan[0], "of-tiny", mirror="zyx", precision="float32", device="cpu")
    image = nibabel.load(scan[0])
    found = mirrored.segment(np.asarray(image.dataobj), image.affine)
    for layer, labels in found.labels.items():
        np.testing.assert_array_equal(by_name.labels[layer], labels)
    plain = hub.segment(scan[0], "of-tiny")
    assert any((plain.labels[k] != by_name.labels[k]).any() for k in plain.labels)
    assert by_name.statistics()["inference"]["mirror"] == "zyx"
    assert by_name.statistics()["inference"]["overlap"] == 0.5


@pytest.mark.parametrize(
    ("allowed", "used"), [((2,), "y"), ((0, 1), "zx"), (None, "")], ids=["one", "two", "none"]
)
def test_windows_are_mirrored_along_the_axes_that_the_checkpoint_allows(
    hub: clnet.Hub,
    scan: tuple[Path, Path],
    root: Path,
    tmp_path: Path,
    allowed: tuple[int, ...] | None,
    used: str,
) -> None:
    other = turned(scan[0], tmp_path / "turned.nii.gz")  # read as x, z, y
    plans = configured(tiny_plans(), spacing=[6.0, 6.0, 6.0], patch_size=[16, 16, 20])
    extra = {"inference_allowed_mirroring_axes": allowed}
    result = write_result(tmp_path, plans, extra=extra)
    model = released(hub, result)
    mirrored = replace(model, window=replace(model.window, mirror=(0, 1, 2)))
    compare(mirrored, result, other, root, "0", mirror=True)
    found = hub.segment(other, "of-tiny", mirror="zyx")
    assert found.statistics()["inference"]["mirror"] == used


def resampled(**changes: Any) -> dict[str, Any]:
    """Fields of a configuration: nnU-Net's spline resampling with other arguments."""
    kwargs = {"order": 3, "order_z": 0, "force_separate_z": None, **changes}
    return {
        "resampling_fn_data_kwargs": {"is_seg": False, **kwargs},
        "resampling_fn_seg_kwargs": {"is_seg": True, **kwargs, "order": 1},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **kwargs, "order": 1},
    }


def resampled_by(function: str, **kwargs: Any) -> dict[str, Any]:
    """Fields of a configuration: another resampling function of nnU-Net."""
    fields: dict[str, Any] = {}
    for what in ("data", "seg", "probabilities"):
        seg = {"is_seg": what == "seg"} if kwargs else {}
        fields[f"resampling_fn_{what}"] = function
        fields[f"resampling_fn_{what}_kwargs"] = {**seg, **kwargs}
    return fields


TORCH = {"force_separate_z": False, "memefficient_seg_resampling": False}


def turned(image: Path, path: Path) -> Path:
    """The scan stored in another order of axes, some of which run backwards."""
    scan = nibabel.load(image)
    nibabel.save(scan.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), path)
    return path


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "residual, transposed": (
        configured(
            tiny_plans(transpose_forward=[1, 2, 0], transpose_backward=[2, 0, 1]),
            spacing=[5.0, 7.0, 6.0],
            patch_size=[16, 12, 16],
            architecture=tiny_architecture("ResidualEncoderUNet"),
        ),
        tiny_dataset(),
    ),
    "separate z": (
        configured(tiny_plans(), spacing=[12.0, 3.5, 3.5], patch_size=[8, 32, 32]),
        tiny_dataset(),
    ),
    "separate z where the scan is as fine in all axes": (
        configured(
            tiny_plans(),
            spacing=[12.0, 3.5, 3.5],
            patch_size=[8, 32, 32],
            **resampled(force_separate_z=True),
        ),
        tiny_dataset(),
    ),
    "torch": (
        configured(
            tiny_plans(),
            spacing=[4.0, 2.5, 3.7],
            patch_size=[16, 20, 24],
            **resampled_by("resample_torch_fornnunet", **TORCH),
        ),
        tiny_dataset(),
    ),
    "torch, separate z": (
        configured(
            tiny_plans(),
            spacing=[12.0, 3.5, 3.5],
            patch_size=[8, 32, 32],
            **resampled_by(
                "resample_torch_fornnunet",
                **{**TORCH, "force_separate_z": None, "separate_z_anisotropy_threshold": 3},
            ),
        ),
        tiny_dataset(),
    ),
    "no resampling": (
        configured(
            tiny_plans(),
            spacing=[6.0, 5.0, 5.0],
            patch_size=[16, 24, 24],
            **resampled_by("no_resampling_hack"),
        ),
        tiny_dataset(),
    ),
    "regions, z-score, padded": (
        configured(
            tiny_plans(),
            spacing=[6.0, 6.0, 6.0],
            patch_size=[16, 16, 40],
            normalization_schemes=["ZScoreNormalization"],
        ),
        tiny_dataset(
            {"background": 0, "kidney": [1, 2], "kidney_left": 2, "liver": 3},
            regions_class_order=[1, 2, 3],
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_other_plans_give_what_nnunet_gives(
    hub: clnet.Hub, scan: tuple[Path, Path], root: Path, tmp_path: Path, case: str
) -> None:
    plans, dataset = CASES[case]
    result = write_result(tmp_path, plans, dataset)
    compare(released(hub, result), result, scan[0], root, "0")


@pytest.mark.parametrize("forced", [None, True])
def test_coronal_slices_far_apart_give_what_nnunet_gives(
    hub: clnet.Hub, scan: tuple[Path, Path], root: Path, tmp_path: Path, forced: bool | None
) -> None:
    # planes are taken alone along the scan's axis there, and along the plan's on the way back
    coronal = tmp_path / "coronal.nii.gz"
    nibabel.save(nibabel.load(scan[0]).slicer[:, ::4], coronal)
    plans = configured(
        tiny_plans(),
        spacing=[12.0, 3.5, 3.5],
        patch_size=[8, 32, 32],
        **resampled(force_separate_z=forced),
    )
    result = write_result(tmp_path, plans)
    compare(released(hub, result), result, coronal, root, "0")


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_readers_that_turn_scans_give_what_nnunet_gives(
    hub: clnet.Hub, scan: tuple[Path, Path], root: Path, tmp_path: Path, reader: str
) -> None:
    other = turned(scan[0], tmp_path / "turned.nii.gz")
    plans = configured(
        tiny_plans(image_reader_writer=reader), spacing=[5.0, 6.0, 7.0], patch_size=[16, 16, 16]
    )
    result = write_result(tmp_path, plans)
    compare(released(hub, result), result, other, root, "0")


def test_a_scan_turned_flipped_and_padded_with_zeros_gives_the_same(
    hub: clnet.Hub, scan: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    image = nibabel.load(turned(scan[0], tmp_path / "turned.nii.gz"))
    array = np.asarray(image.dataobj).copy()
    array[:7], array[:, -5:] = 0, 0
    path = tmp_path / "padded.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    plans = configured(tiny_plans(), spacing=[5.0, 6.0, 7.0], patch_size=[16, 16, 16])
    result = write_result(tmp_path, plans)
    compare(released(hub, result), result, path, root, "0")


def modest(folder: Path) -> Path:
    """A result folder whose network leaves most of a scan background."""
    plans = configured(tiny_plans(), spacing=[6.0, 6.0, 6.0], patch_size=[16, 16, 16])
    result = write_result(folder, plans, tiny_dataset({"background": 0, "liver": 1, "spleen": 2}))
    path = result / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.seg_layers.1.bias"][0] += 4.0
    torch.save(content, path)
    return result


def test_an_imported_network_learns_one_more_organ_and_forgets_nothing(
    hub: clnet.Hub, tmp_path: Path
) -> None:
    encoder = hub.encoders.import_nnunet(modest(tmp_path), "CC-BY-4.0", "mine")
    base = hub.releases.create("base", ["imported/mine@1"])
    assert base.terms.licences == {"imported/mine@1": "CC-BY-4.0"}

    dataset = contribute(hub.workspace, "site-b/boxes", EXACT)
    job = tiny_job(
        "abdomen/kidneys", dataset=dataset, encoder=encoder.ref, body_part_model="starter"
    )
    job = job.model_copy(update={"steps": 60, "heads": 2, "widths": (16, 16)})
    [(added, _)] = registered(hub.registry, hub.workspace.catalog(), job)
    assert added.encoder_ref == encoder.ref

    hub.releases.create("grown", [added.ref], parent="base")
    image = hub.workspace.root / "sources" / "site-b" / "boxes" / "case-0.nii.gz"
    before, after = (hub.segment(image, release) for release in ("base", "grown"))
    assert set(before.names["organ"].values()) == {"liver", "spleen"}
    for value, name in before.names["organ"].items():
        assert after.names["organ"][value] == name
        np.testing.assert_array_equal(
            after.labels["organ"] == value, before.labels["organ"] == value
        )
    certificate = hub.releases.verify("grown", against="base")
    assert certificate.ok
    assert certificate.shared == ("imported/mine@1",)
    new = after.labels["organ"][before.labels["organ"] == 0]
    assert {after.names["organ"][v] for v in np.unique(new) if v} & {"kidney_left", "kidney_right"}


def test_the_command_imports_and_says_what_is_next(hub: clnet.Hub, tmp_path: Path) -> None:
    result = modest(tmp_path)
    command = ["encoders", "import-nnunet", str(result), "--name", "mine"]
    where = ["--workspace", str(hub.workspace.root), "--json"]
    done = CliRunner().invoke(
        app, [*command, "--licence", "CC-BY-NC-4.0", "--obligation", "NC", *where]
    )
    assert done.exit_code == 0, done.output
    assert '"encoder/mine@1"' in done.output
    assert "imported/mine@1" in done.output
    again = hub.encoders.import_nnunet(result, "CC-BY-NC-4.0", "mine")
    assert again.sha256 == hub.encoders.get("mine").sha256
    assert hub.decoders.get("imported/mine").learned == ("liver", "spleen")
    refused = CliRunner().invoke(app, [*command, *where])
    assert refused.exit_code == 2  # terms must be declared


def test_a_corrected_mapping_gives_the_next_decoder_and_says_so(
    hub: clnet.Hub, tmp_path: Path
) -> None:
    result, mapping = modest(tmp_path), tmp_path / "mapping.yaml"
    first = hub.encoders.import_nnunet(result, "CC0-1.0", "mine")
    assert (first.ref, first.decoder.ref) == ("encoder/mine@1", "imported/mine@1")
    mapping.write_text("spleen: pancreas\n")
    command = ["encoders", "import-nnunet", str(result), "--name", "mine", "--licence", "CC0-1.0"]
    where = ["--workspace", str(hub.workspace.root), "--json"]
    done = CliRunner().invoke(app, [*command, "--mapping", str(mapping), *where])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["encoder"], told["decoder"]) == ("encoder/mine@1", "imported/mine@2")
    assert told["next"].endswith("imported/mine@2")
    assert hub.decoders.get("imported/mine@2").learned == ("liver", "pancreas")
    again = CliRunner().invoke(app, [*command, *where])
    assert json.loads(again.output)["decoder"] == "imported/mine@1"


def test_an_import_needs_terms_and_a_body_part_model(tmp_path: Path) -> None:
    empty = clnet.connect(tmp_path / "empty")
    with pytest.raises(NotFound, match="releases import starter"):
        empty.encoders.import_nnunet(modest(tmp_path), "CC0-1.0")
    with pytest.raises(InputError, match="licence"):
        empty.encoders.import_nnunet(modest(tmp_path), "")
