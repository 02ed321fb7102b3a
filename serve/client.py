"""A client of the HTTP service: one call from a file to a result.

with SegmentationClient("http://127.0.0.1:8000", token) as client:
    client.segment("ct.nii.gz", ["liver", "spleen"]).save("out/")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from clnet.errors import InputError, ServiceError
from clnet.serve.result_folder import ARCHIVE, prepare
from clnet.storage import atomic_write

__all__ = ["Result", "SegmentationClient"]

COLLECTION = "/v1/segmentations"
WAIT = 1.0  # seconds that the service holds a question before it tells the progress
NOT_DOWNLOADED = ("self", ARCHIVE)  # the archive holds what is downloaded file by file

Progress = Callable[[float, str], None]


class SegmentationClient:
    """Talks to a service that :func:`clnet.serve.deploy` started.

    Args:
        url: of the service.
        token: that it was started with.
        timeout: seconds without an answer after which a call fails.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def release(self) -> dict[str, Any]:
        """What is served: anatomies, decoders, terms, limits, and what to know beforehand."""
        described: dict[str, Any] = self._call("GET", "/v1/release").json()
        return described

    def segment(
        self,
        path: str | Path,
        anatomies: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Send a scan and wait for its result.

        Args:
            path: a CT as ``.nii`` or ``.nii.gz``.
            anatomies: names of what to look for; everything by default.
            progress: told the fraction done and the stage.

        Raises:
            InputError: there is no such file.
            ServiceError: the service refused the scan, failed, or cannot be reached.
        """
        scan = Path(path)
        if not scan.is_file():
            raise InputError(f"{scan}: there is no such file")
        told = progress if progress is not None else _silent
        told(0.0, "sending the scan")
        fields = {"anatomies": ",".join(anatomies)} if anatomies is not None else {}
        suffix = ".nii.gz" if scan.name.endswith(".gz") else ".nii"
        with scan.open("rb") as data:
            # files are often named after patients: the service does not learn the name
            files = {"file": (f"scan{suffix}", data, "application/octet-stream")}
            job = self._call("POST", COLLECTION, data=fields, files=files).json()
        try:
            while job["state"] in {"queued", "running"}:
                told(job["progress"], job["stage"])
                began = time.monotonic()
                job = self._call("GET", job["links"]["self"], params={"wait": WAIT}).json()
                if time.monotonic() - began < WAIT / 4 and job["state"] in {"queued", "running"}:
                    time.sleep(WAIT)  # a proxy in between may not let requests wait
        except KeyboardInterrupt:
            self._call("DELETE", job["links"]["self"])
            raise
        if job["state"] != "succeeded":
            raise ServiceError(_sentence(job["error"]) or f"the segmentation was {job['state']}")
        told(1.0, "done")
        return Result(job, self._call)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{self._url}: {error or type(error).__name__}; check address and network, and "
                "that the service runs"
            ) from error
        if response.is_error:
            raise ServiceError(_refusal(response))
        return response


class Result:
    """A finished segmentation, kept by the service for a limited time.

    Attributes:
        job: what the service said last: id, seconds per stage, warnings, links.
    """

    def __init__(self, job: dict[str, Any], call: Callable[..., httpx.Response]) -> None:
        self.job = job
        self._call = call

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the scan, for instance a header without orientation."""
        return tuple(self.job["warnings"])

    @property
    def files(self) -> tuple[str, ...]:
        """Names that :meth:`read` knows."""
        return tuple(name for name in self.job["links"] if name != "self")

    def statistics(self) -> dict[str, Any]:
        """Per anatomy its state, volume and origin."""
        statistics: dict[str, Any] = self._call("GET", self._link("statistics.json")).json()
        return statistics

    def read(self, name: str) -> bytes:
        """The bytes of one file, for instance ``masks/organ.nii.gz``.

        Raises:
            InputError: the result has no such file.
        """
        return self._call("GET", self._link(name)).content

    def save(self, folder: str | Path) -> list[Path]:
        """Write masks, label names, statistics and picture into a folder; returns the files.

        What an earlier result left there and this one lacks is removed; other files stay.
        """
        target = Path(folder)
        # the names come from the network: nothing is written outside the folder
        names = [
            name
            for name in self.files
            if name not in NOT_DOWNLOADED
            and ".." not in Path(name).parts
            and not Path(name).is_absolute()
        ]
        prepare(target, names)
        for name in names:
            atomic_write(target / name, self.read(name))
        return [target / name for name in names]

    def delete(self) -> None:
        """Make the service forget scan and result."""
        self._call("DELETE", self._link("self"))

    def _link(self, name: str) -> str:
        try:
            return quote(self.job["links"][name])
        except KeyError:
            raise InputError(
                f"{name}: not in this result, it has {', '.join(self.files)}"
            ) from None


def _refusal(response: httpx.Response) -> str:
    try:
        said = response.json()
    except ValueError:
        said = None
    sentence = _sentence(said) if isinstance(said, dict) else ""
    return sentence or f"{response.request.url} answered {response.status_code}"


def _sentence(said: dict[str, str] | None) -> str:
    if not said or "error" not in said:
        return ""
    return f"{said.get('where', 'service')}: {said['error']}; {said.get('hint', '')}".rstrip("; ")


def _silent(done: float, text: str) -> None:
    pass
