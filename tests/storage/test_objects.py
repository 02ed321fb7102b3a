"""Objects of a store that several machines share."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from object_stores import FaultyProxy

from clnet.errors import IntegrityError, StorageUnavailable
from clnet.storage import Objects, reserved


def test_what_is_stored_is_read_back_and_listed(any_s3: str) -> None:
    objects = Objects(any_s3)
    assert objects.read("a/none") is None
    assert objects.keys() == []
    objects.write("a/b c", b"one")
    objects.write("a/b c", b"two")
    objects.write("d", b"")
    assert (objects.read("a/b c"), objects.read("d")) == (b"two", b"")
    assert objects.keys() == ["a/b c", "d"]
    assert objects.keys("a") == ["a/b c"]
    objects.remove(["d"])
    assert not objects.exists("d")


def test_an_object_is_created_once(any_s3: str) -> None:
    objects = Objects(any_s3)
    assert objects.create("key", b"first")
    assert not objects.create("key", b"second")
    assert objects.read("key") == b"first"


def test_of_many_creators_one_succeeds(s3_url: str) -> None:
    assert Objects(s3_url).conditional("probe")
    told: list[bool] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        objects = Objects(s3_url)
        start.wait()
        told.append(objects.create("key", str(number).encode()))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [False] * 7 + [True]


def test_folders_travel(any_s3: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "0").write_bytes(b"0" * 100_000)
    (source / "last").write_bytes(b"marker")
    objects = Objects(any_s3)
    objects.upload(source, "cases/x", last="last")
    target.mkdir()
    objects.download("cases/x", target)
    assert (target / "deep" / "er" / "0").read_bytes() == b"0" * 100_000
    assert (target / "last").read_bytes() == b"marker"


def test_a_key_that_leads_elsewhere_is_refused(s3_url: str, tmp_path: Path) -> None:
    objects = Objects(s3_url)
    objects.write("cases/x/../../../escaped", b"bad")
    with pytest.raises(IntegrityError, match="none of ours"):
        objects.download("cases/x", tmp_path)
    assert not list(tmp_path.parent.rglob("escaped"))


def test_one_holder_at_a_time(s3_url: str) -> None:
    inside, most = [0], [0]

    def hold() -> None:
        with reserved(Objects(s3_url), "locks"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(Objects(s3_url).keys("locks")) == 1, "past holders are swept away"


def test_a_dead_holder_is_waited_for_no_longer_than_its_lease(s3_url: str) -> None:
    objects = Objects(s3_url)
    until = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    objects.write("locks/000000000041", json.dumps({"until": until, "holder": "dead"}).encode())
    began = time.monotonic()
    with reserved(objects, "locks"):
        assert time.monotonic() - began > 0.5


def test_a_living_holder_outlasts_its_lease(s3_url: str) -> None:
    objects, order = Objects(s3_url), list[str]()

    def second() -> None:
        with reserved(objects, "locks"):
            order.append("second")

    with reserved(objects, "locks", timedelta(seconds=0.6)):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(1.5)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_faults_of_a_moment_are_not_noticed(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy(s3_server, share=0.25).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        objects = Objects(s3_url)
        for number in range(30):
            objects.write(f"{number}", bytes(1000 * number))
        assert len(objects.keys()) == 30
        for number in range(30):
            assert objects.read(f"{number}") == bytes(1000 * number)
    assert set(proxy.faults) == {"drop", "delay", "500", "503", "half"}


def test_a_store_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, s3_url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable, match=r"s3://.*check the network"):
        Objects(s3_url + "/gone").read("key")


def test_a_bucket_that_is_not_there_is_named(s3_url: str) -> None:
    with pytest.raises(StorageUnavailable, match="no-such-bucket"):
        Objects("s3://no-such-bucket/x").write("key", b"")
