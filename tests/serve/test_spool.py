"""The folder of scans and results is bounded and private."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from clnet.errors import NotFound
from clnet.serve.spool import Spool, new_id


def test_scans_and_results_come_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    key = new_id()
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    spool.keep_scan(key, hu)
    assert np.array_equal(spool.scan(key), hu)
    spool.drop_scan(key)
    spool.drop_scan(key)
    assert spool.keep_result(key, {"masks/organ.nii.gz": b"mask", "labels.json": b"{}"}) == []
    assert spool.result_file(key, "masks/organ.nii.gz").read_bytes() == b"mask"


def test_a_waiting_scan_is_sent_without_being_held_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.keep_scan("key", np.asfortranarray(np.ones((256, 128, 256), np.int16)))  # 16 MiB
    tracemalloc.start()
    hu = spool.scan("key")
    spool.drop_scan("key")
    sent: list[pickle.PickleBuffer] = []
    message = pickle.dumps(hu, protocol=5, buffer_callback=sent.append)  # as Ray does
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20
    assert (len(message) < 1000, sum(b.raw().nbytes for b in sent)) == (True, 16 << 20)
    assert hu.sum() == hu.size


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    Spool(tmp_path / "spool")
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "masks", "", "masks/../labels.json"])
def test_a_name_is_looked_up_and_never_a_path(tmp_path: Path, name: str) -> None:
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool" / "results" / "secret").write_text("secret")
    spool.keep_result("key", {"labels.json": b"{}", "masks/organ.nii.gz": b""})
    with pytest.raises(NotFound):
        spool.result_file("key", name)


def test_the_oldest_results_make_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most_bytes=250)
    for age, key in enumerate(("c", "b", "a")):
        dropped = spool.keep_result(key, {"file": bytes(100)})
        os.utime(tmp_path / "spool" / "results" / key, (age, age))
    assert dropped == ["c"]
    assert spool.result_file("b", "file").stat().st_size == 100
    with pytest.raises(NotFound):
        spool.result_file("c", "file")


def test_a_result_larger_than_the_bound_is_kept_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most_bytes=50)
    assert spool.keep_result("a", {"file": bytes(100)}) == []
    assert spool.keep_result("b", {"file": bytes(100)}) == ["a"]
