"""The HTTP API for sites: bundles come in, and a site sees and withdraws its own datasets.

Who asks is found out before anything of a request's body is read.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from clnet.errors import (
    AccessDenied,
    AlreadyExists,
    ClnetError,
    InputError,
    NotFound,
    QuotaExceeded,
)
from clnet.serve.auth import bearer
from clnet.storage import TEMPORARY

__all__ = ["SitePort", "build_site_app"]

T = TypeVar("T")

AT_ONCE = 4
"""Tokens checked, and bundles taken in, at the same time: either takes memory."""

Accept = Annotated[list[str] | None, Query(description="findings to overrule, by code")]


class SitePort(Protocol):
    """What a site may ask of its hub; everything returned is JSON-able."""

    def about(self) -> dict[str, Any]:
        """Name, quota and usage."""

    def datasets(self) -> list[dict[str, Any]]:
        """Its dataset versions."""

    def dataset(self, ref: str) -> dict[str, Any]:
        """One of them, with its terms and what was made from it."""

    def take(self, bundle: Path, accept: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
        """Verify, judge and store a bundle; gives the version and the report."""

    def withdraw(self, ref: str, reason: str, *, erase: bool) -> dict[str, Any]:
        """Withdraw a version; gives what it went into."""

    def audit(self, limit: int) -> list[dict[str, Any]]:
        """What was done with its datasets, newest first."""


def build_site_app(
    admit: Callable[[str], AbstractContextManager[SitePort]], uploads: Path, most_bytes: int
) -> FastAPI:
    """The application.

    Args:
        admit: what a token opens; raises AccessDenied for one that opens nothing.
        uploads: folder for bundles on their way in.
        most_bytes: of a bundle.
    """
    app = FastAPI(title="clnet hub", docs_url=None, redoc_url=None)
    _explain_errors(app)
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(request: Request, question: Callable[[SitePort], T]) -> T:
        token = bearer(request.scope["headers"])

        def work() -> T:
            try:
                opened = admit(token)
            except AccessDenied as error:
                challenge = {"WWW-Authenticate": "Bearer"}
                raise HTTPException(401, str(error), challenge) from None
            with opened as port:
                return question(port)

        async with places:
            return await asyncio.to_thread(work)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service is alive."""
        return {"status": "alive"}

    @app.get("/v1/site")
    async def about(request: Request) -> dict[str, Any]:
        """The site that the token belongs to: quota and usage."""
        return await ask(request, lambda port: port.about())

    @app.get("/v1/audit")
    async def audit(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[dict[str, Any]]:
        """What was done with the site's datasets, newest first."""
        return await ask(request, lambda port: port.audit(limit))

    @app.get("/v1/datasets")
    async def datasets(request: Request) -> list[dict[str, Any]]:
        """The site's dataset versions."""
        return await ask(request, lambda port: port.datasets())

    @app.post("/v1/datasets", status_code=201)
    async def take(
        request: Request, accept: Accept = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Store the bundle that is the body of the request."""
        await ask(request, lambda port: port.about())
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=uploads) as folder:
            bundle = Path(folder) / "bundle"
            await _receive(request.stream(), bundle, most_bytes)
            return await ask(request, lambda port: port.take(bundle, accept or (), dry_run=dry_run))

    @app.get("/v1/datasets/{site}/{name}")
    async def dataset(request: Request, site: str, name: str) -> dict[str, Any]:
        """One version (``name@2``, the newest without ``@``): terms, cases, what it went into."""
        return await ask(request, lambda port: port.dataset(f"{site}/{name}"))

    @app.delete("/v1/datasets/{site}/{name}")
    async def withdraw(
        request: Request,
        site: str,
        name: str,
        reason: Annotated[str, Query(min_length=1, max_length=2000)],
        erase: bool = False,
    ) -> dict[str, Any]:
        """Withdraw a version (``name@2``), and tell what was made from it."""
        return await ask(request, lambda port: port.withdraw(f"{site}/{name}", reason, erase=erase))

    return app


async def _receive(blocks: AsyncIterator[bytes], target: Path, most_bytes: int) -> None:
    """Write a body to a file, no further than it may be long or the disk has room."""
    received = 0
    most = min(most_bytes, shutil.disk_usage(target.parent).free // 2)
    with target.open("xb") as stream:
        async for block in blocks:
            received += len(block)
            if received > most:
                raise QuotaExceeded(f"the bundle is larger than the {most:,} bytes taken here")
            await asyncio.to_thread(stream.write, block)


def _explain_errors(app: FastAPI) -> None:
    statuses: dict[type[ClnetError], int] = {
        AccessDenied: 403,
        NotFound: 404,
        AlreadyExists: 409,
        QuotaExceeded: 413,
        InputError: 422,
        ClnetError: 422,
    }

    @app.exception_handler(ClnetError)
    async def refused(_: Request, error: ClnetError) -> JSONResponse:
        status = next(code for kind, code in statuses.items() if isinstance(error, kind))
        return JSONResponse({"error": str(error), "kind": type(error).__name__}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}", "kind": "InputError"}, 422)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        kind = "AccessDenied" if error.status_code == 401 else "InputError"
        body = {"error": str(error.detail), "kind": kind}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            {"error": "the hub failed; its log says why", "kind": "ServiceError"}, 500
        )
