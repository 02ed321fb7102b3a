"""The whole path on real CT: contribute, train, prune, release, serve, segment.

The scan that is segmented at the end is the one that the decoders learned from, as there are
only two scans. So this is a check of the plumbing and never a result: a mask that lands in the
wrong place, on its side or under another name fails here; how good the networks are is not
asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from real_sites import ABDOMEN, CHEST, CHEST_SITE, LAYER_OF, Site, dsc, read, sites

from clnet.anatomy import default_stratification
from clnet.data_catalog import Dataset
from clnet.decoders_registry import DecoderRecord, ReleaseRecord
from clnet.hub import Hub, connect
from clnet.learning import learn
from clnet.model.statistics import State
from clnet.platform.jobs import DecoderJob, Validation
from clnet.platform.ray_runtime import RayRuntime, ray_runtime
from clnet.platform.register import code_version
from clnet.serve import Placement, SegmentationClient, deploy, own
from clnet.starter import RELEASE as STARTER
from clnet.tune_spaces.search import Found, search_pruning_rates
from clnet.tune_spaces.space import load_space

pytestmark = pytest.mark.slow

# groups that the starter does not know, and the site that teaches each
TAUGHT = {
    "abdomen/kidneys": "north/organs",
    "abdomen/stomach": "south/digestion",
    "abdomen/gallbladder": "south/digestion",
}
PRUNED = "abdomen/kidneys"
EXPECTED = ("kidney_left", "kidney_right", "stomach", "gallbladder")

TRAINING: dict[str, Any] = {
    "steps": 200,
    "batch_size": 1,
    "learning_rate": 3e-3,
    "foreground": (0.9, 0.9),
    "ema": 0.98,
    "rewind": 0.7,
    # few patches, again and again: the frozen encoder sees each of them once
    "period": 20,
    "augment": False,
    # one case a site, so it is judged on what it learns from
    "validation": Validation(fraction=0, batches=8, every=200),
}
SPACE = """\
rates: [0.7, 0.8]
rewind: none
recovery_steps: 60
learning_rate: 0.002
warm_up: 5
reports: 2
grace: 1
"""


@pytest.fixture(scope="module")
def truth(real_data: Path) -> dict[str, Site]:
    return sites(real_data)


@pytest.fixture(scope="module")
def hub(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A workspace that begins with the release that ships with the package."""
    with connect(tmp_path_factory.mktemp("real-ct")) as opened:
        opened.releases.import_(STARTER, alias="production")
        yield opened


@pytest.fixture(scope="module")
def starter(hub: Hub) -> ReleaseRecord:
    (imported,) = hub.releases.list()
    return imported


@pytest.fixture(scope="module")
def datasets(hub: Hub, truth: dict[str, Site]) -> dict[str, Dataset]:
    return {
        name: hub.datasets.contribute(name, [site.case], site.mapping, site.terms)
        for name, site in truth.items()
    }


@pytest.fixture(scope="module")
def running_ray(hub: Hub) -> Iterator[RayRuntime]:
    """One Ray for Train, Tune and Serve."""
    with ray_runtime(
        num_cpus=2, object_store_bytes=300 << 20, token_file=hub.workspace.ray_token
    ) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def dense(
    hub: Hub, starter: ReleaseRecord, datasets: dict[str, Dataset], running_ray: RayRuntime
) -> dict[str, DecoderRecord]:
    """New decoders on the starter's frozen encoder: a pack of two, and one beside it."""
    layered = default_stratification()
    jobs = [
        DecoderJob(
            decoder=group,
            dataset=datasets[site].ref,
            encoder=starter.encoder_ref,
            body_part_model=starter.body_part_model_ref,
            focus=tuple(
                sorted(
                    anatomy
                    for other, place in TAUGHT.items()
                    if place == site
                    for anatomy in layered[other].anatomies
                )
            ),
            seed=seed,
            **TRAINING,
        )
        for seed, (group, site) in enumerate(TAUGHT.items())
    ]
    return {record.group: record for record in learn(hub, jobs)}


@pytest.fixture(scope="module")
def found(
    hub: Hub,
    dense: dict[str, DecoderRecord],
    running_ray: RayRuntime,
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    """What Ray Tune says of the kidneys' decoder."""
    space = tmp_path_factory.mktemp("space") / "few.yaml"
    space.write_text(SPACE)
    (searched,) = search_pruning_rates(
        hub.registry,
        hub.catalog,
        [dense[PRUNED].ref],
        load_space(space),
        tolerance=0.05,
        code_version=code_version(),
        storage=hub.workspace.runs,
    )
    return searched


@pytest.fixture(scope="module")
def release(
    hub: Hub, starter: ReleaseRecord, dense: dict[str, DecoderRecord], found: Found
) -> ReleaseRecord:
    chosen = [record.ref for group, record in dense.items() if group != PRUNED]
    return hub.releases.create("real-ct", [*chosen, found.pruned.ref], parent=starter.name)


@dataclass(frozen=True)
class Served:
    """A result as it lies on a user's disk, read with nibabel and json alone."""

    folder: Path

    @property
    def layers(self) -> dict[str, Any]:
        described = json.loads((self.folder / "labels.json").read_text(encoding="utf-8"))
        return dict(described["layers"])

    @property
    def statistics(self) -> dict[str, Any]:
        text = (self.folder / "statistics.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    def images(self) -> dict[str, nib.Nifti1Image]:
        return {layer: nib.load(self.folder / told["file"]) for layer, told in self.layers.items()}

    def mask(self, anatomy: str) -> NDArray[np.bool_]:
        """Where it is, in the axis order of the file."""
        for told in self.layers.values():
            for value, label in told["labels"].items():
                if label["anatomy"] == anatomy:
                    grid = np.asarray(nib.load(self.folder / told["file"]).dataobj)
                    return np.asarray(grid == int(value))
        raise KeyError(anatomy)


@pytest.fixture(scope="module")
def served(
    hub: Hub,
    release: ReleaseRecord,
    truth: dict[str, Site],
    running_ray: RayRuntime,
    tmp_path_factory: pytest.TempPathFactory,
) -> Served:
    """The abdomen, sent to the service; one decoder runs in a deployment of its own."""
    folder = tmp_path_factory.mktemp("served")
    placement = Placement({"abdomen/stomach": own(1)})
    with (
        deploy(hub.workspace, release.name, placement, port=0) as service,
        SegmentationClient(service.url, service.token) as client,
    ):
        client.segment(truth["north/organs"].case.image).save(folder)
    return Served(folder)


@pytest.mark.parametrize("name", LAYER_OF)
def test_a_site_stores_the_abdomen_and_its_own_labels(
    datasets: dict[str, Dataset], truth: dict[str, Site], name: str
) -> None:
    site, stored = truth[name], datasets[name].case(ABDOMEN)
    image = nib.load(site.case.image)
    assert stored.shape == image.shape[::-1]
    assert stored.axcodes == "RAS"
    assert stored.spacing == pytest.approx(image.header.get_zooms()[::-1])
    # the same corner of the patient, found from both ends of the flipped axes
    last = np.array([image.shape[0] - 1, image.shape[1] - 1, 0, 1])
    np.testing.assert_allclose(stored.affine @ [0, 0, 0, 1], image.affine @ last)
    np.testing.assert_array_equal(stored.ct(), read(site.case.image))
    assert stored.ct().min() < -900 < 1000 < stored.ct().max()

    ids = read(site.case.labels)
    assert {entry.name for entry in stored.contract.entries} == set(site.labels.values())
    assert stored.layers == (LAYER_OF[name],)
    grid = stored.labels(LAYER_OF[name])
    for entry in stored.contract.entries:
        assert (grid == entry.value).sum() == np.isin(ids, site.ids(entry.name)).sum(), entry.name


def test_the_sites_of_one_scan_know_nothing_of_each_other(
    datasets: dict[str, Dataset],
) -> None:
    known = [datasets[name].case(ABDOMEN).contract.anatomies for name in LAYER_OF]
    assert sum(len(names) for names in known) == len(frozenset().union(*known))


def test_a_site_stores_the_chest_with_packed_ids(
    datasets: dict[str, Dataset], truth: dict[str, Site]
) -> None:
    site, stored = truth[CHEST_SITE], datasets[CHEST_SITE].case(CHEST)
    image = sitk.ReadImage(str(site.case.image))
    assert stored.axcodes == "LPS"
    assert stored.shape == image.GetSize()[::-1]
    assert stored.spacing == pytest.approx(image.GetSpacing()[::-1])
    # ITK counts in LPS, an affine in RAS
    np.testing.assert_allclose(
        (stored.affine @ [3, 5, 7, 1])[:3],
        np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint((3, 5, 7)),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(stored.ct(), sitk.GetArrayFromImage(image))
    ids = read(site.case.labels)
    value = {entry.name: entry.value for entry in stored.contract.entries}
    assert set(value) == {"lung_left", "lung_right"}
    for name, code in value.items():
        np.testing.assert_array_equal(
            stored.labels("organ") == code, np.isin(ids, site.ids(name)), err_msg=name
        )


def test_sites_train_in_packs_of_their_own(
    hub: Hub,
    starter: ReleaseRecord,
    datasets: dict[str, Dataset],
    dense: dict[str, DecoderRecord],
) -> None:
    assert not {record.group for record in starter.decoders} & set(TAUGHT)
    assert dense.keys() == TAUGHT.keys()
    for group, site in TAUGHT.items():
        record = dense[group]
        assert [use.ref for use in record.lineage.datasets] == [datasets[site].ref]
        assert set(record.learned) <= datasets[site].case(ABDOMEN).contract.anatomies
        assert record.encoder_ref == starter.encoder_ref
    workers = {
        event.message
        for job in hub.jobs.list()
        for event in hub.jobs.logs(job.id)
        if event.kind == "training"
    }
    assert len(workers) == len(set(TAUGHT.values()))


def test_a_pruning_rate_is_found(dense: dict[str, DecoderRecord], found: Found) -> None:
    assert found.dense.ref == dense[PRUNED].ref
    assert [trial.rate for trial in found.trials] == [0.7, 0.8]
    ticket = found.pruned.ticket
    assert ticket is not None
    assert ticket.dense_sha == dense[PRUNED].sha256
    assert ticket.sparsity == pytest.approx(ticket.rate, abs=0.05)


def test_the_release_adds_to_the_starter(
    hub: Hub, starter: ReleaseRecord, release: ReleaseRecord
) -> None:
    old, new = ([record.sha256 for record in r.tiers[0]] for r in (starter, release))
    assert new == old
    assert {record.group for record in release.tiers[1]} == set(TAUGHT)
    terms = hub.releases.get("real-ct").terms
    assert "Apache-2.0" in str(terms)
    assert not set(hub.datasets.touched_by(f"{CHEST_SITE}@1").releases) & {release.name}


def test_masks_come_back_on_the_grid_of_the_scan(served: Served, truth: dict[str, Site]) -> None:
    scan = nib.load(truth["north/organs"].case.image)
    for layer, mask in served.images().items():
        assert mask.shape == scan.shape, layer
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert nib.aff2axcodes(mask.affine) == ("R", "A", "S")
        assert mask.header.get_zooms() == scan.header.get_zooms()
        values = {int(v) for v in np.unique(np.asarray(mask.dataobj))}
        assert values <= {0, *map(int, served.layers[layer]["labels"])}, layer


def test_everything_that_was_looked_for_has_a_name_and_a_state(
    served: Served, release: ReleaseRecord, truth: dict[str, Site]
) -> None:
    hu = np.asanyarray(nib.load(truth["north/organs"].case.image).dataobj)
    named = {
        label["anatomy"] for told in served.layers.values() for label in told["labels"].values()
    }
    looked_for = {channel["name"] for r in release.decoders for channel in r.config["channels"]}
    assert set(EXPECTED) <= named <= looked_for
    told = served.statistics
    assert told["release"]["name"] == release.name
    for anatomy in EXPECTED:
        entry = told["anatomies"][anatomy]
        assert entry["state"] == "present", anatomy
        mask = served.mask(anatomy)
        assert entry["voxels"] == mask.sum()
        assert entry["mean_hu"] == pytest.approx(hu[mask].mean(), abs=0.06)
        assert entry["volume_ml"] == pytest.approx(entry["voxels"] * 0.027)
    assert {entry["state"] for entry in told["anatomies"].values()} <= set(State)


@pytest.mark.parametrize("anatomy", EXPECTED)
def test_a_taught_anatomy_is_found_where_trivial_masks_fail(
    served: Served, truth: dict[str, Site], anatomy: str
) -> None:
    group = default_stratification().group_of(anatomy).id
    site = truth[TAUGHT[group]]
    ids = np.asanyarray(nib.load(site.case.labels).dataobj)
    hu = np.asanyarray(nib.load(site.case.image).dataobj)
    wanted = np.isin(ids, site.ids(anatomy))
    rng = np.random.default_rng(0)
    trivial = {
        "everything": np.ones_like(wanted),
        "the body": hu > -300,
        "chance": rng.random(wanted.shape) < wanted.mean(),
        "one class for all labels": np.isin(ids, list(site.labels)),
        "tissue of its density": (hu > np.percentile(hu[wanted], 5))
        & (hu < np.percentile(hu[wanted], 95)),
    }
    best = max(dsc(mask, wanted) for mask in trivial.values())
    reached = dsc(served.mask(anatomy), wanted)
    assert reached >= 0.4
    assert reached > 2 * best


def test_left_and_right_are_not_one_class(served: Served, truth: dict[str, Site]) -> None:
    site = truth["north/organs"]
    ids = np.asanyarray(nib.load(site.case.labels).dataobj)
    sides = {a: np.isin(ids, site.ids(a)) for a in ("kidney_left", "kidney_right")}
    both = np.logical_or(*sides.values())
    single = [dsc(both, mask) / len(sides) for mask in sides.values()]  # the other side scores 0
    reached = [dsc(served.mask(a), mask) for a, mask in sides.items()]
    assert np.mean(reached) > 1.3 * max(single)


def test_what_the_starter_says_of_the_scan_stays(
    hub: Hub, starter: ReleaseRecord, served: Served, truth: dict[str, Site]
) -> None:
    alone = hub.segment(truth["north/organs"].case.image, release=starter)
    for layer, names in alone.names.items():
        for value, anatomy in names.items():
            np.testing.assert_array_equal(
                served.mask(anatomy), alone.labels[layer] == value, err_msg=anatomy
            )
