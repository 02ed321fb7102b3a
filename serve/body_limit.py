"""A bound on what a request may send, kept while it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clnet.serve.intake import ScanRefused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]

FORM_BYTES = 1 << 16  # boundaries and the small fields around a file


class BodyLimit:
    """ASGI middleware that stops reading a body that is larger than allowed.

    Args:
        app: what the request goes on to.
        most_bytes: of the file in it.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received = int(declared) if declared.isdigit() else 0
        too_large = received > self._most + FORM_BYTES
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if too_large or received > self._most + FORM_BYTES:
                raise ScanRefused(
                    f"the upload is larger than the {self._most:,} bytes that this service takes",
                    "file",
                    "crop or compress the scan",
                    413,
                )
            return message

        await self._app(scope, counting, send)
