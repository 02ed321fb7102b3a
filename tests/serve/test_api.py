"""The HTTP API, with the real model behind it in this process instead of in replicas."""

from __future__ import annotations

import errno
import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from tiny_service import InProcess, listening, make_scan, scan_bytes

from clnet.model.result import Segmentation
from clnet.serve import DeskLimits, UploadLimits
from clnet.serve.auth import digest
from clnet.serve.desk import Desk
from clnet.serve.metrics import Meters
from clnet.serve.routes import Service, build_app
from clnet.serve.spool import Spool

TOKEN = "correct horse battery"
JOBS = "/v1/segmentations"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def send(client: httpx.Client, data: bytes, wait: float = 0, **fields: str) -> Any:
    return client.post(JOBS, params={"wait": wait}, files={"file": ("x.nii.gz", data)}, data=fields)


@contextmanager
def opened(pipeline: InProcess, spool: Path) -> Iterator[httpx.Client]:
    """A service of its own, and a client with its token."""
    meters = Meters()
    desk = Desk(pipeline, Spool(spool), meters, DeskLimits(running=1, waiting=1, results=3))
    limits = UploadLimits(voxels=40_000, bytes=1 << 20)
    app = build_app(Service(desk, pipeline.card, meters, limits, digest(TOKEN)))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with listening(app) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client
        pipeline.gate.set()


@pytest.fixture
def client(pipeline: InProcess, spool: Path) -> Iterator[httpx.Client]:
    with opened(pipeline, spool) as client:
        yield client


Finished = tuple[httpx.Client, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(pipeline: InProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A service with one job that is done."""
    with opened(pipeline, tmp_path_factory.mktemp("spool")) as client:
        yield client, send(client, scan_bytes(), wait=60).json()


def refused(response: Any, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    body: dict[str, str] = response.json()
    assert set(body) == {"error", "where", "hint"}
    assert all(body.values())
    assert "Traceback" not in response.text
    return body


def test_a_scan_comes_back_as_masks_on_its_own_grid(
    finished: Finished, expected: Segmentation
) -> None:
    client, job = finished
    assert (job["state"], job["progress"]) == ("succeeded", 1.0)
    assert {"network", "fold", "segment", "publish"} <= set(job["seconds"])
    original = nib.Nifti1Image.from_bytes(gzip.decompress(scan_bytes()))
    for layer, labels in expected.labels.items():
        answer = client.get(job["links"][f"masks/{layer}.nii.gz"])
        assert answer.headers["content-type"] == "application/gzip"
        mask = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
        assert np.array_equal(np.asarray(mask.dataobj), labels)
        assert mask.get_data_dtype() == labels.dtype
        for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim"):
            assert np.array_equal(mask.header[field], original.header[field]), field
        assert np.array_equal(mask.get_qform(), original.get_qform())
        assert b"DOE" not in mask.header.binaryblock


def test_what_the_values_mean_comes_beside_the_masks(
    finished: Finished, expected: Segmentation
) -> None:
    client, job = finished
    said = client.get(job["links"]["labels.json"]).json()
    for layer, names in expected.names.items():
        labels = said["layers"][layer]["labels"]
        assert {int(value): entry["anatomy"] for value, entry in labels.items()} == names
    assert said["layers"]["organ"]["labels"]["3"]["colour"].startswith("#")
    statistics = client.get(job["links"]["statistics.json"]).json()
    assert statistics["anatomies"] == expected.statistics()["anatomies"]
    assert statistics["release"]["notice"] == "networks of noise"
    assert client.get(job["links"]["preview.png"]).content.startswith(b"\x89PNG")


def test_the_archive_holds_every_file(finished: Finished) -> None:
    client, job = finished
    archive = zipfile.ZipFile(io.BytesIO(client.get(job["links"]["result.zip"]).content))
    assert archive.testzip() is None
    assert set(archive.namelist()) == set(job["links"]) - {"self", "result.zip"}
    assert json.loads(archive.read("labels.json"))["release"] == "2026.11"


def test_only_what_is_asked_for_is_looked_for(client: httpx.Client) -> None:
    job = send(client, scan_bytes(), wait=60, anatomies="Left Kidney, spleen").json()
    assert job["anatomies"] == ["kidney_left", "spleen"]
    found = client.get(job["links"]["statistics.json"]).json()["anatomies"]
    assert set(found) == {"kidney_left", "spleen"}
    assert set(job["links"]) & {"masks/organ.nii.gz", "masks/bone.nii.gz"} == {"masks/organ.nii.gz"}


def test_composites_may_be_asked_for(client: httpx.Client) -> None:
    job = send(client, scan_bytes(), wait=60, anatomies="kidney").json()
    statistics = client.get(job["links"]["statistics.json"]).json()
    assert set(statistics["anatomies"]) == {"kidney_left", "kidney_right"}
    assert set(statistics["derived"]) == {"kidney"}


@pytest.mark.parametrize("header", ["", "Bearer wrong", f"Basic {TOKEN}", "Bearer", TOKEN])
def test_nothing_is_told_without_the_token(client: httpx.Client, header: str) -> None:
    for path in ("/v1/release", "/metrics", "/openapi.json", JOBS + "/1", "/nothing"):
        response = client.get(path, headers={"Authorization": header})
        assert refused(response, 401)["where"] == "header.Authorization"
        assert response.headers["www-authenticate"] == "Bearer"
    assert refused(client.post(JOBS, headers={"Authorization": header}), 401)


def test_probes_need_no_token(client: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 200


def test_the_release_says_what_it_is(client: httpx.Client) -> None:
    said = client.get("/v1/release").json()
    assert said["name"] == "2026.11"
    assert said["notice"] == "networks of noise"
    assert "kidney_left" in said["anatomies"]
    assert {d["group"]: d["layer"] for d in said["decoders"]}["bone/sacrum"] == "bone"
    assert said["terms"]["licences"]["site-a/abdomen@1"] == "CC-BY-4.0"
    assert said["limits"] == {"voxels": 40_000, "bytes": 1 << 20}


def large() -> bytes:
    return nib.Nifti1Image(np.zeros((50, 50, 50), np.int16), np.eye(4)).to_bytes()


def with_nan() -> bytes:
    voxels = make_scan().astype(np.float32)
    voxels[0, 0, 0] = np.nan
    return nib.Nifti1Image(voxels, np.eye(4)).to_bytes()


BAD = {
    "text": (lambda: b"hello", 415, "file"),
    "truncated": (
        lambda: gzip.compress(nib.Nifti1Image(make_scan(), np.eye(4)).to_bytes())[:-999],
        400,
        "file",
    ),
    "flat": (
        lambda: nib.Nifti1Image(make_scan()[0], np.eye(4)).to_bytes(),
        422,
        "file.header.dim",
    ),
    "nan": (with_nan, 422, "file.voxels"),
    "large": (lambda: gzip.compress(large()), 413, "file.header.dim"),
    "long": (lambda: bytes(2 << 20), 413, "file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_scan_that_cannot_be_used_is_refused_with_a_reason(
    client: httpx.Client, case: str, spool: Path
) -> None:
    make: Callable[[], bytes]
    make, status, where = BAD[case]
    assert refused(send(client, make()), status)["where"] == where
    assert not list(spool.rglob("*.npy"))


def test_a_full_disk_is_not_the_scans_fault(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert "no room" in refused(send(client, scan_bytes()), 503)["error"]


@pytest.mark.parametrize(
    ("names", "said"),
    [("livr", "liver"), ("pancreas", "no decoder for pancreas"), ("spleen,livr", "liver")],
)
def test_an_anatomy_that_cannot_be_looked_for_is_refused(
    client: httpx.Client, names: str, said: str
) -> None:
    body = refused(send(client, scan_bytes(), anatomies=names), 422)
    assert body["where"] == "anatomies"
    assert said in body["error"]


def test_requests_that_make_no_sense_are_refused(client: httpx.Client) -> None:
    assert refused(client.post(JOBS, data={"anatomies": "liver"}), 400)["where"] == "file"
    assert refused(client.post(JOBS, content=b"x", headers={"Content-Type": "text/plain"}), 400)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refused(client.post(JOBS, content=b"broken", headers=broken), 400)
    assert refused(client.post(JOBS, params={"wait": "soon"}), 422)["where"] == "query.wait"
    assert refused(client.get("/nothing"), 404)
    assert refused(client.put(JOBS), 405)


@pytest.mark.parametrize("key", ["0" * 32, "..", "%2e%2e%2fscans", "a/../../etc/passwd"])
def test_ids_that_were_never_given_are_not_found(client: httpx.Client, key: str) -> None:
    refused(client.get(f"{JOBS}/{key}/labels.json"), 404)
    refused(client.get(f"{JOBS}/{key}"), 404)


def test_a_result_has_the_files_it_lists_and_no_others(finished: Finished) -> None:
    client, job = finished
    here = job["links"]["self"]
    for name in ("masks/none.nii.gz", "masks", "%2e%2e/%2e%2e/scans", "..%2flabels.json"):
        refused(client.get(f"{here}/{name}"), 404)


def test_a_job_is_told_about_while_it_waits_and_runs(
    client: httpx.Client, pipeline: InProcess
) -> None:
    pipeline.gate.clear()
    response = send(client, scan_bytes())
    assert response.status_code == 202
    here = response.headers["location"]
    began = time.monotonic()
    job = client.get(here, params={"wait": 0.2}).json()
    assert time.monotonic() - began >= 0.2
    assert job["state"] == "running"
    refused(client.get(f"{here}/labels.json"), 404)
    assert "in_flight 1.0" in client.get("/metrics").text
    assert client.get("/healthz").status_code == 200
    pipeline.gate.set()
    assert client.get(here, params={"wait": 60}).json()["state"] == "succeeded"


def test_a_full_queue_says_so(client: httpx.Client, pipeline: InProcess) -> None:
    pipeline.gate.clear()
    data = scan_bytes()
    first = send(client, data).json()["links"]["self"]
    while client.get(first).json()["state"] != "running":
        time.sleep(0.01)
    second = send(client, data).json()
    assert second["state"] == "queued"
    response = send(client, data)
    assert refused(response, 503)["where"] == "service"
    assert response.headers["retry-after"]


def test_deleting_stops_a_job_and_forgets_it(
    client: httpx.Client, pipeline: InProcess, spool: Path
) -> None:
    pipeline.gate.clear()
    here = send(client, scan_bytes()).headers["location"]
    waiting = send(client, scan_bytes()).headers["location"]
    for location in (waiting, here):
        assert client.delete(location).status_code == 204
        refused(client.get(location), 404)
        refused(client.delete(location), 404)
    assert not [path for path in spool.rglob("*") if path.is_file()]
    pipeline.gate.set()
    assert send(client, scan_bytes(), wait=60).json()["state"] == "succeeded"
    assert 'clnet_segmentations_total{outcome="cancelled"} 2.0' in client.get("/metrics").text


def test_deleting_a_result_removes_its_files(client: httpx.Client, spool: Path) -> None:
    here = send(client, scan_bytes(), wait=60).json()["links"]["self"]
    assert [path for path in spool.rglob("*") if path.is_file()]
    client.delete(here)
    assert not [path for path in spool.rglob("*") if path.is_file()]


def test_old_results_are_forgotten(client: httpx.Client) -> None:
    places = [
        send(client, scan_bytes(), wait=60, anatomies="sacrum").headers["location"]
        for _ in range(4)
    ]
    refused(client.get(places[0]), 404)
    assert all(client.get(place).status_code == 200 for place in places[1:])


def test_metrics_count_requests_and_seconds(client: httpx.Client) -> None:
    here = send(client, scan_bytes(), wait=60).headers["location"]
    client.get(here)
    client.get("/v1/release", headers={"Authorization": ""})
    text = client.get("/metrics").text
    assert 'clnet_segmentations_total{outcome="succeeded"} 1.0' in text
    assert 'route="/v1/segmentations",status="200"' in text
    assert 'route="/v1/segmentations/{job_id}",status="200"' in text
    assert 'status="401"' in text
    assert here.rpartition("/")[2] not in text
    for stage in ("wait", "network", "fold", "segment", "publish"):
        assert f'clnet_stage_seconds_count{{stage="{stage}"}} 1.0' in text
    assert f"clnet_voxels_total {float(make_scan().size)}" in text
