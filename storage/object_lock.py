"""One holder at a time among machines that share nothing but an object store."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from clnet.errors import StorageUnavailable
from clnet.storage.objects import Objects

__all__ = ["reserved"]

POLL = 0.2
LEASE = timedelta(seconds=30)


@contextmanager
def reserved(objects: Objects, folder: str, lease: timedelta | None = None) -> Iterator[None]:
    """Hold the lock kept below the key `folder` for the block; waits while another holds it.

    Every holder creates the object of the next number, which only one can. It says until when
    it holds, and renews that while the block runs, so that a holder that died is waited for no
    longer than its lease (30 s by default). Clocks are taken to agree to a fraction of it. One
    that was cut off from the store for longer is no longer alone: let the block be correct then
    but for moments.
    """
    lease = lease or LEASE
    key = _key(folder, _acquire(objects, folder, lease))
    done = threading.Event()
    renewal = threading.Thread(target=_renew, args=(objects, key, lease, done), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        done.set()
        renewal.join()
        objects.write(key, _until(datetime.now(UTC)))


def _renew(objects: Objects, key: str, lease: timedelta, done: threading.Event) -> None:
    while not done.wait(lease.total_seconds() / 3):
        with suppress(StorageUnavailable):  # there is time for another try
            objects.write(key, _until(datetime.now(UTC) + lease))


def _acquire(objects: Objects, folder: str, lease: timedelta) -> int:
    while True:
        newest = _newest(objects, folder)
        if newest and not _over(objects.read(_key(folder, newest))):
            time.sleep(POLL)
            continue
        number = newest + 1
        if not objects.create(_key(folder, number), _until(datetime.now(UTC) + lease)):
            continue
        if _newest(objects, folder) == number:  # else numbers went on while we looked
            past = [key for key in objects.keys(folder) if key < _key(folder, number)]
            objects.remove(past)
            return number
        objects.remove([_key(folder, number)])


def _newest(objects: Objects, folder: str) -> int:
    names = [key.rpartition("/")[2] for key in objects.keys(folder)]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}"


def _until(moment: datetime) -> bytes:
    return json.dumps({"until": moment.isoformat(), "holder": uuid.uuid4().hex}).encode()


def _over(data: bytes | None) -> bool:
    if data is None:
        return True
    try:
        until = datetime.fromisoformat(json.loads(data)["until"])
        return until <= datetime.now(UTC)
    except (ValueError, KeyError, TypeError):
        return True  # nothing that we wrote
