"""The HTTP API: FastAPI over the desk. Every error is JSON ``{error, where, hint}``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, BinaryIO

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from numpy.typing import NDArray
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError, NotFound, ServiceError, UnknownAnatomy
from clnet.model.scratch import Scratch
from clnet.serve.auth import BearerToken
from clnet.serve.body_limit import BodyLimit
from clnet.serve.desk import Desk
from clnet.serve.intake import ScanHeader, ScanRefused, UploadLimits, read_header, read_scan
from clnet.serve.metrics import CountRequests, Meters
from clnet.serve.outcome import ReleaseCard
from clnet.serve.segmentation_job import JobState, SegmentationJob

__all__ = ["COLLECTION", "Service", "build_app"]

COLLECTION = "/v1/segmentations"
LONGEST_WAIT = 300.0  # seconds a request may wait for its job
READERS = 2  # uploads decoded at the same time

Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for the end")]


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with.

    Attributes:
        desk: takes scans and keeps results.
        card: asks the model what it serves; fails while it is not ready.
        meters: what is counted.
        limits: of uploads.
        token_digest: of the token that opens the service.
    """

    desk: Desk
    card: Callable[[], Awaitable[ReleaseCard]]
    meters: Meters
    limits: UploadLimits
    token_digest: str


def build_app(service: Service) -> FastAPI:
    """The application; probes are open, everything else needs the token."""
    app = FastAPI(title="clnet", docs_url=None, redoc_url=None)
    desk, meters = service.desk, service.meters
    readers = asyncio.Semaphore(READERS)
    _explain_errors(app)
    # the last one added is the outermost: what is refused is counted too
    app.add_middleware(BodyLimit, most_bytes=service.limits.bytes)
    app.add_middleware(BearerToken, token_digest=service.token_digest)
    app.add_middleware(CountRequests, meters=meters)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether the model can be asked."""
        try:
            await asyncio.wait_for(service.card(), timeout=5)
        except TimeoutError:
            return JSONResponse({"status": "loading"}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/v1/release")
    async def release() -> dict[str, Any]:
        """What is served, under which terms, and what to know before trusting it."""
        return {**asdict(await service.card()), "limits": asdict(service.limits)}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(meters.exposition(), media_type="text/plain; version=0.0.4")

    @app.post(COLLECTION)
    async def submit(request: Request, wait: Wait = 0) -> JSONResponse:
        """Segment a scan: multipart with `file` (.nii, .nii.gz) and, optionally, `anatomies`."""
        async with request.form(max_files=1, max_fields=4) as form:
            upload, names = form.get("file"), form.get("anatomies")
            if not isinstance(upload, UploadFile):
                raise ScanRefused(
                    "no scan in the request", "file", "send it as the multipart field 'file'", 400
                )
            anatomies = wanted(names if isinstance(names, str) else "", await service.card())
            async with readers:
                header, hu = await asyncio.to_thread(_read, upload.file, service.limits)
        job = await desk.submit(header, hu, anatomies)
        return await shown(job, wait)

    @app.get(COLLECTION + "/{job_id}")
    async def show(job_id: str, wait: Wait = 0) -> JSONResponse:
        """State, progress and links of a segmentation."""
        return await shown(desk.job(job_id), wait, accepted=200)

    @app.delete(COLLECTION + "/{job_id}", status_code=204)
    async def delete(job_id: str) -> Response:
        """Cancel a segmentation if it runs, and forget scan and result."""
        await desk.delete(job_id)
        return Response(status_code=204)

    @app.get(COLLECTION + "/{job_id}/{name:path}")
    async def fetch(job_id: str, name: str) -> FileResponse:
        """One file of a result."""
        path = await asyncio.to_thread(desk.result_file, job_id, name)
        return FileResponse(path, media_type=_media_type(name), filename=name.rpartition("/")[2])

    async def shown(job: SegmentationJob, wait: float, accepted: int = 202) -> JSONResponse:
        if wait:
            await job.wait(wait)
        status = 200 if job.state is JobState.SUCCEEDED else accepted
        answer = job.to_dict(COLLECTION)
        return JSONResponse(
            answer, status_code=status, headers={"Location": answer["links"]["self"]}
        )

    return app


def wanted(text: str, card: ReleaseCard) -> tuple[str, ...] | None:
    """Canonical ids of a comma-separated list; None, meaning all, for an empty one.

    Raises:
        ScanRefused: a name that the vocabulary does not know, or that the release has no
            decoder for.
    """
    found = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        try:
            anatomy = vocabulary().resolve(name)
        except UnknownAnatomy as error:
            raise ScanRefused(
                str(error), "anatomies", "GET /v1/release lists what can be asked for"
            ) from None
        leaves = set(vocabulary().leaves(anatomy))
        offered = (set(vocabulary().leaves(a)) for a in card.anatomies if a in vocabulary())
        if vocabulary()[anatomy].coarse or not any(parts <= leaves for parts in offered):
            raise ScanRefused(
                f"release {card.name} has no decoder for {anatomy}",
                "anatomies",
                "GET /v1/release lists what can be asked for",
            )
        found.append(anatomy)
    return tuple(found) or None


def _read(upload: BinaryIO, limits: UploadLimits) -> tuple[ScanHeader, NDArray[np.int16]]:
    read_header(upload, limits)
    try:
        return read_scan(upload, limits, Scratch().zeros)
    except ScanRefused:
        raise
    except InputError as error:  # this machine's disk is full, and the scan is not to blame
        raise ServiceError(str(error)) from None


def _media_type(name: str) -> str:
    endings = {
        ".gz": "application/gzip",
        ".json": "application/json",
        ".png": "image/png",
        ".zip": "application/zip",
    }
    return endings.get("." + name.rpartition(".")[2], "application/octet-stream")


def _explain_errors(app: FastAPI) -> None:
    def answer(status: int, error: str, where: str, hint: str, **headers: str) -> JSONResponse:
        body = {"error": error, "where": where, "hint": hint}
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(ScanRefused)
    async def refused(_: Request, error: ScanRefused) -> JSONResponse:
        return answer(error.status, error.reason, error.where, error.hint)

    @app.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> JSONResponse:
        return answer(404, str(error), "path", f"POST a scan to {COLLECTION} to get a new one")

    @app.exception_handler(InputError)
    async def unusable(_: Request, error: InputError) -> JSONResponse:
        return answer(422, str(error), "request", "change the request")

    @app.exception_handler(ServiceError)
    async def busy(_: Request, error: ServiceError) -> JSONResponse:
        return answer(503, str(error), "service", "wait and try again", **{"Retry-After": "30"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(422, str(first["msg"]), where, "GET /openapi.json describes the requests")

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        hint = "GET /openapi.json describes the requests"
        return answer(error.status_code, str(error.detail), "request", hint)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return answer(500, "the service failed", "service", "its log says why; try again")
