"""The service as users meet it: Ray Serve on loopback, decoders local and in their own replicas."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
import ray
from tiny_service import RELEASE, Address

from clnet.errors import InputError, NotFound, ServiceError
from clnet.model.result import Segmentation
from clnet.serve import Placement, SegmentationClient, ServiceHandle, deploy, own
from clnet.serve.desk import explained
from clnet.serve.runtime import start_ray

pytestmark = pytest.mark.slow

PLACEMENT = Placement({"abdomen/kidney": own(2), "abdomen/aorta": own(1)})


@pytest.fixture(scope="module")
def service(source: Address) -> Iterator[ServiceHandle]:
    """The release on a Ray that was there before and stays: two decoders local, two apart."""
    assert start_ray()
    try:
        with deploy(source, RELEASE, PLACEMENT, port=0, threads=1) as running:
            yield running
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def client(service: ServiceHandle) -> Iterator[SegmentationClient]:
    with SegmentationClient(service.url, service.token) as opened:
        yield opened


def test_served_masks_are_those_of_this_process_bit_for_bit(
    client: SegmentationClient, scan: Path, expected: Segmentation, tmp_path: Path
) -> None:
    told: list[tuple[float, str]] = []
    result = client.segment(scan, progress=lambda done, text: told.append((done, text)))
    written = {path.relative_to(tmp_path / "out") for path in result.save(tmp_path / "out")}
    assert {Path("labels.json"), Path("statistics.json"), Path("preview.png")} < written
    for layer, labels in expected.labels.items():
        mask = nib.load(tmp_path / "out" / "masks" / f"{layer}.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj), labels), layer
        assert np.array_equal(mask.affine, nib.load(scan).affine)
    assert result.statistics()["anatomies"] == expected.statistics()["anatomies"]
    assert told[-1] == (1.0, "done")
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_decoders_run_where_they_were_placed(
    client: SegmentationClient, service: ServiceHandle
) -> None:
    from ray import serve

    placed = {d["group"]: d["placement"] for d in client.release()["decoders"]}
    assert placed == {
        "abdomen/kidney": "own:2",
        "abdomen/aorta": "own:1",
        "abdomen/liver": "local",
        "bone/sacrum": "local",
    }
    deployments = serve.status().applications["clnet"].deployments
    replicas = {name: sum(d.replica_states.values()) for name, d in deployments.items()}
    assert replicas == {
        "Encoder": 1,
        "Decoder-abdomen-kidney-v1": 2,
        "Decoder-abdomen-aorta-v1": 1,
        "Publisher": 1,
        "Ingress": 1,
    }


def test_several_scans_at_once_all_come_back(
    client: SegmentationClient, service: ServiceHandle, scan: Path, expected: Segmentation
) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=120) as http:
        data = scan.read_bytes()
        jobs = [
            http.post("/v1/segmentations", files={"file": data}, data={"anatomies": "kidney,aorta"})
            for _ in range(3)
        ]
        assert [job.status_code for job in jobs] == [202] * 3
        for job in jobs:
            state = http.get(job.headers["location"], params={"wait": 120}).json()
            assert state["state"] == "succeeded"
            mask = http.get(state["links"]["masks/vessel.nii.gz"]).content
            image = nib.Nifti1Image.from_bytes(gzip.decompress(mask))
            assert np.array_equal(np.asarray(image.dataobj), expected.labels["vessel"])


def test_the_proxy_answers_while_a_scan_is_segmented(service: ServiceHandle, scan: Path) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as http:
        job = http.post("/v1/segmentations", files={"file": scan.read_bytes()})
        assert http.get("/healthz").json() == {"status": "alive"}
        assert http.get("/readyz").json() == {"status": "ready"}
        assert "clnet_segmentations_in_flight" in http.get("/metrics").text
        assert http.delete(job.headers["location"]).status_code == 204
        assert http.get(job.headers["location"]).status_code == 404


def test_a_client_that_hangs_up_does_not_stop_its_job(service: ServiceHandle, scan: Path) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as http:
        location = http.post("/v1/segmentations", files={"file": scan.read_bytes()}).headers[
            "location"
        ]
        with pytest.raises(httpx.ReadTimeout):
            http.get(location, params={"wait": 60}, timeout=0.05)
        assert http.get(location, params={"wait": 60}).json()["state"] == "succeeded"


def test_errors_reach_the_user_as_one_sentence(
    client: SegmentationClient, service: ServiceHandle, scan: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.nii"
    text.write_text("not a scan")
    with pytest.raises(ServiceError, match="file: not a NIfTI file; upload"):
        client.segment(text)
    with pytest.raises(ServiceError, match="no decoder for pancreas"):
        client.segment(scan, ["pancreas"])
    with (
        SegmentationClient(service.url, "wrong") as stranger,
        pytest.raises(ServiceError, match="no valid access token"),
    ):
        stranger.segment(scan)
    with pytest.raises(InputError, match="no such file"):
        client.segment(tmp_path / "absent.nii.gz")


def test_what_the_model_refuses_is_told_without_a_traceback(service: ServiceHandle) -> None:
    from ray import serve

    handle = serve.get_deployment_handle("Encoder", "clnet").options(stream=True)
    flat = np.zeros((4, 4), np.int16)
    with pytest.raises(InputError) as caught:
        list(handle.segment.remote(flat, np.eye(4), None))
    told = explained(caught.value)
    assert "three axes" in told["error"]
    assert "Traceback" not in told["error"]


def test_a_result_can_be_deleted(client: SegmentationClient, scan: Path) -> None:
    result = client.segment(scan, ["sacrum"])
    assert result.read("masks/bone.nii.gz").startswith(b"\x1f\x8b")
    with pytest.raises(InputError, match="it has masks/bone"):
        result.read("masks/organ.nii.gz")
    result.delete()
    with pytest.raises(ServiceError, match="no such segmentation"):
        result.read("masks/bone.nii.gz")


def test_a_second_service_on_the_same_ray_is_refused(
    service: ServiceHandle, source: Address
) -> None:
    with pytest.raises(ServiceError, match="serves something already"):
        deploy(source, RELEASE, port=0)
    assert httpx.get(f"{service.url}/healthz").status_code == 200


def test_what_cannot_be_served_is_said_before_anything_starts(
    source: Address, service: ServiceHandle
) -> None:
    taken = int(service.url.rpartition(":")[2])
    began = time.monotonic()
    with pytest.raises(NotFound, match="2031"):
        deploy(source, "2031")
    with pytest.raises(InputError, match="chest/heart"):
        deploy(source, RELEASE, Placement({"chest/heart": own(1)}))
    with pytest.raises(InputError, match="8 characters"):
        deploy(source, RELEASE, token="short")
    with pytest.raises(ServiceError, match="choose another host or port"):
        deploy(source, RELEASE, port=taken)
    assert time.monotonic() - began < 30


def test_it_stops_without_an_error_on_the_terminal(
    service: ServiceHandle, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    service.shutdown()
    told = capfd.readouterr()
    assert told.err == ""
    # on a busy machine Ray may still tell of a listener that was killed along with the controller
    lines = [line for line in told.out.splitlines() if "listen_for_change" not in line]
    assert lines == []
    assert ray.is_initialized()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/healthz")
