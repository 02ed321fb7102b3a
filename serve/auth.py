"""Bearer tokens: who may talk to the service."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["BearerToken", "bearer", "digest", "new_token"]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def new_token() -> str:
    """A random token of 256 bits, safe in headers and URLs."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """SHA-256 of a token: what the service keeps instead of the token itself."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token in a request's ``Authorization`` header; empty where there is none."""
    given = b""
    for name, value in headers:
        if name == b"authorization":
            given = value
    scheme, _, token = given.partition(b" ")
    return token.strip().decode("utf-8", "replace") if scheme.lower() == b"bearer" else ""


class BearerToken:
    """ASGI middleware that answers 401 to requests without the right ``Authorization`` header.

    The liveness and readiness probes stay open; they say nothing but yes or no.

    Args:
        app: what the request goes on to.
        token_digest: :func:`digest` of the expected token. Digests are compared in constant time.
    """

    def __init__(self, app: ASGIApp, token_digest: str) -> None:
        self._app = app
        self._expected = token_digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._known(scope):
            from starlette.responses import JSONResponse

            refusal = JSONResponse(
                {
                    "error": "no valid access token",
                    "where": "header.Authorization",
                    "hint": "send 'Authorization: Bearer TOKEN' with the token that was shown "
                    "when the service started",
                },
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        presented = digest(bearer(scope["headers"]))
        return hmac.compare_digest(presented, self._expected)
