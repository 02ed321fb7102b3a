from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clnet.errors import AlreadyExists
from clnet.storage import (
    atomic_directory,
    atomic_write,
    exclusive,
    new_file,
    publish,
    scratch_directory,
    sweep_temporaries,
)


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with atomic_directory(target) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text("content")
        assert not target.exists()
    assert (target / "deep" / "file").read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with atomic_directory(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AlreadyExists), atomic_directory(tmp_path / "folder"):
        pytest.fail("the block must not run")


def test_of_two_writers_of_one_folder_the_second_is_told(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def write_slowly() -> None:
        with atomic_directory(target) as slow:
            (slow / "by").write_text("slow")
            with atomic_directory(target):
                pass  # an empty folder, which rename() alone would replace

    with pytest.raises(AlreadyExists):
        write_slowly()
    assert list(target.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_scratch_folder_that_is_not_published_vanishes(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as scratch:
        (scratch / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with scratch_directory(tmp_path) as scratch:
        publish(scratch, tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_writing_replaces_the_old_bytes_at_once(url: str) -> None:
    from clnet.storage.location import local_path, remote_filesystem

    def read() -> bytes:
        path = local_path(f"{url}/file")
        if path is not None:
            return path.read_bytes()
        filesystem, key = remote_filesystem(f"{url}/file")
        return bytes(filesystem.cat_file(key))

    atomic_write(f"{url}/file", b"old")
    assert read() == b"old"
    atomic_write(f"{url}/file", b"new and longer")
    assert read() == b"new and longer"


def _die_while_writing(folder: Path) -> None:
    with atomic_directory(folder / "target") as temporary:
        (temporary / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_leaves_only_what_the_sweep_removes(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_writing, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
    (tmp_path / ".tmp-file").write_text("half")
    (tmp_path / "kept").write_text("whole")
    assert sweep_temporaries(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_lock_admits_one_at_a_time(tmp_path: Path) -> None:
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        with exclusive(tmp_path / "folder" / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def _die_with_the_lock(path: Path) -> None:
    with exclusive(path):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_die_with_the_lock, args=(tmp_path / "lock",)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with exclusive(tmp_path / "lock"):
        pass


def test_a_new_file_is_whole_and_replaces_nothing(tmp_path: Path) -> None:
    def write(target: Path, data: bytes, then: Callable[[], object] = list) -> None:
        with new_file(target) as temporary:
            temporary.write_bytes(data)
            then()

    def stop() -> None:
        raise KeyboardInterrupt

    target, late = tmp_path / "folder" / "file", tmp_path / "late"
    with pytest.raises(KeyboardInterrupt):
        write(target, b"half", stop)
    assert list(target.parent.iterdir()) == []
    write(target, b"whole")
    with pytest.raises(AlreadyExists):
        write(target, b"other")
    with pytest.raises(AlreadyExists):
        write(late, b"other", lambda: late.write_bytes(b"first"))
    assert (target.read_bytes(), late.read_bytes()) == (b"whole", b"first")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
