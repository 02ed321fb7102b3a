"""S3 servers on loopback, and a proxy that fails as networks and servers do."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from yarl import URL

KEYS = "S3RVER"  # both keys that s3rver knows; moto takes any
S3RVER = Path(sys.prefix) / "s3rver" / "node_modules" / ".bin" / "s3rver"


@contextmanager
def moto() -> Iterator[str]:
    """Moto's server; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def s3rver(folder: Path) -> Iterator[str]:
    """The npm package of that name, which keeps objects as files; yields its address."""
    if not S3RVER.exists() or shutil.which("node") is None:
        pytest.skip("s3rver is not installed: `make test` does it where there is npm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(S3RVER), "-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "-s"]
    with subprocess.Popen(command) as server:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


class FaultyProxy:
    """Passes requests on to a server, but for some, by a seed, that it drops, delays or fails.

    Attributes:
        faults: how many of each kind there were.
    """

    def __init__(self, upstream: str, share: float, seed: int = 0) -> None:
        self.upstream, self.share = upstream, share
        self.faults: dict[str, int] = {}
        self._random = random.Random(seed)
        self._kinds = cycle(["drop", "delay", "500", "503", "half"])
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Serve for the block."""
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        thread.start()
        self._started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        async with ClientSession(auto_decompress=False) as self._session:
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        fault = ""
        if self._random.random() < self.share:
            fault = next(self._kinds)
            self.faults[fault] = self.faults.get(fault, 0) + 1
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault in ("500", "503"):
            return web.Response(status=int(fault))
        if fault == "delay":
            await asyncio.sleep(0.3)
        url = URL(self.upstream + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=request.headers, data=data, allow_redirects=False
        ) as answer:
            body = await answer.read()
            kept = {
                key: value
                for key, value in answer.headers.items()
                if key.lower() not in ("transfer-encoding", "connection", "content-length")
            }
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                kept["Content-Length"] = answer.headers["Content-Length"]
            response = web.StreamResponse(status=answer.status, headers=kept)
            if request.method != "HEAD":
                response.content_length = len(body)
            await response.prepare(request)
            if fault == "half" and body:
                await response.write(body[: len(body) // 2])
                assert request.transport is not None
                request.transport.abort()
            elif request.method != "HEAD":
                await response.write(body)
            return response
