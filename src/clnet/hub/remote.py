"""A hub elsewhere, as one site reaches it over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import httpx

from clnet import errors
from clnet.errors import ClnetError, InputError, ServiceError

if TYPE_CHECKING:
    from clnet.hub.datasets import Datasets

__all__ = ["RemoteDatasets", "RemoteHub"]

BLOCK = 1 << 20
TIMEOUT = httpx.Timeout(60.0, read=3600.0)
"""Seconds. A hub answers when it has judged every case of a bundle."""


class RemoteHub:
    """What a site's token opens on a hub elsewhere.

    Args:
        url: of the hub.
        token: of the site.

    Raises:
        InputError: an address over which everybody could read the token.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise InputError(f"{url}: a hub elsewhere is reached by https://, or its token leaks")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT)
        self.datasets = RemoteDatasets(self._call)

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

    def site(self) -> dict[str, Any]:
        """The site that the token belongs to: name, quota, usage."""
        found: dict[str, Any] = self._call("GET", "/v1/site")
        return found

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """What was done with the site's datasets, newest first."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/audit", params={"limit": limit})
        return found

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise ServiceError(f"hub {where}: cannot be reached ({error})") from error
        if answer.is_success:
            return answer.json()
        raise _as_error(answer)


class RemoteDatasets:
    """The site's datasets on a hub elsewhere."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def list(self) -> list[dict[str, Any]]:
        """Every version, in one line each."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/datasets")
        return found

    def get(self, ref: str) -> dict[str, Any]:
        """One version: terms, cases, what was made from it.

        Raises:
            NotFound: the site has no such dataset there.
        """
        found: dict[str, Any] = self._call("GET", _path(ref))
        return found

    def import_(
        self, bundle: str | Path, *, accept: Sequence[str] = (), dry_run: bool = False
    ) -> dict[str, Any]:
        """Send a bundle; the hub verifies, judges and stores it.

        Raises:
            InputError: no such file, or the hub refuses it, saying why.
        """
        file = Path(bundle)
        if not file.is_file():
            raise InputError(f"{file}: there is no such file")
        options = {"accept": list(accept), "dry_run": dry_run}
        found: dict[str, Any] = self._call(
            "POST", "/v1/datasets", params=options, content=_blocks(file)
        )
        return found

    def push(
        self,
        datasets: Datasets,
        ref: str,
        key: str | Path,
        passphrase: str | None = None,
        *,
        accept: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Bundle a version of a hub of one's own, and send it.

        Args:
            datasets: of the hub at the site.
            key: PEM file with the site's private key.
        """
        with tempfile.TemporaryDirectory(prefix="clnet-push-") as folder:
            bundle = Path(folder) / "bundle"
            datasets.bundle(ref, bundle, key, passphrase)
            return self.import_(bundle, accept=accept)

    def withdraw(self, ref: str, reason: str, *, erase: bool = False) -> dict[str, Any]:
        """Withdraw a version; gives what must be made again without it.

        Raises:
            NotFound: the site has no such dataset there.
        """
        options = {"reason": reason, "erase": erase}
        found: dict[str, Any] = self._call("DELETE", _path(ref), params=options)
        return found


def _path(ref: str) -> str:
    site, slash, name = ref.partition("/")
    if not slash or "/" in name:
        raise InputError(f"dataset {ref!r}: write site/name@version")
    return f"/v1/datasets/{quote(site, safe='')}/{quote(name, safe='@')}"


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def _as_error(answer: httpx.Response) -> ClnetError:
    """What the hub said, as the error that a hub on this machine would raise."""
    try:
        said = answer.json()
        kind, text = getattr(errors, str(said["kind"]), None), str(said["error"])
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the hub answered {answer.status_code} and gave no reason")
    if kind in {errors.CaseRejected, None} or not issubclass(kind, ClnetError):
        return InputError(text) if answer.status_code < 500 else ServiceError(text)
    error: ClnetError = kind(text)
    return error
