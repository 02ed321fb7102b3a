"""The picture of a result."""

from __future__ import annotations

import io
import json
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from clnet.anatomy import vocabulary
from clnet.model.scratch import Scratch
from clnet.serve.outcome import Outcome, ReleaseCard
from clnet.serve.planes import AXIAL, CORONAL, SAGITTAL, Volume, draw_plane, telling_point
from clnet.serve.render import WIDTH, Caption, render
from clnet.serve.results import result_files

SHAPE = (40, 32, 36)
AFFINE = np.diag([-4.0, -4.0, 5.0, 1.0])  # axes already point left, back, head


def body() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, dict[int, str]]]:
    """A cylinder of water with a liver on the patient's right and a sacrum behind."""
    ct = np.full(SHAPE, -1000, np.int16)
    ct[4:-4, 4:-4] = 30
    organ, bone = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    organ[6:18, 10:22, 18:30] = 1
    organ[26:32, 12:20, 20:28] = 2
    bone[16:24, 22:27, 2:26] = 1
    names = {"organ": {1: "liver", 2: "spleen"}, "bone": {1: "sacrum"}}
    return ct, {"organ": organ, "bone": bone}, names


def has_colour(image: np.ndarray, hex_colour: str) -> bool:
    wanted = [int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image - wanted).max(axis=-1) <= 2).any())


def pixels(png: bytes) -> np.ndarray:
    return (imread(io.BytesIO(png))[..., :3] * 255).round()


def test_the_picture_has_its_width_and_every_labels_colour() -> None:
    ct, layers, names = body()
    image = pixels(render(ct, AFFINE, layers, names, Caption(notice="from phantoms")))
    assert image.shape[1] == WIDTH
    assert 400 < image.shape[0] < 1400
    for anatomy in ("liver", "spleen", "sacrum"):
        assert has_colour(image, vocabulary()[anatomy].colour)
    assert not has_colour(image, vocabulary()["pancreas"].colour)


def test_a_union_without_a_name_has_the_colour_of_its_first_member() -> None:
    ct, layers, names = body()
    names["organ"][1] = "gallbladder+liver"
    image = pixels(render(ct, AFFINE, layers, names, Caption()))
    assert has_colour(image, vocabulary()["gallbladder"].colour)
    assert not has_colour(image, vocabulary()["liver"].colour)


def test_a_result_with_such_a_label_has_all_its_files() -> None:
    ct, layers, names = body()
    names["organ"][1] = "gallbladder+liver"
    card = ReleaseCard("2026.11", "0" * 64, "starter", "", (), (), {}, "", {})
    header = bytes(nib.Nifti1Header().binaryblock)
    outcome = Outcome({}, names, {"warnings": []}, {})
    files = result_files(ct, AFFINE, header, layers, outcome, card)
    assert json.loads(files["labels.json"])["layers"]["organ"]["labels"]["1"] == {
        "anatomy": "gallbladder+liver",
        "name": "gallbladder+liver",
        "colour": vocabulary()["gallbladder"].colour,
    }


def test_the_notice_is_to_be_seen() -> None:
    ct, layers, names = body()
    told = pixels(render(ct, AFFINE, layers, names, Caption(notice="from phantoms")))
    silent = pixels(render(ct, AFFINE, layers, names, Caption()))
    assert (told[:100] != silent[:100]).any()
    assert np.array_equal(told[110:], silent[110:])


@pytest.mark.parametrize("depth", [12, 36, 150])
def test_short_and_long_scans_have_a_layout(depth: int) -> None:
    ct = np.full((40, 32, depth), 0, np.int16)
    labels = np.zeros((40, 32, depth), np.uint8)
    labels[10:20, 10:20, 4:9] = 1
    png = render(ct, AFFINE, {"organ": labels}, {"organ": {1: "liver"}}, Caption())
    image = pixels(png)
    assert image.shape[1] == WIDTH
    assert image.shape[0] < 1400
    assert has_colour(image, vocabulary()["liver"].colour)


def test_a_result_without_a_voxel_is_drawn() -> None:
    ct, layers, names = body()
    empty = {layer: np.zeros_like(values) for layer, values in layers.items()}
    assert pixels(render(ct, AFFINE, empty, names, Caption())).shape[1] == WIDTH
    assert pixels(render(ct, AFFINE, {}, {}, Caption())).shape[1] == WIDTH


def test_counting_voxels_takes_little_memory_however_many_there_are() -> None:
    labels = np.zeros((256, 256, 400), np.uint8, order="F")
    labels[100:200, 100:200, 50:150] = 1
    ct = np.broadcast_to(np.int16(0), labels.shape)
    names = {"organ": {1: "liver"}}
    volume = Volume.of(ct, np.diag([-1.0, -1.0, 1.0, 1.0]), {"organ": labels}, names, ("organ",))
    tracemalloc.start()
    assert volume.millilitres() == {"liver": 1000.0}
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 << 20  # as 64-bit numbers the labels are 200 MiB


def test_a_picture_takes_no_more_memory_of_a_scan_with_more_slices() -> None:
    """What comes from a file has its last axis first; taking a slice of it copied all of it."""
    short, tall = (picture_memory(slices) for slices in (64, 640))
    assert tall < short + (4 << 20)  # the longer scan has 72 MiB more


def picture_memory(slices: int) -> int:
    """Bytes that the picture of a scan in files takes at most, whatever its slices 512 mm tall."""
    scratch = Scratch()
    ct = scratch.zeros((slices, 256, 256), np.int16).T
    labels = scratch.zeros((slices, 256, 256), np.uint8).T
    ct[40:-40, 60:-60] = 40
    labels[80:160, 80:160, slices // 4 : slices // 2] = 1
    affine = np.diag([-2.0, -2.0, 512 / slices, 1.0])
    tracemalloc.start()
    render(ct, affine, {"organ": labels}, {"organ": {1: "liver"}}, Caption())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_orientation_of_the_file_does_not_change_the_picture() -> None:
    ct, layers, names = body()
    upright = render(ct, AFFINE, layers, names, Caption())
    image = nib.Nifti1Image(np.stack([ct, layers["organ"], layers["bone"]], axis=-1), AFFINE)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt("SAR")
        )
    )
    data = np.asarray(turned.dataobj)
    maps = {"organ": data[..., 1].astype(np.uint8), "bone": data[..., 2].astype(np.uint8)}
    assert render(data[..., 0], turned.affine, maps, names, Caption()) == upright


def test_planes_are_seen_as_radiologists_do() -> None:
    ct = np.full(SHAPE, -1000, np.int16)
    ct[:20] = 1000  # the patient's right
    ct[:, :16] //= 2  # the front
    volume = Volume.of(ct, AFFINE, {}, {}, ())
    axial = draw_plane(volume, AXIAL, 10, (80, 64))[..., 0]
    assert axial[:, :30].mean() > 0.9 > axial[:, 50:].mean()
    head = np.full(SHAPE, -1000, np.int16)
    head[:, :, 18:] = 1000
    for plane in (CORONAL, SAGITTAL):
        image = draw_plane(Volume.of(head, AFFINE, {}, {}, ()), plane, 10, (80, 90))[..., 0]
        assert image[:40].mean() > 0.9
        assert image[50:].mean() < 0.1


def test_the_planes_cut_what_was_segmented() -> None:
    ct, layers, names = body()
    x, y, z = telling_point(Volume.of(ct, AFFINE, layers, names, ("bone", "organ")))
    everything = layers["organ"] + layers["bone"]
    assert all(cut.any() for cut in (everything[x], everything[:, y], everything[:, :, z]))
    assert layers["organ"][:, :, z].any()
    assert layers["bone"][:, :, z].any()
