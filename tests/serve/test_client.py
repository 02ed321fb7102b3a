"""The client, against a service without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_service import InProcess, listening

from clnet.errors import ServiceError
from clnet.serve import DeskLimits, SegmentationClient, UploadLimits
from clnet.serve.auth import digest, new_token
from clnet.serve.desk import Desk
from clnet.serve.metrics import Meters
from clnet.serve.routes import Service, build_app
from clnet.serve.spool import Spool


@pytest.fixture
def client(pipeline: InProcess, tmp_path: Path) -> Iterator[SegmentationClient]:
    meters, token = Meters(), new_token()
    desk = Desk(pipeline, Spool(tmp_path / "spool"), meters, DeskLimits())
    app = build_app(Service(desk, pipeline.card, meters, UploadLimits(), digest(token)))
    with listening(app) as url, SegmentationClient(url + "/", token) as client:
        yield client


def test_files_are_saved_under_their_names(
    client: SegmentationClient, scan: Path, tmp_path: Path
) -> None:
    result = client.segment(str(scan), ["sacrum"])
    assert result.warnings == ()
    folder = tmp_path / "new" / "folder"
    names = {path.relative_to(folder).as_posix() for path in result.save(folder)}
    assert names == {"masks/bone.nii.gz", "labels.json", "statistics.json", "preview.png"}
    assert names == set(result.files) - {"result.zip"}


def test_a_folder_holds_one_result_and_what_is_not_of_a_result(
    client: SegmentationClient, scan: Path, tmp_path: Path
) -> None:
    client.segment(scan).save(tmp_path / "out")
    (tmp_path / "out" / "masks" / "corrected.nii.gz").write_bytes(b"by hand")
    (tmp_path / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    written = client.segment(scan, ["sacrum"]).save(tmp_path / "out")
    left = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    own = {tmp_path / "out" / "masks" / "corrected.nii.gz", tmp_path / "out" / "notes.txt"}
    assert left == set(written) | own


def test_names_that_lead_out_of_the_folder_are_not_written(
    client: SegmentationClient, scan: Path, tmp_path: Path
) -> None:
    result = client.segment(scan, ["sacrum"])
    result.job["links"]["../escaped.json"] = result.job["links"]["labels.json"]
    result.job["links"][f"{tmp_path}/absolute.json"] = result.job["links"]["labels.json"]
    result.save(tmp_path / "out")
    assert not list(tmp_path.glob("*.json"))


def test_a_server_that_is_not_there_is_said() -> None:
    with (
        SegmentationClient("http://127.0.0.1:9", "token") as client,
        pytest.raises(ServiceError, match=r"127\.0\.0\.1:9.*check address"),
    ):
        client.release()


def test_progress_goes_from_sending_to_done(client: SegmentationClient, scan: Path) -> None:
    told: list[tuple[float, str]] = []
    client.segment(scan, ["liver"], progress=lambda done, text: told.append((done, text)))
    assert told[0] == (0.0, "sending the scan")
    assert told[-1] == (1.0, "done")
