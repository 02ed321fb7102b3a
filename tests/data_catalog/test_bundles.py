"""Datasets as signed archives: the same dataset comes out, and nothing else ever does."""

from __future__ import annotations

import io
import json
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_scans import MAPPING, TERMS, case

from clnet.data_catalog import Catalog, Dataset
from clnet.data_catalog.bundles import (
    Signer,
    make_key,
    open_bundle,
    read_private_key,
    write_bundle,
)
from clnet.data_catalog.bundles.archive import deflate
from clnet.data_catalog.bundles.keys import fingerprint_of
from clnet.data_catalog.bundles.manifest import INDEX, SIGNATURE, signed_bytes
from clnet.errors import (
    AccessDenied,
    AlreadyExists,
    CaseRejected,
    ClnetError,
    InputError,
    IntegrityError,
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("site"))


class Desk:
    """A site with a dataset of two cases, one label open to doubt, and its bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public = make_key(folder / "key.pem")
        self.key = read_private_key(folder / "key.pem")
        mapping = {1: {"anatomy": "aorta", "within": "auto"}, 2: ["liver", "liver_tumor"]}
        cases = [case(folder / "source", "c1"), case(folder / "source", "c2", 5)]
        self.dataset = Catalog(folder / "datasets").contribute("site-a/d", cases, mapping, TERMS)
        self.bundle = folder / "d.clnet"
        write_bundle(self.dataset, self.bundle, self.key)
        self.bytes = self.bundle.read_bytes()

    @property
    def signer(self) -> Signer:
        return Signer("site-a", bytes.fromhex(self.public))

    def signer_of(self, fingerprint: str) -> Signer:
        if fingerprint != fingerprint_of(self.signer.public_key):
            raise AccessDenied(f"{fingerprint}: not registered")
        return self.signer

    def take(self, path: Path, catalog: Catalog) -> Dataset:
        with open_bundle(path, self.signer_of) as opened:
            return catalog.import_bundle(opened)

    def forge(
        self,
        path: Path,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
        files: dict[str, bytes] | None = None,
        rehash: bool = True,
    ) -> Path:
        """A bundle that the site itself signed, with other content than the catalog writes."""
        from clnet.data_catalog.manifest import CaseRecord, Manifest
        from clnet.data_catalog.terms import Terms

        with zipfile.ZipFile(io.BytesIO(self.bytes)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        index = json.loads(members[INDEX])
        change(index)
        if rehash:
            records = tuple(CaseRecord(**c["record"]) for c in index["cases"])
            index["sha256"] = Manifest.hash_of(records, Terms(**index["terms"]))
        members[INDEX] = json.dumps(index).encode()
        signature = self.key.sign(signed_bytes(members[INDEX])).hex()
        key = fingerprint_of(self.signer.public_key)
        members[SIGNATURE] = json.dumps({"key": key, "signature": signature}).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (members | (files or {})).items():
                archive.writestr(name, data)
        return path


@pytest.fixture
def hub(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "hub" / "datasets")


def contents(folder: Path) -> set[Path]:
    """Everything in a folder but locks, which are empty and stay."""
    return {p for p in folder.rglob("*") if p.is_file() and p.stat().st_size}


def test_the_same_version_comes_out(desk: Desk, hub: Catalog) -> None:
    imported = desk.take(desk.bundle, hub)
    assert (imported.ref, imported.sha256) == (desk.dataset.ref, desk.dataset.sha256)
    assert imported.manifest.terms == desk.dataset.manifest.terms
    imported.verify()
    for one, two in zip(desk.dataset, imported, strict=True):
        assert one.record == two.record
        assert one.contract == two.contract
        np.testing.assert_array_equal(one.ct(), two.ct())
        np.testing.assert_array_equal(one.affine, two.affine)
    assert imported.validation is not None
    assert desk.take(desk.bundle, hub).ref == imported.ref, "again changes nothing"
    assert len(hub.list()) == 1


def test_a_version_never_changes(desk: Desk, hub: Catalog, tmp_path: Path) -> None:
    hub.contribute("site-a/d", [case(tmp_path / "source", "other", 9)], MAPPING, TERMS)
    with pytest.raises(AlreadyExists, match="other content"):
        desk.take(desk.bundle, hub)
    hub.erase("site-a/d@1")
    other = Catalog(tmp_path / "third" / "datasets")
    desk.take(desk.bundle, other)
    other.erase("site-a/d@1")
    with pytest.raises(AlreadyExists, match="erased"):
        desk.take(desk.bundle, other)


def test_only_a_registered_key_of_that_site_opens_it(desk: Desk, hub: Catalog) -> None:
    def unknown(fingerprint: str) -> Signer:
        raise AccessDenied("not registered")

    def other_site(_: str) -> Signer:
        return Signer("site-b", desk.signer.public_key)

    def wrong_key(_: str) -> Signer:
        return Signer("site-a", bytes(32))

    for signer_of, error in (
        (unknown, AccessDenied),
        (other_site, AccessDenied),
        (wrong_key, IntegrityError),
    ):
        with pytest.raises(error), open_bundle(desk.bundle, signer_of):
            pytest.fail("opened")
    assert not hub.root.exists()


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda i: i.update(name="../x"), InputError, "dataset name"),
        (lambda i: i.update(name="site-b/d"), AccessDenied, "below its own"),
        (lambda i: i.update(cases=[]), InputError, "no case"),
        (lambda i: i["cases"][0]["record"].update(id="../x"), InputError, ""),
        (lambda i: i["cases"][0]["record"].update(id="c2"), InputError, "unique"),
        (lambda i: i["cases"][0]["record"].update(shape=[1 << 20] * 3), CaseRejected, "limit"),
        (lambda i: i["cases"][0]["record"].update(shape=[-1, 9, 8]), InputError, "no scan"),
        (lambda i: i["cases"][0]["record"].update(shape=[11, 9, 8]), CaseRejected, "early"),
        (lambda i: i["cases"][0]["record"].update(shape=[9, 9, 8]), CaseRejected, "to more"),
        (lambda i: i["cases"][0]["record"].update(spacing=[9, 9, 9]), CaseRejected, "grid"),
        (lambda i: i["cases"][0].update(affine=[[0] * 4] * 4), CaseRejected, "voxel size"),
        (lambda i: i["cases"][0].update(axcodes="LLL"), InputError, "axcodes"),
        (lambda i: i["cases"][0].update(axcodes="RAS"), IntegrityError, "signed"),
        (lambda i: i["cases"][0]["record"].update(sha256="0" * 64), IntegrityError, "signed"),
        (lambda i: i["cases"][0]["record"]["arrays"].update(ct="0" * 64), IntegrityError, ""),
        (lambda i: i["cases"][0].update(contract=[]), CaseRejected, "no anatomy"),
        (lambda i: i["cases"][0]["contract"][0].update(name="J. Doe"), CaseRejected, "called"),
        (lambda i: i["cases"][0]["contract"][0].update(members=["x"]), CaseRejected, "known"),
        (lambda i: i["cases"][0]["contract"][0].update(layer="bone"), CaseRejected, "layer"),
        (lambda i: i["cases"][0]["contract"][0].update(value=7), CaseRejected, "no meaning"),
        (lambda i: i["cases"][0]["contract"][0].update(x=7), CaseRejected, "form"),
        (lambda i: i.update(more=1), InputError, "more"),
        (lambda i: i.update(terms={"licence": ""}), InputError, "terms.licence"),
    ],
)
def test_what_a_site_signs_is_not_believed(
    desk: Desk,
    hub: Catalog,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    error: type[ClnetError],
    told: str,
) -> None:
    try:
        forged = desk.forge(tmp_path / "forged", change)
    except ValueError:
        forged = desk.forge(tmp_path / "forged", change, rehash=False)
    with pytest.raises(error, match=told or None):
        desk.take(forged, hub)
    assert contents(hub.root) == set()


def test_a_bundled_case_is_judged_as_any_other(desk: Desk, hub: Catalog, tmp_path: Path) -> None:
    """A scan of zeros, signed by the site, with all its hashes in order."""
    from clnet.data_catalog.case import Case, CaseContent, describe_case

    stored: Case = desk.dataset.case("c1")
    labels = {layer: stored.labels(layer) for layer in stored.layers}
    flat = np.zeros(stored.shape, np.int16)
    content = CaseContent(
        flat, labels, stored.contract, stored.spacing, stored.affine, stored.axcodes
    )
    record = describe_case("c1", content).model_dump(mode="json")
    forged = desk.forge(
        tmp_path / "forged",
        lambda i: i["cases"][0].update(record=record),
        {"cases/000000/ct": b"".join(deflate(flat))},
    )
    told: list[Any] = []
    with (
        pytest.raises(CaseRejected),
        open_bundle(forged, desk.signer_of) as opened,
    ):
        hub.import_bundle(opened, tell=told.append)
    assert told[0].report.refused
    assert told[0].report.quarantined == ("c1",)
    assert contents(hub.root) == set()
    with open_bundle(desk.bundle, desk.signer_of) as opened:
        assert not hub.validate_bundle(opened).report.refused
    assert hub.list() == ()


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return packer.compress(bytes(size)) + packer.flush()


def test_bombs_are_not_unpacked(desk: Desk, hub: Catalog, tmp_path: Path) -> None:
    inside = desk.forge(tmp_path / "1", files={"cases/000000/ct": bomb(200 << 20)})
    with pytest.raises(CaseRejected, match="more"):
        desk.take(inside, hub)
    packed = tmp_path / "2"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SIGNATURE, bytes(50 << 20))
    with pytest.raises(InputError, match="packed"):
        desk.take(packed, hub)
    huge = tmp_path / "3"
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr(SIGNATURE, b" " * 10_000)
    with pytest.raises(InputError, match="most"):
        desk.take(huge, hub)


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "cases/../x", "extra", "c:\\x", "link"])
def test_entries_that_do_not_belong_are_refused(
    desk: Desk, hub: Catalog, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match="missing or too many"):
        desk.take(desk.forge(tmp_path / "forged", files={name: b"x"}), hub)
    assert {p.name for p in tmp_path.iterdir()} <= {"forged", "hub"}


def test_a_directory_that_lies_is_refused(desk: Desk, hub: Catalog, tmp_path: Path) -> None:
    """Sizes in the archive's directory say more than the file holds, or that it is huge."""
    data = bytearray(desk.bytes)
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, entry + 20, 1 << 30, 1 << 30)
    (tmp_path / "1").write_bytes(data)
    with pytest.raises(InputError):
        desk.take(tmp_path / "1", hub)
    many = tmp_path / "2"
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(3000):
            archive.writestr(f"{number:06d}" + "x" * 6000, b"")
    with pytest.raises(InputError, match="more entries"):
        desk.take(many, hub)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_noticed_and_stores_nothing(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(desk.bytes)
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zero", "repeat"]))
    where = data.draw(st.integers(0, len(broken) - 1))
    length = data.draw(st.integers(1, 64))
    if kind == "flip":
        broken[where] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del broken[where:]
    elif kind == "insert":
        broken[where:where] = data.draw(st.binary(min_size=1, max_size=64))
    elif kind == "zero":
        broken[where : where + length] = bytes(len(broken[where : where + length]))
    else:
        broken[where:where] = broken[max(0, where - length) : where]
    folder = tmp_path_factory.mktemp("broken")
    (folder / "b").write_bytes(broken)
    hub = Catalog(folder / "hub" / "datasets")
    try:
        taken = desk.take(folder / "b", hub)
    except ClnetError:
        assert contents(hub.root) == set()
        assert {p.name for p in folder.iterdir()} <= {"b", "hub"}
    else:  # what zip does not look at, such as a date
        assert taken.sha256 == desk.dataset.sha256
        taken.verify()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
@example(b"PK\x05\x06" + bytes(18))
@example(b"PK\x06\x06" + b"\xff" * 60 + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + b"\xff" * 18)
def test_any_bytes_are_refused_in_words(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "b"
    path.write_bytes(data)
    with pytest.raises(InputError), open_bundle(path, desk.signer_of):
        pytest.fail("opened")


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from clnet.data_catalog import Catalog
from clnet.data_catalog.bundles import Signer, open_bundle
signer = Signer("site-a", bytes.fromhex({public!r}))
with open_bundle(Path({bundle!r}), lambda _: signer) as opened:
    print("go", flush=True)
    Catalog({root!r}).import_bundle(opened)
"""


@pytest.mark.slow
def test_a_killed_import_leaves_all_or_nothing(desk: Desk, hub: Catalog) -> None:
    code = KILLED.format(
        tests=str(Path(__file__).parents[1]),
        public=desk.public,
        bundle=str(desk.bundle),
        root=str(hub.root),
    )
    for delay in (0.0, 0.05, 0.15, 0.3):
        importer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert importer.stdout is not None
        importer.stdout.readline()
        time.sleep(delay)
        importer.send_signal(signal.SIGKILL)
        importer.wait()
        importer.stdout.close()
        for dataset in hub.list():
            assert dataset.sha256 == desk.dataset.sha256
            dataset.verify()
    desk.take(desk.bundle, hub).verify()
    assert list(hub.root.rglob(".tmp-*")) == []


def test_a_bundle_is_never_half_and_never_replaces_a_file(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "b"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(desk.dataset, target, desk.key, stop)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"mine")
    with pytest.raises(AlreadyExists):
        write_bundle(desk.dataset, target, desk.key)
    assert target.read_bytes() == b"mine"


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    make_key(path, "open sesame")
    assert path.stat().st_mode & 0o077 == 0
    assert read_private_key(path, "open sesame")
    for wrong in (None, "closed"):
        with pytest.raises(InputError):
            read_private_key(path, wrong)
    with pytest.raises(AlreadyExists):
        make_key(path)
    (tmp_path / "x").write_bytes(b"no key")
    with pytest.raises(InputError):
        read_private_key(tmp_path / "x")
